"""Three accounts transfer a position over letters: whoever lies loses by it, and nobody else loses anything."""

import json
import time

import pytest

import tasks.transfers
from btcfi.adapters.party.transfer_book import TransferState as Kept
from btcfi.adapters.store.market import accounts, transfers
from btcfi.adapters.store.market.transfer_rounds import fail, load, stand_down, words
from btcfi.adapters.store.market.transfer_tables import TransferConsentRow, TransferOfferRow, TransferRow
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.contracts.splice import Owner
from btcfi.market.transfer import decode_part
from btcfi.market.transferring import OWED, Failure, Round
from btcfi.units import Sats, UnixSeconds
from tasks import chain, market
from tasks.transfers import moment
from tests.support.chain import embedded_node
from tests.support.market_stage import MarketStage
from workers.audit import ChainView, audit

pytestmark = pytest.mark.integration

PRICE, RATE = Sats(700_000), SatsPerKvb(2_000)
NAMES = ("ada", "bob", "cyd")
"""The seller, the holder and the newcomer of each test's transfer."""
MANY = 6


class TransferStage(MarketStage):
    """A stage whose three accounts say what a transfer needs."""

    def __init__(self, *given):
        super().__init__(*given, names=NAMES, coins=16)
        self.numbers = iter(range(1_000, 9_000))

    def member(self, name):
        return self.accounts[name].postman._member

    def said(self, name, post, word):
        with self.here.work() as session:
            row = accounts.account(session, self.accounts[name].id)
            return post(session, row, word.signed, at=moment(self.here, "regtest")).id

    def consent(self, option, seconds=300, by="ada"):
        one = self.accounts[by]
        word = one.desk.transfers.consent(
            one.desk.orders()[option], valid_until=UnixSeconds(int(time.time()) + seconds), number=next(self.numbers),
            member=self.member(by),
        )  # fmt: skip
        return self.said(by, transfers.post_consent, word)

    def offered_position(self, option, price=PRICE, seconds=300, by="bob", **said):
        one = self.accounts[by]
        word = one.desk.transfers.offer(
            one.desk.orders()[option], price=price, rate=RATE, valid_until=UnixSeconds(int(time.time()) + seconds),
            number=next(self.numbers), member=self.member(by), **said,
        )  # fmt: skip
        self.said(by, transfers.post_offer, word)
        return word.signed

    def takes_position(self, offer, seconds=120, by="cyd"):
        word = self.accounts[by].desk.transfers.take(
            offer, valid_until=UnixSeconds(int(time.time()) + seconds), number=next(self.numbers),
            member=self.member(by),
        )  # fmt: skip
        return self.said(by, transfers.take_position, word)

    def begin(self, option, **said):
        """Have the three say their words; return the transfer's id."""
        self.consent(option)
        return self.takes_position(self.offered_position(option, **said))

    def begun_again(self, name):
        """Take with the same word."""
        with self.here.work() as session:
            part = decode_part(json.loads(session.get_one(TransferRow, name).part))
            row = accounts.account(session, part.take.take.newcomer.hex())
            return transfers.take_position(session, row, part.take, at=moment(self.here, "regtest"))

    def transfer(self, name):
        return self.row(TransferRow, id=name)

    def states(self, name):
        """Of a transfer, its old option and its new one."""
        row = self.transfer(name)
        return row.state, self.state(row.option_id), self.state(row.new_option_id)

    def states_before(self, name):
        """Of a transfer and its old option: there is no new one."""
        row = self.transfer(name)
        return row.state, self.state(row.option_id)

    def kept(self, account, name):
        return self.accounts[account].desk.transfers.book.find(bytes.fromhex(name))

    def carry_on(self, rounds=8):
        for _ in range(rounds):
            self.trade(1)
            chain.settle()
            market.tick()

    def until(self, name, said):
        """Carry until a round's words are owed."""
        for _ in range(40):
            if self.transfer(name).said == said:
                return
            self.trade(1)
        raise AssertionError(self.transfer(name))


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfers")
    with embedded_node(folder / "chain") as (node, _), TransferStage(
        folder / "data", node, folder / "chain" / ".cookie"
    ) as made:  # fmt: skip
        yield made


@pytest.fixture(scope="module")
def options(stage):
    """Options that ada wrote and bob bought, their fundings final."""
    names = [stage.accounts["bob"].take(stage.accounts["ada"].offer()) for _ in range(MANY)]
    stage.trade(8)
    stage.mine(6)
    assert {stage.state(name) for name in names} == {"ACTIVE"}
    return names


@pytest.fixture
def option(options):
    return options.pop()


@pytest.fixture
def shared(options):
    """One of which no side ever gives a part of the key path."""
    return options[0]


