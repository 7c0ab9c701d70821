"""What a shape is worth: the sum of its parts against an integral over the lognormal, Greeks by differences of that."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from btcfi.contracts.buckets import ToleranceRule
from btcfi.payoffs import vector
from btcfi.payoffs.book import contract_of
from btcfi.payoffs.book_value import BookMarket, book_sats, ranges_sats
from btcfi.payoffs.shapes import SHAPES, Ask
from btcfi.payoffs.value import HIGHEST, value
from btcfi.pricing import black_scholes, quadrature
from btcfi.pricing.domain import PricingDomainError
from btcfi.units import BasisPoints, CentiBtc, CentsPerBtc, Sats
from tests.support.net_books import condors, event_of

STRIKES = {1: (7_000_000,), 2: (6_500_050, 7_500_000), 3: (6_300_000, 7_000_000, 7_700_000), 4: (6_000_000, 6_500_000,
    7_300_000, 7_800_000)}  # fmt: skip
MARKET = {"spot": 6_912_345, "tau_years": 21 / 365, "volatility": 0.58, "rate": 0.035}
NAMES = ("premium", "delta", "gamma", "vega", "theta", "rho", "vanna", "volga", "charm")


def payoff_of(name, quantity=100):
    one = SHAPES[name]
    amounts = {"step": CentsPerBtc(120_000), "period": CentsPerBtc(1_500_000)}
    strikes = STRIKES[3 if one.many else len(one.strikes)]
    return one.payoff(
        Ask(
            strikes=strikes, quantity=CentiBtc(quantity), floor=CentsPerBtc(5_000_000),
            amounts={word: amounts[word] for word in one.amounts},
        )
    )  # fmt: skip


def dollars_at(name):
    """The position's dollars at expiry by the whole numbers that the contract pays: satoshis times the price."""
    payoff = payoff_of(name, quantity=1_000_000)  # 10,000 BTC: a rounding to a satoshi is below 10**-12 of it

    def dollars(price):
        cents = np.atleast_1d(np.clip(np.rint(np.asarray(price) * 100), 1, int(HIGHEST))).astype(np.int64)
        order = np.argsort(cents, kind="stable")
        net = np.empty(len(cents), dtype=np.int64)
        net[order] = vector.net(payoff, cents[order])
        return net / 10**12 * np.asarray(price)

    return dollars


def borders(name):
    if name == "sinusoid":
        return [50_000, HIGHEST / 100, *(70_000 + 3_750 * n for n in range(-18, 52))]
    strikes = STRIKES[3 if name == "digital_ladder" else len(SHAPES[name].strikes)]
    # what pays above a strike in cents pays from the next cent on
    return [50_000.0, *((strike + extra) / 100 for strike in strikes for extra in (0, 1))]


def integral(dollars, turns, *, spot, tau_years, volatility, rate):
    """The discounted mean of dollars over the lognormal, by scipy, piece by piece between the turns."""
    sd = volatility * math.sqrt(tau_years)
    drift = (rate - 0.5 * volatility**2) * tau_years

    def mass(z):
        price = spot / 100 * math.exp(drift + sd * z)
        return dollars(price) * math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)

    ends = sorted({-9.0, 9.0, *((math.log(100 * at / spot) - drift) / sd for at in turns)})
    ends = [at for at in ends if -9.0 <= at <= 9.0]
    total = sum(quad(mass, low, high, epsabs=1e-10, epsrel=1e-10, limit=80)[0] for low, high in pairwise(ends))
    return math.exp(-rate * tau_years) * total


