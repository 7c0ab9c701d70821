"""On PostgreSQL, where transactions commit out of order, events are counted once and none is left out."""

import time

import pytest

from btcfi.adapters.store.reading import EventLog, read_store
from btcfi.adapters.store.spine.edges import record
from btcfi.oracle.quote import Feed
from btcfi.units import UnixSeconds
from tests.support.stores import store_on_postgresql

pytestmark = pytest.mark.postgres

NOW = UnixSeconds(1_700_000_100)


@pytest.fixture
def store():
    with store_on_postgresql() as made:
        yield made


def counted(log, store):
    with store.reading() as session:
        log.read(session, now=UnixSeconds(int(time.time())))
    return sum(log.born.values())


def test_an_event_whose_transaction_commits_late_is_not_left_out(store):
    log = EventLog()
    with store.transaction() as slow:
        record(slow, "settlement", "st-slow", "due", now=NOW)
        slow.flush()
        with store.transaction() as fast:
            record(fast, "settlement", "st-fast", "due", now=NOW)
        assert counted(log, store) == 1
    assert counted(log, store) == 2
    assert counted(log, store) == 2


def test_every_figure_is_read_from_postgresql_too(store):
    with store.reading() as session:
        found = read_store(session, Feed("BTC/USD"), now=NOW)
    assert found.schema_current
    assert found.database_bytes > 1_000_000
    assert found.settlements == {}
    assert found.api_keys == {"usable": 0, "expired": 0, "revoked": 0}
