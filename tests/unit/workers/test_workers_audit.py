"""The audit finds what it is there to find; an order for a fault is carried out once."""

import os
import threading

import pytest

from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.prices.rounds import find_round, open_round
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import cross, record
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.errors import InvalidInputError
from btcfi.oracle.quote import Feed
from btcfi.units import Slot, UnixSeconds
from workers.audit import ChainView, audit, replay_events
from workers.chaos.points import PAUSE, Order, Orders

FEED = Feed("BTC/USD")
NOW = UnixSeconds(1_700_000_040)
SLOT = Slot(1_699_999_980)


@pytest.fixture
def store(tmp_path):
    made = Store(f"sqlite:///{tmp_path}/store.db")
    made.migrate()
    with made.transaction() as session:
        open_round(session, FEED, SLOT, now=NOW, deadline_seconds=20)
    yield made
    made.close()


def problems(store):
    with store.reading() as session:
        return [finding.what for finding in replay_events(session)]


def test_a_log_that_replays_to_the_rows_has_nothing_to_find(store):
    with store.transaction() as session:
        cross(session, find_round(session, FEED, SLOT), "void", now=NOW)
    assert problems(store) == []


def test_a_state_that_changed_without_an_event_is_found(store):
    with store.transaction() as session:
        find_round(session, FEED, SLOT).state = "priced"
    assert problems(store) == ["is priced, its events end in 'open'"]


def test_an_event_from_nowhere_and_an_edge_that_does_not_exist_are_found(store):
    with store.transaction() as session:
        record(session, "round", "999", "open", now=NOW)
        number = find_round(session, FEED, SLOT).id
        session.add(EventRow(entity="round", entity_id=str(number), from_state="void", to_state="open", at_unix=NOW))
    found = problems(store)
    assert "has events and no row" in found
    assert "leaves void, was open" in found
    assert "no edge from void to open" in found


def option(**changes):
    return OptionRow(
        id="o", feed=FEED, state="ACTIVE", kind=0, strike_cents=1, quantity_centi_btc=1, expiry_unix=NOW,
        premium_cents=1, premium_sats=1, collateral_sats=1, volatility_bps=1, rate_bps=1, preset="standard",
        preset_sha256="", program="p", program_sha256="", created_at_unix=NOW, listed_slot=NOW, updated_at_unix=NOW,
        **changes,
    )  # fmt: skip


def test_an_option_that_is_lost_or_not_settled_is_found(store):
    with store.transaction() as session:
        session.add(option())
        record(session, "option", "o", "ACTIVE", now=NOW)
    found = [(finding.subject, finding.what) for finding in audit(store, ChainView(), ["o", "lost"])]
    assert ("lost", "lost: the store does not know it") in found
    assert ("o", "not settled: option ACTIVE, settlement -") in found
    (unfunded,) = [one.what for one in audit(store, ChainView(), ["o"], complete=False) if one.subject == "o"]
    assert unfunded.startswith("preset 'standard'")  # of a hash that nobody has: it is judged by nothing


@pytest.fixture
def orders(tmp_path):
    made = Orders(tmp_path / "orders")
    made.prepare()
    return made


def visit(orders, point, about=()):
    thread = threading.Thread(target=orders.visit, args=(point, about), daemon=True)
    thread.start()
    return thread


def test_an_order_stops_who_comes_to_its_point_once_and_lets_go(orders):
    orders.arm(Order(name="one", point="settlement.built:after", action=PAUSE))
    orders.visit("settlement.built:before")
    assert orders.reached("one") is None
    first = visit(orders, "settlement.built:after")
    while orders.reached("one") is None:
        first.join(0.01)
    assert orders.reached("one") == os.getpid()
    orders.visit("settlement.built:after")  # the second passes
    assert first.is_alive()
    orders.release("one")
    first.join(5)
    assert not first.is_alive()


def test_an_order_about_one_entity_lets_the_others_pass(orders):
    orders.arm(Order(name="one", point="settlement.built:after", action=PAUSE, about="st-poison"))
    orders.visit("settlement.built:after", ["st-honest"])
    assert orders.reached("one") is None
    orders.release("one")
    orders.visit("settlement.built:after", ["st-honest", "st-poison"])
    assert orders.reached("one") is not None


def test_an_unknown_action_is_refused(orders):
    with pytest.raises(InvalidInputError):
        orders.arm(Order(name="one", point="x", action="explode"))


def test_a_stepped_clock_is_read_back_and_none_is_no_step(orders):
    assert orders.clock_step() == 0
    orders.step_clock(-7_200)
    assert orders.clock_step() == -7_200
