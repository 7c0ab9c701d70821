"""An account that trades to harm the other side: whatever it says and does, its own fault is nobody else's."""

import json
import time
from contextlib import contextmanager

import pytest

from btcfi.adapters.store.market import accounts, letters
from btcfi.adapters.store.market.takes import take
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut, parse_transaction
from btcfi.bitcoin.wallet import Coin
from btcfi.market.firm_offer import Side
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import Sats, UnixSeconds, display_txid
from tasks import chain, market
from tests.support.chain import embedded_node
from tests.support.contract_stage import SLOT
from tests.support.market_stage import QUANTITY, MarketStage
from workers.deployed import sale_rule

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("market")
    with embedded_node(folder / "chain") as (node, _):
        made = MarketStage(
            folder / "data", node, folder / "chain" / ".cookie", names=("ada", "bob"), coins=12
        )  # fmt: skip
        with made:
            yield made


@pytest.fixture
def ada(stage):
    return stage.accounts["ada"]


@pytest.fixture
def bob(stage):
    return stage.accounts["bob"]


@contextmanager
def saying(account, kind, change):
    """As if an account's own client changed what it says."""

    def lie(path):
        message = json.loads(path.read_text())
        change(message)
        path.write_text(json.dumps(message))

    account.lies[kind] = lie
    try:
        yield
    finally:
        account.lies.clear()


@contextmanager
def late(monkeypatch):
    """As if every side had let its time pass."""
    with monkeypatch.context() as patched:
        patched.setattr(market, "load_market_preset", lambda _: _Rule)
        yield


class _Rule:
    class offers:  # noqa: N801 - as the preset's field
        answer_seconds = 0


_NUMBERS = iter(range(2, 100))


@contextmanager
def other_keys(stage, account):
    """Register an account under another request key, as its owner may at any time, and under its own again."""
    for given in ({"request_key": public_key_xonly(b"\x07" * 32)}, {}):
        registered = account.trader.registered(desk=stage.desk.public.desk_key, number=next(_NUMBERS), **given)
        with stage.here.store.transaction() as session:
            accounts.register(session, registered, now=stage.here.now())
        if given:
            yield


def test_a_taker_that_changes_its_keys_after_it_took_costs_the_maker_nothing(stage, ada, bob):
    offer = ada.offer()
    name = bob.take(offer)
    with other_keys(stage, bob):
        stage.trade(3)
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
    assert stage.offered(offer).state == "open"


def test_a_taker_that_has_its_old_keys_again_when_the_maker_refuses_is_at_fault_all_the_same(stage, ada, bob):
    offer = ada.offer()
    name = bob.take(offer)
    with other_keys(stage, bob):
        stage.answer()  # the maker's proposal carries the other keys
    stage.trade(2)
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
    assert stage.offered(offer).state == "open"


def test_a_take_by_older_keys_that_comes_just_as_they_change_costs_the_maker_nothing(stage, ada, bob):
    offer = ada.offer()
    with other_keys(stage, bob):
        name = bob.take(offer)  # its signature was checked a moment before
        stage.trade(2)
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
    assert stage.offered(offer).state == "open"


def test_a_maker_that_changes_its_keys_after_it_has_offered_its_coins_is_at_fault_itself(stage, ada, bob):
    name = bob.take(ada.offer())
    stage.answer(ada)
    with other_keys(stage, ada):
        stage.answer(bob)
    assert stage.taken(name).fault != "taker"


@pytest.mark.parametrize("side", [Side.ASK, Side.BID])
def test_a_take_that_is_over_before_it_can_be_answered_costs_the_maker_nothing(stage, ada, bob, side):
    offer = ada.offer(side=side)
    signed = bob.trader.take(offer, QUANTITY, valid_until=UnixSeconds(int(time.time()) + 1), number=next(bob._numbers))
    bob.ledger.add_take(signed, offer)
    with stage.here.work() as session:
        rule = sale_rule(stage.deployment)
        take(session, signed, rule=rule, now=UnixSeconds(SLOT + 60), wall=UnixSeconds(SLOT + 60))
    if side is Side.BID:
        stage.answer(bob)  # in time; its maker reads it when it is over
    ada.deals_clock_ahead(1)
    try:
        stage.trade(3)
    finally:
        ada.deals_clock_ahead(0)
    assert (stage.taken(signed.take.option_id).state, stage.taken(signed.take.option_id).fault) == ("failed", "taker")
    assert stage.offered(offer).state == "open"


