"""Three parties' own halves of a transfer: by their own words and records, whatever a service or another one says."""

import json
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from btcfi.adapters.keystore import LEAST_N, create_keystore
from btcfi.adapters.nonces import NonceGoneError, NonceVault
from btcfi.adapters.party.close_deals import NotAgreedError
from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.mail import PartyMail
from btcfi.adapters.party.market_deals import LapsedError, MarketDeals
from btcfi.adapters.party.market_ledger import MarketLedger
from btcfi.adapters.party.membership import Membership
from btcfi.adapters.party.postman import Postman
from btcfi.adapters.party.reopened import AnotherEndError, AnotherHalfError, keep_new
from btcfi.adapters.party.transfer_book import MAX_FILE_BYTES, TransferState, WordWithdrawnError
from btcfi.adapters.party.transfer_deals import (
    UNSENT_SECONDS,
    AnotherTransferError,
    NoCoinError,
    OlderFolderError,
    TransferOverError,
)
from btcfi.bitcoin.adaptor import WrongAdaptorError
from btcfi.bitcoin.address import decode_address
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.batch import build_batch
from btcfi.contracts.mandate import Bounds, CloseRule
from btcfi.contracts.messages import Role
from btcfi.contracts.reopen import Held, Leaving
from btcfi.contracts.splice import CoinMissingError, Owner
from btcfi.contracts.watch import ContractStatus
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market import transfer_letters as letters
from btcfi.market.batch_letters import Asked
from btcfi.market.closing import CloseGo
from btcfi.market.transfer import TransferPart, check_part
from btcfi.market.transfer_letters import Ask
from btcfi.market.transferring import Round, Transfer
from btcfi.units import Hash32, Sats, Txid, UnixSeconds
from tests.support.accounts import DESK, DESK_BOX_SECRET, Trader
from tests.support.contracts import ORACLES
from tests.support.letter_desk import LetterDesk
from tests.support.little_chain import BLOCK_SECONDS, wallet_here
from tests.support.mandates import give_mandate, mandate
from tests.support.two_parties import OPTION, PROGRAM, TwoParties

PRICE, RATE, SECONDS = Sats(700_000), SatsPerKvb(2_000), 120
NAMES = {Owner.SELLER: "seller", Owner.HOLDER: "buyer", Owner.NEWCOMER: "newcomer"}
OPTION_NAME = "t" + "5" * 32
ROUNDS = [Round.HALF, Round.PRESIGNED, Round.READY, Round.SELLER, Round.HOLDER]


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with wallet_here(tmp_path_factory.mktemp("here")) as funded:
        yield funded


