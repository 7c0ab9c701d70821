"""The guest's exercise tree against the continuous pricer: two methods, one decision.

The guest decides with 64 levels in fixed point; the pricer knows the exercise boundary to nine digits and lets the
holder exercise at any moment. A tree that may exercise only at its levels holds the put a little less long: its
boundary lies about 0.58 steps higher (a step is volatility * sqrt(life / 64)). Tolerances are therefore in steps.
"""

from __future__ import annotations

import math

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from btcfi.options.expiry import SettlementInput
from btcfi.options.payoff import TREE_LEVELS, exercise_now
from btcfi.pricing import american, black_scholes
from btcfi.pricing.exercise_boundary import ROW, log_boundary, solve_boundary

STRIKE = 7_000_000
MINUTES_PER_YEAR = 525_600
LARGEST_SPREAD = 1.5
"""Total volatility beyond which the guest refuses."""

minutes = st.floats(1.5, 5.7).map(lambda e: int(10**e))
volatilities = st.integers(1_000, 15_000)
rates = st.integers(50, 2_000)
compiled = settings(deadline=None, max_examples=60)


def life(time, volatility):
    years = time / MINUTES_PER_YEAR
    spread = volatility / 1e4 * math.sqrt(years)
    assume(0.002 < spread < LARGEST_SPREAD)
    return years, spread / math.sqrt(TREE_LEVELS)


def decides(kind, spot, time, volatility, rate, *, barrier=0):
    return exercise_now(
        SettlementInput(
            option_type=kind,
            strike=STRIKE,
            spot=spot,
            quantity=100,
            barrier_level=barrier,
            early_exercise=1,
            time_to_expiry=time,
            volatility=volatility,
            observed_low=spot,
            observed_high=spot,
            premium=0,
            rate=rate,
            collateral=10**8,
        )
    )


def pays(kind, spot):
    return (max(spot - STRIKE, 0), max(STRIKE - spot, 0), STRIKE * (spot > STRIKE), STRIKE * (spot < STRIKE))[
        kind
    ] / 100


@compiled
@given(minutes, volatilities, rates)
def test_the_guests_exercise_boundary_of_a_put_is_within_two_steps_above_the_true_one(
    time, volatility, rate
):  # fmt: skip
    years, step = life(time, volatility)
    row = np.full(ROW, -1.0)
    assume(solve_boundary(row, volatility / 1e4, rate / 1e4, 0.0, years))
    low, high = 1, STRIKE
    while high - low > 100:
        middle = (low + high) // 2
        if decides(1, middle, time, volatility, rate):
            low = middle
        else:
            high = middle
    above = (math.log(low / STRIKE) - log_boundary(row, 1.0)) / step
    assert 0.0 < above < 2.0  # a grid has 1.70 at the most: half an hour, 140 % volatility, half a per cent of interest


@compiled
@given(st.sampled_from((0, 1, 2, 3)), minutes, volatilities, rates, st.floats(-2, 2), st.floats(-2.5, 2.5))
def test_exercising_when_the_guest_says_so_gives_away_almost_nothing(  # noqa: PLR0917
    kind, time, volatility, rate, where, wall
):
    years, step = life(time, volatility)
    spread = step * math.sqrt(TREE_LEVELS)
    spot = round(STRIKE * math.exp(where * spread))
    barrier = round(STRIKE * math.exp(wall * spread)) if abs(wall) > 0.1 else 0
    assume(spot != STRIKE)
    assume(barrier == 0 or (spot < barrier if barrier > STRIKE else spot > barrier))
    if not decides(kind, spot, time, volatility, rate, barrier=barrier):
        return
    value = american.premium(
        kind, spot=spot / 100, strike=STRIKE / 100, barrier=barrier / 100, tau_years=years,
        volatility=volatility / 1e4, rate=rate / 1e4,
    )  # fmt: skip
    given_away = (value - pays(kind, spot)) / (STRIKE / 100)
    # where the barrier lies in the money, the last level before it may be a step short of it, and the tree exercises
    # that much too early; everywhere else the decision is the pricer's
    in_the_money = barrier and (barrier > STRIKE) == (kind % 2 == 0)
    assert given_away <= (0.75 * step * max(barrier / STRIKE, 1) if in_the_money and kind < 2 else 0.02 * step)


@compiled
@given(minutes, volatilities, rates, st.floats(0.05, 2))
def test_the_guest_never_exercises_a_plain_call_early(time, volatility, rate, where):
    years, step = life(time, volatility)
    spot = round(STRIKE * math.exp(where * step * math.sqrt(TREE_LEVELS)))
    # below this much interest the fixed point cannot tell holding from exercising, and neither can a cent
    assume(rate / 1e4 * years > 1e-4)
    assert not decides(0, spot, time, volatility, rate)
    market = {"spot": spot / 100, "strike": STRIKE / 100, "tau_years": years, "volatility": volatility / 1e4}
    assert american.premium(0, rate=rate / 1e4, **market) == black_scholes.call(rate=rate / 1e4, **market)


@compiled
@given(st.sampled_from((2, 3)), minutes, volatilities, rates, st.floats(0.01, 2))
def test_both_take_a_binary_the_moment_it_is_in_the_money(kind, time, volatility, rate, away):
    years, _ = life(time, volatility)
    spot = round(STRIKE * math.exp(away if kind == 2 else -away))
    assert decides(kind, spot, time, volatility, rate)
    value = american.premium(
        kind, spot=spot / 100, strike=STRIKE / 100, tau_years=years, volatility=volatility / 1e4, rate=rate / 1e4
    )
    assert value == STRIKE / 100
