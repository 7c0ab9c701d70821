"""What an account writes about its own take, to have the other side blamed, or nobody."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from sqlmodel import select

from btcfi import secp256k1
from btcfi.adapters.oracle.asking import OraclesAwayError
from btcfi.adapters.sealed_letters import seal
from btcfi.adapters.store.market import accounts, letters
from btcfi.adapters.store.market.tables import LetterRow
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.bitcoin.transaction import parse_transaction
from btcfi.hashes import sha256
from btcfi.market.firm_offer import Side
from btcfi.market.letter import Letter, encode_signed_letter, sign_letter
from tasks import contracts as exchange_tasks
from tasks import market
from tests.integration.tasks.test_tasks_market import checked, home, late, lying, spend_elsewhere, spent_elsewhere
from tests.support.chain import embedded_node
from tests.support.market_stage import MarketStage

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile-words")
    with embedded_node(folder / "chain") as (node, _):
        made = MarketStage(folder / "data", node, folder / "chain" / ".cookie", names=("ada", "bob", "cyd"), coins=24)
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


def write(stage, account, name, body):
    """A letter of an account to the service, signed and sealed as it must be."""
    desk, secret = stage.desk.public, account.trader.keystore.request_secret()
    letter = Letter(
        sender=secp256k1.public_key_xonly(secret), recipient=desk.desk_key, name=name, body=body
    )  # fmt: skip
    plain = json.dumps(encode_signed_letter(sign_letter(letter, secret))).encode()
    sealed = seal(plain, to=desk.box_key, about=desk.desk_key + name.encode())
    with stage.here.store.transaction() as session:
        letters.post(session, sender=account.id, recipient=None, name=name, sealed=sealed, now=stage.here.now())


def unread(stage):
    with stage.here.store.reading() as session:
        return [row.name for row in letters.waiting(session, None)]


def kept(stage, account):
    """How many bytes are kept of what an account wrote."""
    with stage.here.store.reading() as session:
        return sum(map(len, session.exec(select(LetterRow.sealed).where(LetterRow.sender == account.id))))


def renamed(account, kind, to):
    """Have an account's postman send what it says under another name."""

    def lie(path):
        path.rename(path.with_name(path.name.replace(f".{kind}.json", f"{to}.json")))

    return lying(account, kind, lie)


def unsigned(path):
    """Take the signatures out of a funding: its id stays."""
    message = json.loads(path.read_text())
    funding = parse_transaction(bytes.fromhex(message["transaction"]))
    for index in range(len(funding.inputs)):
        funding = funding.with_witness(index, [bytes(64)])
    path.write_text(json.dumps(message | {"transaction": funding.to_bytes().hex()}))


def test_a_buyer_that_calls_funded_what_no_node_takes_is_at_fault_and_not_the_seller_that_goes_home(
    stage, ada, bob, monkeypatch
):
    offer = ada.offer()
    with monkeypatch.context() as patched, lying(bob, "funded", unsigned):
        patched.setattr(bob.node, "send", lambda _: None)  # and it sends nothing itself
        name = bob.take(offer)
        stage.trade(5)
    assert stage.taken(name).state == "checked"
    stage.trade(1)
    assert home(ada, name) is not None
    stage.mine(1)
    with late(monkeypatch):
        market.tick()
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
    assert stage.offered(offer).state == "open"


def test_where_the_coins_of_both_sides_are_gone_neither_is_blamed(stage, ada, bob, monkeypatch):
    name, offer = checked(stage, ada, bob)
    gone = [spent_elsewhere(stage, one, name) for one in (ada, bob)]
    stage.node.generate_block(stage.mails["seller"]._desk.address(), gone)
    stage.mine(1)
    with late(monkeypatch), monkeypatch.context() as patched:
        patched.setattr(market, "_fail_late", lambda *_: None)  # as if its buyer had said that it is funded
        market.tick()
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "desk")
    assert stage.offered(offer).state == "open"
    bob.silent = False
    stage.trade(2)
    stage.mine(1)


