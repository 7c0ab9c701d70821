"""A filled store, made once and copied for each test."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from dashboards.operator import accounts
from tests.support.console_world import copied, fill_store, open_world

QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
"""A hundred sign-ins are not about the cost of guessing."""


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch):
    """Hash passwords cheaply, in these tests alone."""
    monkeypatch.setattr(accounts, "_HASHER", QUICK)


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    file = tmp_path_factory.mktemp("console") / "filled.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "_HASHER", QUICK)
        return file, fill_store(file)


@pytest.fixture
def world(filled, tmp_path):
    file, now = filled
    made = open_world(copied(file, tmp_path), now)
    yield made
    made.store.close()
