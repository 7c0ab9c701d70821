import hashlib
from dataclasses import replace

import pytest

from btcfi.contracts.buckets import Rounding, StepRule, ToleranceRule
from btcfi.errors import InvalidInputError, NotFoundError, NotHeldError
from btcfi.oracle.consensus import ConsensusRule, Method
from btcfi.units import BasisPoints, Sats
from settings import preset_files
from settings.preset import load_preset, load_preset_by_hash, read_preset, rule_by_hash
from settings.preset_files import PRESETS

STANDARD = (PRESETS / "options" / "standard.toml").read_text()


def test_the_standard_preset_is_the_rule_that_the_library_defaults_to():
    preset = load_preset("standard")
    assert preset.consensus == ConsensusRule()
    assert (preset.name, preset.confirmations, preset.max_steps) == ("standard", 6, 1 << 20)


SOLD_BY = (
    "775f198cca166ff9ccc84b5b21f720c3e81b0190b917206fc8b22a7eb6df48b8",
    "3ff8d659bc77f2a8032bac2104c7c1b495b5f82bbaf872cc569833d684a9ea3d",
    "e1ab14fbc5eabd07dcadcc3c095078b2867eb53fe8973fb6169d1c2e4c60c014",
    "41e1ae6d7ba3ba1a8a73cae378feb3a5d08696a33a837305c12e549391af150d",
    "8ae34062334a66229cf1d75dcd5bd894f9d60625dba9edbee7b897a138264351",
)
"""Every preset that an option was ever sold by: add a hash when a preset changes, never take one away."""


def test_the_hash_is_that_of_the_file_and_stands_in_every_options_event():
    assert load_preset("standard").sha256 == hashlib.sha256(STANDARD.encode()).hexdigest()
    assert load_preset("standard").sha256 == SOLD_BY[-1]


@pytest.mark.parametrize("sha256", SOLD_BY)
def test_every_preset_that_options_were_sold_by_is_found_by_its_hash(sha256):
    assert load_preset_by_hash(sha256).sha256 == sha256


@pytest.mark.parametrize("file", sorted((PRESETS / "options").glob("*.toml")), ids=lambda file: file.stem)
def test_every_preset_that_options_can_be_sold_by_today_is_among_those_that_are_kept(file):
    assert load_preset(file.stem).sha256 in SOLD_BY


def test_a_preset_of_the_release_before_asks_for_no_thin_bound_and_settles_on_its_minute():
    old = load_preset_by_hash(SOLD_BY[0])
    assert (old.consensus.method, old.consensus.least_dollar_markets, old.consensus.thin_bps) == (
        Method.VOLUME_WEIGHTED_MEDIAN, 0, 0,
    )  # fmt: skip
    assert str(old.fixing) == "minute"


def test_the_preset_for_studies_differs_from_the_standard_one_only_in_that_it_settles_on_thin_minutes():
    standard, study = load_preset("standard"), load_preset("replay-study")
    asked = replace(study.consensus, least_dollar_markets=4, thin_bps=BasisPoints(10))
    assert replace(study, consensus=asked, name="standard", sha256=standard.sha256) == standard
    assert (study.consensus.least_dollar_markets, study.consensus.thin_bps) == (0, 0)


@pytest.mark.parametrize("sha256", SOLD_BY[:3])
def test_what_was_sold_in_steps_keeps_its_steps_and_what_is_sold_today_follows_a_tolerance(sha256):
    steps = StepRule(step=Sats(50_000), rounding=Rounding.DOWN)
    assert load_preset_by_hash(sha256).payouts == steps
    assert load_preset("standard").payouts == ToleranceRule(tolerance=BasisPoints(200))


