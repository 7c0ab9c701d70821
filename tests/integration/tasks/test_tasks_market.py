"""Accounts trade over letters through the service, beside silent and lying ones, and nobody waits for those."""

import json
import time
from base64 import b64encode
from contextlib import contextmanager

import pytest

from btcfi.adapters.desk_key import DeskKey
from btcfi.adapters.store.market import accounts, carrying, failing, letters
from btcfi.adapters.store.options.cancelling import cancel_sale
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.market.auction import Auction
from btcfi.market.firm_offer import Side
from btcfi.units import Sats
from tasks import carriers, chain, market
from tasks import contracts as exchange_tasks
from tests.support.accounts import trader
from tests.support.chain import embedded_node
from tests.support.market_stage import SLOT, MarketStage

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("market")
    with embedded_node(folder / "chain") as (node, _):
        made = MarketStage(
            folder / "data", node, folder / "chain" / ".cookie", names=("ada", "bob", "cyd"), coins=12
        )  # fmt: skip
        with made:
            yield made


@pytest.fixture
def ada(stage):
    return stage.accounts["ada"]


@pytest.fixture
def bob(stage):
    return stage.accounts["bob"]


@pytest.fixture
def cyd(stage):
    return stage.accounts["cyd"]


@contextmanager
def lying(account, kind, lie):
    account.lies[kind] = lie
    try:
        yield
    finally:
        account.lies.clear()


FEES = 50_000
"""Sats; of going home, and of a funding."""


@contextmanager
def late(monkeypatch):
    """As if every side had let its time pass."""
    with monkeypatch.context() as patched:
        patched.setattr(market, "load_market_preset", lambda _: _Rule)
        yield


class _Rule:
    class offers:  # noqa: N801 - as the preset's field
        answer_seconds = 0


def test_two_trades_at_once_are_funded_and_both_sides_have_only_what_is_theirs(stage, ada, bob, cyd):
    one = bob.take(ada.offer())
    two = cyd.take(ada.offer(side=Side.BID))
    stage.trade()
    assert [stage.contract(name).state for name in (one, two)] == ["funded"] * 2
    assert [stage.taken(name).state for name in (one, two)] == ["funded"] * 2
    assert stage.taken(one).checked_ms >= stage.taken(one).created_ms
    assert [(bob.id, ada.id), (ada.id, cyd.id)] == [
        (stage.option(name).holder, stage.option(name).writer) for name in (one, two)
    ]
    assert not any(one in name for name in cyd.received())
    assert not any(two in name for name in bob.received())
    stage.mine(6)
    assert [stage.state(name) for name in (one, two)] == ["ACTIVE"] * 2
    for role in ("seller", "buyer"):  # the folders that were there before have nothing of it
        assert not list((stage.deployment.parties_dir / role / "inbox").glob("*.json"))


def test_an_auction_s_take_is_funded_at_its_step_s_price_and_one_that_its_maker_finds_early_is_the_maker_s_word(
    stage, ada, bob, cyd
):
    begun = SLOT - 30
    schedule = Auction(begins=begun, step_seconds=30, steps=3, last=9_400_000, last_cents=470_000)
    offer = ada.offer(auction=schedule)
    price, cents = offer.offer.prices(2)
    assert (price, cents) == (9_600_000, 480_000)
    one = bob.take(offer, price=price, price_cents=cents, step=2)
    early = cyd.offer(auction=schedule)
    cyd.mail._deals._clock = lambda: begun  # its own clock: an hour or a day behind the desk's
    two = bob.take(early, price=price, price_cents=cents, step=2)
    stage.trade()
    assert (stage.contract(one).state, stage.taken(one).state) == ("funded", "funded")
    assert stage.option(one).premium_sats == price * stage.taken(one).quantity // 100
    assert (stage.taken(two).state, stage.taken(two).fault) == ("failed", "maker")
    assert "step 2 begins" in stage.taken(two).problem


def test_a_worker_with_another_desk_key_throws_no_letter_away_and_the_right_one_goes_on(stage, ada, bob, monkeypatch):
    name = bob.take(ada.offer())
    exchange_tasks.carry(stage.here)
    ada.work()
    with monkeypatch.context() as elsewhere:  # a control worker whose folder has a key that nobody has joined by
        elsewhere.setattr(carriers, "desk_key", lambda *_: DeskKey(bytes(range(32))))
        exchange_tasks.carry(stage.here)
        assert stage.taken(name).state == "taken"
        with stage.here.store.reading() as session:
            assert [one.name for one in carrying.waiting_in_turn(session)] == [f"{name}.offer"]
    stage.trade()
    assert stage.taken(name).state == "funded"
    assert stage.option(name).last_error is None