@pytest.fixture(autouse=True)
def own_nonces(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


class Three(TwoParties):
    """A contract, its two sides and a newcomer, each with a desk of its own, and a service that hands words on."""

    ahead = 0.0

    def __init__(self, wallet, folder, **said):
        expiry = int(time.time()) // 60 * 60 + 86_400  # by its desks' clocks, whatever the chain's own says
        blocks = (expiry - wallet.node.chain_info().median_time) // BLOCK_SECONDS + 10
        self.numbers = iter(range(1, 1_000))
        super().__init__(wallet, folder, option=replace(OPTION, expiry=expiry))
        self.keys["newcomer"] = create_keystore(
            self.store("newcomer").keystore_path, "a long passphrase", cost=LEAST_N
        )  # fmt: skip
        self.newcomer = self.open("newcomer")
        wallet.coins_for(decode_address(self.newcomer.address()), [800_000, 900_000])
        self.old, self.collateral = self.active(expiry_in=blocks, refund_in=blocks + 30)
        for name in ("seller", "buyer"):
            kept = self.store(name).load(self.old)
            kept.order = OPTION_NAME
            self.store(name).save(kept)
        self.watch()
        self.members = {owner: self.member(name) for owner, name in NAMES.items()}
        self.agree(**said)

    def open(self, name):
        desk = PartyDesk(
            self.store(name), self.keys[name], self.node, Guest(PROGRAM), fees=self.fees,
            clock=lambda: time.time() + self.ahead,
        )  # fmt: skip
        given = mandate(
            oracles=ORACLES[:1], programs=[PROGRAM.program_hash], close=CloseRule.AGREED,
            refund_delay=Bounds(least=1, most=65_535),
        )  # fmt: skip
        give_mandate(desk, given)
        return desk

    def member(self, name):
        registered = Trader(name=f"the-{name}", keystore=self.keys[name]).registered()
        return Membership(url="http://desk.test", network="regtest", desk_box=DESK_BOX_SECRET, registered=registered)

    def desk(self, owner):
        return getattr(self, NAMES[owner])

    def transfers(self, owner):
        return self.desk(owner).transfers

    def watch(self):
        return {
            owner: {one.name: one for one in self.desk(owner).watch()} for owner in Owner if hasattr(self, NAMES[owner])
        }

    def agree(self, *, until=None, bare=False):
        """Each says its word; the service has the three."""
        until = UnixSeconds(int(time.time() + self.ahead) + SECONDS) if until is None else until
        given = {"valid_until": until}
        words = {
            Owner.SELLER: self.transfers(Owner.SELLER).consent(
                self.old, number=next(self.numbers), member=self.members[Owner.SELLER], **given
            ),
            Owner.HOLDER: self.transfers(Owner.HOLDER).offer(
                self.old, price=PRICE, rate=RATE, number=next(self.numbers), member=self.members[Owner.HOLDER],
                bare=bare, **given,
            ),
        }  # fmt: skip
        words[Owner.NEWCOMER] = self.transfers(Owner.NEWCOMER).take(
            words[Owner.HOLDER].signed, number=next(self.numbers), member=self.members[Owner.NEWCOMER], **given
        )
        self.words = words
        self.part = TransferPart(
            consent=words[Owner.SELLER].signed, offer=words[Owner.HOLDER].signed, take=words[Owner.NEWCOMER].signed,
            **{owner.value: self.members[owner].registered for owner in Owner},
        )  # fmt: skip
        self.deal = check_part(self.part, desk=DESK)
        kept = self.store("seller").load(self.old)
        self.state = Transfer(
            deal=self.deal, held=Held.of(self.seller._agreements.of(kept)), buyer_key=kept.accept.party.key,
            seller_key=kept.offer.party.key,
        )  # fmt: skip

    # ---- the service

    def ask(self, owner, said, **changes):
        """What an honest service asks, through JSON, with changes."""
        state = self.state
        statement = None if state.reopened is None else letters.encode_statement(state.statement())
        other = {Owner.SELLER: Owner.NEWCOMER, Owner.NEWCOMER: Owner.SELLER}.get(owner)
        presignatures = state.said.get((Round.PRESIGNED, other)) if said is Round.READY else None
        nonces = state.nonces() if said in (Round.SELLER, Round.HOLDER) else ()
        ask = Ask(said=said, part=self.part, statement=statement, presignatures=presignatures, nonces=nonces)
        return json.loads(json.dumps(letters.encode_ask(replace(ask, **changes))))

    @property
    def name(self):
        return letters.letter_name(OPTION_NAME, self.deal.take_id, "x").removesuffix(".x")

    def answer(self, owner, said, **changes):
        ask = letters.decode_ask(said, self.ask(owner, said, **changes))
        return self.transfers(owner).asked(ask, self.name, self.members[owner])

    def hear(self, owner, said, word):
        self.state = self.state.hear(owner, said, word)
        if said is Round.HALF and self.state.owed()[0] is not Round.HALF:
            buckets = self.seller._agreements.of(self.store("seller").load(self.old)).plan.buckets
            policy = self.store("seller").load(self.old).policy
            self.state = self.state.agree(lambda one: self.seller._agreements.reopen(one, policy, buckets))

    def until(self, stop=None):
        """Every word before a round; before all is said, the next one's owners in the order of their names."""
        while (owed := self.state.owed()) is not None and owed[0] is not stop:
            for owner in sorted(owed[1], key=lambda one: one.value):
                self.hear(owner, owed[0], self.answer(owner, owed[0]))
        return self

    def kept(self, owner):
        return self.transfers(owner).book.find(self.deal.take_id)

    def later(self, seconds):
        self.ahead += seconds
        for owner in Owner:
            self.desk(owner).let_go_lapsed()
            self.transfers(owner).let_go_lapsed()

    @property
    def txid(self):
        return self.state.reopened.splice.transaction.txid

    def new(self):
        return self.state.reopened.statement.offer.id.hex()

    def due_in_batch(self, owner):
        """One side's part in batches, and its old contract's end once it has its attestation; no guest is proved."""
        desk, attested = self.desk(owner), self.attestation()
        desk.batches.wanted = True
        desk.learn(attested)
        desk.batches._roots[self.old, attested.outcome] = Hash32(bytes(32))
        return desk.batches, desk.batches._holding(self.store(NAMES[owner]).load(self.old)).ending

    def check_live(self, owner):
        self.desk(owner).closes.check_live(self.store(NAMES[owner]).load(self.old))


@pytest.fixture
def three(wallet, tmp_path):
    return Three(wallet, tmp_path)


def test_three_process_each_answer_their_letters_and_the_newcomer_has_the_contract(three, tmp_path):
    rooms = {owner: (tmp_path / owner.value / "in", tmp_path / owner.value / "out") for owner in Owner}
    mails = {
        owner: PartyMail(
            three.desk(owner), inbox=rooms[owner][0], outbox=rooms[owner][1],
            deals=MarketDeals(three.members[owner], MarketLedger(tmp_path / owner.value / "market")),
        )
        for owner in Owner
    }  # fmt: skip

    def told(owner, kind, message):
        (rooms[owner][0] / f"{three.name}.{kind}.json").write_text(json.dumps(message))
        mails[owner].round(three.node.block_count())

    while (owed := three.state.owed()) is not None:
        for owner in sorted(owed[1], key=lambda one: one.value):
            told(owner, letters.ask_of(owed[0]), three.ask(owner, owed[0]))
            said = json.loads((rooms[owner][1] / f"{three.name}.{letters.kind_of(owed[0])}.json").read_text())
            three.hear(owner, owed[0], letters.decode_word(owed[0], said).word)
            again = three.answer(owner, owed[0])
            assert letters.encode_word(three.deal.take_id, owed[0], again) == said  # once, and never anew
    made = three.state.finish()
    for owner in Owner:
        told(owner, letters.DONE, letters.encode_done(three.deal.take_id, made))
        assert three.kept(owner).state is TransferState.DONE
    assert three.spender(three.collateral).txid == made.txid
    three.wallet.mine(6)
    found = three.watch()
    assert found[Owner.NEWCOMER][three.new()].status is ContractStatus.ACTIVE
    assert found[Owner.HOLDER][three.old].status is found[Owner.SELLER][three.old].status is ContractStatus.SETTLED
    paid = {output.script: output.value for output in made.outputs}
    (coin,) = three.kept(Owner.HOLDER).coins
    fees = three.state.reopened.splice.fees[Owner.HOLDER]
    assert paid[three.state.held.contract.buyer_script] == PRICE + coin.value - fees
    assert three.store("newcomer").load(three.new()).order == three.part.take.take.option_id


def test_nothing_is_said_of_a_transfer_that_is_not_our_own_word(three):
    for owner in Owner:
        three.transfers(owner).withdraw(three.words[owner].id)
        with pytest.raises(WordWithdrawnError):
            three.answer(owner, Round.HALF)
        three.transfers(owner).book.say(three.words[owner])
        path = three.store(NAMES[owner]).folder / "transfers" / "words" / f"{three.words[owner].id.hex()}.json"
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises(NotFoundError):
            three.answer(owner, Round.HALF)
        path.write_bytes(kept)
        path.chmod(0o600)
        with pytest.raises(InvalidInputError):  # of another take, by its letter's name
            three.transfers(owner).asked(
                letters.decode_ask(Round.HALF, three.ask(owner, Round.HALF)), OPTION_NAME + "~" + "0" * 16,
                three.members[owner],
            )  # fmt: skip
        with pytest.raises(InvalidInputError):  # a round of which the first is missing
            three.answer(owner, Round.READY)
    three.ahead = SECONDS
    for owner in Owner:
        with pytest.raises(LapsedError):
            three.answer(owner, Round.HALF)
        assert three.kept(owner) is None


def test_a_desk_that_states_something_else_gets_nothing_signed(three):
    three.until(Round.PRESIGNED)
    good = letters.encode_statement(three.state.statement())
    thief = three.newcomer.wallet.keys[1].script.hex()
    for change in (
        {"seller": good["newcomer"], "newcomer": good["seller"]},
        {"terms": good["terms"] | {"refund_height": good["terms"]["refund_height"] + 1}},
        {"seller": good["seller"] | {"payout_script": thief}},
    ):
        with pytest.raises(InvalidInputError):
            three.answer(Owner.SELLER, Round.PRESIGNED, statement=good | change)
    other = good["newcomer"] | {"change_script": three.seller.wallet.script.hex()}
    for bad in (good | {"newcomer": other}, good | {"terms": good["terms"] | {"threshold": 2}}):
        with pytest.raises(InvalidInputError):
            three.answer(Owner.NEWCOMER, Round.PRESIGNED, statement=bad)
    with pytest.raises(InvalidInputError):  # a holder signs no CET
        three.answer(Owner.HOLDER, Round.PRESIGNED)
    three.until(Round.READY)
    leaving = letters.encode_statement(three.state.statement())["leaving"]
    for bad in (good | {"leaving": leaving | {"script": thief}}, good | {"leaving": leaving | {"coins": []}}):
        with pytest.raises(InvalidInputError):
            three.answer(Owner.HOLDER, Round.READY, statement=bad)
    with pytest.raises(InvalidInputError):  # another one than it has pre-signed
        three.answer(Owner.SELLER, Round.READY, statement=good | {"newcomer": other})
    flipped = bytearray(three.state.said[Round.PRESIGNED, Owner.NEWCOMER])
    flipped[40] ^= 1
    for bad, error in ((bytes(flipped), WrongAdaptorError), (None, InvalidInputError)):
        with pytest.raises(error):
            three.answer(Owner.SELLER, Round.READY, presignatures=bad)
    for name in ("seller", "newcomer"):
        assert three.store(name).names() == ([three.old] if name == "seller" else [])
    three.until(Round.SELLER)
    holder, seller = three.state.nonces()
    for nonces in ((holder, holder), (seller, holder), (seller,), ()):
        with pytest.raises(InvalidInputError):
            three.answer(Owner.SELLER, Round.SELLER, nonces=nonces)
    with pytest.raises(InvalidInputError):
        three.answer(Owner.HOLDER, Round.SELLER, nonces=(holder, seller))
    assert not three.store("seller").load(three.old).reopenings
    three.until()
    three.node.send(three.state.finish())


def test_coins_that_a_transfer_holds_are_named_nowhere_else_and_free_when_nothing_was_signed(three):
    before = {owner: {coin.outpoint for coin in three.desk(owner).wallet.free()} for owner in Owner}
    three.until(Round.READY)
    held = {owner: {coin.outpoint for coin in three.kept(owner).coins} for owner in Owner}
    assert [len(held[owner]) for owner in Owner] == [0, 1, 1]
    for owner in Owner:
        assert {coin.outpoint for coin in three.desk(owner).wallet.free()} == before[owner] - held[owner]
    part, deal, state = three.part, three.deal, three.state
    three.agree()
    for owner in (Owner.SELLER, Owner.HOLDER):  # a second one beside it
        with pytest.raises(AnotherTransferError):
            three.answer(owner, Round.HALF)
    three.part, three.deal, three.state = part, deal, state
    three.transfers(Owner.NEWCOMER).over(letters.encode_over(deal.take_id, "the holder was silent"))
    with pytest.raises(TransferOverError):
        three.answer(Owner.NEWCOMER, Round.READY)
    three.later(SECONDS + UNSENT_SECONDS)
    for owner in Owner:
        assert {coin.outpoint for coin in three.desk(owner).wallet.free()} == before[owner]
        assert three.kept(owner).state is TransferState.OVER
        assert three.store(NAMES[owner]).names() == ([] if owner is Owner.NEWCOMER else [three.old])
    three.agree()
    three.until()
    three.node.send(three.state.finish())


def test_a_desk_that_keeps_what_all_have_signed_loses_it_and_six_blocks_later_both_old_sides_may_close(three):
    three.until()
    signed = three.state.finish()  # and it is not sent
    for owner in (Owner.SELLER, Owner.HOLDER):
        with pytest.raises(AnotherEndError):
            three.check_live(owner)
    three.later(SECONDS + UNSENT_SECONDS)
    three.watch()
    (own,) = three.kept(Owner.HOLDER).coins
    (price,) = three.kept(Owner.NEWCOMER).coins
    homes = [three.spender(one.outpoint) for one in (own, price)]
    assert [one.outputs[0].script for one in homes] == [three.buyer.wallet.script, three.newcomer.wallet.script]
    with suppress(Exception):
        three.node.send(signed)  # for the price's sake, too late
    assert three.spender(own.outpoint) == homes[0]
    three.wallet.mine()
    for blocks in (4, 1):
        three.later(1)
        with pytest.raises(AnotherEndError):
            three.check_live(Owner.HOLDER)
        three.wallet.mine(blocks)
    for owner in (Owner.SELLER, Owner.HOLDER):
        three.check_live(owner)
        assert three.kept(owner).state is TransferState.VOID
    three.agree()  # nor is another transfer refused
    three.until()
    three.node.send(three.state.finish())
    three.wallet.mine()
    assert three.watch()[Owner.NEWCOMER][three.new()].status is ContractStatus.FUNDING


def test_a_reorganisation_that_brings_the_coins_back_makes_a_transfer_possible_and_its_sides_close_nothing(three):
    three.until()
    three.later(SECONDS + UNSENT_SECONDS)
    (mined,) = three.wallet.mine()
    three.later(1)
    assert three.kept(Owner.HOLDER).gone_block
    three.wallet.mine(3)
    three.node.invalidate(mined)
    three.pass_by(6)
    three.later(1)
    kept = three.kept(Owner.HOLDER)
    assert (kept.state, kept.gone_block) == (TransferState.OVER, "")
    with pytest.raises(AnotherEndError):
        three.check_live(Owner.HOLDER)


def test_who_has_given_no_part_of_the_key_path_closes_at_once(three):
    three.until(Round.HOLDER)
    three.check_live(Owner.HOLDER)
    with pytest.raises(AnotherEndError):
        three.check_live(Owner.SELLER)


def test_a_service_that_says_it_came_to_nothing_takes_back_nothing_that_our_node_has(three):
    three.until()
    signed = three.state.finish()
    three.node.send(signed)
    for owner in Owner:
        three.transfers(owner).over(letters.encode_over(three.deal.take_id, "a lie"))
    three.later(SECONDS + UNSENT_SECONDS)
    three.watch()
    assert three.spender(three.collateral).txid == signed.txid
    three.wallet.mine()
    assert three.watch()[Owner.NEWCOMER][three.new()].status is ContractStatus.FUNDING


def test_a_nonce_signs_once_also_where_the_folder_forgot_it(three):
    three.until(Round.SELLER)
    book = three.transfers(Owner.SELLER).book
    before = book.find(three.deal.take_id)
    three.answer(Owner.SELLER, Round.SELLER)
    book.save(before)  # a copy of the folder, put back
    with pytest.raises(NonceGoneError):
        three.answer(Owner.SELLER, Round.SELLER)
    assert NonceVault(three.keys["seller"])


def test_a_process_that_starts_again_amid_a_transfer_goes_on(three):
    for stop in ROUNDS[1:]:
        three.until(stop)
        for name in NAMES.values():
            setattr(three, name, three.open(name))
    three.until()
    three.node.send(three.state.finish())


def test_beside_a_close_that_was_signed_no_part_of_a_transfer_is(three):
    three.until(Round.SELLER)
    kept = three.store("seller").load(three.old)
    kept.closes = (Txid(b"\x07" * 32),)
    three.store("seller").save(kept)
    with pytest.raises(AnotherEndError):
        three.answer(Owner.SELLER, Round.SELLER)
    with pytest.raises(AnotherEndError):
        three.transfers(Owner.SELLER).consent(
            three.old, valid_until=UnixSeconds(int(time.time()) + 60), number=9, member=three.members[Owner.SELLER]
        )


def test_a_contract_whose_signed_transfer_waits_ends_in_no_batch(three):
    three.until()
    for owner, name in ((Owner.SELLER, "seller"), (Owner.HOLDER, "buyer")):
        batches, ending = three.due_in_batch(owner)
        scripts = {"buyer": ending.contract.buyer_script, "seller": ending.contract.seller_script}
        proposal = build_batch([ending], scripts, rate=RATE).proposal(name, 1)
        with pytest.raises(AnotherEndError) as refused:
            batches.proposed(Asked(batch="0" * 32, proposal=proposal))
        assert refused.value.txid == three.txid


def test_a_transfer_of_which_nothing_was_signed_is_forgotten_a_day_later_and_one_that_was_is_not(three):
    three.until(Round.READY)
    unsigned = three.deal
    three.later(SECONDS + UNSENT_SECONDS)
    assert {three.kept(owner).state for owner in Owner} == {TransferState.OVER}
    three.later(86_400)
    assert [three.transfers(owner).book.find(unsigned.take_id) for owner in Owner] == [None] * 3
    three.later(-2 * 86_400)
    three.agree()
    three.until(Round.SELLER)
    three.later(2 * 86_400)
    assert None not in [three.kept(owner) for owner in Owner]


def test_an_older_copy_of_a_folder_says_that_it_lacks_the_contract_of_a_transfer_that_it_has_signed(three):
    three.until(Round.READY)
    older = {owner: three.kept(owner) for owner in (Owner.SELLER, Owner.NEWCOMER)}
    made = three.until().state.finish()
    for owner, kept in older.items():
        three.transfers(owner).book.save(kept)
        with pytest.raises(OlderFolderError):
            three.transfers(owner).done(letters.encode_done(three.deal.take_id, made))
        assert three.kept(owner).state is TransferState.OPEN


def test_a_coin_that_is_spent_meanwhile_stops_each_before_it_signs(three):
    three.until(Round.READY)
    three.lose(three.newcomer, three.kept(Owner.NEWCOMER).coins)
    for owner in Owner:
        with pytest.raises(CoinMissingError):
            three.answer(owner, Round.READY)
    assert three.store("newcomer").names() == []


def test_a_sellers_half_that_is_another_contracts_of_ours_is_refused_before_a_coin_is_signed(three):
    three.until(Round.HOLDER)
    store = three.store("newcomer")
    reopened = three.state.reopened
    given = {"number": 0, "role": Role.BUYER, "seller_presigned": b"", "buyer_presigned": b"", "policy": None}
    moved = replace(reopened.statement, buyer=replace(reopened.statement.buyer, key=reopened.statement.seller.key))
    with pytest.raises(AnotherHalfError):
        keep_new(store, three.node, replace(reopened, statement=moved), **given)
    dearer = replace(reopened.statement, valid_until=reopened.statement.valid_until + 1)
    with pytest.raises(AnotherHalfError):
        keep_new(store, three.node, replace(reopened, statement=dearer), **given)
    assert keep_new(store, three.node, reopened, **given).accept.party == reopened.statement.buyer


def test_a_holder_without_a_coin_of_its_own_says_so_or_offers_nothing(three):
    three.lose(three.buyer, three.buyer.wallet.free())
    offer = {"price": PRICE, "rate": RATE, "valid_until": UnixSeconds(int(time.time()) + 60), "number": 8,
             "member": three.members[Owner.HOLDER]}  # fmt: skip
    with pytest.raises(NoCoinError):
        three.transfers(Owner.HOLDER).offer(three.old, **offer)
    three.agree(bare=True)
    assert three.answer(Owner.HOLDER, Round.HALF) == Leaving(script=three.state.held.contract.buyer_script)


def test_letters_of_a_transfer_reach_its_parties_and_name_the_other_side_of_the_new_contract(three):
    desk, postmen = LetterDesk(), {}
    for owner, name in NAMES.items():
        trader = Trader(name=f"the-{name}", keystore=three.keys[name])
        inbox, outbox = (three.folder / name / "mail" / room for room in ("inbox", "outbox"))
        wired = desk.connection(trader)
        postmen[owner] = (
            trader,
            Postman(wired, wired, member=three.members[owner], keystore=three.keys[name], inbox=inbox, outbox=outbox),
        )
    for said in (Round.PRESIGNED, Round.READY):
        three.until(said)
        for owner in Owner:
            trader, postman = postmen[owner]
            name = f"{three.name}.{letters.ask_of(said)}"
            desk.send(trader, name, three.ask(owner, said))
            postman.fetch(0)
            assert (three.folder / NAMES[owner] / "mail" / "inbox" / f"{name}.json").exists()
    new = three.part.take.take.option_id
    assert postmen[Owner.NEWCOMER][1]._other(new) == three.members[Owner.SELLER].registration
    assert postmen[Owner.SELLER][1]._other(new) == three.members[Owner.NEWCOMER].registration
    for owner, name in ((Owner.HOLDER, new), (Owner.SELLER, "t" + "0" * 32)):
        with pytest.raises(NotFoundError):
            postmen[owner][1]._other(name)


def test_a_contract_that_came_from_another_is_closed_and_sold_on_like_any(three):
    three.until()
    made = three.state.finish()
    for owner in (Owner.SELLER, Owner.NEWCOMER):
        three.transfers(owner).done(letters.encode_done(three.deal.take_id, made))
    three.wallet.mine()
    until = UnixSeconds(int(time.time()) + 60)
    sold = three.transfers(Owner.NEWCOMER).offer(
        three.new(), price=PRICE, rate=RATE, valid_until=until, number=7, member=three.members[Owner.NEWCOMER]
    )
    assert sold.signed.offer.contract_id == three.state.reopened.id
    proposed = three.seller.closes.propose(three.new(), payout=PRICE, rate=RATE, valid_until=until)
    with pytest.raises(NotAgreedError):
        three.newcomer.closes.offered(proposed.offer, proposed.option)
    three.newcomer.closes.agree(proposed.offer.id)
    take = three.newcomer.closes.offered(proposed.offer, proposed.option)
    last = three.seller.closes.go(CloseGo(offer_id=proposed.offer.id, nonce=take.nonce))
    contract = three.store("seller").load(three.new())
    agreement = three.seller._agreements.of(contract)
    closing = three.seller.closes._closing(contract, agreement, PRICE, RATE)
    close = closing.finish((take.nonce, proposed.offer.nonce), (take.partial, last.partial))
    three.node.send(close)
    assert three.spender(three.state.reopened.splice.outpoint) == close
    with pytest.raises(AnotherEndError):  # and beside it no transfer of it is begun
        three.transfers(Owner.NEWCOMER).offer(
            three.new(), price=PRICE, rate=RATE, valid_until=until, number=8, member=three.members[Owner.NEWCOMER]
        )


def test_what_a_desk_adds_to_a_statement_is_not_kept_and_nothing_is_that_could_not_be_read_again(three):
    three.until(Round.PRESIGNED)
    good = letters.encode_statement(three.state.statement())
    padded = good | {"terms": good["terms"] | {"junk": "x" * (2 * MAX_FILE_BYTES)}}
    for owner in (Owner.SELLER, Owner.NEWCOMER):
        with suppress(InvalidInputError):  # refused, or read past
            three.answer(owner, Round.PRESIGNED, statement=padded)
        assert len(json.dumps(three.kept(owner).statement)) < MAX_FILE_BYTES
    book, kept = three.transfers(Owner.SELLER).book, three.kept(Owner.SELLER)
    with pytest.raises(InvalidInputError):
        book.save(replace(kept, problem="x" * MAX_FILE_BYTES))
    assert book.find(three.deal.take_id) == kept
    three.until()
    three.node.send(three.state.finish())