def wire(coin):
    """Return a coin as a message names it."""
    return {
        "txid": display_txid(coin.outpoint.txid), "vout": coin.outpoint.index, "value_sats": coin.value,
        "script": coin.output.script.hex(),
    }  # fmt: skip


def test_a_taker_that_names_the_maker_s_own_coin_as_its_own_is_at_fault(stage, ada, bob):
    before = ada.take(bob.offer())  # from which everybody knows the script of ada's wallet
    stage.trade(5)
    stage.mine(6)
    assert stage.state(before) == "ACTIVE"
    coin = wire(max(ada.desk.wallet.free(), key=lambda one: one.value))
    offer = ada.offer(side=Side.BID)
    with saying(bob, "offer", lambda message: message["party"].update(coins=[coin])):
        name = bob.take(offer)
        stage.trade(5)
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
    assert stage.offered(offer).state == "open"


COLLATERAL = QUANTITY * 1_000_000
"""Sats."""


def coin_worth(stage, account, value):
    """Return a coin of an account that is worth exactly so much, in a block."""
    spent = max(account.desk.wallet.free(), key=lambda one: one.value)
    script = account.desk.wallet.script
    change = TxOut(value=Sats(spent.value - value - 5_000), script=script)
    made = Transaction(
        version=2, inputs=(TxIn(outpoint=spent.outpoint),), outputs=(TxOut(value=Sats(value), script=script), change)
    )
    key = account.desk.wallet.by_script[spent.output.script]
    made = made.with_witness(0, [key.sign_input(made, 0, [spent.output])])
    stage.node.generate_block(account.desk.address(), [made])
    return Coin(outpoint=made.outpoint(0), output=made.outputs[0], key_index=0)


def test_coins_that_pay_no_fee_or_are_named_twice_are_the_fault_of_who_names_them(stage, ada, bob):
    coin = wire(max(bob.desk.wallet.free(), key=lambda one: one.value))
    for coins in ([coin, coin], [wire(coin_worth(stage, bob, COLLATERAL))]):
        offer = ada.offer(side=Side.BID)
        with saying(bob, "offer", lambda message, named=coins: message["party"].update(coins=named)):
            name = bob.take(offer)
            stage.trade(4)
        assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
        assert stage.offered(offer).state == "open"


def test_a_coinbase_that_may_not_be_spent_yet_is_no_coin_of_a_take(stage, ada, bob):
    (block,) = stage.node.generate(1, bob.desk.address())
    young = stage.node.block(block).transactions[0]
    coin = {
        "txid": display_txid(young.txid), "vout": 0, "value_sats": young.outputs[0].value,
        "script": young.outputs[0].script.hex(),
    }  # fmt: skip
    offer = ada.offer(side=Side.BID)
    with saying(bob, "offer", lambda message: message["party"].update(coins=[coin])):
        name = bob.take(offer)
        stage.trade(5)
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
    assert stage.contract(name).accept_sha256 is None  # nothing was signed of what nobody could have mined


def unsigned(message):
    made = parse_transaction(bytes.fromhex(message["transaction"]))
    for index in range(len(made.inputs)):
        made = made.with_witness(index, [b"\x01" * 64])
    message["transaction"] = made.to_bytes().hex()


def go_home(stage, account, name):
    """Have a seller take its coin home, as it does by itself a minute after the deal's time."""
    (kept,) = [one for one in account.desk._store.contracts() if one.order == name]
    if kept.cancelled is None:
        account.desk.cancel(kept.offer.id.hex())
    stage.mine(1)


