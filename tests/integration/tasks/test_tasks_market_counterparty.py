"""An account that trades to harm the other side: whatever it says and does, its own fault is nobody else's."""

import json
import time
from contextlib import contextmanager

import pytest

from btcfi.adapters.store.market import accounts
from btcfi.adapters.store.market.takes import take
from btcfi.market.firm_offer import Side
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import UnixSeconds
from tasks import market
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


_NUMBERS = iter(range(2, 100))


def renew_keys(stage, account):
    """Register an account under another request key, as its owner may at any time."""
    registered = account.trader.registered(
        desk=stage.desk.public.desk_key, number=next(_NUMBERS), request_key=public_key_xonly(b"\x07" * 32)
    )
    with stage.here.store.transaction() as session:
        accounts.register(session, registered, now=stage.here.now())


def own_keys_again(stage, account):
    registered = account.trader.registered(desk=stage.desk.public.desk_key, number=next(_NUMBERS))
    with stage.here.store.transaction() as session:
        accounts.register(session, registered, now=stage.here.now())


def test_a_taker_that_changes_its_keys_after_it_took_costs_the_maker_nothing(stage, ada, bob):
    offer = ada.offer()
    name = bob.take(offer)
    renew_keys(stage, bob)
    stage.trade(4)
    own_keys_again(stage, bob)
    print(stage.taken(name))
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")
    assert stage.offered(offer).state == "open"


def test_a_maker_that_changes_its_keys_after_it_was_taken_is_at_fault_itself(stage, ada, bob):
    offer = ada.offer()
    name = bob.take(offer)
    renew_keys(stage, ada)
    stage.trade(4)
    own_keys_again(stage, ada)
    print(stage.taken(name))
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "maker")


def test_a_take_that_is_over_before_it_can_be_answered_costs_the_maker_nothing(stage, ada, bob):
    offer = ada.offer()
    signed = bob.trader.take(offer, QUANTITY, valid_until=UnixSeconds(int(time.time())), number=next(bob._numbers))
    bob.ledger.add_take(signed, offer)
    with stage.here.work() as session:
        rule = sale_rule(stage.deployment)
        take(session, signed, rule=rule, now=UnixSeconds(SLOT + 60), wall=UnixSeconds(SLOT + 60))
    stage.trade(4)
    print(stage.taken(signed.take.option_id))
    assert stage.taken(signed.take.option_id).fault != "maker"
    assert stage.offered(offer).state == "open"


def coin_of(account):
    coin = max(account.desk.wallet.free(), key=lambda one: one.value)
    from btcfi.bitcoin.transaction import display_txid
    return {"txid": coin.outpoint.txid[::-1].hex(), "vout": coin.outpoint.index, "value_sats": coin.value, "script": coin.output.script.hex()}


@pytest.mark.parametrize(("side", "kind"), [(Side.BID, "offer"), (Side.ASK, "accept")])
def test_a_taker_that_names_the_maker_s_own_coin_as_its_own_is_at_fault(stage, ada, bob, side, kind):
    offer = ada.offer(side=side)
    coin = coin_of(ada)

    def name_it(message):
        print(message["party"]["coins"][:1], message.keys())
        message["party"]["coins"] = [coin]

    with saying(bob, kind, name_it):
        name = bob.take(offer)
        stage.trade(6)
    print(stage.taken(name))
    assert (stage.taken(name).state, stage.taken(name).fault) == ("failed", "taker")


def test_a_taker_that_tells_of_a_funding_that_nobody_signed_is_at_fault(stage, ada, bob, monkeypatch):
    offer = ada.offer()

    def unsigned(message):
        from btcfi.bitcoin.transaction import parse_transaction
        made = parse_transaction(bytes.fromhex(message["transaction"]))
        for index in range(len(made.inputs)):
            made = made.with_witness(index, [b"\x01" * 64])
        message["transaction"] = made.to_bytes().hex()

    monkeypatch.setattr(bob.node, "send", lambda _: None)
    with saying(bob, "funded", unsigned):
        name = bob.take(offer)
        stage.trade(6)
    print(stage.taken(name), stage.contract(name).state, stage.state(name), stage.node.pool())
    kept = next(one for one in ada.desk._store.contracts() if one.order == name)
    ada.desk.cancel(kept.offer.id.hex())  # what it does by itself a minute after the deal's time
    stage.mine(1)
    with monkeypatch.context() as patched:
        patched.setattr(market, "load_market_preset", lambda _: _Rule)
        market.tick()
    print(stage.taken(name), stage.contract(name).state, stage.state(name), stage.node.pool())
    assert stage.taken(name).fault == "taker"


class _Rule:
    class offers:  # noqa: N801
        answer_seconds = 0
