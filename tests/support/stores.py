"""Stores for tests: an empty, migrated one on SQLite, or on the PostgreSQL server that the environment names.

Each is a copy of one that this process migrated once; the tests of the migrations walk them for themselves.
"""

import atexit
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from btcfi.adapters.store.spine.database import Store


@cache
def _migrated_file():
    folder = Path(tempfile.mkdtemp(prefix="btcfi-migrated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Store(f"sqlite:///{folder}/store.db")
    made.migrate()
    made.close()
    assert [one.name for one in folder.iterdir()] == ["store.db"], "all of it is in one file"
    return folder / "store.db"


@contextmanager
def store_on_sqlite(folder):
    """A store in a file of ``folder``."""
    file = Path(folder) / "store.db"
    if not file.exists():  # it may be opened again
        shutil.copyfile(_migrated_file(), file)
        file.chmod(0o600)
    made = Store(f"sqlite:///{file}")
    yield made
    made.close()


@cache
def _server(url):
    return create_engine(url, isolation_level="AUTOCOMMIT")


def _execute(url, statement):
    with _server(url).connect() as connection:
        connection.execute(text(statement))


@cache
def _migrated_database(url):
    name = f"btcfi_migrated_{secrets.token_hex(4)}"
    _execute(url, f"CREATE DATABASE {name}")
    atexit.register(_execute, url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    made = Store(make_url(url).set(database=name).render_as_string(hide_password=False))
    made.migrate()
    made.close()
    return name


@contextmanager
def store_on_postgresql():
    """A store in a database of its own, dropped afterwards; the test is skipped without a server."""
    server = os.environ.get("BTCFI_TEST_DATABASE_URL")
    if not server:
        pytest.skip("no PostgreSQL: run .ci/run as root on Debian, or set BTCFI_TEST_DATABASE_URL")
    name = f"btcfi_test_{secrets.token_hex(4)}"
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {_migrated_database(server)} STRATEGY FILE_COPY")
    made = Store(make_url(server).set(database=name).render_as_string(hide_password=False))
    try:
        yield made
    finally:
        made.close()
        _execute(server, f"DROP DATABASE {name} WITH (FORCE)")
