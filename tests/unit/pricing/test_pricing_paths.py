"""Premiums of paths against what others published, QuantLib, closed forms and sampled paths.

Levy's (1997) table is in "Exotic Options: The State of the Art", edited by Clewlow and Strickland, and stands in
QuantLib's own tests; it was sampled by its author, and is off by up to 0.003. The geometric mean's is from Clewlow and
Strickland (1998), page 118, as QuantLib's tests have it.
"""

import math

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813 - its documentation's own abbreviation

from btcfi.pricing import black_scholes
from btcfi.pricing.domain import PricingDomainError
from btcfi.pricing.paths import Paid, PathMarket, asian, asian_lognormal, cliquet, geometric, index_law, ladder

LEVY = {
    0: {2: 1.3942835683, 4: 1.5852442983, 8: 1.66970673, 12: 1.6980019214, 26: 1.7255070456, 52: 1.7401553533,
        100: 1.7478303712},
    1: {2: 1.8496053697, 4: 2.0111495205, 8: 2.0852138818, 12: 2.1105094397, 26: 2.1346526695},
}  # fmt: skip
"""By months to the first fixing, and fixings over eleven months from it: an arithmetic put at 87, spot 90."""

MARKET = PathMarket(spot=60_000, volatility=0.6, tau_years=0.1, rate=0.05)


def put(strike):
    return lambda at: np.maximum(strike - at, 0.0)


def call_in_bitcoin(strike):
    return lambda at: np.maximum(at - strike, 0.0) / at


@pytest.mark.parametrize(("first", "fixings", "published"), [(f, n, p) for f in LEVY for n, p in LEVY[f].items()])
def test_arithmetic_means_cost_what_levy_published(first, fixings, published):
    times = first / 12 + 11 / 12 * np.arange(fixings) / (fixings - 1)
    market = PathMarket(
        spot=90, volatility=0.13, tau_years=times[-1], rate=0.025, carry_yield=0.06, paid=Paid.DOLLARS
    )  # fmt: skip
    found = asian(put(87.0), market, times=times, borders=[87.0], seed=1)
    assert found.premium == pytest.approx(published, abs=0.003 + 4 * found.error)
    assert found.error < 5e-4
    assert asian_lognormal(put(87.0), market, times=times, borders=[87.0]) == pytest.approx(found.premium, abs=0.03)


def test_the_geometric_mean_costs_what_clewlow_and_strickland_published():
    market = PathMarket(spot=100, volatility=0.2, tau_years=1.0, rate=0.06, carry_yield=0.03, paid=Paid.DOLLARS)
    found = geometric(lambda at: np.maximum(at - 100.0, 0.0), market, times=np.arange(1, 11) / 10, borders=[100.0])
    assert found == pytest.approx(5.3425606635, abs=1e-9)


def test_the_lognormal_with_two_moments_is_quantlib_s():
    today, count = ql.Date(15, 3, 2026), ql.Actual365Fixed()
    ql.Settings.instance().evaluationDate = today
    draw = np.random.default_rng(3)
    for _ in range(50):
        spot, sigma = 10.0 ** draw.uniform(1, 5), draw.uniform(0.1, 1.2)
        rate, carry = draw.uniform(-0.02, 0.1, 2)
        days = np.cumsum(draw.integers(1, 40, draw.integers(2, 20)))
        strike = spot * draw.uniform(0.7, 1.4)
        curves = [ql.YieldTermStructureHandle(ql.FlatForward(today, one, count)) for one in (carry, rate)]
        surface = ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), sigma, count))
        process = ql.BlackScholesMertonProcess(ql.QuoteHandle(ql.SimpleQuote(spot)), *curves, surface)
        theirs = ql.DiscreteAveragingAsianOption(
            ql.Average.Arithmetic, 0.0, 0, [today + int(day) for day in days],
            ql.PlainVanillaPayoff(ql.Option.Put, strike), ql.EuropeanExercise(today + int(days[-1])),
        )  # fmt: skip
        theirs.setPricingEngine(ql.TurnbullWakemanAsianEngine(process))
        market = PathMarket(
            spot=spot, volatility=sigma, tau_years=days[-1] / 365, rate=rate, carry_yield=carry, paid=Paid.DOLLARS
        )  # fmt: skip
        ours = asian_lognormal(put(strike), market, times=days / 365, borders=[strike])
        assert ours == pytest.approx(theirs.NPV(), rel=1e-8, abs=1e-9 * spot)


