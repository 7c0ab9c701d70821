# ruff: noqa: PLR0917 - an option has as many numbers
"""The guest's 64-level tree decides as a 1,001-step floating-point tree does, away from the boundary itself."""

import random

from btcfi.options.expiry import SettlementInput
from btcfi.options.payoff import exercise_now
from btcfi.pricing.american import tree_premium


def decide(kind, spot, strike, minutes, volatility, rate, barrier=0):
    return exercise_now(
        SettlementInput(
            option_type=kind, strike=strike, spot=spot, quantity=100, barrier_level=barrier, early_exercise=1,
            time_to_expiry=minutes, volatility=volatility, observed_low=spot, observed_high=spot, premium=0, rate=rate,
            collateral=10**8,
        )
    )  # fmt: skip


def test_the_decision_on_a_put_is_the_reference_trees_outside_a_band_of_one_percent():
    rng = random.Random(2)
    decided = {True: 0, False: 0}
    for _ in range(150):
        strike = 6_000_000
        spot = rng.randrange(3_000_000, 6_000_000)
        minutes, volatility, rate = rng.randrange(60, 200_000), rng.randrange(1_000, 12_000), rng.randrange(100, 3_000)
        value = float(
            tree_premium(1, spot=spot, strike=strike, tau_years=minutes / 525_600, volatility=volatility / 10_000,
                         rate=rate / 10_000, steps=1001)
        )  # fmt: skip
        time_value = value / (strike - spot) - 1
        early = decide(1, spot, strike, minutes, volatility, rate)
        decided[early] += 1
        if early:
            assert time_value < 0.01, "exercised what is worth more alive"
        else:
            assert time_value > -1e-9
            assert value >= strike - spot
    assert min(decided.values()) > 10


def test_a_call_is_never_exercised_early_when_money_earns_interest():
    rng = random.Random(4)
    for _ in range(100):
        spot = rng.randrange(6_000_001, 12_000_000)
        assert not decide(0, spot, 6_000_000, rng.randrange(60, 200_000), rng.randrange(2_000, 12_000), 500)


def test_a_binary_that_already_pays_is_exercised_at_once():
    assert decide(2, 6_100_000, 6_000_000, 10_000, 6_000, 400)
    assert decide(3, 5_900_000, 6_000_000, 10_000, 6_000, 400)


def test_a_call_close_below_its_knock_out_is_exercised_before_it_dies():
    assert decide(0, 9_900_000, 6_000_000, 10_000, 6_000, 400, barrier=10_000_000)
    assert not decide(0, 9_900_000, 6_000_000, 10_000, 6_000, 400)


def test_more_volatility_than_the_tree_resolves_is_refused_not_guessed():
    assert decide(1, 5_000_000, 6_000_000, 525_600, 15_000, 400) is not None
    assert decide(1, 5_000_000, 6_000_000, 525_600, 15_001, 400) is None
