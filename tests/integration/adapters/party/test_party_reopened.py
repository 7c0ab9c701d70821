"""A party's folder through a transfer: two contracts are kept, each desk's own watch follows the one that counts."""

from dataclasses import replace

import pytest

from btcfi.adapters.keystore import LEAST_N, create_keystore
from btcfi.adapters.party.agreements import ReopenedError
from btcfi.adapters.party.reopened import AnotherEndError, keep_new, keep_signed, note_end
from btcfi.bitcoin.address import decode_address
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts import reopen
from btcfi.contracts.mandate import Bounds, CloseRule
from btcfi.contracts.messages import Party, Role
from btcfi.contracts.option import WrongSignatureError
from btcfi.contracts.reopen import Held, Leaving, Moment, Reopening, Word, transfer_of
from btcfi.contracts.setup import SetupPolicy
from btcfi.contracts.splice import Owner
from btcfi.contracts.watch import Action, ContractStatus
from btcfi.errors import InvalidInputError
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import Sats, UnixSeconds
from tests.support.contracts import ORACLES
from tests.support.little_chain import BLOCK_SECONDS, wallet_here
from tests.support.mandates import authority
from tests.support.two_parties import OPTION, PROGRAM, TwoParties

PRICE, UNTIL = Sats(700_000), UnixSeconds(2_000_000_000)
POLICY = SetupPolicy(min_refund_delay=1)


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with wallet_here(tmp_path_factory.mktemp("here")) as funded:
        yield funded


class Three(TwoParties):
    """A seller, the holder of its contract, and a newcomer with a desk of its own."""

    def __init__(self, wallet, folder, **terms):
        expiry = wallet.node.chain_info().median_time // 60 * 60 + 20 * BLOCK_SECONDS
        super().__init__(wallet, folder, option=replace(OPTION, expiry=expiry))
        self.keys["newcomer"] = create_keystore(
            self.store("newcomer").keystore_path, "a long passphrase", cost=LEAST_N
        )  # fmt: skip
        self.newcomer = self.open("newcomer")
        (coin,) = wallet.coins_for(decode_address(self.newcomer.address()), [800_000])
        self.coins = (coin,)
        self.old, self.collateral = self.active(**{"expiry_in": 12, "refund_in": 24} | terms)
        self.watch()
        self.state_it()

    def desks(self):
        return {Owner.SELLER: self.seller, Owner.HOLDER: self.buyer, Owner.NEWCOMER: self.newcomer}

    def watch(self):
        """Every desk's own round: by owner, the contracts' names with what was found."""
        return {owner: {one.name: one for one in desk.watch()} for owner, desk in self.desks().items()}

    def half(self, name, coins=()):
        number = self.store(name).take_number()
        script = decode_address({"seller": self.seller, "newcomer": self.newcomer}[name].address())
        key = public_key_compressed(self.keys[name].contract_secret(number))
        return number, Party(key=key, payout_script=script, change_script=script, coins=coins)

    def state_it(self):
        kept = self.store("seller").load(self.old)
        self.held = Held.of(self.seller._agreements.of(kept))
        self.numbers, halves = {}, {}
        for owner, name, coins in ((Owner.SELLER, "seller", ()), (Owner.NEWCOMER, "newcomer", self.coins)):
            self.numbers[owner], halves[owner] = self.half(name, coins)
        self.statement = transfer_of(
            self.held.coin, self.held.terms, price=PRICE, rate=SatsPerKvb(2_000), seller=halves[Owner.SELLER],
            newcomer=halves[Owner.NEWCOMER], leaving=Leaving(script=self.held.contract.buyer_script), valid_until=UNTIL,
        )  # fmt: skip
        buckets = self.held_plan().buckets
        self.reopened = self.seller._agreements.reopen(self.statement, POLICY, buckets)
        own = self.newcomer._agreements.reopen(self.statement, POLICY)  # by its own guest
        assert own.splice.transaction == self.reopened.splice.transaction
        assert tuple(own.plan.buckets) == tuple(self.reopened.plan.buckets)

    def held_plan(self):
        return self.seller._agreements.of(self.store("seller").load(self.old)).plan

    def word(self, owner):
        said = self.statement
        half = {Owner.SELLER: said.seller, Owner.HOLDER: said.leaving, Owner.NEWCOMER: said.buyer}[owner]
        return Word(
            owner=owner, held=None if owner is Owner.NEWCOMER else self.held, half=half,
            terms=None if owner is Owner.HOLDER else said.terms, least=self.reopened.splice.net(owner),
            valid_until=UNTIL,
        )  # fmt: skip

    def sign(self):
        """Everybody signs, each file is written before; returns the signed transaction."""
        splice = self.reopened.splice
        points = [txin.outpoint for txin in splice.transaction.inputs]
        seen = dict(zip(points, self.node.unspent_many(points), strict=True))
        moment = Moment(
            now=UnixSeconds(UNTIL - 60), tip=self.node.block_count(), last_blocks=0, attested=False, expired=False,
            seen=seen,
        )  # fmt: skip
        right = authority(
            oracles=ORACLES[:1], programs=[PROGRAM.program_hash], height=self.node.block_count(),
            close=CloseRule.AGREED, refund_delay=Bounds(least=1, most=65_535), now=self.node.chain_info().median_time,
        )  # fmt: skip
        given = {"authority": right, "moment": moment}
        presigned = {
            owner: reopen.presign_new(
                self.reopened, self.word(owner), self.keys[name].contract_secret(self.numbers[owner]), **given
            )
            for owner, name in ((Owner.SELLER, "seller"), (Owner.NEWCOMER, "newcomer"))
        }
        secured = {
            Owner.SELLER: reopen.secure(self.reopened, Owner.SELLER, presigned[Owner.NEWCOMER]),
            Owner.NEWCOMER: reopen.secure(self.reopened, Owner.NEWCOMER, presigned[Owner.SELLER]),
        }
        for owner, name, role in ((Owner.SELLER, "seller", Role.SELLER), (Owner.NEWCOMER, "newcomer", Role.BUYER)):
            keep_new(
                self.store(name), self.node, self.reopened, number=self.numbers[owner], role=role,
                seller_presigned=presigned[Owner.SELLER], buyer_presigned=presigned[Owner.NEWCOMER], policy=POLICY,
            )  # fmt: skip
        for name in ("seller", "buyer"):
            note_end(self.store(name), self.old, self.reopened)
        witnesses = reopen.sign_coins(
            self.reopened, self.word(Owner.NEWCOMER), self.newcomer.wallet.by_script,
            secured=secured[Owner.NEWCOMER], **given,
        )  # fmt: skip
        kept = self.store("seller").load(self.old)
        keys = {"buyer_key": kept.accept.party.key, "seller_key": kept.offer.party.key}
        path = Reopening(self.reopened, self.held, **keys)
        secrets = {
            Owner.HOLDER: self.keys["buyer"].contract_secret(self.store("buyer").load(self.old).number),
            Owner.SELLER: self.keys["seller"].contract_secret(kept.number),
        }
        nonces = {owner: path.nonce(secret, bytes([n + 1]) * 32) for n, (owner, secret) in enumerate(secrets.items())}
        public = [nonces[owner].public for owner in secrets]
        parts = [
            path.sign(self.word(owner), secret, nonces[owner], public, secured=secured.get(owner), **given)
            for owner, secret in secrets.items()
        ]
        return path.finish(public, parts, witnesses, list(secured.values()))

    def spender_in_block(self, outpoint):
        """What a block has spent an outpoint by."""
        for height in range(self.node.block_count(), 0, -1):
            for made in self.node.block(self.node.block_hash(height)).transactions:
                if any(txin.outpoint == outpoint for txin in made.inputs):
                    return made
        return None

    @property
    def new(self):
        return self.statement.offer.id.hex()

    def told(self, signed):
        for name in ("seller", "newcomer"):
            keep_signed(self.store(name), self.reopened, signed)


