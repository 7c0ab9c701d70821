"""``btcfi clauses compare``: a table for people, an object for programs, and no levels that are no curve."""

import json

import pytest
from typer.testing import CliRunner

from btcfi.adapters import miniscript
from btcfi.surfaces import clauses_cli


def test_two_levels_are_a_curve_in_every_form_with_one_payout():
    done = CliRunner().invoke(clauses_cli.app, ["compare", "--levels", "2", "--json"])
    assert done.exit_code == 0, done.exception
    (table,) = json.loads(done.output)["tables"]
    assert table["same_payouts"] is True
    assert len({one["form"] for one in table["forms"]}) == len(table["forms"]) == 14
    assert all(one["road_transactions"] == 1 for one in table["forms"])


def test_where_no_second_compiler_is_installed_the_table_says_so(monkeypatch):
    monkeypatch.setattr(miniscript, "PACKAGES", {"nobody's": lambda: __import__("a_package_that_is_not_there")})
    done = CliRunner().invoke(clauses_cli.app, ["compare", "--levels", "2"])
    assert done.exit_code == 0, done.exception
    assert "no second compiler of miniscript is installed" in done.output


@pytest.mark.parametrize("levels", ["0", "1", "501", "-3"])
def test_levels_that_are_no_curve_are_refused(levels):
    done = CliRunner().invoke(clauses_cli.app, ["compare", "--levels", levels])
    assert done.exit_code != 0
    assert "levels" in str(done.exception)
