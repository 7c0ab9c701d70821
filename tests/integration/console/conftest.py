"""A filled store, made once and copied for each test."""

from __future__ import annotations

import pytest

from tests.support.console_world import copied, fill_store, open_world


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    file = tmp_path_factory.mktemp("console") / "filled.db"
    return file, fill_store(file)


@pytest.fixture
def world(filled, tmp_path):
    file, now = filled
    made = open_world(copied(file, tmp_path), now)
    yield made
    made.store.close()