@pytest.fixture
def three(wallet, tmp_path):
    return Three(wallet, tmp_path)


def test_after_a_transfer_each_watch_follows_the_new_contract_and_settles_it_to_the_newcomer(three):
    signed = three.sign()
    three.told(signed)
    three.node.send(signed)
    three.wallet.mine()
    found = three.watch()
    assert found[Owner.SELLER][three.old].status is ContractStatus.SETTLING  # one of its own ends, not a conflict
    assert found[Owner.HOLDER][three.old].status is ContractStatus.SETTLING
    assert found[Owner.SELLER][three.new].status is found[Owner.NEWCOMER][three.new].status is ContractStatus.FUNDING
    three.wallet.mine(5)
    found = three.watch()
    assert found[Owner.SELLER][three.old].status is found[Owner.HOLDER][three.old].status is ContractStatus.SETTLED
    assert found[Owner.NEWCOMER][three.new].status is ContractStatus.ACTIVE
    three.pass_until(three.held.terms.expiry_height)
    for desk in (three.seller, three.newcomer):
        desk.learn(three.attestation())
    found = three.watch()
    assert found[Owner.NEWCOMER][three.new].action is Action.SETTLE
    three.wallet.mine()
    spent = three.spender_in_block(three.reopened.splice.outpoint)
    assert spent.outputs[0].script == three.statement.buyer.payout_script
    assert spent.outputs[0].value > PRICE
    three.wallet.mine(6)
    assert three.watch()[Owner.NEWCOMER][three.new].status is ContractStatus.SETTLED


