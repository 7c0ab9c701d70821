from pathlib import Path

import pytest
from pydantic import ValidationError

from btcfi.errors import InvalidInputError
from settings.deployment import Deployment, load_deployment, variable


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in Deployment.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def test_a_bare_environment_is_a_whole_deployment():
    deployment = load_deployment()
    assert deployment.database_url == "sqlite:///var/btcfi.db"
    assert deployment.wallet_seed_file == Path("var/wallet.seed")
    assert deployment.broker_url is None


def test_the_database_and_the_seed_follow_the_data_directory(monkeypatch):
    monkeypatch.setenv("BTCFI_DATA_DIR", "/srv/btcfi")
    assert load_deployment().database_url == "sqlite:////srv/btcfi/btcfi.db"
    assert load_deployment().wallet_seed_file == Path("/srv/btcfi/wallet.seed")


CHANGED = Deployment(
    data_dir=Path("/srv/btcfi"),
    database_url="postgresql+psycopg://u:secret@db/btcfi",
    broker_url="redis://:secret@cache:6379/0",
    result_backend_url="redis://:secret@cache:6379/1",
    node_url="http://u:secret@node:18443",
    venues=("kraken:BTC/USD",),
    legs=(),
    tick=False,
    mine_seconds=1.5,
    flower_password="secret",
    log_format="json",
)


def test_a_child_process_reads_back_the_same_deployment(monkeypatch):
    for name, value in CHANGED.environment().items():
        monkeypatch.setenv(name, value)
    assert load_deployment() == CHANGED


def test_showing_a_deployment_shows_no_secret():
    assert "secret" not in repr(CHANGED)


def test_an_empty_variable_means_the_default(monkeypatch):
    monkeypatch.setenv("BROKER_URL", "")
    monkeypatch.setenv("BTCFI_VENUES", "")
    assert load_deployment() == Deployment()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BTCFI_SETTLE_CONCURRENCY", "many"),
        ("BTCFI_SETTLE_CONCURRENCY", "0"),
        ("BTCFI_VENUE_TIMEOUT_SECONDS", "nan"),
        ("BTCFI_VENUES", "kraken:btc/usd"),
        ("BTCFI_VENUES", "kraken:BTC/USD,kraken:BTC/USD"),
        ("BTCFI_LEGS", "kraken"),
        ("BTCFI_TICK", "perhaps"),
        ("BTCFI_LOG_FORMAT", "xml"),
        ("BTCFI_PRESET", "../standard"),
        ("DATABASE_URL", "mysql://u:hunter2@db/btcfi"),
        ("BROKER_URL", "hunter2"),
        ("NODE_URL", "node:18443"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable_and_keeps_its_secret(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError) as caught:
        load_deployment()
    assert caught.value.field == name
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_deployment_does_not_change():
    with pytest.raises(ValidationError):
        CHANGED.tick = True


def test_a_refusal_has_no_word_of_the_library_that_checks(monkeypatch):
    monkeypatch.setenv("BTCFI_VENUES", "kraken:BTC/USD,kraken:BTC/USD")
    with pytest.raises(InvalidInputError) as e:
        load_deployment()
    assert str(e.value).startswith("BTCFI_VENUES: a market is named twice; expected ")
