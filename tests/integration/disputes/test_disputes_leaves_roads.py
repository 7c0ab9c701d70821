"""A contract of leaves between two folders, on a node, ours and a real one: every road, and a restart before each step.

Nothing lives between two steps but a folder and the chain: each side is made anew from its files whenever it acts.
"""

import json

import pytest

from btcfi.adapters.party.dispute_files import OtherMessageError
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.option import WrongSignatureError
from btcfi.disputes.garbled.opening import Side, build_close
from btcfi.disputes.leaves.graph import build_refund, build_silent_end, read_claim, read_silence
from btcfi.units import Height, Sats
from tests.support.chain import chain
from tests.support.disputing import Dispute, with_child
from tests.support.leaf_folders import CALL, KNOCK_OUT, Party, draft_of
from tests.support.leaving import secret
from tests.support.policies import CORE, KNOTS, used

pytestmark = pytest.mark.integration

SPOT = 60_500
BLOCKS = 3


def mailed(message):
    return json.loads(json.dumps(message))


class Roads:
    """Two folders and a chain."""

    def __init__(self, wallet, folder, payoff=CALL, events=1):
        self.wallet, self.folder = wallet, folder
        here = wallet.node.block_count()
        self.silence_height, self.refund_height = here + 8, here + 24
        draft = draft_of(payoff, events, silence=self.silence_height, refund=self.refund_height, blocks=BLOCKS)
        coins = {
            side: wallet.coins_for(self.side(side).wallet.script, [amount])
            for side, amount in ((Side.CLAIMANT, 19_000_000), (Side.VERIFIER, 1_000_000))
        }
        proposal = self.p.propose(draft, coins[Side.CLAIMANT])
        acceptance = self.v.accept(mailed(proposal), draft.events, coins[Side.VERIFIER])
        claims = self.v.claims(mailed(self.p.silence(mailed(acceptance))))
        self.opening = self.v.open(self.p.fund(mailed(claims)))
        wallet.node.send(self.opening)
        wallet.mine()

    def side(self, side):
        return Party(self.folder / side.value, side)

    @property
    def p(self):
        return self.side(Side.CLAIMANT)

    @property
    def v(self):
        return self.side(Side.VERIFIER)

    def mined(self, transaction, side):
        """Send with a child that pays, and return what a block has of it."""
        with_child(self.wallet, transaction, self.side(side).wallet)
        return self.found(transaction.txid)

    def found(self, txid):
        node = self.wallet.node
        block = node.block(node.best_block_hash())
        (found,) = [one for one in block.transactions if one.txid == txid]
        return found

    def refused(self, transaction):
        found = self.wallet.node.test_accept([transaction])[0]
        assert not found.allowed
        return found.reason

    def taken_back(self, blocks):
        """The last blocks are no more; what was in them waits in the pool."""
        node = self.wallet.node
        node.invalidate(node.block_hash(Height(node.block_count() - blocks + 1)))

    def mine_others(self, blocks):
        """Blocks in place of those: to another script, or they would be the same and stay invalid."""
        self.wallet.node.generate(blocks, encode_address(self.v.wallet.script))

    def until(self, height):
        while self.wallet.node.block_count() < height:
            self.wallet.mine()


PAYOFFS = {
    "a call": (CALL, [SPOT]),
    "a knock-out": (KNOCK_OUT, [61_500, 75_500, 62_500]),
}


@pytest.mark.parametrize("name", list(PAYOFFS))
def test_a_right_claim_of_two_folders_is_paid_not_before_its_blocks(wallet, tmp_path, name):
    payoff, outcomes = PAYOFFS[name]
    roads = Roads(wallet, tmp_path, payoff, len(outcomes))
    claim = roads.mined(roads.p.claim(outcomes, which=1), Side.CLAIMANT)
    assert roads.v.disproof(claim) is None
    number = read_claim(roads.v.deal()[0].graph, claim).number
    assert claim.outputs[0].value == roads.v.deal()[0].terms.claim.payouts[number]
    payout = roads.p.payout(number)
    while wallet.confirmations(claim.txid) < BLOCKS:
        assert roads.refused(payout) == "non-BIP68-final"
        wallet.mine()
    wallet.node.send(roads.p.payout(number))
    wallet.mine()
    assert wallet.confirmations(payout.txid) == 1


