"""Volatility estimators, sampled premiums, smiles and the risk of a book."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from btcfi.errors import InvalidInputError
from btcfi.pricing import black_scholes, inverse, monte_carlo, portfolio, surface, volatility
from btcfi.pricing.premium import Book

NOW = 1_700_000_000
MARKET = portfolio.Market(spot=7_000_000, volatility=0.6, rate=0.03, now=NOW)


def walk(sigma, minutes, seed=1, inner=60):
    """Candles of a geometric Brownian motion, each from ``inner`` points."""
    g = np.random.default_rng(seed)
    step = sigma * math.sqrt(1 / (365 * 24 * 60 * inner))
    path = 70_000 * np.exp(np.cumsum(g.normal(0, step, minutes * inner)))
    first = np.concatenate(([70_000], path[inner - 1 : -1 : inner]))
    rows = path.reshape(minutes, inner)
    last = rows[:, -1]
    return first, np.maximum(rows.max(1), first), np.minimum(rows.min(1), first), last


def test_each_estimator_finds_the_volatility_of_a_known_walk():
    opens, highs, lows, closes = walk(0.65, 20_000)
    assert volatility.close_to_close(closes) == pytest.approx(0.65, rel=0.02)
    # a range seen through 60 points misses its true ends by a known share
    assert volatility.parkinson(highs, lows) == pytest.approx(0.65, rel=0.12)
    assert volatility.garman_klass(opens, highs, lows, closes) == pytest.approx(0.65, rel=0.15)
    assert volatility.ewma(closes, half_life=2_000)[-1] == pytest.approx(0.65, rel=0.05)


def test_hourly_candles_need_their_interval():
    _, _, _, closes = walk(0.65, 12_000)
    assert volatility.close_to_close(closes[::60], interval_seconds=3600) == pytest.approx(0.65, rel=0.15)


def test_candles_that_cannot_be_are_refused():
    with pytest.raises(volatility.TooFewCandlesError):
        volatility.close_to_close([70_000.0])
    with pytest.raises(volatility.CandleShapeError) as caught:
        volatility.garman_klass([10, 10], [11, 9], [9, 8], [10, 8.5])
    assert caught.value.index == 1
    with pytest.raises(InvalidInputError):
        volatility.close_to_close([1.0, 2.0], interval_seconds=0)


def test_a_sampled_call_agrees_with_its_closed_form_and_its_seed():
    m = {"spot": 100.0, "tau_years": 0.5, "volatility": 0.7, "rate": 0.03}
    one = monte_carlo.premium(lambda p: np.maximum(p[:, -1] - 110, 0), seed=7, **m)
    again = monte_carlo.premium(lambda p: np.maximum(p[:, -1] - 110, 0), seed=7, **m)
    exact = black_scholes.call(strike=110.0, **m)
    assert one == again
    assert abs(one.premium - exact) < 4 * one.standard_error
    assert one.variance_ratio > 3


def test_a_sampled_payoff_that_is_not_a_number_is_refused():
    with pytest.raises(monte_carlo.PayoffShapeError):
        monte_carlo.premium(lambda p: p[:, -1] * np.nan, spot=1.0, tau_years=1.0, volatility=0.5, seed=1)


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
@pytest.mark.parametrize("collateral", [0.4, 1.0, 2.5])
def test_the_premium_of_a_collateral_capped_payout_agrees_with_sampling_it(kind, collateral):
    m = {"spot": 100.0, "tau_years": 0.5, "volatility": 0.9, "rate": 0.03}

    def paid(paths):
        s = paths[:, -1]
        dollars = (np.maximum(s - 105, 0), np.maximum(105 - s, 0), 105.0 * (s > 105), 105.0 * (s < 105))[kind]
        return np.minimum(dollars / s, collateral) * s

    sampled = monte_carlo.premium(paid, seed=11, paths=200_000, **m)
    exact = inverse.premium(kind, strike=105.0, collateral_btc=collateral, **m)
    assert abs(sampled.premium - exact) < 4 * sampled.standard_error


def test_at_expiry_the_capped_premium_in_bitcoin_is_the_payout():
    for kind in range(4):
        for price in (20.0, 80.0, 104.0, 106.0, 300.0):
            for cap in (0.4, 1.0, 2.0):
                m = {"spot": price, "strike": 105.0, "tau_years": 0.0, "volatility": 0.6, "collateral_btc": cap}
                btc = black_scholes.in_btc(inverse.premium(kind, **m), spot=price)
                paid = inverse.payout_btc(kind, settlement_price=price, strike=105.0, collateral_btc=cap)
                assert btc == pytest.approx(paid, abs=1e-12)


def quotes(*slices):
    return [
        surface.VolatilityQuote(
            strike=70_000 * math.exp(k),
            tau_years=one.tau_years,
            volatility=math.sqrt(float(one.total_variance(np.array(k))) / one.tau_years),
            forward=70_000,
        )
        for one in slices
        for k in np.linspace(-0.6, 0.6, 9)
    ]


NEAR = surface.SviSlice(tau_years=0.1, a=0.01, b=0.08, rho=-0.3, m=0.01, s=0.15)
FAR = surface.SviSlice(tau_years=0.5, a=0.06, b=0.1, rho=-0.2, m=0.02, s=0.2)


def test_a_fitted_surface_returns_its_quotes_and_is_linear_in_variance_between_expiries():
    fitted = surface.fit_surface(quotes(NEAR, FAR))
    for quote in quotes(NEAR, FAR):
        found = fitted.volatility(strike=quote.strike, forward=70_000, tau_years=quote.tau_years)
        assert found == pytest.approx(quote.volatility, abs=1e-6)
    middle = fitted.volatility(strike=70_000, forward=70_000, tau_years=0.3) ** 2 * 0.3
    ends = [float(one.total_variance(np.array(0.0))) for one in (NEAR, FAR)]
    assert middle == pytest.approx(sum(ends) / 2, rel=1e-6)
    assert not fitted.arbitrage()


def test_a_surface_whose_variance_falls_with_time_is_refused():
    later = surface.SviSlice(tau_years=0.5, a=0.001, b=0.02, rho=-0.2, m=0.02, s=0.2)
    with pytest.raises(surface.ArbitrageError) as caught:
        surface.fit_surface(quotes(NEAR, later))
    assert {one.kind for one in caught.value.found} == {"calendar"}


def test_a_smile_too_steep_has_butterfly_arbitrage():
    steep = surface.VolatilitySurface(
        slices=(surface.SviSlice(tau_years=0.1, a=0.001, b=2.5, rho=-0.9, m=0.0, s=0.05),)
    )
    assert [one.kind for one in steep.arbitrage()] == ["wing", "butterfly"]


def test_without_a_smile_the_surface_is_flat():
    flat = surface.flat_surface(0.55)
    assert flat.volatility(strike=[1e4, 7e4, 1e6], forward=7e4, tau_years=[0.01, 1, 5]) == pytest.approx([0.55] * 3)


def positions(*rows):
    """Rows of kind, strike in dollars, days, quantity in hundredths, collateral in sats."""
    kind, strike, days, held, locked = zip(*rows, strict=True)
    count = len(rows)
    return portfolio.Positions(
        book=Book(
            kind=np.array(kind, dtype=np.int8),
            strike_cents=np.array(strike) * 100,
            expiry_unix=NOW + np.array(days) * 86_400,
            barrier_cents=np.zeros(count, dtype=np.int64),
            american=np.zeros(count, dtype=np.bool_),
        ),
        quantity_centi_btc=np.array(held),
        collateral_sats=np.array(locked),
    )


def test_a_long_call_and_a_short_put_of_one_strike_are_a_forward():
    synthetic = positions((0, 70_000, 30, 100, 0), (1, 70_000, 30, -100, 10**8))
    g = portfolio.aggregate(synthetic, MARKET)
    assert g.delta_btc == pytest.approx(1.0, abs=1e-12)
    assert g.gamma_btc == pytest.approx(0.0, abs=1e-12)
    assert g.vega == pytest.approx(0.0, abs=1e-9)
    discount = math.exp(-0.03 * 30 / 365)
    assert g.value == pytest.approx(70_000 * (1 - discount), abs=1e-6)


def test_value_at_risk_of_a_forward_is_the_quantile_of_the_returns():
    synthetic = positions((0, 70_000, 365, 100, 0), (1, 70_000, 365, -100, 10**8))
    g = np.random.default_rng(3)
    closes = 70_000 * np.exp(np.concatenate(([0], np.cumsum(g.normal(0, 0.03, 400)))))
    risk = portfolio.historical_risk(synthetic, MARKET, closes, confidence=0.95)
    losses = np.sort(70_000 * -np.expm1(np.diff(np.log(closes))))[-20:]
    carry = 70_000 * (math.exp(-0.03 * 364 / 365) - math.exp(-0.03))
    assert risk.observations == 400
    assert risk.value_at_risk == pytest.approx(losses[0] + carry, abs=0.02)
    assert risk.expected_shortfall == pytest.approx(losses.mean() + carry, abs=0.02)
    assert risk.expected_shortfall >= risk.value_at_risk


def test_filtered_risk_takes_a_loud_week_as_the_measure():
    g = np.random.default_rng(4)
    noise = np.concatenate((g.normal(0, 0.01, 300), g.normal(0, 0.05, 20)))
    closes = 70_000 * np.exp(np.concatenate(([0], np.cumsum(noise))))
    held = positions((0, 70_000, 60, 100, 0))
    plain = portfolio.historical_risk(held, MARKET, closes, confidence=0.95)
    filtered = portfolio.filtered_risk(held, MARKET, closes, confidence=0.95)
    assert filtered.value_at_risk > 1.5 * plain.value_at_risk


def test_the_scenario_grid_is_priced_cell_by_cell():
    held = positions((0, 70_000, 30, 100, 0), (3, 60_000, 10, -50, 10**8))
    grid = portfolio.scenarios(held, MARKET, spot_moves=[-0.2, 0, 0.2], volatility_moves=[-0.5, 0], days=[0, 5])
    assert grid.profit.shape == (2, 2, 3)
    assert grid.profit[0, 1, 1] == 0.0
    moved = portfolio.value(held, MARKET, spot_move=-0.2, volatility_move=-0.5, days=5)
    assert grid.profit[1, 0, 0] == pytest.approx(moved - portfolio.value(held, MARKET))
    assert grid.worst == grid.profit.min()


def test_margin_covers_the_worst_scenario_of_the_written_options_only():
    held = positions((0, 70_000, 30, -100, 10**8), (0, 75_000, 30, 100, 0))
    m = portfolio.margin(held, MARKET)
    alone = positions((0, 70_000, 30, -100, 10**8))
    assert m == portfolio.margin(alone, MARKET)
    worst = -portfolio.value(alone, MARKET, spot_move=0.30, volatility_move=0.25)
    assert m.worst_liability_cents == pytest.approx(worst * 100, abs=1)
    assert m.required_cents == max(m.worst_liability_cents, m.floor_cents)
    assert m.collateral_cents == 7_000_000
    assert m.utilisation == pytest.approx(m.liability_cents / m.collateral_cents, rel=1e-4)


def test_a_far_written_option_still_needs_the_floor():
    m = portfolio.margin(positions((0, 500_000, 1, -100, 10**8)), MARKET)
    assert m.required_cents == m.floor_cents == 140_000


def test_the_payoff_profile_sums_the_payoffs():
    held = positions((0, 70_000, 30, 100, 0), (2, 80_000, 30, -10, 10**8))
    assert portfolio.payoff_profile(held, [60_000, 75_000, 80_000, 90_000]).tolist() == [0, 5_000, 10_000, 12_000]


def test_the_payoff_profile_stops_at_the_collateral():
    held = positions((1, 80_000, 30, -100, 10**8))
    capped = replace(held, book=replace(held.book, collateral_ratio=np.ones(1)))
    assert portfolio.payoff_profile(held, [20_000, 60_000]).tolist() == [-60_000, -20_000]
    assert portfolio.payoff_profile(capped, [20_000, 60_000]).tolist() == [-20_000, -20_000]


def test_history_too_short_for_a_tail_is_refused():
    with pytest.raises(volatility.TooFewCandlesError):
        portfolio.historical_risk(positions((0, 70_000, 30, 100, 0)), MARKET, [70_000.0] * 20)
    with pytest.raises(InvalidInputError):
        portfolio.value(positions((0, 70_000, 30, 100, 0)), MARKET, spot_move=-1.5)
