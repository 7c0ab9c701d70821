"""``btcfi swaps study``: its tables, its files, and that every parameter moves what it is about."""

import csv
import json
from dataclasses import fields

import pytest
from typer.testing import CliRunner

from btcfi.errors import InvalidInputError
from btcfi.surfaces.swaps_cli import app
from btcfi.surfaces.swaps_study_drawing import KINDS, pictures
from btcfi.swaps.study.cheat import Scam, Stopping
from btcfi.swaps.study.parameters import BOUNDS, StudyParameters
from btcfi.swaps.study.report import study

QUICK = {"paths": 500, "liar_books": 20, "hedge_weeks": 4}
TABLES = {
    "leverage", "collar", "marginal_risk", "marginal_sharpe", "hedge", "hedge_paths", "stopping", "stop", "cheat",
    "burning", "lying", "verdicts",
}  # fmt: skip
OTHER = {
    "margin_volatility": 0.6, "asset_volatility": 0.8, "cross_volatility": 0.8, "index_volatility": 0.3,
    "correlation": 0.1, "index_correlation": -0.5, "own_leverage": 2.5, "asset_leverage": 2.0, "cross_leverage": 2.0,
    "index_leverage": 5.0, "paths": 600, "seed": 1, "holding_volatility": 0.5, "target": 0.1, "gross_to_net": 4.0,
    "allocation": 0.123, "hedge_weeks": 5, "cure": 0.1, "stop": -0.5, "liar_books": 30, "victims": 5, "rational": 2,
    "deviation": 0.25, "walk_away": 0.8, "side_share": 0.4, "burn_share": 0.5, "closes": 4.0, "close_fee": 0.01,
    "discount": 0.1, "growth": 0.02,
}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return study(StudyParameters(**QUICK))


def rows(of, *, without=()):
    return {one.name: one.rows for one in of.tables if one.name not in without}


def test_the_study_has_a_table_of_each_argument(found):
    assert {one.name for one in found.tables} == TABLES
    assert all(len(row) == len(one.columns) for one in found.tables for row in one.rows)
    (cheat,) = found.table("cheat").rows
    assert cheat == (Scam().last_week, Scam().stopping, Scam().benefit, Scam().dividend, Scam().annuity, True, 2)
    assert dict(zip(found.table("stopping").column("threshold"), found.table("stopping").column("mean"), strict=True))[
        -2.5
    ] == pytest.approx(Stopping(-2.5).mean)


@pytest.mark.parametrize("name", [one.name for one in fields(StudyParameters)])
def test_every_parameter_moves_the_study_and_no_verdict(name, found):
    moved = study(StudyParameters(**QUICK | {name: OTHER[name]}))
    assert rows(moved, without=["verdicts"]) != rows(found, without=["verdicts"])
    assert moved.table("verdicts") == found.table("verdicts")


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_a_parameter_out_of_bounds_is_named(name):
    low, high = BOUNDS[name]
    for value in (low - 1, high + 1, float("nan")):
        with pytest.raises(InvalidInputError, match=f"^{name.replace('_', '-')}: "):
            StudyParameters(**{name: value})


LONG = {("paths", 1), ("liar_books", 1), ("hedge_weeks", 1), ("stop", 0)}
ELSEWHERE = LONG | {("discount", 0), ("growth", 1), ("victims", 0), ("rational", 1)}
"""Those of LONG take seconds each; the others go with no default, and are refused."""
ENDS = sorted({(name, end) for name in BOUNDS for end in (0, 1)} - ELSEWHERE)


@pytest.mark.parametrize(("name", "end"), ENDS)
def test_the_ends_of_the_bounds_have_a_study_of_finite_numbers(name, end):
    found = study(StudyParameters(**QUICK | {name: BOUNDS[name][end]}))
    json.dumps([one.rows for one in found.tables], allow_nan=False)
    assert all(len(set(one.columns)) == len(one.columns) for one in found.tables)


@pytest.mark.parametrize(("name", "end"), sorted(ELSEWHERE - LONG))
def test_ends_that_go_with_no_default_are_refused(name, end):
    with pytest.raises(InvalidInputError):
        study(StudyParameters(**QUICK | {name: BOUNDS[name][end]}))


def test_an_annuity_that_grows_faster_than_it_is_discounted_is_refused():
    with pytest.raises(InvalidInputError, match="growth"):
        study(StudyParameters(**QUICK | {"growth": 0.09}))


def test_the_command_writes_tables_and_pictures_and_says_the_same_in_json(tmp_path, found):
    words = [word for name, value in QUICK.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    out = tmp_path / "study"
    said = json.loads(CliRunner().invoke(app, ["study", *words, "--out", str(out), "--json"]).stdout)
    assert set(said["tables"]) == TABLES
    assert said["parameters"] | QUICK == said["parameters"]
    assert sorted(said["files"]) == sorted(str(one) for one in out.iterdir())
    drawn = pictures(found)
    assert len(drawn) == 6 * len(KINDS)
    for name, data in drawn.items():  # the same study, the same bytes
        assert data.startswith(b"\x89PNG" if name.endswith(".png") else b"<?xml")
        assert (out / name).read_bytes() == data
    with (out / "verdicts.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == said["tables"]["verdicts"]
    text = CliRunner().invoke(app, ["study", *words]).stdout
    assert "73 agrees, 31 error in the document, 8 not reproducible" in text
    assert "hedge.fig5 (Figure 5)" in text