def test_a_sale_that_was_withdrawn_and_cannot_be_told_keeps_no_other_side_from_its_word(stage, ada, bob, monkeypatch):
    """They were told the oldest first, so many a look: as many that waited for our key stood before all others."""
    name = bob.take(ada.offer())
    exchange_tasks.carry(stage.here)
    stage.sell("withdrawn", barrier=4_000_000)  # of an event of its own
    exchange_tasks.exchange()
    told = stage.deployment.parties_dir / "seller" / "inbox" / "withdrawn.withdrawal.json"
    with stage.here.store.transaction() as session:
        failing.fail_by_us(session, name, "test", now=stage.here.now())
        cancel_sale(session, "withdrawn", by="test", now=stage.here.now() + 1)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(carriers, "desk_key", lambda *_: DeskKey(bytes(range(32))))
        elsewhere.setattr(exchange_tasks.contracts, "WITHDRAWN_AT_ONCE", 1)
        for _ in range(3):
            exchange_tasks.exchange()
        assert told.exists()
    exchange_tasks.exchange()
    stage.trade(1)
    assert f"{name}.withdrawal" in ada.received()


def test_the_store_has_no_signature_that_spends_a_coin_until_the_buyer_sends_all(stage, ada, bob):
    name = bob.take(ada.offer())
    bob.lies["funded"] = lambda path: path.unlink()
    stage.trade(5)
    bob.lies.clear()
    assert stage.contract(name).state == "checked"
    with stage.here.store.reading() as session:
        sign = exchange_tasks.contracts.message_of(session, stage.contract(name).sign_sha256)
    assert sign["funding_witnesses"] == {}
    stage.mine(6)  # the buyer has sent it to the chain and told nobody
    market.tick()
    assert (stage.state(name), stage.taken(name).state) == ("ACTIVE", "funded")


def test_a_silent_maker_loses_its_take_and_its_rank_and_the_taker_s_coins_are_free_and_others_trade_on(
    stage, ada, bob, cyd, monkeypatch
):
    dead, good = ada.offer(), cyd.offer()
    ada.silent = True
    one, two = bob.take(dead), bob.take(good)
    stage.trade(5)
    assert stage.taken(two).state == "funded"
    market.tick()
    assert stage.taken(one).state == "taken"  # its time is not over
    with late(monkeypatch):
        market.tick()
    assert (stage.taken(one).state, stage.taken(one).fault) == ("failed", "maker")
    assert stage.offered(dead).state == "broken"
    assert stage.offered(good).state == "open"
    ada.silent = False
    stage.trade(2)
    stage.mine(1)
    assert stage.contract(one).state == "cancelled"
    assert ada.desk.orders().get(one) is None or all(
        kept.withdrawn for kept in ada.desk._store.contracts() if kept.order == one
    )


@pytest.mark.parametrize("short", ["take", "offer"])
def test_a_maker_is_not_at_fault_for_a_take_that_leaves_it_no_time(stage, ada, bob, short):
    """Else anybody breaks every offer of a maker, for nothing: each with a take of a second, or in its last one."""
    offered = ada.offer(valid_for=2 if short == "offer" else 300)
    name = bob.take(offered, valid_for=2 if short == "take" else 120)
    exchange_tasks.carry(stage.here)
    time.sleep(2)  # real seconds: a letter's are those of the store
    stage.trade(3)
    assert stage.taken(name).state == "failed"
    assert stage.taken(name).fault in ("taker", "desk")
    assert stage.offered(offered).state == "open"


def test_a_taker_that_uses_up_the_time_of_its_take_breaks_no_offer(stage, ada, bob):
    offered = ada.offer()
    name = bob.take(offered, valid_for=4)
    bob.silent = True
    stage.trade(2)
    bob.silent = False
    bob.work()  # answers
    time.sleep(4)
    stage.trade(4)
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "desk")
    assert stage.offered(offered).state == "open"


def test_a_maker_that_lets_a_fair_time_pass_is_at_fault_though_the_take_has_lapsed(stage, ada, bob, monkeypatch):
    offered = ada.offer()
    ada.silent = True
    name = bob.take(offered, valid_for=2)
    stage.trade(2)
    time.sleep(2)
    with monkeypatch.context() as patched, late(monkeypatch):
        patched.setattr(failing, "FAIR_SECONDS", 1)
        market.tick()
    ada.silent = False
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "maker")
    assert stage.offered(offered).state == "broken"


