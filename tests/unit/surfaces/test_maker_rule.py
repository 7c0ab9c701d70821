"""The file of a maker's rule: what is read of it, and what is refused by the name of its field."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.making import MakingRule
from btcfi.surfaces.maker_cli import _of_regtest, read_rule
from workers.machine import trading

SMILE = "".join(
    f"[[surface]]\nstrike_usd = {strike}\nforward_usd = 60000\ndays = 30\nvolatility = {level}\n"
    for strike, level in ((50_000, 0.7), (55_000, 0.64), (60_000, 0.6), (65_000, 0.61), (70_000, 0.65))
)


def test_without_a_file_a_rule_is_the_usual_one():
    assert read_rule(None) == (MakingRule(), 0.05, None)


def test_a_file_changes_what_it_names_and_its_quotes_become_the_marks_surface(tmp_path):
    file = tmp_path / "rule.toml"
    file.write_text("half_spread_points = 3\nlevels = 1\nrate = 0.02\n" + SMILE)
    rule, rate, surface = read_rule(file)
    assert rule == MakingRule(half_spread_points=3, levels=1)
    assert rate == 0.02
    assert surface.volatility(strike=60_000.0, forward=60_000.0, tau_years=30 / 365) == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("spread = 1", "spread"), ("levels = 1.5", "levels"), ("skew = true", "skew"), ("skew = 2.0", "skew"),
        ("rate = 7", "rate"), ("surface = 1", "surface"), ("[[surface]]\ndays = 1", "surface[0]"), ("= 1", "rule.toml"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_refused_by_its_field(tmp_path, text, field):
    file = tmp_path / "rule.toml"
    file.write_text(text)
    with pytest.raises(InvalidInputError) as refused:
        read_rule(file)
    assert refused.value.field == field


def test_a_rule_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFoundError):
        read_rule(tmp_path / "rule.toml")


@pytest.mark.parametrize("rule", trading.RULES)
def test_the_simulated_makers_rules_can_be_read(tmp_path, rule):
    file = tmp_path / "rule.toml"
    file.write_text(rule + trading.RULE)
    assert read_rule(file)[0].levels == 1


def test_a_simulated_taker_spends_no_coins_but_regtest_s():
    @dataclass
    class Joined:
        network: str

    with pytest.raises(InvalidInputError, match="regtest"):
        _of_regtest(Joined("signet"))
