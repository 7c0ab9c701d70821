import hashlib

import pytest

from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.oracle.consensus import ConsensusRule
from settings.preset import PRESETS, load_preset, read_preset

STANDARD = (PRESETS / "standard.toml").read_text()


def test_the_standard_preset_is_the_rule_that_the_library_defaults_to():
    preset = load_preset("standard")
    assert preset.consensus == ConsensusRule()
    assert (preset.name, preset.confirmations, preset.max_steps) == ("standard", 6, 1 << 20)


def test_the_hash_is_that_of_the_file():
    assert load_preset("standard").sha256 == hashlib.sha256(STANDARD.encode()).hexdigest()


@pytest.mark.parametrize("name", ["absent", "../presets/standard", ""])
def test_an_unknown_preset_is_not_found(name):
    with pytest.raises(NotFoundError):
        load_preset(name)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("confirmations = 6", "confirmations = 0", "preset chain.confirmations"),
        ("confirmations = 6", "confirmations = true", "preset chain.confirmations"),
        ("confirmations = 6", "confirmation = 6", "preset chain.confirmation"),
        ("rate_bps = 500 ", "rate_bps = 5.0 ", "preset pricing.rate_bps"),
        ("batch_size = 64", "", "preset settlement.batch_size"),
        ("[chain]", "[chains]", "preset chains"),
        ('"volume_weighted_median"', '"mode"', "preset consensus.method"),
        ("max_steps = 1048576", "max_steps = 1024", "preset settlement.parallel_proof_steps"),
        ("quorum_numerator = 2", "quorum_numerator = 4", "quorum"),
        ("[chain]", "[chain", "preset changed.toml"),
    ],
)
def test_a_wrong_file_is_refused_by_the_name_of_its_field(tmp_path, old, new, field):
    assert old in STANDARD
    file = tmp_path / "changed.toml"
    file.write_text(STANDARD.replace(old, new))
    with pytest.raises(InvalidInputError) as caught:
        read_preset(file)
    assert caught.value.field == field