def test_one_run_carries_what_comes_while_it_looks(stage, ada, bob, monkeypatch):
    name = bob.take(ada.offer())
    looks = iter(range(100))

    def answered(_):
        ada.work()
        bob.work()
        if next(looks) == 3:
            monkeypatch.setattr(market, "monotonic", lambda: float("inf"))

    monkeypatch.setattr(market, "sleep", answered)
    monkeypatch.setattr(market, "monotonic", lambda: 0.0)
    market.carry()
    assert stage.contract(name).state == "signed"
    monkeypatch.undo()
    stage.trade(2)
    assert stage.contract(name).state == "funded"


def changed(path, change):
    message = json.loads(path.read_text())
    change(message)
    path.write_text(json.dumps(message))


def other_collateral(message):
    message["collateral_sats"] -= 1


def coins_worth_more(message):
    message["party"]["coins"][0]["value_sats"] += 1


def other_signatures(message):
    raw = bytearray(message["cet_adaptor_signatures"].encode())
    message["cet_adaptor_signatures"] = b64encode(bytes(len(raw) * 3 // 4)).decode()


def half_a_transaction(message):
    message["transaction"] = message["transaction"][:20]


LIES = {
    "an offer of other terms": (Side.ASK, "offer", other_collateral, "maker"),
    "coins that are not there": (Side.ASK, "offer", coins_worth_more, "maker"),
    "an answer with no signatures": (Side.BID, "accept", other_signatures, "maker"),
    "no signatures of the payouts": (Side.ASK, "sign", other_signatures, "maker"),
    "a taker's answer with none": (Side.ASK, "accept", other_signatures, "taker"),
    "a taker's half a funding": (Side.ASK, "funded", half_a_transaction, "taker"),
}


@pytest.mark.parametrize("what", LIES)
def test_who_lies_in_a_message_is_at_fault_and_the_other_side_s_coins_are_free(stage, ada, bob, what):
    side, kind, lie, fault = LIES[what]
    liar, honest = (ada, bob) if fault == "maker" else (bob, ada)
    before, offer = honest.free(), ada.offer(side=side)
    with lying(liar, kind, lambda path: changed(path, lie)):
        name = bob.take(offer)
        stage.trade(5)
    if kind == "funded":  # the buyer has sent the whole of it to the chain, where it counts
        stage.mine(6)
        market.tick()
        assert (stage.state(name), stage.taken(name).state) == ("ACTIVE", "funded")
        return
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", fault)
    assert stage.offered(offer).state == ("broken" if fault == "maker" else "open")
    assert fault == "maker" or stage.offered(offer).remaining == offer.offer.quantity
    stage.trade(2)
    stage.mine(2)
    assert honest.free() >= before - FEES


def checked(stage, ada, bob):
    """A take that is checked, and whose buyer has gone silent since it answered."""
    offer = ada.offer()
    name = bob.take(offer)
    with lying(bob, "accept", lambda _: setattr(bob, "silent", True)):
        stage.trade(4)
    assert stage.contract(name).state == "checked"
    return name, offer


def home(account, name):
    """What takes the coins of a contract home, None while nothing does."""
    (found,) = [one.cancelled for one in account.desk._store.contracts() if one.order == name]
    return found


def test_a_buyer_that_never_funds_ends_the_take_once_the_chain_says_so_and_the_seller_goes_home_at_once(
    stage, ada, bob, monkeypatch
):
    name, offer = checked(stage, ada, bob)
    with late(monkeypatch):
        market.tick()
    assert (stage.state(name), stage.taken(name).state) == ("FAILED", "checked")  # it could be funded yet
    stage.trade(1)
    assert home(ada, name) is not None
    stage.mine(1)
    with late(monkeypatch):
        market.tick()
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
    assert stage.offered(offer).remaining == offer.offer.quantity
    bob.silent = False
    stage.trade(2)
    assert stage.node.pool() == []


def test_a_taker_that_spends_its_coin_elsewhere_is_at_fault_and_the_seller_goes_home(stage, ada, bob, monkeypatch):
    name, offer = checked(stage, ada, bob)
    spend_elsewhere(stage, bob, name)
    with late(monkeypatch):
        market.tick()
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
    assert stage.offered(offer).state == "open"
    bob.silent = False
    stage.trade(2)
    assert home(ada, name) is not None
    stage.mine(1)
    assert stage.node.pool() == []


def test_a_maker_that_spends_its_coin_elsewhere_after_signing_is_at_fault(stage, ada, bob, monkeypatch):
    name, offer = checked(stage, ada, bob)
    spend_elsewhere(stage, ada, name)
    with late(monkeypatch), monkeypatch.context() as patched:
        patched.setattr(market, "_fail_late", lambda *_: None)  # as if its buyer were in time
        market.tick()
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "maker")
    assert stage.offered(offer).state == "broken"
    bob.silent = False
    stage.trade(2)
    stage.mine(1)


def spend_elsewhere(stage, account, name):
    """Spend a coin that a contract names in a block, to somebody else."""
    gone = spent_elsewhere(stage, account, name)
    stage.node.generate_block(stage.mails["seller"]._desk.address(), [gone])
    chain.watch()


def spent_elsewhere(stage, account, name):
    """Return what spends the coins that a contract names, to somebody else."""
    (contract,) = [one for one in account.desk._store.contracts() if one.order == name]
    coins, keys = list(contract.named), account.desk.wallet.by_script
    spent, elsewhere = [coin.output for coin in coins], stage.mails["seller"]._desk
    gone = Transaction(
        version=2, inputs=tuple(TxIn(outpoint=coin.outpoint) for coin in coins),
        outputs=(TxOut(value=Sats(sum(coin.value for coin in coins) - 5_000), script=elsewhere.wallet.script),),
    )  # fmt: skip
    for index, output in enumerate(spent):
        gone = gone.with_witness(index, [keys[output.script].sign_input(gone, index, spent)])
    return gone


def test_a_flood_of_one_account_s_letters_holds_up_no_other(stage, ada, bob, cyd, monkeypatch):
    monkeypatch.setattr(exchange_tasks, "TAKE_SECONDS", 0.5)
    with stage.here.store.transaction() as session:
        for number in range(120):
            letters.post(
                session, sender=cyd.id, recipient=None, name=f"x{number}.offer", sealed=b"x" * 60, now=stage.here.now()
            )  # fmt: skip
    name = bob.take(ada.offer())
    stage.trade(5)
    assert stage.contract(name).state == "funded"


def test_attestations_go_to_the_two_sides_of_their_event_alone(stage, ada, bob, cyd):
    name = cyd.take(bob.offer(strike=4_600_000))
    stage.trade()
    stage.mine(6)
    assert stage.state(name) == "ACTIVE"
    stage.price(6_000_000)
    stage.settle()
    stage.mine(6)
    exchange_tasks.exchange()
    stage.trade(1)
    event = stage.contract(name).event_id
    for one, expected in ((bob, 3), (cyd, 3)):
        assert len([found for found in one.received() if found.startswith(event[:32])]) == expected
    folder = stage.deployment.parties_dir / "seller" / "inbox"
    assert not list(folder.rglob("*.attestation.json"))


def test_only_its_two_sides_are_heard_of_an_option_by_letter_or_by_file(stage, ada, bob):
    with stage.here.store.transaction() as session:
        registered = trader("eve").registered(desk=stage.desk.public.desk_key)
        eve = accounts.register(session, registered, now=stage.here.now(), carrier="folder").id
    stage.sell("filed")
    with stage.here.store.transaction() as session:
        option = session.get_one(OptionRow, "filed")
        option.writer, option.holder = eve, ada.id
    exchange_tasks.exchange()
    inbox = stage.deployment.parties_dir / "eve" / "inbox"
    assert [path.name for path in inbox.glob("*.json")] == ["filed.proposal.json"]
    assert not (stage.deployment.parties_dir / "seller" / "inbox" / "filed.proposal.json").exists()
    # neither of the two old folders is heard about it, nor is another account
    offer = json.loads((inbox / "filed.proposal.json").read_text()) | {"type": "btcfi/offer"}
    for folder in ("seller", "buyer"):
        outbox = stage.deployment.parties_dir / folder / "outbox"
        (outbox / "filed.offer.json").write_text(json.dumps(offer))
    (bob.outbox / "filed.offer.json").write_text(json.dumps(offer))
    bob.work()
    exchange_tasks.exchange()
    assert stage.contract("filed").last_error is None
    outbox = make_outbox(inbox)
    (outbox / "filed.offer.json").write_text(json.dumps(offer))
    exchange_tasks.exchange()
    assert stage.contract("filed").last_error is not None  # its own folder is heard
    with stage.here.store.transaction() as session:
        cancel_sale(session, "filed", by="test", now=stage.here.now())
    exchange_tasks.exchange()
    stage.trade(1)
    assert {path.name for path in inbox.glob("*.json")} == {"filed.withdrawal.json"}
    assert "filed.withdrawal" in ada.received()


def make_outbox(inbox):
    outbox = inbox.parent / "outbox"
    outbox.mkdir()
    return outbox
