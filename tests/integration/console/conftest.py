"""A filled store, made once and copied for each test."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from dashboards.operator import accounts
from tests.support.console_world import copied, fill_store, open_world


@pytest.fixture(scope="session", autouse=True)
def quick_passwords():
    """Hash passwords cheaply: a hundred sign-ins are not about the cost of guessing."""
    real = accounts._HASHER
    accounts._HASHER = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    yield
    accounts._HASHER = real


@pytest.fixture(scope="session")
def filled(tmp_path_factory, quick_passwords):
    file = tmp_path_factory.mktemp("console") / "filled.db"
    return file, fill_store(file)


@pytest.fixture
def world(filled, tmp_path):
    file, now = filled
    made = open_world(copied(file, tmp_path), now)
    yield made
    made.store.close()
