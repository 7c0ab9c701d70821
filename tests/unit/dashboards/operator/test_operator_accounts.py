"""Accounts of the console: what a name, a password and a role may be, and what the store keeps of them."""

from __future__ import annotations

import json

import pytest
from argon2 import extract_parameters
from argon2.exceptions import VerifyMismatchError
from sqlmodel import select
from typer.testing import CliRunner

from btcfi.adapters.store.access.console_tables import AuditRow, ConsoleAccountRow, ConsoleSessionRow
from btcfi.adapters.store.spine.database import Store
from btcfi.errors import InvalidInputError, NotFoundError
from dashboards.operator import accounts
from dashboards.operator.deps import ConsoleLimits
from dashboards.operator.errors import SignInNeededError
from dashboards.operator.pages_sign_in import local
from workers.commands import users

NOW = 1_790_000_000
PASSWORD = "correct horse battery"
LIMITS = ConsoleLimits()


@pytest.fixture
def store(tmp_path):
    made = Store(f"sqlite:///{tmp_path / 'console.db'}")
    made.migrate()
    yield made
    made.close()


def enter(store, name="ada", password=PASSWORD, now=NOW):
    return accounts.sign_in(store, name, password, address="1.2.3.4", entropy=b"\x07" * 32, limits=LIMITS, now=now)


def test_the_store_keeps_no_password_and_no_session_token(store):
    accounts.add_account(store, "ada", PASSWORD, ("operate", "read"), now=NOW, by="test")
    token = enter(store, "  ADA ")
    with store.reading() as session:
        kept = str([session.exec(select(t)).all() for t in (ConsoleAccountRow, ConsoleSessionRow, AuditRow)])
    assert PASSWORD not in kept
    assert token not in kept
    assert "$argon2id$v=19$m=65536,t=3,p=1$" in kept
    who = accounts.visitor_of(store, token, address="1.2.3.4", limits=LIMITS, now=NOW)
    assert (who.name, who.roles) == ("ada", {"operate", "read"})


def test_an_unknown_name_costs_a_guesser_as_much_hashing_as_a_known_one(store):
    accounts.add_account(store, "ada", PASSWORD, ("read",), now=NOW, by="test")
    (ada,) = accounts.list_accounts(store)
    assert extract_parameters(accounts._NOBODY) == extract_parameters(ada.password_hash)
    with pytest.raises(VerifyMismatchError):  # not InvalidHashError, which would come at once
        accounts._HASHER.verify(accounts._NOBODY, PASSWORD)


@pytest.mark.parametrize("name", ["", "Ada", "-a", "a" * 65, "a b", "ä", "a/b", "a\n"])
def test_a_name_that_cannot_be_one_is_refused(store, name):
    with pytest.raises(InvalidInputError, match="name"):
        accounts.add_account(store, name, PASSWORD, ("read",), now=NOW, by="test")


@pytest.mark.parametrize("password", ["", "short", "x" * 11, "x" * 1_001])
def test_a_short_password_is_refused_and_not_repeated(store, password):
    with pytest.raises(InvalidInputError, match="password") as refused:
        accounts.add_account(store, "ada", password, ("read",), now=NOW, by="test")
    assert not password or password not in str(refused.value)


def test_roles_are_the_apis_and_at_least_one(store):
    for roles in ((), ("admin",), ("read", "root")):
        with pytest.raises(InvalidInputError, match="role"):
            accounts.add_account(store, "ada", PASSWORD, roles, now=NOW, by="test")


def test_a_new_password_ends_the_sessions_and_opens_a_closed_account(store):
    accounts.add_account(store, "ada", PASSWORD, ("read",), now=NOW, by="test")
    with pytest.raises(InvalidInputError, match="taken"):
        accounts.add_account(store, "ada", PASSWORD, ("read",), now=NOW, by="test")
    token = enter(store)
    accounts.disable_account(store, "ada", now=NOW, by="test")
    with pytest.raises(SignInNeededError):
        enter(store)
    accounts.set_password(store, "ada", "another horse battery", now=NOW, by="test")
    with pytest.raises(SignInNeededError):
        accounts.visitor_of(store, token, address="", limits=LIMITS, now=NOW)
    assert enter(store, password="another horse battery")
    with pytest.raises(NotFoundError):
        accounts.disable_account(store, "nobody", now=NOW, by="test")


@pytest.mark.parametrize(
    ("to", "leads"),
    [
        ("/options?state=ACTIVE", "/options?state=ACTIVE"), ("", "/"), ("//x", "/"), ("/\\x", "/"), ("https://x", "/"),
        ("/a\r\nb", "/"), ("/sign-in", "/"), ("/a\\b", "/"), ("javascript:x", "/"),
    ],
)  # fmt: skip
def test_only_a_path_of_ours_is_returned_to(to, leads):
    assert local(to) == leads


def test_btcfi_users_takes_the_password_from_stdin_or_the_environment_never_from_an_argument(store, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", store.url)
    run = CliRunner().invoke
    assert run(users.app, ["add", "ada", "--role", "read", "--role", "operate"], input=f"{PASSWORD}\n").exit_code == 0
    monkeypatch.setenv(users.PASSWORD, "a second horse battery")
    assert run(users.app, ["add", "rita", "--role", "read"]).exit_code == 0
    assert run(users.app, ["password", "ada"]).exit_code == 0
    assert enter(store, password="a second horse battery")
    assert isinstance(run(users.app, ["disable", "nobody"]).exception, NotFoundError)
    assert run(users.app, ["disable", "rita"]).exit_code == 0
    listed = json.loads(run(users.app, ["list", "--json"]).stdout)["users"]
    assert [(u["name"], u["roles"], u["disabled_at_unix"] is None) for u in listed] == [
        ("ada", "read operate", True), ("rita", "read", False),
    ]  # fmt: skip
    assert "argon2" not in json.dumps(listed)
    assert "PASSWORD" not in run(users.app, ["add", "--help"]).stdout.replace("BTCFI_CONSOLE_PASSWORD", "")
    monkeypatch.setenv(users.PASSWORD, "")
    assert isinstance(run(users.app, ["password", "ada"]).exception, InvalidInputError)
