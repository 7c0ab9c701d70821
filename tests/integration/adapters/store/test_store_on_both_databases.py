"""The store promises the same on SQLite and on PostgreSQL: whoever comes second finds the work done."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier

import pytest
from sqlalchemy import func, inspect, select
from sqlmodel import SQLModel, col

from btcfi.adapters.store.access.idempotency import inserts
from btcfi.adapters.store.prices.observations import store_observation
from btcfi.adapters.store.prices.rounds import find_round, open_round
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Store, StoreUnreachableError
from btcfi.adapters.store.spine.edges import Work, cross, upsert
from btcfi.adapters.store.spine.tables import CounterRow, EventRow, OutboxRow
from btcfi.oracle.quote import Feed, Missing, MissingReason, parse_venue
from btcfi.units import Slot, UnixSeconds

FEED = Feed("BTC/USD")
NOW = UnixSeconds(1_700_000_040)
SLOT = Slot(1_699_999_980)
AT_ONCE = 4


def all_at_once(work):
    """Run ``work`` in several threads that start together, and return what each returned."""
    start = Barrier(AT_ONCE)

    def one(_):
        start.wait(timeout=20)
        return work()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(AT_ONCE)))


def rows(store, table):
    with store.reading() as session:
        return session.execute(select(func.count()).select_from(table)).scalar_one()


def open_once(store):
    with store.transaction() as session:
        return open_round(session, FEED, SLOT, now=NOW, deadline_seconds=20)


def test_the_migrations_make_every_table_of_the_models_and_take_them_all_back(store):
    assert set(inspect(store.engine).get_table_names()) == set(SQLModel.metadata.tables) | {"alembic_version"}
    store.downgrade("base")
    assert set(inspect(store.engine).get_table_names()) == {"alembic_version"}
    store.migrate()
    assert set(SQLModel.metadata.tables) < set(inspect(store.engine).get_table_names())


def test_of_several_beats_that_open_a_minute_one_queues_its_fetches(store):
    assert sorted(all_at_once(lambda: open_once(store))) == [False] * (AT_ONCE - 1) + [True]
    assert [rows(store, table) for table in (RoundRow, EventRow, OutboxRow)] == [1, 1, 1]


def test_of_several_workers_that_cross_an_edge_one_does_and_the_others_are_counted(store):
    open_once(store)
    with store.reading() as session:
        seen = find_round(session, FEED, SLOT).model_dump()

    def close():
        with store.transaction() as session:
            return cross(session, RoundRow(**seen), "void", now=NOW, work=[Work(flow="expire_due", arguments=(FEED,))])

    assert sorted(all_at_once(close)) == [False] * (AT_ONCE - 1) + [True]
    assert [rows(store, table) for table in (EventRow, OutboxRow)] == [2, 2]
    with store.reading() as session:
        counted = session.execute(select(CounterRow).where(col(CounterRow.name) == "stale_round_edges")).scalar_one()
        assert (counted.value, find_round(session, FEED, SLOT).state) == (AT_ONCE - 1, "void")


def test_a_transaction_that_fails_leaves_neither_state_nor_event_nor_message(store):
    with suppress(ZeroDivisionError), store.transaction() as session:
        assert open_round(session, FEED, SLOT, now=NOW, deadline_seconds=20)
        session.flush()
        _ = 1 // 0
    assert [rows(store, table) for table in (RoundRow, EventRow, OutboxRow)] == [0, 0, 0]


def test_a_server_that_is_gone_is_named_without_its_password():
    store = Store("postgresql+psycopg://btcfi:hunter2@127.0.0.1:1/none")
    with pytest.raises(StoreUnreachableError) as refused:
        store.ping()
    assert "127.0.0.1:1" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_what_a_venue_said_of_a_minute_is_stored_once(store):
    said = Missing(
        venue=parse_venue("kraken:BTC/USD"), slot=SLOT, reason=MissingReason.NO_TRADES, detail="", observed_at=NOW
    )

    def keep():
        with store.transaction() as session:
            return store_observation(session, FEED, said, b"", now=NOW)

    assert sorted(all_at_once(keep)) == [False] * (AT_ONCE - 1) + [True]


def test_a_request_by_the_api_is_inserted_once(store):
    def ask():
        with store.transaction() as session:
            return inserts(session, upsert(session, CounterRow).values(name="asked", value=1))

    assert sorted(all_at_once(ask)) == [False] * (AT_ONCE - 1) + [True]
