import re
import tomllib
from pathlib import Path

import pytest

import settings
from settings.deployment import Deployment, variable

FOLDER = Path(settings.__file__).parent
DEPLOYMENT, PRESET, MARKET = re.split("^## (?:Preset|Market)$", (FOLDER / "README.md").read_text(), flags=re.MULTILINE)


def rows(text):
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]*?) \|", text, re.MULTILINE))


def plain(value):
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def test_every_setting_has_a_row_and_every_row_is_a_setting():
    assert set(rows(DEPLOYMENT)) == {variable(name) for name in Deployment.model_fields}


DERIVED = {
    "database_url",
    "wallet_seed_file",
    "parties_dir",
    "result_backend_url",
    "broker_key_file",
    "operator_key_file",
    "desk_key_file",
}
"""From other settings: their rows say how."""


@pytest.mark.parametrize("name", [n for n in Deployment.model_fields if n not in DERIVED])
def test_a_row_states_the_default(name):
    assert rows(DEPLOYMENT)[variable(name)].strip("`") == plain(Deployment.model_fields[name].default)


def test_every_field_of_the_preset_has_a_row_with_its_value():
    document = tomllib.loads((FOLDER / "presets" / "options" / "standard.toml").read_text())
    fields = {f"{section}.{field}": str(value) for section, table in document.items() for field, value in table.items()}
    assert {field: value.strip("`") for field, value in rows(PRESET).items()} == fields


def test_every_field_of_the_market_preset_has_a_row_with_its_value():
    document = tomllib.loads((FOLDER / "presets" / "market" / "standard.toml").read_text())
    rungs = document["listing"].pop("ladder")
    fields = {f"{section}.{field}": value for section, table in document.items() for field, value in table.items()}
    fields |= {f"listing.ladder.{field}": [rung[field] for rung in rungs] for field in rungs[0]}
    said = {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value) for name, value in fields.items()
    }
    assert {field: value.strip("`") for field, value in rows(MARKET).items()} == said
