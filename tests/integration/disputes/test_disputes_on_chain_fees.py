"""Fees and the pool: a spike that a child pays for, and what the other side can hang on what it cannot stop."""

from dataclasses import replace

import pytest

from btcfi.adapters.chain.node import TxRejectedError
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.disputes.garbled.presign import build_disproof, build_silence, read_claim
from btcfi.units import Sats
from tests.support.chain import KINDS, chain
from tests.support.disputing import Dispute, secret

pytestmark = pytest.mark.integration

RATE = 3
"""sat/vB: the least that this node's pool takes, more than any of the contract's transactions pays by itself."""

SPOT, RIGHT = 67_890, 8


@pytest.fixture(scope="module", params=KINDS)
def wallet(request, tmp_path_factory):
    raised = "-minrelaytxfee=0.00003"
    with chain(request.param, tmp_path_factory.mktemp(request.param), raised) as funded:
        yield funded


@pytest.fixture
def dispute(wallet):
    here = wallet.node.block_count()
    made = Dispute(silence=here + 4, refund=here + 30)
    made.opened(wallet)
    return made


def coins_of(wallet, key, count):
    """Coins that pay for children, in a block."""
    return wallet.coins_for(key.script, [60_000] * count)


def child_of(parent, coin, key, fee, *, version=3):
    """A child of a parent's anchor that pays a fee of its own coin."""
    anchor = len(parent.outputs) - 1
    value = coin.value + parent.outputs[anchor].value - fee
    child = Transaction(
        version=version,
        inputs=(TxIn(outpoint=OutPoint(txid=parent.txid, index=anchor)), TxIn(outpoint=coin.outpoint)),
        outputs=(TxOut(value=Sats(value), script=key.script),),
    )
    return child.with_witness(1, [key.sign_input(child, 1, [parent.outputs[anchor], coin.output])])


def spend_of(parent, index, key, fee, *, version=3):
    """A child of another output: what a counterparty was paid by it."""
    source = parent.outputs[index]
    outpoint = OutPoint(txid=parent.txid, index=index)
    child = Transaction(
        version=version, inputs=(TxIn(outpoint=outpoint),), outputs=(replace(source, value=Sats(source.value - fee)),)
    )
    return child.with_witness(0, [key.sign_input(child, 0, [source])])


def refused(wallet, transaction):
    found = wallet.node.test_accept([transaction])[0]
    assert not found.allowed
    return found.reason


def test_a_claim_that_pays_too_little_by_itself_is_mined_with_its_child_and_so_is_its_disproof(wallet, dispute):
    (coin,) = coins_of(wallet, dispute.p.wallet, 1)
    claim = dispute.claimed(0, dispute.attested([SPOT]))
    assert "min relay fee not met" in refused(wallet, claim)
    wallet.node.send_package([claim, child_of(claim, coin, dispute.p.wallet, RATE * 600)])
    wallet.mine()
    assert wallet.confirmations(claim.txid) == 1
    read = read_claim(dispute.graph, dispute.of_claims, claim)
    found = dispute.kept.judge(*read.named(dispute.graph)).secret

    def disproof(fee):
        return build_disproof(
            dispute.graph, claim, fault=found, escrow=dispute.v.escrow, script=dispute.v.wallet.script, fee=Sats(fee),
            entropy=secret("one", fee) + secret("other", fee),
        )  # fmt: skip

    assert "min relay fee not met" in refused(wallet, disproof(RATE * 111 - 30))
    slow, fast = disproof(RATE * 112), disproof(50 * 112)
    wallet.node.send(slow)
    wallet.node.send(fast)  # its own key alone decides what it pays: it replaces itself as often as need be
    wallet.mine()
    assert (wallet.confirmations(slow.txid), wallet.confirmations(fast.txid)) == (None, 1)
    print("disproof", fast.vsize)
    assert fast.vsize <= 120


def test_what_the_other_side_hangs_on_a_claim_gives_way_to_the_child_that_pays_more(wallet, dispute):
    """The one place for a child is a shared one: the verifier fills it by its payment, the claimant takes it back."""
    first, second, third = coins_of(wallet, dispute.p.wallet, 3)
    claim = dispute.claimed(RIGHT, dispute.attested([SPOT]))
    pin = spend_of(claim, 0, dispute.v.wallet, 2_500)
    assert claim.outputs[0].script == dispute.v.wallet.script
    wallet.node.send_package([claim, pin])
    # not of version 3, or behind the first: no node takes it, so the place is for one child of 1,000 vB
    assert "truc" in refused(wallet, spend_of(claim, 0, dispute.v.wallet, 9_000, version=2)).lower()
    assert "truc" in refused(wallet, spend_of(pin, 0, dispute.v.wallet, 9_000)).lower()
    poor = child_of(claim, first, dispute.p.wallet, 2_400)
    assert "insufficient fee" in refused(wallet, poor)
    rich = child_of(claim, second, dispute.p.wallet, 9_000)
    wallet.node.send(rich)
    assert "insufficient fee" in refused(wallet, spend_of(claim, 0, dispute.v.wallet, 2_500))
    # the anchor is anybody's: who outbids pays for the claim
    anybody = child_of(claim, third, dispute.p.wallet, 20_000)
    wallet.node.send(anybody)
    wallet.mine()
    assert wallet.confirmations(claim.txid) == 1
    assert (wallet.confirmations(pin.txid), wallet.confirmations(rich.txid)) == (None, None)


def test_a_claim_of_silence_in_the_pool_gives_way_to_a_claim_that_pays_more(wallet, dispute):
    """Before a block holds one of them, the richer package stands: neither side is kept out by being second."""
    (his,) = coins_of(wallet, dispute.v.wallet, 1)
    (poor,) = coins_of(wallet, dispute.p.wallet, 1)
    (rich,) = coins_of(wallet, dispute.p.wallet, 1)
    while wallet.node.block_count() < dispute.silence_height:
        wallet.mine()
    attested = dispute.attested([SPOT])
    silence = build_silence(dispute.graph, dispute.of_silence, attested=attested, claim=dispute.v.claim)
    claim = dispute.claimed(RIGHT, attested)
    wallet.node.send_package([silence, child_of(silence, his, dispute.v.wallet, 4_000)])
    assert wallet.node.pool_entries_of([silence.txid])[0] is not None
    with pytest.raises(TxRejectedError, match="RBF"):
        wallet.node.send_package([claim, child_of(claim, poor, dispute.p.wallet, 3_000)])
    wallet.node.send_package([claim, child_of(claim, rich, dispute.p.wallet, 12_000)])
    wallet.mine()
    assert (wallet.confirmations(silence.txid), wallet.confirmations(claim.txid)) == (None, 1)