def test_a_taker_that_tells_of_a_funding_that_nobody_signed_is_at_fault(stage, ada, bob, monkeypatch):
    offer = ada.offer()
    with monkeypatch.context() as patched, saying(bob, "funded", unsigned):
        patched.setattr(bob.node, "send", lambda _: None)
        name = bob.take(offer)
        stage.trade(5)
    assert stage.contract(name).state == "checked"
    go_home(stage, ada, name)
    with late(monkeypatch):
        market.tick()
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
    assert stage.offered(offer).state == "open"


def test_a_buyer_that_writes_of_other_things_is_late_all_the_same(stage, ada, bob, monkeypatch):
    offer = ada.offer()
    name = bob.take(offer)
    with saying(bob, "accept", lambda _: setattr(bob, "silent", True)):
        stage.trade(4)
    assert stage.contract(name).state == "checked"
    with stage.here.store.transaction() as session:
        for number in range(40):
            junk = f"{name}.x{number}"
            letters.post(session, sender=bob.id, recipient=None, name=junk, sealed=b"x" * 60, now=stage.here.now())
    with late(monkeypatch):
        market.tick()
    assert stage.state(name) == "FAILED"
    stage.trade(1)
    go_home(stage, ada, name)
    with late(monkeypatch):
        market.tick()
    bob.silent = False
    stage.trade(3)
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")


def test_a_buyer_that_says_that_it_waits_for_coins_once_all_is_signed_is_late_all_the_same(
    stage, ada, bob, monkeypatch
):
    offer = ada.offer()
    name = bob.take(offer)
    with saying(bob, "accept", lambda _: setattr(bob, "silent", True)):
        stage.trade(4)
    assert stage.contract(name).state == "checked"
    bob.postman._post(f"{name}.sign.waiting", {"reason": "coins"}, None)
    stage.trade(1)
    with late(monkeypatch):
        market.tick()
    stage.trade(1)
    assert f"{name}.withdrawal" in ada.received()
    go_home(stage, ada, name)
    with late(monkeypatch):
        market.tick()
    bob.silent = False
    stage.trade(3)
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")


def other_witnesses(message):
    for witness in message["funding_witnesses"].values():
        witness[0] = "01" * 64


def test_a_seller_that_seals_no_signatures_and_leaves_its_coin_costs_the_buyer_nothing(stage, ada, bob, monkeypatch):
    offer = ada.offer(side=Side.BID)
    with saying(bob, "sign", other_witnesses):
        name = bob.take(offer)
        stage.trade(5)
        bob.silent = True
    assert (stage.contract(name).state, stage.state(name)) == ("checked", "FAILED")
    stage.trade(2)
    (kept,) = [one for one in ada.desk._store.contracts() if one.order == name]
    spend(stage, ada, kept.accept.party.coins)  # its coins are free, and it trades on with them
    with late(monkeypatch):
        market.tick()
    bob.silent = False
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "desk")
    assert stage.offered(offer).state == "open"


def spend(stage, account, coins):
    """Spend coins of an account in a block, to itself."""
    stage.node.generate_block(account.desk.address(), [to_itself(account, coins)])
    chain.watch()


def to_itself(account, coins):
    spent = [coin.output for coin in coins]
    made = Transaction(
        version=2,
        inputs=tuple(TxIn(outpoint=coin.outpoint) for coin in coins),
        outputs=(TxOut(value=Sats(sum(coin.value for coin in coins) - 5_000), script=account.desk.wallet.script),),
    )
    for index, output in enumerate(spent):
        made = made.with_witness(index, [account.desk.wallet.by_script[output.script].sign_input(made, index, spent)])
    return made


def test_a_seller_that_signs_for_a_coin_that_it_is_spending_is_at_fault(stage, ada, bob, monkeypatch):
    offer = ada.offer(side=Side.BID)
    sent = []

    def spend_first(message):
        (kept,) = [one for one in bob.desk._store.contracts() if one.order == name]
        sent.append(to_itself(bob, kept.offer.party.coins))
        stage.node.send(sent[0])

    name = bob.take(offer)
    with saying(bob, "sign", spend_first):
        stage.trade(5)
        bob.silent = True
    assert stage.state(name) == "FAILED"
    stage.mine(1)
    with late(monkeypatch):
        market.tick()
    bob.silent = False
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
    assert stage.offered(offer).state == "open"