def test_a_take_whose_kept_messages_are_damaged_keeps_no_other_from_ending(stage, ada, bob, monkeypatch):
    damaged, _ = checked(stage, ada, bob)
    bob.silent = False
    name, _ = checked(stage, ada, bob)
    spend_elsewhere(stage, bob, name)
    sha256_of_offer = stage.contract(damaged).offer_sha256
    with stage.here.store.transaction() as session:
        blob = session.get_one(BlobRow, sha256_of_offer)
        whole, blob.body = blob.body, b"{"
    with late(monkeypatch):
        market.tick()
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
    with stage.here.store.transaction() as session:
        session.get_one(BlobRow, sha256_of_offer).body = whole
    bob.silent = False
    stage.trade(2)
    stage.mine(1)


def test_a_take_restored_from_before_it_was_funded_is_not_called_lost_though_its_payout_is_in_a_block(
    stage, ada, bob, monkeypatch
):
    with lying(bob, "funded", lambda path: path.unlink()):
        name = bob.take(ada.offer(strike=4_700_000))
        stage.trade(5)
    assert stage.contract(name).state == "checked"
    with (
        closing(sqlite3.connect(stage.deployment.data_dir / "btcfi.db")) as live,
        closing(sqlite3.connect(":memory:")) as backup,
    ):
        live.backup(backup)
        stage.mine(6)
        assert stage.state(name) == "ACTIVE"
        stage.price(6_000_000)
        stage.settle()
        stage.mine(6)
        assert stage.state(name) == "EXERCISED"
        backup.backup(live)
    assert stage.state(name) == "CREATED"
    with late(monkeypatch), monkeypatch.context() as patched:
        patched.setattr(market, "_fail_late", lambda *_: None)
        market.tick()
    assert stage.taken(name).state == "checked"
    stage.mine(1)
    market.tick()
    assert (stage.state(name), stage.taken(name).state) == ("ACTIVE", "funded")


def test_who_refuses_a_close_that_nobody_asked_for_has_nobody_blamed_and_nothing_withdrawn(
    stage, ada, bob, monkeypatch
):
    offer = ada.offer()
    name = bob.take(offer)
    ada.silent = True
    exchange_tasks.carry(stage.here)
    ada.silent = False
    ada.work()  # offers
    exchange_tasks.carry(stage.here)
    bob.work()  # accepts
    write(stage, bob, f"{name}.close-x.refused", {"reason": "no"})
    stage.trade(4)
    with late(monkeypatch):
        market.tick()
    assert stage.taken(name).fault != "maker"
    assert stage.taken(name).state == "funded"


@pytest.mark.parametrize("kind", ["closed", "close-request"])
def test_what_cannot_be_said_yet_does_not_keep_an_account_from_being_late(stage, ada, bob, monkeypatch, kind):
    offer = ada.offer()
    name = bob.take(offer)
    ada.silent = True
    write(stage, ada, f"{name}.{kind}", {"type": f"btcfi/{kind}", "transaction": "00"})
    stage.trade(2)
    with late(monkeypatch):
        market.tick()
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "maker")
    ada.silent = False
    stage.trade(2)
    assert name not in " ".join(unread(stage))


@pytest.mark.parametrize(("kind", "fault"), [("offer", "maker"), ("accept", "taker"), ("sign", "maker")])
def test_an_answer_under_the_name_of_a_close_is_no_answer_and_its_account_is_late(
    stage, ada, bob, kind, fault
):  # fmt: skip
    with renamed(ada if fault == "maker" else bob, kind, f"~close.{kind}"):
        name = bob.take(ada.offer())
        stage.trade(4)
    with pytest.MonkeyPatch.context() as patched, late(patched):
        market.tick()
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", fault)


def test_letters_about_other_things_do_not_begin_an_account_s_time_anew(stage, ada, bob, monkeypatch):
    offer = ada.offer()
    name = bob.take(offer)
    ada.silent = True
    stage.trade(1)
    before = stage.contract(name).updated_at_unix
    monkeypatch.setattr(type(stage.here), "now", lambda self: before + 19)
    write(stage, ada, f"{name}.close-1.refused", {"reason": "a"})
    exchange_tasks.carry(stage.here)
    assert stage.contract(name).updated_at_unix == before
    monkeypatch.undo()
    ada.silent = False
    with late(monkeypatch):
        market.tick()
    stage.trade(2)


