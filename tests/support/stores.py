"""Stores for tests: an empty, migrated one on SQLite, or on the PostgreSQL server that the environment names."""

import os
import secrets
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from btcfi.adapters.store.spine.database import Store


@contextmanager
def store_on_sqlite(folder):
    """A store in a file of ``folder``."""
    made = Store(f"sqlite:///{folder}/store.db")
    made.migrate()
    yield made
    made.close()


@contextmanager
def store_on_postgresql():
    """A store in a database of its own, dropped afterwards; the test is skipped without a server."""
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