def test_a_preset_is_chosen_with_or_without_its_system():
    assert load_preset("options/standard") == load_preset("standard")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The presets after the standard one was replaced: (the folder, the retired file)."""
    (tmp_path / "options").mkdir()
    (tmp_path / "options" / "standard.toml").write_text(STANDARD.replace("tolerance_bps = 200", "tolerance_bps = 300"))
    (tmp_path / "retired" / "options").mkdir(parents=True)
    retired = tmp_path / "retired" / "options" / f"standard-{SOLD_BY[-1][:8]}.toml"
    retired.write_text(STANDARD)
    monkeypatch.setattr(preset_files, "PRESETS", tmp_path)
    load_preset_by_hash.cache_clear()
    yield tmp_path, retired
    load_preset_by_hash.cache_clear()


def test_a_retired_preset_is_found_by_its_hash_and_its_name_means_the_new_one(folder):
    old, new = load_preset_by_hash(SOLD_BY[-1]), load_preset("standard")
    assert (old.name, old.payouts.tolerance, old.sha256) == ("standard", 200, SOLD_BY[-1])
    assert (new.name, new.payouts.tolerance) == ("standard", 300)
    assert load_preset_by_hash(new.sha256) == new


def test_a_preset_that_is_nowhere_is_named_by_its_hash(folder):
    _, retired = folder
    retired.unlink()
    with pytest.raises(NotHeldError) as caught:
        load_preset_by_hash(SOLD_BY[-1], name="standard")
    assert (caught.value.kind, caught.value.sha256, caught.value.name) == ("preset", SOLD_BY[-1], "standard")
    retired.write_text(STANDARD)  # the operator puts it there: no restart
    assert load_preset_by_hash(SOLD_BY[-1], name="standard").payouts.tolerance == 200


def test_a_retired_preset_that_was_edited_is_not_held_and_the_message_names_the_file(folder):
    _, retired = folder
    retired.write_text(STANDARD.replace("confirmations = 6", "confirmations = 1"))
    with pytest.raises(NotHeldError, match=retired.name):
        load_preset_by_hash(SOLD_BY[-1])


def test_a_stray_or_edited_file_among_the_retired_ones_hides_no_other(folder):
    _, retired = folder
    for name in ("README.toml", "another-00000000.toml", "-.toml"):
        (retired.parent / name).write_text("draft")
    (retired.parent / "gone-11111111.toml").symlink_to("nowhere")
    (retired.parent / "folder-22222222.toml").mkdir()
    assert load_preset_by_hash(SOLD_BY[-1]).sha256 == SOLD_BY[-1]


def test_a_preset_that_this_version_cannot_read_is_not_held(folder):
    _, retired = folder
    later = STANDARD.replace("[pricing]", "[pricing]\nnew_field = 1")
    sha256 = hashlib.sha256(later.encode()).hexdigest()
    (retired.parent / f"standard-{sha256[:8]}.toml").write_text(later)
    with pytest.raises(NotHeldError, match="new_field"):
        load_preset_by_hash(sha256)


def test_an_option_s_minutes_are_agreed_by_its_own_rule_whatever_others_are_agreed_by_today():
    ours = load_preset("standard")
    other = replace(ours, consensus=replace(ours.consensus, outlier_bps=BasisPoints(300)), sha256="")
    sold = rule_by_hash(SOLD_BY[0], ours=other)
    assert (sold.outlier_bps, sold.method, sold.thin_bps) == (200, Method.VOLUME_WEIGHTED_MEDIAN, 0)
    assert rule_by_hash(ours.sha256, ours=ours) is ours.consensus


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
        ('"median"', '"mode"', "preset consensus.method"),
        ('"median"', '"mean"', "method"),
        ("least_dollar_markets = 4", "least_dollar_markets = 65", "preset consensus.least_dollar_markets"),
        ("thin_bps = 10", "thin_bps = -1", "preset consensus.thin_bps"),
        ('"twap:30"', '"twap:0"', "preset contract.fixing"),
        ("tolerance_bps = 200", "tolerance_bps = 0", "preset contract.tolerance_bps"),
        ("tolerance_bps = 200", "tolerance_bps = 1001", "preset contract.tolerance_bps"),
        ("tolerance_bps = 200", "", "preset contract.tolerance_bps"),
        ("tolerance_bps = 200", "tolerance_bps = 200\nstep_sats = 50000", "preset contract.step_sats"),
        ("tolerance_bps = 200", 'tolerance_bps = 200\nrounding = "down"', "preset contract.rounding"),
        ("tolerance_bps = 200", "step_sats = 50000", "preset contract.rounding"),
        ("tolerance_bps = 200", 'step_sats = 1\nrounding = "down"', "preset contract.step_sats"),
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