SELLER, HOLDER, NEWCOMER = Owner
ACCOUNTS = dict(zip(Owner, NAMES, strict=True))
MOVED = {}
"""What the first test has moved, for those behind it."""


def audited(stage, *options, complete=False):
    view = ChainView()
    view.follow(stage.node)
    found = audit(stage.here.store, view, options, complete=complete)
    return [str(one) for one in found if not one.subject.startswith("round")]


def lie_word(path):
    """Say something that is no word of this round."""
    said = json.loads(path.read_text())
    for key, value in said.items():
        if key in {"partial", "nonce"} and value:
            said[key] = "02" + "11" * (len(value) // 2 - 1)
        elif key == "cet_adaptor_signatures":
            said[key] = value[:40] + ("A" if value[40] != "A" else "B") + value[41:]
        elif key == "witnesses":
            said[key] = {one: ["00" * 64] for one in value}
        elif key in {"party", "leaving"}:
            said[key] = value | {"coins": [coin | {"value_sats": 1} for coin in value["coins"]]}
            said[key] |= {"script": "00" * 22} if key == "leaving" else {"key": "02" + "00" * 32}
    path.write_text(json.dumps(said))


def words_to(stage, name):
    """Return everything that an account was asked."""
    return "".join(path.read_text() for path in stage.accounts[name].inbox.rglob("*.transfer-ask-*.json"))


def secrets_of(stage, name):
    """Return what each owner has said for the service alone: parts of the key path, and witnesses of coins."""
    with stage.here.store.reading() as session:
        said = words(session, name)
    parts = {owner: said[turn, owner].hex() for turn, owner in ((Round.SELLER, SELLER), (Round.HOLDER, HOLDER))}
    spends = {
        owner: item.hex() for owner in Owner for items in said[Round.READY, owner].witnesses.values() for item in items
    }
    return parts, spends


def test_a_position_goes_to_a_newcomer_for_its_price_and_both_rows_say_so(stage, option):
    name = stage.begin(option)
    assert stage.begun_again(name).id == name  # the same take again is the transfer that it made
    stage.carry_on(6)
    moved = stage.transfer(name)
    assert (moved.state, moved.said, moved.problem) == ("signed", "all", None)
    assert (stage.state(option), stage.state(moved.new_option_id)) == ("ACTIVE", "CREATED")
    parts, spends = secrets_of(stage, name)
    for owner, reader in ACCOUNTS.items():  # nobody has another's part of the key path, or witness, from us
        seen = words_to(stage, reader)
        assert not any(one in seen for who, one in (*parts.items(), *spends.items()) if who is not owner)
    stage.mine(1)
    stage.carry_on(1)
    assert audited(stage, option, moved.new_option_id) == []
    assert [stage.kept(one, name).state for one in NAMES] == [Kept.DONE] * 3
    stage.mine(6)
    assert stage.states(name) == ("done", "ABANDONED", "ACTIVE")
    assert audited(stage, option, moved.new_option_id) == []
    made = stage.node.transaction(bytes.fromhex(moved.txid)[::-1]).transaction
    net = {
        one: sum(out.value for out in made.outputs if out.script == stage.accounts[one].desk.wallet.script)
        - sum(coin.value for coin in stage.kept(one, name).coins)
        for one in NAMES
    }  # fmt: skip
    assert net["ada"] == 0
    assert 0 < PRICE - net["bob"] < moved.fee_sats  # the fee of the coin that it brings, and nothing else
    assert net["bob"] + net["cyd"] == -moved.fee_sats
    assert made.outputs[0].value == stage.option(option).collateral_sats
    new = stage.option(moved.new_option_id)
    assert (new.writer, new.holder, new.premium_sats) == (
        stage.accounts["ada"].id, stage.accounts["cyd"].id, stage.option(option).premium_sats,
    )  # fmt: skip
    MOVED.update(old=option, new=new.id, name=name)


def test_an_audit_names_a_transfer_whose_row_is_another_than_the_three_texts_and_the_chain_say(stage):
    for changed, back in (("fee_sats", 1), ("price_sats", 1), ("seller", None)):
        with stage.here.store.transaction() as session:
            row = session.get_one(TransferRow, MOVED["name"])
            was = getattr(row, changed)
            setattr(row, changed, was + back if back else stage.accounts["bob"].id)
        assert audited(stage, MOVED["old"], MOVED["new"]) != []
        with stage.here.store.transaction() as session:
            setattr(session.get_one(TransferRow, MOVED["name"]), changed, was)
    assert audited(stage, MOVED["old"], MOVED["new"]) == []


def test_a_reorganisation_takes_the_change_of_owner_back_and_the_next_blocks_bring_it_again(stage):
    height = stage.node.block_count()
    stage.node.invalidate(stage.node.block_hash(height - 6))
    stage.node.generate_block(stage.accounts["ada"].desk.address(), [])
    chain.watch()
    assert stage.states(MOVED["name"])[0] == "signed"
    assert stage.states(MOVED["name"])[1:] == ("ACTIVE", "CREATED")
    assert audited(stage, MOVED["old"], MOVED["new"]) == []
    stage.mine(8)
    assert stage.states(MOVED["name"]) == ("done", "ABANDONED", "ACTIVE")
    assert audited(stage, MOVED["old"], MOVED["new"]) == []


def test_a_newcomer_sells_on_what_it_has_and_the_chain_of_rows_says_who_paid_what(stage):
    stage.consent(MOVED["new"])
    name = stage.takes_position(stage.offered_position(MOVED["new"], price=Sats(800_000), by="cyd"), by="bob")
    stage.carry_on(6)
    stage.mine(7)
    assert stage.states(name) == ("done", "ABANDONED", "ACTIVE")
    MOVED.update(last=stage.transfer(name).new_option_id)
    assert audited(stage, *(MOVED[one] for one in ("old", "new", "last"))) == []


def over(stage, name):
    """Carry until a transfer is over, and its three know; return its row."""
    for _ in range(30):
        stage.carry_on(1)
        if stage.transfer(name).state == "over":
            break
    stage.carry_on(1)
    return stage.transfer(name)


def words_of(stage, row):
    """States of a transfer's offer and consent."""
    return stage.row(TransferOfferRow, id=row.offer_id).state, stage.row(TransferConsentRow, id=row.consent_id).state


FAST = {(Round.PRESIGNED, SELLER), (Round.READY, HOLDER), (Round.READY, NEWCOMER)}
LIES = [
    pytest.param(said, owner, id=f"{owner.value}-{said.value}", marks=[] if (said, owner) in FAST else pytest.mark.slow)
    for said in (Round.HALF, Round.PRESIGNED, Round.READY)
    for owner in OWED[said]
]
AFTER = {SELLER: ("open", "broken"), HOLDER: ("broken", "open"), NEWCOMER: ("open", "open")}
"""States of offer and consent after a transfer that came to nothing by one of the three."""


@pytest.mark.parametrize(("said", "owner"), LIES)
def test_a_lie_ends_a_transfer_by_its_owner_s_fault_and_nobody_loses_anything(stage, shared, said, owner):
    name = stage.begin(shared)
    stage.accounts[ACCOUNTS[owner]].lies = {f"transfer-{said.value}": lie_word}
    row = over(stage, name)
    stage.accounts[ACCOUNTS[owner]].lies = {}
    assert (row.fault, words_of(stage, row), stage.state(shared)) == (owner.value, AFTER[owner], "ACTIVE")
    assert [stage.kept(one, name).state for one in NAMES] == [Kept.OVER] * 3
    with stage.here.store.reading() as session:
        assert session.get(OptionRow, row.new_option_id) is None
    if owner is not HOLDER:  # where it was: it can be taken, or taken back
        with stage.here.store.transaction() as session:
            transfers.withdraw_offer(session, row.holder, row.offer_id, now=stage.here.now())


@pytest.mark.parametrize("owner", [SELLER, pytest.param(HOLDER, marks=pytest.mark.slow)], ids=lambda one: one.value)
def test_a_lie_about_the_key_path_is_its_side_s_fault_and_six_blocks_later_both_may_close(stage, option, owner):
    name = stage.begin(option)
    stage.accounts[ACCOUNTS[owner]].lies = {f"transfer-{owner.value}": lie_word}
    row = over(stage, name)
    stage.accounts[ACCOUNTS[owner]].lies = {}
    assert (row.fault, words_of(stage, row), stage.state(option)) == (owner.value, AFTER[owner], "ACTIVE")
    desks = [stage.accounts[one].desk for one in ("ada", "bob")]
    for blocks in (1, 6):  # the holder's own coin went home
        stage.mine(blocks)
        for desk in desks:
            desk.transfers.let_go_lapsed()
    for desk in desks:
        desk.closes.check_live(desk._store.load(desk.orders()[option]))
    assert audited(stage, option) == []


class _AtOnce:
    """A preset by which whoever was asked is late."""

    offers = type("_Offers", (), {"answer_seconds": 0, "last_blocks": 12})()


def test_who_is_silent_is_at_fault_and_what_the_others_said_is_free_again(stage, shared, monkeypatch):
    name = stage.begin(shared)
    stage.accounts["cyd"].silent = True
    stage.trade(1)
    with monkeypatch.context() as patched:
        patched.setattr(tasks.transfers, "load_market_preset", lambda _: _AtOnce)
        market.tick()
    stage.accounts["cyd"].silent = False
    row = stage.transfer(name)
    assert (row.state, row.fault, words_of(stage, row)) == ("over", "newcomer", AFTER[NEWCOMER])
    stage.carry_on(2)
    assert [stage.kept(one, name).state for one in ("ada", "bob")] == [Kept.OVER] * 2
    again = stage.takes_position(signed_offer(stage, row))  # the offer is where it was
    with stage.here.store.transaction() as session:
        fail(session, again, Failure(blamed=None, problem="a test's"), now=stage.here.now())
        transfers.withdraw_words(session, None, now=stage.here.now())
    stage.carry_on(2)


def signed_offer(stage, row):
    return transfers.signed_offer_of(stage.row(TransferOfferRow, id=row.offer_id))


def spent(stage, account, coin, fee=5_000):
    """Mine a block in which an account spends a coin of its own otherwise."""
    wallet = stage.accounts[account].desk.wallet
    made = Transaction(
        version=2, inputs=(TxIn(outpoint=coin.outpoint),),
        outputs=(TxOut(value=Sats(coin.value - fee), script=wallet.script),),
    )  # fmt: skip
    made = made.with_witness(0, [wallet.by_script[coin.output.script].sign_input(made, 0, [coin.output])])
    block = stage.node.generate_block(stage.accounts[account].desk.address(), [made])
    chain.watch()
    return block


def test_who_refuses_for_another_s_missing_coin_is_not_at_fault(stage, shared):
    name = stage.begin(shared)
    stage.until(name, "presigned")
    spent(stage, "cyd", stage.kept("cyd", name).coins[0])
    row = over(stage, name)
    assert (row.fault, words_of(stage, row)) == ("newcomer", AFTER[NEWCOMER])


def test_a_coin_that_a_block_spends_otherwise_ends_what_was_sent_six_blocks_later_and_a_reorganisation_brings_it_back(
    stage, option
):
    name = stage.begin(option)
    stage.carry_on(6)
    assert stage.transfer(name).state == "signed"
    made = stage.node.transaction(bytes.fromhex(stage.transfer(name).txid)[::-1]).transaction
    block = spent(stage, "bob", stage.kept("bob", name).coins[0])
    market.tick()
    assert stage.states(name) == ("signed", "ACTIVE", "CREATED")
    stage.mine(5)
    market.tick()
    row = stage.transfer(name)
    assert (row.state, row.fault, words_of(stage, row)) == ("over", "holder", AFTER[HOLDER])
    assert stage.states(name)[1:] == ("ACTIVE", "CANCELLED")
    stage.carry_on(2)
    assert audited(stage, option, row.new_option_id) == []
    stage.node.invalidate(block)
    stage.node.generate_block(stage.accounts["ada"].desk.address(), [made])
    chain.watch()
    stage.mine(7)
    assert stage.states(name) == ("done", "ABANDONED", "ACTIVE")
    assert stage.transfer(name).fault is None
    assert audited(stage, option, row.new_option_id) == []


def test_a_restored_store_takes_a_transfer_that_a_block_holds_for_what_it_is(stage, option):
    name = stage.begin(option)
    stage.until(name, "holder")
    stage.accounts["bob"].work()  # its word is on the way, and this store never reads it
    with stage.here.store.reading() as session:
        loaded = load(session, stage.transfer(name))
    kept = stage.kept("bob", name).said["holder"]
    transfer = loaded.agreed().hear(HOLDER, Round.HOLDER, bytes.fromhex(kept["partial"]))
    with stage.here.store.transaction() as session:
        stand_down(session, now=stage.here.now())
    assert stage.states_before(name) == ("over", "ACTIVE")
    stage.node.generate_block(stage.accounts["ada"].desk.address(), [transfer.finish()])
    chain.watch()
    market.tick()
    assert stage.states(name) == ("signed", "ACTIVE", "CREATED")
    stage.mine(6)
    assert stage.states(name) == ("done", "ABANDONED", "ACTIVE")
    assert audited(stage, option, stage.transfer(name).new_option_id) == []


def test_what_was_moved_twice_is_settled_once_for_who_holds_it_last(stage):
    before = stage.accounts["bob"].free()
    stage.price(6_000_000)
    stage.settle()
    stage.mine(6)
    stage.trade(2)
    assert stage.state(MOVED["last"]) == "EXERCISED"
    assert [stage.state(MOVED[one]) for one in ("old", "new")] == ["ABANDONED"] * 2
    assert audited(stage, *(MOVED[one] for one in ("old", "new", "last")), complete=True) == []
    event = stage.contract(MOVED["last"]).event_id
    assert all(any(one.startswith(event[:32]) for one in stage.accounts[who].received()) for who in ("ada", "bob"))
    assert stage.accounts["bob"].free() > before
