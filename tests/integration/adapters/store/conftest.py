"""A store of its own for each test, on SQLite and on PostgreSQL."""

import pytest

from tests.support.stores import store_on_postgresql, store_on_sqlite


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    with store_on_sqlite(tmp_path) if request.param == "sqlite" else store_on_postgresql() as made:
        yield made
