"""Premiums and Greeks against QuantLib on thousands of drawn cases a kind.

QuantLib counts in days, so the draws are whole days. Its normal distribution and its barrier formulas lose digits where
a premium is a small difference of large terms; tolerances are therefore relative down to a small share of the spot, and
absolute below it. The vectors (50 digits) hold our own small premiums to account.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
import QuantLib as ql  # noqa: N813 - its documentation's own abbreviation

from btcfi.pricing import american, barrier, black_scholes, implied
from tests.support.exact_premiums import exact_premium

CASES = 5_000
TODAY = ql.Date(15, 3, 2026)
DAYS = ql.Actual365Fixed()


@dataclass(frozen=True)
class Draw:
    spot: np.ndarray
    strike: np.ndarray
    days: np.ndarray
    sigma: np.ndarray
    rate: np.ndarray
    carry: np.ndarray

    @property
    def market(self):
        return {
            "spot": self.spot,
            "strike": self.strike,
            "tau_years": self.days / 365.0,
            "volatility": self.sigma,
            "rate": self.rate,
            "carry_yield": self.carry,
        }


def draw(seed, count=CASES, lowest_rate=-0.02):
    g = np.random.default_rng(seed)
    spot = 10.0 ** g.uniform(1, 6, count)
    days = g.integers(1, 730, count)
    sigma = g.uniform(0.05, 2.0, count)
    spread = sigma * np.sqrt(days / 365.0)
    return Draw(
        spot=spot,
        strike=spot * np.exp(g.uniform(-2.5, 2.5, count) * spread),
        days=days,
        sigma=sigma,
        rate=g.uniform(lowest_rate, 0.12, count),
        carry=g.uniform(-0.02, 0.12, count),
    )


class Market:
    """One QuantLib process whose quotes are moved from case to case, which is far cheaper than building it anew."""

    def __init__(self):
        ql.Settings.instance().evaluationDate = TODAY
        self.spot, self.sigma, self.rate, self.carry = (ql.SimpleQuote(1.0) for _ in range(4))
        flat = lambda quote: ql.YieldTermStructureHandle(ql.FlatForward(TODAY, ql.QuoteHandle(quote), DAYS))  # noqa: E731
        surface = ql.BlackConstantVol(TODAY, ql.NullCalendar(), ql.QuoteHandle(self.sigma), DAYS)
        self.process = ql.BlackScholesMertonProcess(
            ql.QuoteHandle(self.spot), flat(self.carry), flat(self.rate), ql.BlackVolTermStructureHandle(surface)
        )

    def move(self, d, i):
        self.spot.setValue(float(d.spot[i]))
        self.sigma.setValue(float(d.sigma[i]))
        self.rate.setValue(float(d.rate[i]))
        self.carry.setValue(float(d.carry[i]))


@pytest.fixture(scope="module")
def market():
    return Market()


def payoff(kind, strike):
    side = ql.Option.Call if kind % 2 == 0 else ql.Option.Put
    return ql.PlainVanillaPayoff(side, strike) if kind < 2 else ql.CashOrNothingPayoff(side, strike, strike)


def worst(ours, theirs, floor):
    """The largest difference relative to theirs, and to ``floor`` below it."""
    return float(np.max(np.abs(ours - theirs) / np.maximum(np.abs(theirs), floor)))


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_european_premiums_and_greeks_equal_quantlibs_on_5000_cases(market, kind):
    d = draw(kind)
    ours = black_scholes.greeks(kind, **d.market)
    engine = ql.AnalyticEuropeanEngine(market.process)
    rows = np.empty((6, CASES))
    for i in range(CASES):
        market.move(d, i)
        option = ql.VanillaOption(payoff(kind, float(d.strike[i])), ql.EuropeanExercise(TODAY + int(d.days[i])))
        option.setPricingEngine(engine)
        rows[:, i] = (
            option.NPV(), option.delta(), option.gamma(), option.vega() / 100, option.theta() / 365, option.rho() / 100
        )  # fmt: skip
    scale = np.maximum(d.spot, d.strike)
    root = np.sqrt(d.days / 365.0)
    assert worst(ours.premium, rows[0], 1e-5 * scale) < 1e-10
    assert worst(ours.delta, rows[1], 1e-3) < 1e-7
    assert worst(ours.gamma, rows[2], 1e-3 / (d.spot * d.sigma * root)) < 1e-7
    assert worst(ours.vega, rows[3], 1e-5 * scale * root) < 1e-7
    assert worst(ours.theta, rows[4], 1e-5 * scale * d.sigma / root / 365) < 1e-7
    assert worst(ours.rho, rows[5], 1e-5 * scale * root) < 1e-7


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_knock_out_and_knock_in_premiums_equal_quantlibs_on_5000_cases(market, kind):
    d = draw(10 + kind, count=CASES)
    g = np.random.default_rng(20 + kind)
    up = g.random(CASES) < 0.5
    spread = d.sigma * np.sqrt(d.days / 365.0)
    edge = np.where(up, np.maximum(d.spot, d.strike), np.minimum(d.spot, d.strike))
    level = edge * np.exp(np.where(up, 1, -1) * g.uniform(0.001, 2.0, CASES) * spread)
    into = g.random(CASES) < 0.5
    ours = barrier.premium(kind, barrier=level, knock_in=into, **d.market)
    types = {
        (True, False): ql.Barrier.UpOut, (False, False): ql.Barrier.DownOut,
        (True, True): ql.Barrier.UpIn, (False, True): ql.Barrier.DownIn,
    }  # fmt: skip
    engine = ql.AnalyticBarrierEngine(market.process) if kind < 2 else ql.AnalyticBinaryBarrierEngine(market.process)
    theirs = np.empty(CASES)
    for i in range(CASES):
        market.move(d, i)
        end = TODAY + int(d.days[i])
        exercise = ql.EuropeanExercise(end) if kind < 2 else ql.AmericanExercise(TODAY, end, True)
        option = ql.BarrierOption(
            types[bool(up[i]), bool(into[i])], float(level[i]), 0.0, payoff(kind, float(d.strike[i])), exercise
        )
        option.setPricingEngine(engine)
        theirs[i] = option.NPV()
    scale = np.maximum(np.abs(theirs), 1e-4 * np.maximum(d.spot, d.strike))
    disputed = np.flatnonzero(np.abs(ours - theirs) / scale > 1e-10)
    assert disputed.size < CASES // 100
    for i in disputed:
        # QuantLib's normal distribution has eight digits near 1e-8; sixty digits decide who is right
        exact = sixty_digits(kind, d, i, level[i], up=bool(up[i]), into=bool(into[i]))
        assert abs(float(ours[i] - exact)) / scale[i] < 1e-10


def sixty_digits(kind, d, i, level, *, up, into):
    with mpmath.workdps(60):
        spot, strike, level, tau, sigma, rate, carry = (
            mpmath.mpf(float(v))
            for v in (d.spot[i], d.strike[i], level, d.days[i] / 365.0, d.sigma[i], d.rate[i], d.carry[i])
        )
        exact = exact_premium(kind, strike=strike, level=level, up=up, into=into, carry=carry)
        return exact(spot, tau, sigma, rate)


@pytest.mark.parametrize("kind", [0, 1])
def test_american_premiums_are_within_a_ten_thousandth_of_the_spot_of_quantlibs(market, kind):
    d = draw(30 + kind, lowest_rate=0.0)
    ours = american.premium(kind, **d.market)
    engine = ql.QdFpAmericanEngine(market.process, ql.QdFpAmericanEngine.accurateScheme())
    theirs = np.full(CASES, np.nan)
    for i in range(CASES):
        market.move(d, i)
        exercise = ql.AmericanExercise(TODAY, TODAY + int(d.days[i]))
        option = ql.VanillaOption(payoff(kind, float(d.strike[i])), exercise)
        option.setPricingEngine(engine)
        theirs[i] = option.NPV()
    error = np.abs(ours - theirs) / np.maximum(d.spot, d.strike)
    assert float(error.max()) < 1e-5
    assert float(np.median(error)) < 1e-8


def test_american_binaries_equal_quantlibs_one_touch(market):
    count = 2_000
    d = draw(40, count=count, lowest_rate=0.0)
    for kind in (2, 3):
        ours = american.premium(kind, **d.market)
        engine = ql.AnalyticDigitalAmericanEngine(market.process)
        theirs = np.empty(count)
        for i in range(count):
            market.move(d, i)
            exercise = ql.AmericanExercise(TODAY, TODAY + int(d.days[i]), False)
            option = ql.VanillaOption(payoff(kind, float(d.strike[i])), exercise)
            option.setPricingEngine(engine)
            theirs[i] = option.NPV()
        assert worst(ours, theirs, 1e-4 * np.maximum(d.spot, d.strike)) < 1e-9


@pytest.mark.parametrize("kind", [0, 1])
def test_american_greeks_equal_differences_of_quantlibs_premiums(market, kind):
    count = 300
    d = draw(50 + kind, count=count, lowest_rate=0.002)
    ours = american.greeks(kind, **d.market)
    engine = ql.QdFpAmericanEngine(market.process, ql.QdFpAmericanEngine.accurateScheme())

    def theirs(i, **shift):
        market.move(d, i)
        for name, by in shift.items():
            quote = getattr(market, name)
            quote.setValue(quote.value() + by)
        option = ql.VanillaOption(payoff(kind, float(d.strike[i])), ql.AmericanExercise(TODAY, TODAY + int(d.days[i])))
        option.setPricingEngine(engine)
        return option.NPV()

    for i in range(count):
        h = 1e-3 * d.spot[i] * d.sigma[i] * math.sqrt(d.days[i] / 365)
        scale = max(d.spot[i], d.strike[i])
        delta = (theirs(i, spot=h) - theirs(i, spot=-h)) / (2 * h)
        vega = (theirs(i, sigma=1e-3) - theirs(i, sigma=-1e-3)) / 0.2
        rho = (theirs(i, rate=1e-3) - theirs(i, rate=-1e-3)) / 0.2
        assert abs(ours.delta[i] - delta) < 1e-4 * max(scale / d.spot[i], 1)
        assert abs(ours.vega[i] - vega) < 1e-5 * scale
        assert abs(ours.rho[i] - rho) < 1e-4 * scale


def test_implied_volatilities_give_back_the_drawn_volatility_on_5000_cases():
    d = draw(60)
    for kind in (0, 1):
        premium = black_scholes.premium(kind, **d.market)
        forward = d.spot * np.exp(-d.carry * d.days / 365.0)
        cash = d.strike * np.exp(-d.rate * d.days / 365.0)
        sign = 1 if kind == 0 else -1
        time_value = premium - np.maximum(sign * (forward - cash), 0)
        inside = time_value > 1e-9 * d.spot  # below, the premium no longer holds ten digits of its time value
        market = {k: v[inside] for k, v in d.market.items() if k != "volatility"}
        ours = implied.implied_volatility(kind, premium[inside], **market)
        assert float(np.max(np.abs(ours / d.sigma[inside] - 1.0))) < 1e-6
        again = black_scholes.premium(kind, volatility=ours, **market)
        assert float(np.max(np.abs(again - premium[inside]) / np.maximum(d.spot, d.strike)[inside])) < 1e-14
        assert int(inside.sum()) > 3_000