def formula(name):
    """The position's dollars at a price in dollars, unrounded: a curve's pieces as they are written."""
    payoff = payoff_of(name)
    if name == "sinusoid":
        low, high, middle, period = 50_000.0, HIGHEST / 100, 70_000.0, 15_000.0
        return lambda s: s * math.sin(2 * math.pi * (min(max(s, low), high) - middle) / period)
    pieces = payoff.pieces

    def dollars(s):
        held = [one for one in pieces if one.start <= 100 * s or one is pieces[0]][-1]
        return (held.constant * s + held.numerator / 100) / 10**8

    return dollars


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_worth_the_discounted_mean_of_what_it_pays(name):
    found = value(payoff_of(name), **MARKET)
    assert found.premium == pytest.approx(integral(formula(name), borders(name), **MARKET), rel=1e-8, abs=1e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_priced_is_what_the_contract_pays_in_satoshis(name):
    paid, written = dollars_at(name), formula(name)
    for price in (1.0, 30_000.0, 50_000.0, 61_234.5, 69_999.0, 75_000.5, 80_000.0, 200_000.0):
        assert paid(price)[0] == pytest.approx(written(price), rel=1e-7, abs=1e-6)


DIFFERENCES = {
    "delta": ("spot", 100.0, 1e-6), "vega": ("volatility", 0.01, 1e-4), "rho": ("rate", 0.01, 1e-4),
    "theta": ("tau_years", -1 / 365, 1e-4),
}  # fmt: skip
"""Each Greek's variable, its unit in units of the variable, and what is near enough to nothing."""


@pytest.mark.parametrize("name", SHAPES)
def test_its_greeks_are_the_slopes_of_its_value(name):
    found = value(payoff_of(name), **MARKET)

    def worth(**change):
        at = {key: MARKET[key] + change.get(key, 0) for key in MARKET}
        return float(integral(formula(name), borders(name), **at))

    for greek, (key, unit, nothing) in DIFFERENCES.items():
        step = 5_000 if key == "spot" else 5e-4 * MARKET[key]
        slope = unit * (worth(**{key: step}) - worth(**{key: -step})) / (2 * step)
        assert getattr(found, greek) == pytest.approx(slope, rel=1e-4, abs=nothing), greek
    step = 20_000
    bend = (worth(spot=step) - 2 * worth() + worth(spot=-step)) / (step / 100) ** 2
    assert found.gamma == pytest.approx(bend, rel=1e-3, abs=1e-8)


@pytest.mark.parametrize("kind", range(4), ids=["call", "put", "binary_call", "binary_put"])
def test_the_integral_of_the_library_gives_black_scholes_nine_greeks_for_kinks_and_for_jumps(kind):
    market = {"spot": 69_000.0, "tau_years": 0.1, "volatility": 0.6, "rate": 0.03, "carry_yield": 0.01}
    strike = 71_234.5
    pays = {
        0: lambda s: np.maximum(s - strike, 0), 1: lambda s: np.maximum(strike - s, 0),
        2: lambda s: np.where(s > strike, strike, 0.0), 3: lambda s: np.where(s < strike, strike, 0.0),
    }[kind]  # fmt: skip
    integrated = quadrature.greeks(pays, borders=[strike], **market)
    closed = black_scholes.greeks(kind, strike=strike, **market)
    for name in NAMES:
        assert getattr(integrated, name) == pytest.approx(getattr(closed, name), rel=1e-9), name


@pytest.mark.parametrize("hours", [1, 24, 24 * 90])
def test_a_straddle_and_a_ladder_are_the_closed_forms_of_their_legs(hours):
    market = {**MARKET, "tau_years": hours / 8_760}
    plain = {key: each / 100 if key == "spot" else each for key, each in market.items()}
    far_floor = Ask(strikes=(7_000_000,), floor=CentsPerBtc(100))
    straddle = value(SHAPES["straddle"].payoff(far_floor), **market)
    legs = [black_scholes.greeks(kind, strike=70_000.0, **plain) for kind in (0, 1)]
    ladder = value(payoff_of("digital_ladder"), **market)
    steps = [
        black_scholes.greeks(2, strike=strike / 100 + 0.01, **plain) for strike in STRIKES[3]
    ]  # fmt: skip
    for name in NAMES:
        assert getattr(straddle, name) == pytest.approx(sum(getattr(leg, name) for leg in legs), rel=1e-9, abs=1e-12)
        parts = sum(
            1_200 / (strike / 100 + 0.01) * getattr(step, name) for strike, step in zip(STRIKES[3], steps, strict=True)
        )
        assert getattr(ladder, name) == pytest.approx(parts, rel=1e-9, abs=1e-12)


def test_at_its_expiry_a_curve_is_worth_what_it_pays_and_a_wave_has_to_be_asked_before():
    for name in ("iron_condor", "stable_dollar", "digital_ladder"):
        for spot in (5_900_000, 6_450_001, 7_111_111, 9_000_000):
            found = value(payoff_of(name), spot=spot, tau_years=0.0, volatility=0.5)
            assert found.premium == pytest.approx(formula(name)(spot / 100), abs=1e-6)
    with pytest.raises(PricingDomainError):
        value(payoff_of("sinusoid"), spot=7_000_000, tau_years=0.0, volatility=0.5)
    with pytest.raises(PricingDomainError):
        value(payoff_of("sinusoid"), spot=7_000_000, tau_years=0.1, volatility=0.0)


def test_twice_the_position_is_worth_twice_as_much():
    for name in SHAPES:
        once, twice = (value(payoff_of(name, quantity=many), **MARKET) for many in (250, 500))
        assert twice.premium == pytest.approx(2 * once.premium, rel=1e-7, abs=1e-6)


def test_ranges_are_worth_what_their_book_is_where_they_are_narrow_and_else_what_they_pay():
    book = condors()
    contract = contract_of(book, event_of(book))
    market = BookMarket(spot=CentsPerBtc(10_000_000), tau_years=7 / 365, volatility=0.6)
    worth = book_sats(book, market)
    narrow = contract.buckets(ToleranceRule(tolerance=BasisPoints(10)), premium=Sats(1_000_000))
    assert ranges_sats(contract, narrow, market) == pytest.approx(worth, rel=1e-3, abs=1_000)
    flat = [replace(one, payout=Sats(contract.holder + 7_000)) for one in narrow]
    assert ranges_sats(contract, flat, market) == 7_000
    assert ranges_sats(contract, flat, replace(market, tau_years=0.0)) == 7_000
