"""What a surface, a tail and an implied volatility refuse, and what collateral is worth when it is needed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from btcfi.pricing import black_scholes, implied, portfolio, surface
from btcfi.pricing.premium import Book
from btcfi.units import CentsPerBtc, UnixSeconds

NOW = UnixSeconds(1_700_000_000)
MARKET = portfolio.Market(spot=CentsPerBtc(7_000_000), volatility=0.6, rate=0.0, now=NOW)


def kinds(**slice_):
    one = surface.SviSlice(**({"tau_years": 0.1, "a": 0.03, "b": 0.1, "rho": 0.0, "m": 0.0, "s": 0.1} | slice_))
    return {found.kind: found for found in surface.VolatilitySurface(slices=(one,)).arbitrage()}


def test_a_smile_that_holds_no_free_money_is_not_flagged():
    assert kinds() == {}


def test_a_total_variance_below_zero_is_flagged_where_it_is_least_even_between_the_points_of_a_grid():
    found = kinds(a=-0.0101, b=0.1, s=0.1, rho=0.3, m=0.0137)["negative"]
    bend = math.sqrt(1 - 0.3**2)
    assert found.amount == pytest.approx(-0.0101 + 0.1 * 0.1 * bend)
    assert found.log_moneyness == pytest.approx(0.0137 - 0.3 * 0.1 / bend)


def test_a_wing_steeper_than_lees_bound_is_flagged_on_its_side():
    assert kinds(a=3.0, b=1.2, rho=-0.8, s=2.0)["wing"].amount == pytest.approx(2.0 - 1.2 * 1.8)
    assert kinds(a=3.0, b=1.2, rho=-0.8, s=2.0)["wing"].log_moneyness < 0
    assert "wing" not in kinds(a=3.0, b=1.1, rho=-0.8, s=2.0)


def test_a_butterfly_of_an_hours_smile_is_found_though_it_is_a_thousand_times_narrower_than_a_years():
    year = surface.SviSlice(tau_years=1.0, a=0.04, b=0.8, rho=-0.6, m=0.0, s=0.02)
    assert "butterfly" in {f.kind for f in surface.VolatilitySurface(slices=(year,)).arbitrage()}
    # the same smile in units of the root of time
    t = 1 / 8760
    hour = surface.SviSlice(tau_years=t, a=0.04 * t, b=0.8 * math.sqrt(t), rho=-0.6, m=0.0, s=0.02 * math.sqrt(t))
    found = {f.kind: f for f in surface.VolatilitySurface(slices=(hour,)).arbitrage()}
    assert abs(found["butterfly"].log_moneyness) < 0.1


def test_total_variance_that_falls_in_an_hour_is_found_near_the_money():
    t = 1 / 8760
    first = surface.SviSlice(tau_years=t, a=0.36 * t, b=0.0, rho=0.0, m=0.0, s=0.1)
    # lower only within a thousandth of the forward
    second = surface.SviSlice(tau_years=2 * t, a=0.2 * t, b=0.1, rho=0.0, m=0.0, s=1e-6)
    found = {f.kind: f for f in surface.VolatilitySurface(slices=(first, second)).arbitrage()}
    assert abs(found["calendar"].log_moneyness) < 1e-3


def one(kind=0, strike=70_000, held=100, locked=10**8, days=30):
    return portfolio.Positions(
        book=Book(
            kind=np.array([kind], dtype=np.int8),
            strike_cents=np.array([strike * 100]),
            expiry_unix=np.array([NOW + days * 86_400]),
            barrier_cents=np.array([0]),
            american=np.array([False]),
        ),
        quantity_centi_btc=np.array([held]),
        collateral_sats=np.array([locked]),
    )


CLOSES = 70_000 * np.exp(np.cumsum(np.random.default_rng(3).normal(0, 0.03, 101)))


@pytest.mark.parametrize("risk", [portfolio.historical_risk, portfolio.filtered_risk])
def test_a_tail_that_the_sample_cannot_carry_is_refused_and_told_what_would(risk):
    with pytest.raises(portfolio.ThinTailError, match="at least 1000 returns") as refused:
        risk(one(), MARKET, CLOSES, confidence=0.999)
    assert refused.value.needed == 1000
    assert risk(one(), MARKET, CLOSES[:], confidence=0.98).observations >= 99


def test_a_hundred_returns_carry_one_in_a_hundred():
    assert portfolio.historical_risk(one(), MARKET, CLOSES, confidence=0.99).observations == 100
    with pytest.raises(portfolio.ThinTailError):
        portfolio.historical_risk(one(), MARKET, CLOSES[1:], confidence=0.99)


def test_collateral_is_valued_at_the_price_of_its_scenario():
    # a written put costs most where the bitcoin behind it is worth least
    put = one(kind=1, held=-100)
    m = portfolio.margin(put, MARKET)
    assert m.collateral_cents == 7_000_000
    assert m.stressed_collateral_cents == 4_900_000
    worst = -min(portfolio.value(put, MARKET, spot_move=-0.3, volatility_move=v) for v in (-0.25, 0.0, 0.25))
    assert m.coverage == pytest.approx(49_000 / worst)
    # a written call's collateral rises with what is owed: at most a bitcoin is
    call = portfolio.margin(one(kind=0, held=-100), MARKET)
    assert call.stressed_collateral_cents == 9_100_000
    assert call.coverage > 1


MARKET_OF_VOLATILITY = {"spot": 70_000.0, "tau_years": 0.1, "rate": 0.0}


def test_a_premium_below_its_intrinsic_value_is_named_so():
    with pytest.raises(implied.BelowIntrinsicError):
        implied.implied_volatility(0, 9_000.0, strike=60_000.0, **MARKET_OF_VOLATILITY)


@pytest.mark.parametrize(("kind", "bound"), [(0, 70_000.0), (1, 60_000.0)])
def test_a_premium_at_or_above_its_bound_is_named_so(kind, bound):
    for premium in (bound, bound * 1.5):
        with pytest.raises(implied.AboveBoundError):
            implied.implied_volatility(kind, premium, strike=60_000.0, **MARKET_OF_VOLATILITY)


def test_a_premium_that_every_small_volatility_has_is_named_so():
    deep = float(black_scholes.call(strike=1_000.0, volatility=0.2, **MARKET_OF_VOLATILITY))
    assert deep == pytest.approx(69_000.0, rel=1e-15)
    for premium in (deep, math.nextafter(deep, math.inf)):
        with pytest.raises(implied.NoVegaError):
            implied.implied_volatility(0, premium, strike=1_000.0, **MARKET_OF_VOLATILITY)
    with pytest.raises(implied.NoVegaError):
        implied.implied_volatility(0, 0.0, strike=100_000.0, **MARKET_OF_VOLATILITY)