def test_a_newcomer_that_spends_its_coin_undoes_it_and_the_old_contract_is_settled_from_what_was_kept(three):
    signed = three.sign()
    three.told(signed)
    three.node.send(signed)
    three.lose(three.newcomer, three.coins)  # in a block, against what waits
    found = three.watch()
    assert found[Owner.SELLER][three.new].status is ContractStatus.CONFLICTED
    assert found[Owner.HOLDER][three.old].status in (ContractStatus.FUNDING, ContractStatus.ACTIVE)
    three.pass_until(three.held.terms.expiry_height)
    three.buyer.learn(three.attestation())
    assert three.watch()[Owner.HOLDER][three.old].action is Action.SETTLE
    three.wallet.mine()
    assert three.spender_in_block(three.collateral).outputs[0].script == three.held.contract.buyer_script


def test_a_transfer_that_still_waits_at_the_expiry_is_overtaken_by_the_old_contracts_own_watch(three):
    signed = three.sign()
    three.told(signed)
    three.pass_until(three.held.terms.expiry_height)
    three.node.send(signed)
    three.buyer.learn(three.attestation())
    report = {one.name: one for one in three.buyer.watch()}[three.old]
    assert (report.action, report.note) == (Action.SETTLE, "")
    assert three.spender(three.collateral).txid == three.cet(three.old).transaction.txid
    three.wallet.mine()
    assert three.watch()[Owner.SELLER][three.new].status is ContractStatus.CONFLICTED


def test_a_reorganisation_brings_the_old_contract_back_and_the_new_ones_watch_sends_the_transfer_again(three):
    signed = three.sign()
    three.told(signed)
    three.node.send(signed)
    (mined,) = three.wallet.mine()
    assert three.watch()[Owner.NEWCOMER][three.new].status is ContractStatus.FUNDING
    three.node.invalidate(mined)
    three.pass_by(2)
    found = three.watch()
    assert found[Owner.HOLDER][three.old].status in (ContractStatus.FUNDING, ContractStatus.ACTIVE)
    assert found[Owner.NEWCOMER][three.new].action is Action.BROADCAST_FUNDING
    assert three.spender(three.collateral).txid == signed.txid
    three.wallet.mine(6)
    assert three.watch()[Owner.NEWCOMER][three.new].status is ContractStatus.ACTIVE


def test_no_step_of_an_ordinary_funding_is_taken_of_a_contract_that_another_ones_collateral_funds(three):
    three.sign()
    kept = three.store("newcomer").load(three.new)
    with pytest.raises(ReopenedError):
        three.newcomer.complete(kept.sign)
    with pytest.raises(ReopenedError):
        three.newcomer.hand_over(three.new, kept.sign)
    assert not three.seller.sign(kept.accept).witnesses  # what it said before, and that has no signature of coins
    assert three.open("seller").orders() is not None  # the file is read by a fresh process, too
    again = three.store("newcomer").load(three.new)
    assert again.reopened == three.statement.origin
    assert three.open("newcomer")._agreements.of(again).plan.funding == three.reopened.splice.outpoint


def test_only_the_transaction_that_all_have_signed_is_kept_as_it(three):
    signed = three.sign()
    (good,) = signed.inputs[0].witness
    for bad in ([bytes(64)], [good + b"\x01"], [good, good], []):
        with pytest.raises(WrongSignatureError):
            keep_signed(three.store("seller"), three.reopened, signed.with_witness(0, bad))
    with pytest.raises(WrongSignatureError):
        keep_signed(three.store("seller"), three.reopened, signed.with_witness(1, [bytes(64)]))
    with pytest.raises(InvalidInputError):
        keep_signed(three.store("seller"), three.reopened, replace(signed, lock_time=1))
    assert keep_signed(three.store("seller"), three.reopened, signed).funding == signed


def test_what_a_newcomer_can_lose_is_its_price_and_counts_so_against_its_mandate(three):
    three.sign()
    authority = three.newcomer.authority()
    assert authority.situation.exposure == PRICE


def test_of_one_contract_a_side_signs_no_close_beside_a_transfer_and_no_transfer_beside_a_close(three):
    asked = {"payout": Sats(1_000_000), "rate": SatsPerKvb(2_000)}
    request = three.seller.request_close(three.old, **asked)
    note_end(three.store("seller"), three.old, three.reopened)  # a request is no signature yet
    answer = three.buyer.answer_close(request, payout=asked["payout"])  # the buyer's part of a close is out
    with pytest.raises(AnotherEndError) as error:
        note_end(three.store("buyer"), three.old, three.reopened)
    (close,) = three.store("buyer").load(three.old).closes
    assert error.value.txid == close
    txid = three.reopened.splice.transaction.txid
    with pytest.raises(AnotherEndError) as error:  # the seller finishes no close beside the transfer
        three.seller.finish_close(answer)
    assert error.value.txid == txid
    for ask in (
        lambda: three.seller.closes.check_live(three.store("seller").load(three.old)),
        lambda: three.seller.request_close(three.old, **asked),
    ):
        with pytest.raises(AnotherEndError):
            ask()
    note_end(three.store("buyer"), three.old, three.reopened, over=[close])  # once it can be finished no more
    note_end(three.store("buyer"), three.old, three.reopened, over=[close])
    assert three.store("buyer").load(three.old).reopenings == (txid,)