def test_an_account_that_takes_other_keys_amid_a_take_is_at_fault_and_not_the_other_side(stage, ada, cyd, monkeypatch):
    name = cyd.take(ada.offer())
    exchange_tasks.carry(stage.here)
    ada.work()
    exchange_tasks.carry(stage.here)
    new, old = sha256(b"new request key"), cyd.trader.keystore.request_secret()
    registered = cyd.trader.registered(
        desk=stage.desk.public.desk_key, number=2, request_key=secp256k1.public_key_xonly(new)
    )
    with stage.here.store.transaction() as session:
        accounts.register(session, registered, now=stage.here.now())
    # its postman writes by the new ones
    cyd.postman._member = replace(cyd.postman._member, registered=registered)
    monkeypatch.setattr(
        type(cyd.trader.keystore), "request_secret", lambda keys: new if keys is cyd.trader.keystore else old
    )
    cyd.work()
    monkeypatch.undo()
    stage.trade(4)
    with late(monkeypatch):
        market.tick()
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")


def test_of_what_is_nobody_s_word_no_byte_is_kept(stage, ada, bob):
    name = bob.take(ada.offer())
    stage.trade()
    own = kept(stage, bob)
    for number in range(40):
        write(stage, bob, f"x{number}.offer", {"n": number})
        write(stage, bob, f"{name}.kind{number}.refused", {"reason": "x" * 1000})
        write(stage, bob, f"{name}.kind{number}.waiting", {"reason": "x" * 1000})
        write(stage, bob, f"{name}.kind{number}", {"reason": "x" * 1000})
    for _ in range(8):
        exchange_tasks.carry(stage.here)
    assert unread(stage) == []
    assert kept(stage, bob) == own


def test_oracles_that_are_away_are_asked_of_one_event_once_a_look(stage, ada, bob, monkeypatch):
    asked = []

    def away(_clients, event, *, wanted):
        asked.append((event.id, wanted))
        raise OraclesAwayError(["away"])

    with monkeypatch.context() as patched:
        patched.setattr(exchange_tasks.attesting, "announcements_of", lambda *_: ())
        patched.setattr(exchange_tasks, "announcements", away)
        names = [bob.take(ada.offer(strike=strike)) for strike in (4_000_000, 4_100_000, 4_200_000)]
        exchange_tasks.carry(stage.here)
    assert len(asked) == 1
    stage.trade()
    assert [(stage.taken(name).state, stage.taken(name).problem) for name in names] == [("funded", None)] * 3


def test_options_that_cannot_be_ordered_hold_up_no_other(stage, ada, bob, cyd, monkeypatch):
    offer = ada.offer()
    stuck = [bob.take(offer, 1) for _ in range(3)]
    name = cyd.take(offer, 1)
    order = exchange_tasks._order_one

    def away(here, option, tip):
        if option.id in stuck:
            raise OraclesAwayError(["away"])
        order(here, option, tip)

    with monkeypatch.context() as patched:
        patched.setattr(exchange_tasks, "_order_one", away)
        patched.setattr(exchange_tasks, "ORDER_SECONDS", 0)  # as if each were slow to ask
        for _ in range(4):
            exchange_tasks.carry(stage.here)
    assert stage.contract(name) is not None
    stage.trade(8)


@pytest.mark.parametrize("side", [Side.ASK, Side.BID])
def test_a_taker_that_names_a_coin_of_the_maker_is_at_fault_and_not_the_maker_that_refuses_it(
    stage, ada, bob, monkeypatch, side
):
    before = ada.take(bob.offer())  # from which the service knows the script of ada's wallet
    stage.trade(5)
    stage.mine(6)
    assert stage.state(before) == "ACTIVE"
    offer = ada.offer(side=side)
    name = bob.take(offer)
    with monkeypatch.context() as patched:
        stolen = ada.desk.wallet.free()[-1:]
        patched.setattr(bob.desk.wallet, "choose", lambda *_, **__: tuple(stolen))
        for _ in range(2):
            exchange_tasks.carry(stage.here)
            ada.work()
            bob.work()
    stage.trade(4)
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
    assert stage.offered(offer).state == "open"
    stage.trade(1)
