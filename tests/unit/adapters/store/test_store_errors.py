"""Whatever a database fails with is one of our errors, with the exit code of what an operator would do about it."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import make_url

from btcfi.adapters.store.spine.database import Store, known_revisions
from btcfi.adapters.store.spine.errors import (
    StoreBusyError,
    StoreDamagedError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnreachableError,
)
from btcfi.adapters.store.spine.leases import prove_writable
from btcfi.surfaces.status import status_of
from tests.support.stores import store_on_postgresql


@pytest.fixture
def store(tmp_path):
    made = Store(f"sqlite:///{tmp_path}/store.db", busy_timeout_ms=20)
    made.migrate()
    yield made
    made.close()


def path_of(store):
    return make_url(store.url).database


def write(store):
    with store.transaction() as session:
        prove_writable(session)


def fails(error, code, act):
    with pytest.raises(error) as caught:
        act()
    assert status_of(caught.value).exit_code == code
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    "garbage", [b"no database at all, " * 400, b"\x00" * 4096, b"SQLite format 3\x00" + b"\xff" * 8_000]
)
def test_a_file_that_is_no_database_is_damaged_to_whoever_opens_it(tmp_path, garbage):
    file = tmp_path / "store.db"
    file.write_bytes(garbage)
    for act in (Store.ping, Store.migrate, Store.clock, write):
        made = Store(f"sqlite:///{file}")
        fails((StoreDamagedError, StoreUnreachableError), 65, lambda act=act, made=made: act(made))
        made.close()


def test_a_page_that_is_not_whole_is_damage_and_no_traceback(store):
    with store.transaction() as session:
        for number in range(200):
            session.execute(
                text("INSERT INTO blob (sha256, body, created_at_unix) VALUES (:name, :body, 1)"),
                {"name": f"{number:064x}", "body": bytes(900)},
            )
    store.close()
    connection = sqlite3.connect(path_of(store))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    root, size = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'blob'").fetchone()[0], 4096
    connection.close()
    with Path(path_of(store)).open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\x77" * size)

    def look():
        with store.reading() as session:
            session.execute(text("SELECT count(body) FROM blob")).all()

    fails(StoreDamagedError, 65, look)


def test_a_full_disk_says_so(store):
    @event.listens_for(store.engine, "connect")
    def _no_room(connection, _record):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    store.close()

    def fill():
        with store.transaction() as session:
            session.execute(
                text("INSERT INTO blob (sha256, body, created_at_unix) VALUES ('x', :body, 1)"),
                {"body": bytes(1 << 20)},
            )

    assert "make room" in str(fails(StoreFullError, 74, fill))


def test_a_database_that_may_only_be_read_says_so(store):
    readonly = Store(f"sqlite:///file:{path_of(store)}?mode=ro&uri=true")
    fails(StoreReadOnlyError, 77, lambda: write(readonly))
    readonly.close()


def test_one_that_another_holds_is_busy_and_may_be_tried_again(store):
    other = sqlite3.connect(path_of(store), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    fails(StoreBusyError, 75, lambda: write(store))
    other.execute("ROLLBACK")
    other.close()
    write(store)


def test_a_folder_in_the_place_of_the_file_is_unreachable(tmp_path):
    (tmp_path / "store.db").mkdir()
    made = Store(f"sqlite:///{tmp_path}/store.db")
    fails(StoreUnreachableError, 69, made.ping)
    made.close()


def test_postgresql_s_kinds_are_told_apart_by_their_sqlstate():
    with store_on_postgresql() as store:
        standby = Store(f"{store.url}?options=-c%20default_transaction_read_only%3Don")
        fails(StoreReadOnlyError, 77, lambda: write(standby))
        standby.close()
        impatient = Store(f"{store.url}?options=-c%20lock_timeout%3D50")
        with store.transaction() as session:
            session.execute(text("LOCK TABLE lease"))
            fails(StoreBusyError, 75, lambda: write(impatient))
        impatient.close()
        for state, error, code in (
            ("53100", StoreFullError, 74), ("XX001", StoreDamagedError, 65), ("57P01", StoreUnreachableError, 69),
        ):  # fmt: skip

            def raised(state=state):
                with store.transaction() as session:
                    session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{state}'; END $$"))

            fails(error, code, raised)


def test_the_migrations_that_are_known_are_those_that_alembic_walks():
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - as slow here as elsewhere

    from btcfi.adapters.store.spine.database import MIGRATIONS  # noqa: PLC0415 - for this one alone

    walked = tuple(one.revision for one in ScriptDirectory(str(MIGRATIONS)).walk_revisions())
    assert known_revisions() == walked


def test_the_database_s_clock_is_the_kernel_s_whatever_this_process_believes(store, monkeypatch):
    import time  # noqa: PLC0415 - to bend it

    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + 600)
    assert abs(store.clock() - real) < 60
    assert abs(store.now() - real) < 60


def test_postgresql_tells_its_own_clock():
    import time  # noqa: PLC0415 - to compare

    with store_on_postgresql() as store:
        assert abs(store.clock() - time.time()) < 60