@pytest.mark.parametrize("name", list(PAYOFFS))
def test_a_lie_is_disproved_by_whoever_reads_the_chain_and_the_verifier_s_folder(wallet, tmp_path, name):
    payoff, outcomes = PAYOFFS[name]
    roads = Roads(wallet, tmp_path, payoff, len(outcomes))
    lie = roads.mined(roads.p.claim(outcomes, number=0), Side.CLAIMANT)
    disproof = roads.v.disproof(lie)
    roads.mined(disproof, Side.VERIFIER)
    for _ in range(BLOCKS):
        wallet.mine()
    assert roads.refused(roads.p.payout(0)) in {"missing-inputs", "bad-txns-inputs-missingorspent"}


def test_a_claim_that_a_reorganisation_takes_back_is_made_again_and_no_other(wallet, tmp_path):
    """Its one-time keys have said one price: whatever oracles say afterwards, nothing else is signed by them."""
    roads = Roads(wallet, tmp_path)
    claim = roads.mined(roads.p.claim([SPOT]), Side.CLAIMANT)
    roads.taken_back(1)
    assert not wallet.confirmations(claim.txid)
    with pytest.raises(OtherMessageError):
        roads.p.claim([SPOT + 1], which=2)
    again = roads.p.claim([SPOT])
    assert again.txid == claim.txid
    assert again.inputs[0].witness[:-4] == claim.inputs[0].witness[:-4]
    roads.mine_others(2)
    assert wallet.confirmations(claim.txid) == 2
    wallet.mine(BLOCKS)
    wallet.node.send(roads.p.payout(read_claim(roads.p.deal()[0].graph, claim).number))
    wallet.mine()


def test_a_lie_that_a_reorganisation_takes_back_is_disproved_in_its_new_block(wallet, tmp_path):
    roads = Roads(wallet, tmp_path)
    lie = roads.mined(roads.p.claim([SPOT], number=3), Side.CLAIMANT)
    disproof = roads.v.disproof(lie)
    roads.mined(disproof, Side.VERIFIER)
    height = wallet.node.block_count()
    while wallet.confirmations(lie.txid):
        roads.taken_back(1)
    assert not wallet.confirmations(disproof.txid)
    roads.mine_others(height - wallet.node.block_count() + 1)
    assert roads.v.disproof(lie).txid == disproof.txid  # signed before: nothing of it hangs on a block
    assert wallet.confirmations(disproof.txid) > 0
    assert wallet.confirmations(lie.txid) > 0


def test_claims_by_two_sets_of_oracles_are_one_transaction_and_one_set_of_words(wallet, tmp_path):
    roads = Roads(wallet, tmp_path)
    first = roads.p.claim([SPOT], which=0)
    second = roads.p.claim([SPOT], which=2)
    graph = roads.v.deal()[0].graph
    assert read_claim(graph, first).own == read_claim(graph, second).own
    assert first.txid == second.txid
    assert roads.v.disproof(roads.mined(second, Side.CLAIMANT)) is None


def test_a_verifier_that_shows_the_price_takes_all_from_who_does_not_claim(wallet, tmp_path):
    roads = Roads(wallet, tmp_path)
    silence = roads.v.show_silence([SPOT])
    assert roads.refused(silence) == "non-final"
    roads.until(roads.silence_height)
    roads.mined(silence, Side.VERIFIER)
    deal, _, own = roads.v.deal()
    end = build_silent_end(deal.graph, secret=own["silence"], script=roads.v.wallet.script, fee=Sats(400))
    while wallet.confirmations(silence.txid) < BLOCKS:
        assert roads.refused(end) == "non-BIP68-final"
        wallet.mine()
    wallet.node.send(end)
    wallet.mine()
    assert wallet.confirmations(end.txid) == 1


