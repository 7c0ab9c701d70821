"""A path that begins with ``~`` is refused by name: a folder of that name would be made where the process stands."""

import pytest
from typer.testing import CliRunner

from btcfi.errors import InvalidInputError
from settings.deployment import Deployment, load_deployment, variable
from workers.cli import build

PATHS = [name for name, field in Deployment.model_fields.items() if "Path" in str(field.annotation)]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("path", ["~/x", "~", "~ada/x"])
def test_a_home_that_no_shell_has_expanded_is_refused_by_the_variable_s_name(monkeypatch, name, path):
    monkeypatch.setenv(variable(name), path)
    with pytest.raises(InvalidInputError, match=variable(name)) as refused:
        load_deployment()
    assert "$HOME" in str(refused.value)


def test_a_database_s_file_in_such_a_home_is_refused_too(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "sqlite:///~/btcfi.db")
    with pytest.raises(InvalidInputError, match="DATABASE_URL"):
        load_deployment()


def test_every_path_of_the_deployment_is_among_them():
    assert set(PATHS) >= {"data_dir", "wallet_seed_file", "parties_dir", "node_cookie_file", "broker_key_file"}


@pytest.mark.parametrize("command", ["up", "demo"])
def test_an_option_that_no_shell_expands_is_refused_and_makes_nothing(monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(build(), [command, "--data-dir=~/x"])
    assert isinstance(done.exception, InvalidInputError)
    assert done.exception.field == "--data-dir"
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_the_default(monkeypatch):
    monkeypatch.setenv("BTCFI_DATA_DIR", "")
    assert str(load_deployment().data_dir) == "var"
