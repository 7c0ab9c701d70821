"""A store of its own for each test, on SQLite and on PostgreSQL."""

import os
import secrets

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from btcfi.adapters.store.spine.database import Store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    if request.param == "sqlite":
        made = Store(f"sqlite:///{tmp_path}/store.db")
        made.migrate()
        yield made
        made.close()
        return
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