def test_one_observation_at_the_end_is_a_plain_option_in_bitcoin_and_in_dollars():
    for paid, gain in ((Paid.BITCOIN, call_in_bitcoin(61_000)), (Paid.DOLLARS, lambda at: np.maximum(at - 61_000, 0))):
        market = PathMarket(spot=60_000, volatility=0.6, tau_years=0.1, rate=0.05, paid=paid)
        plain = black_scholes.premium(0, spot=60_000, strike=61_000, tau_years=0.1, volatility=0.6, rate=0.05)
        found = asian(gain, market, times=[0.1], borders=[61_000], seed=2)
        assert found.premium == pytest.approx(plain, rel=1e-10)
        assert asian_lognormal(gain, market, times=[0.1], borders=[61_000]) == pytest.approx(plain, rel=1e-10)
        assert ladder(gain, market, rungs=[1e9], borders=[61_000]).premium == pytest.approx(plain, rel=1e-10)


def test_with_all_but_one_observation_known_the_mean_is_a_shifted_lognormal_exactly():
    gain = call_in_bitcoin(60_000)
    exact = asian_lognormal(gain, MARKET, times=[0.1], known=[58_000, 63_000], borders=[60_000])
    found = asian(gain, MARKET, times=[0.1], known=[58_000, 63_000], borders=[60_000], seed=4)
    assert found.premium == pytest.approx(exact, abs=4 * found.error)
    assert found.error < 1e-3 * exact


def test_a_mean_in_bitcoin_is_what_sampled_paths_pay_in_bitcoin_at_the_end():
    """The other numeraire: paths in dollars, each payout worth the price at the end."""
    rng, times = np.random.default_rng(5), np.array([0.02, 0.05, 0.08, 0.1])
    steps = np.diff(times, prepend=0.0)
    noise = rng.standard_normal((400_000, 4)) * 0.6 * np.sqrt(steps)
    prices = 60_000 * np.exp(np.cumsum((0.05 - 0.18) * steps + noise, axis=1))
    paid = math.exp(-0.05 * 0.1) * prices[:, -1] * call_in_bitcoin(59_000)(prices.mean(axis=1))
    found = asian(call_in_bitcoin(59_000), MARKET, times=times, borders=[59_000], seed=6)
    assert found.premium == pytest.approx(
        paid.mean(), abs=4 * math.hypot(paid.std() / math.sqrt(len(paid)), found.error)
    )


def test_the_control_variate_makes_the_error_ten_times_smaller():
    times = np.arange(1, 31) * 0.1 / 30
    found = asian(call_in_bitcoin(60_000), MARKET, times=times, borders=[60_000], seed=7, pairs=20_000)
    sampled = 0.6 * math.sqrt(0.1 / 3) * 60_000 / math.sqrt(40_000)  # about a plain estimate's
    assert found.error < 0.1 * sampled


# ---- sums of bounded returns


def sampled_index(count, every, floor, cap, paths=400_000):
    rng = np.random.default_rng(8)
    z = rng.standard_normal((paths, count))
    moves = np.exp((MARKET.drift - 0.18) * every + 0.6 * math.sqrt(every) * z) - 1.0
    return 1.0 + np.clip(moves, floor, cap).sum(axis=1)


@pytest.mark.parametrize(("count", "every", "floor", "cap"), [
    (1, 0.1, -500, 900), (5, 1 / 52, -300, 500), (30, 1 / 365, -100, 100), (12, 1 / 12, 0, 1_000),
])  # fmt: skip
def test_an_index_s_law_is_that_of_sampled_returns(count, every, floor, cap):
    index, share = index_law(MARKET, every_years=every, count=count, floor_bps=floor, cap_bps=cap)
    paths = sampled_index(count, every, floor * 1e-4, cap * 1e-4)
    assert share.sum() == pytest.approx(1.0, abs=1e-10)
    assert (index[0], index[-1]) == pytest.approx((1 + count * floor * 1e-4, 1 + count * cap * 1e-4))
    spread = paths.std() / math.sqrt(len(paths))
    assert share @ index == pytest.approx(paths.mean(), abs=4 * spread)
    for level in np.quantile(paths, [0.1, 0.5, 0.9]):
        pays = np.maximum(paths - level, 0.0)
        assert share @ np.maximum(index - level, 0.0) == pytest.approx(
            pays.mean(), abs=4 * pays.std() / math.sqrt(len(paths)) + 1e-6
        )


