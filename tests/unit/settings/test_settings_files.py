"""A secret may come as a file; what is wrong with it is said without saying it."""

import pytest

from btcfi.errors import InvalidInputError
from settings.deployment import SECRETS, load_deployment, variable


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch):
    for field in SECRETS:
        monkeypatch.delenv(variable(field), raising=False)


def test_a_secret_is_read_from_its_file_without_the_newline(monkeypatch, tmp_path):
    (tmp_path / "url").write_text("redis://:hunter2@broker:6379/0\n")
    (tmp_path / "password").write_text("correct horse\n")
    monkeypatch.setenv("BROKER_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("BTCFI_FLOWER_PASSWORD_FILE", str(tmp_path / "password"))
    deployment = load_deployment()
    assert deployment.broker_url == "redis://:hunter2@broker:6379/0"
    assert deployment.flower_password.get_secret_value() == "correct horse"


def test_the_variable_itself_goes_before_its_file(monkeypatch, tmp_path):
    (tmp_path / "url").write_text("redis://from-the-file:6379/0")
    monkeypatch.setenv("BROKER_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("BROKER_URL", "redis://from-the-environment:6379/0")
    assert load_deployment().broker_url == "redis://from-the-environment:6379/0"


def test_a_missing_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("NODE_URL_FILE", str(tmp_path / "absent"))
    with pytest.raises(InvalidInputError, match=r"NODE_URL_FILE: .*absent: No such file"):
        load_deployment()


def test_a_wrong_secret_is_refused_without_being_repeated(monkeypatch, tmp_path):
    (tmp_path / "url").write_text("hunter2")
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(InvalidInputError) as caught:
        load_deployment()
    assert "hunter2" not in str(caught.value)
    assert caught.value.field == "DATABASE_URL"
