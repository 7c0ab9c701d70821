"""API keys from the command line."""

from __future__ import annotations

import json

import pytest
from sqlmodel import SQLModel

from btcfi.adapters.store.access import api_tables
from btcfi.adapters.store.spine.database import Store
from btcfi.surfaces import cli
from btcfi.surfaces.api_keys import KEY
from btcfi.surfaces.rest.key_cli import make_app


@pytest.fixture
def database(tmp_path):
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    store = Store(url)
    SQLModel.metadata.create_all(store.engine, tables=[api_tables.ApiKeyRow.__table__])
    store.close()
    return url


@pytest.fixture
def keys(monkeypatch, capsys, database):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["btcfi", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.run(make_app(lambda: Store(database)))
        return ended.value.code, capsys.readouterr()

    return run


def test_a_key_is_shown_once_and_only_its_hash_is_kept(keys, tmp_path):
    code, said = keys("create", "desk", "--role", "trade", "--role", "read")
    text = said.out.strip()
    parts = KEY.fullmatch(text)
    assert code == 0
    assert parts
    code, said = keys("list", "--json")
    (row,) = json.loads(said.out)["keys"]
    assert row["id"] == parts[1]
    assert row["roles"] == "read trade"
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("keys.db*"))
    assert parts[2].encode() not in stored


def test_a_revoked_key_is_listed_as_such(keys):
    _, said = keys("create", "desk", "--role", "read")
    key_id = KEY.fullmatch(said.out.strip())[1]
    assert keys("revoke", key_id)[0] == 0
    assert "revoked" in keys("list")[1].out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("create", "desk", "--role", "admin"), 2, "roles"),
        (("create", "", "--role", "read"), 2, "name"),
        (("revoke", "0" * 16), 3, "API key"),
    ],
)
def test_a_wrong_order_is_one_line_and_an_exit_code(keys, arguments, code, said):
    ended, streams = keys(*arguments)
    assert ended == code
    assert said in streams.err
    assert streams.err.count("\n") == 1