@pytest.mark.parametrize("lies", [False, True], ids=["rightly", "wrongly"])
def test_who_never_got_a_price_reads_it_off_the_silence_and_claims(wallet, tmp_path, lies):
    roads = Roads(wallet, tmp_path)
    roads.until(roads.silence_height)
    silence = roads.mined(roads.v.show_silence([SPOT], which=1), Side.VERIFIER)
    which, told = read_silence(roads.p.deal()[0].graph, silence)
    made = roads.p.claim([SPOT], which=which, silent=True, oracles=told, number=5 if lies else None)
    claim = roads.mined(made, Side.CLAIMANT)
    disproof = roads.v.disproof(claim)
    if lies:
        roads.mined(disproof, Side.VERIFIER)
        return
    assert disproof is None
    for _ in range(BLOCKS - 1):
        wallet.mine()
    number = read_claim(roads.p.deal()[0].graph, claim).number
    wallet.node.send(roads.p.payout(number, silent=True))
    wallet.mine()


def test_both_close_together_at_any_moment_by_one_signature(wallet, tmp_path):
    roads = Roads(wallet, tmp_path)
    made = build_close(roads.p.deal()[0].graph, payout=Sats(5_000_000), rate=SatsPerKvb(2_000))
    theirs = build_close(roads.v.deal()[0].graph, payout=Sats(5_000_000), rate=SatsPerKvb(2_000))
    assert made.transaction == theirs.transaction
    nonces, partials = {}, {}
    for side in Side:
        own = roads.side(side).deal()[2]["open"]
        nonces[side] = made.nonces(own, [secret("close", side)])
    public = {side: [one.public for one in nonces[side]] for side in Side}
    for side in Side:
        own = roads.side(side).deal()[2]["open"]
        partials[side] = made.sign(own, nonces[side], public[Side.CLAIMANT], public[Side.VERIFIER])
    with pytest.raises(WrongSignatureError):
        made.finish(public, {**partials, Side.VERIFIER: partials[Side.CLAIMANT]})
    closed = made.finish(public, partials)
    assert [len(one.witness) for one in closed.inputs] == [1]
    assert closed.outputs[0].value == 5_000_000
    wallet.node.send(closed)
    wallet.mine()
    assert wallet.confirmations(closed.txid) == 1


def test_where_no_oracle_speaks_the_claimant_is_refunded_at_its_height(wallet, tmp_path):
    roads = Roads(wallet, tmp_path)
    deal, _, own = roads.p.deal()
    refund = build_refund(deal.graph, secret=own["payout"], script=roads.p.wallet.script, fee=Sats(400))
    roads.until(roads.refund_height - 1)
    assert roads.refused(refund) == "non-final"
    roads.until(roads.refund_height)
    wallet.node.send(refund)
    wallet.mine()
    assert wallet.confirmations(refund.txid) == 1


def test_no_file_of_the_one_is_a_file_of_the_other_s_secrets(wallet, tmp_path):
    roads = Roads(wallet, tmp_path)
    roads.p.claim([SPOT])
    for one, other in ((Side.CLAIMANT, Side.VERIFIER), (Side.VERIFIER, Side.CLAIMANT)):
        held = b"".join(path.read_bytes() for path in (tmp_path / one.value).rglob("*") if path.is_file())
        (seed,) = (tmp_path / other.value).rglob("*.seed")
        own = roads.side(other).deal()[2]
        assert seed.read_bytes() not in held
        for use in ("open", "claim", "payout", "escrow", "silence"):
            assert own[use] not in held
            assert own[use].hex().encode() not in held


@pytest.mark.regtest(reason="Knots' own limit on scripts")
def test_knots_refuses_by_default_exactly_what_the_table_says(tmp_path):
    with chain("bitcoind", tmp_path / "node", "-maxscriptsize=1650") as wallet:
        roads = Roads(wallet, tmp_path / "leaves")
        here = wallet.node.block_count()
        garbled = Dispute(silence=here + 20, refund=here + 60)
        garbled.opened(wallet)
        for made in (
            roads.p.claim([SPOT]),
            garbled.claimed(garbled.right([SPOT]), garbled.attested([SPOT])),
        ):
            found = wallet.node.test_accept([made])[0]
            assert found.allowed == (used(made).refused(KNOTS) == [])
            assert found.allowed or "witness" in found.reason
            assert used(made).refused(CORE) == []
        assert used(roads.p.claim([SPOT])).refused(KNOTS)