def test_one_bounded_return_is_a_spread_of_calls_in_closed_form():
    """At a strike on the spot a bounded return is three calls of the plain formula, forward, in bitcoin's numeraire."""
    found = cliquet(
        lambda index: np.maximum(index - 1.0, 0.0), MARKET, every_years=0.1, count=1, floor_bps=-500, cap_bps=1_000
    )
    growth = {"spot": 1.0, "tau_years": 0.1, "volatility": 0.6, "rate": MARKET.drift}
    calls = [float(black_scholes.premium(0, strike=k, **growth)) * math.exp(MARKET.drift * 0.1) for k in (1.0, 1.1)]
    assert found.premium == pytest.approx(60_000 * (calls[0] - calls[1]), rel=1e-9)
    assert found.error < 1e-6 * found.premium


def test_a_finer_grid_changes_a_cliquet_by_less_than_a_cent():
    found = cliquet(
        lambda index: np.clip(index - 1.0, 0.0, 0.3), MARKET, every_years=1 / 52, count=52, floor_bps=-150, cap_bps=300
    )
    assert 0.0 < found.error < 0.01


# ---- rungs


@pytest.mark.parametrize(("up", "rungs", "strike"), [
    (True, [65_000.0, 70_000.0, 80_000.0], 61_000.0), (False, [55_000.0, 50_000.0], 59_000.0), (True, [60_500.0], 6e4),
])  # fmt: skip
def test_a_ladder_is_what_paths_with_their_exact_extremes_pay(up, rungs, strike):
    def gain(at):
        return np.maximum(at - strike if up else strike - at, 0.0) / np.maximum(at, 40_000.0)

    rng, count, sd = np.random.default_rng(9), 400_000, 0.6 * math.sqrt(0.1)
    move = (MARKET.drift - 0.18) * 0.1 + sd * rng.standard_normal(count)
    way = move if up else -move
    # the farthest point of a Brownian path, given where it ends
    far = 0.5 * (way + np.sqrt(way * way - 2.0 * sd * sd * np.log(rng.random(count))))
    value = 60_000 * np.exp(move)
    for rung in rungs:
        hit = far >= abs(math.log(rung / 60_000))
        value = np.where(hit, np.maximum(value, rung) if up else np.minimum(value, rung), value)
    paid = MARKET.today * gain(value)
    found = ladder(gain, MARKET, rungs=rungs, up=up, borders=[strike, 40_000.0])
    assert found.premium == pytest.approx(paid.mean(), abs=4 * paid.std() / math.sqrt(count))
    assert found.error < 1e-6 * found.premium


@pytest.mark.parametrize("wrong", [
    lambda: PathMarket(spot=60_000, volatility=0.0, tau_years=0.1),
    lambda: PathMarket(spot=60_000, volatility=0.6, tau_years=0.0),
    lambda: PathMarket(spot=math.nan, volatility=0.6, tau_years=0.1),
    lambda: asian(put(1.0), MARKET, times=[], seed=1),
    lambda: asian(put(1.0), MARKET, times=[0.2, 0.1], seed=1),
    lambda: asian(put(1.0), MARKET, times=[-0.1, 0.1], seed=1),
    lambda: cliquet(put(1.0), MARKET, every_years=0.1, count=0, floor_bps=0, cap_bps=1),
    lambda: cliquet(put(1.0), MARKET, every_years=0.1, count=1, floor_bps=-10_000, cap_bps=1),
    lambda: cliquet(put(1.0), MARKET, every_years=0.1, count=366, floor_bps=0, cap_bps=100_000),
    lambda: ladder(put(1.0), MARKET, rungs=[70_000, 65_000]),
    lambda: ladder(put(1.0), MARKET, rungs=[70_000, math.inf]),
])  # fmt: skip
def test_what_has_no_price_is_refused_by_name(wrong):
    with pytest.raises(PricingDomainError):
        wrong()
