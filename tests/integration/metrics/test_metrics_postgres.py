"""On PostgreSQL, where transactions commit out of order, events are counted once and none is left out."""

import os
import secrets
import time

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from btcfi.adapters.store.reading import EventLog, read_store
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import record
from btcfi.oracle.quote import Feed
from btcfi.units import UnixSeconds

pytestmark = pytest.mark.postgres

NOW = UnixSeconds(1_700_000_100)


@pytest.fixture
def store():
    server = os.environ.get("BTCFI_TEST_DATABASE_URL")
    if not server:
        pytest.skip("no PostgreSQL: run .ci/run as root on Debian, or set BTCFI_TEST_DATABASE_URL")
    name = f"btcfi_test_{secrets.token_hex(4)}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    made = Store(make_url(server).set(database=name).render_as_string(hide_password=False))
    try:
        made.migrate()
        yield made
    finally:
        made.close()
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


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
