"""What a market lists and takes is read from a file whose every number is bounded, and found by its hash."""

import hashlib
import tomllib

import pytest

from btcfi.errors import InvalidInputError, NotFoundError, NotHeldError
from btcfi.options.terms import OptionKind
from settings.market_preset import (
    load_market_preset,
    load_market_preset_by_hash,
    market_preset_names,
    read_market_preset,
)
from settings.preset_files import PRESETS

STANDARD = (PRESETS / "market" / "standard.toml").read_text()


def test_the_standard_market_lists_calls_and_puts_and_gives_a_side_twenty_seconds():
    preset = load_market_preset("market/standard")
    assert preset.listing.kinds == (OptionKind.CALL, OptionKind.PUT)
    assert [rung.step for rung in preset.listing.ladder] == [100_000, 200_000, 500_000, 1_000_000]
    assert (preset.offers.answer_seconds, preset.offers.last_blocks, preset.offers.confirmations) == (20, 12, 6)


@pytest.mark.parametrize("name", market_preset_names())
def test_a_market_preset_is_found_by_the_hash_of_its_bytes(name):
    raw = (PRESETS / "market" / f"{name}.toml").read_bytes()
    assert load_market_preset_by_hash(hashlib.sha256(raw).hexdigest()) == load_market_preset(name)


def test_a_market_preset_that_is_not_here_is_named():
    with pytest.raises(NotFoundError, match="simulation, standard"):
        load_market_preset("standart")
    with pytest.raises(NotHeldError):
        load_market_preset_by_hash("00" * 32)


NUMBERS = [
    (section, field)
    for section, table in tomllib.loads(STANDARD).items()
    for field, value in table.items()
    if isinstance(value, int)
]


@pytest.mark.parametrize("wrong", ["-1", "1.5", "true", '"1"', "100000000000"])
@pytest.mark.parametrize(("section", "field"), NUMBERS)
def test_a_wrong_number_of_a_market_preset_is_refused_by_the_name_of_its_field(tmp_path, section, field, wrong):
    lines = [f"{field} = {wrong}" if line.startswith(f"{field} =") else line for line in STANDARD.splitlines()]
    (tmp_path / "bad.toml").write_text("\n".join(lines))
    with pytest.raises(InvalidInputError) as e:
        read_market_preset(tmp_path / "bad.toml")
    assert e.value.field == f"preset.{section}.{field}"


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("[offers]", "[offers]\nmost_apart = 3", "preset.offers.most_apart"),
        ('kinds = ["call", "put"]', 'kinds = ["call", "straddle"]', "preset.listing.kinds[1]"),
        ('kinds = ["call", "put"]', "kinds = []", "preset.listing.kinds"),
        ("dailies = 3 ", "daily = 3 ", "preset.listing.dailies"),
        ("step_usd = 2000", "step_usd = 1000", "listing.ladder"),
        (
            "least_quantity_centi_btc = 1 ",
            "least_quantity_centi_btc = 10001 ",
            "preset.offers.least_quantity_centi_btc",
        ),
        ("[transfers]", "", "preset.transfers"),
    ],
)
def test_a_market_preset_that_contradicts_itself_is_refused_by_name(tmp_path, old, new, field):
    assert old in STANDARD
    (tmp_path / "bad.toml").write_text(STANDARD.replace(old, new))
    with pytest.raises(InvalidInputError) as e:
        read_market_preset(tmp_path / "bad.toml")
    assert e.value.field == field
