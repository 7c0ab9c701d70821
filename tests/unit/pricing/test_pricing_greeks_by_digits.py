"""Every Greek against the derivative of the premium at fifty digits: plain, binary, knocked out and knocked in."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from btcfi.pricing import barrier, black_scholes
from tests.support.exact_premiums import exact_premium

CASES = 12
PLACES = {
    "delta": ("spot",), "gamma": ("spot", "spot"), "vega": ("sigma",), "theta": ("tau",), "rho": ("rate",),
    "vanna": ("spot", "sigma"), "volga": ("sigma", "sigma"), "charm": ("spot", "tau"),
}  # fmt: skip
UNIT = {"sigma": 0.01, "tau": -1 / 365, "rate": 0.01, "spot": 1.0}
ORDER = ("spot", "tau", "sigma", "rate")


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
@pytest.mark.parametrize("style", ["plain", "out", "in"])
def test_every_greek_is_the_derivative_it_is_named_after(kind, style):
    g = np.random.default_rng(100 + kind)
    for _ in range(CASES):
        spot, tau, sigma = 100.0, g.uniform(0.02, 1.5), g.uniform(0.2, 1.2)
        rate, carry = g.uniform(-0.03, 0.1), g.uniform(-0.03, 0.1)
        spread = sigma * np.sqrt(tau)
        strike = spot * np.exp(g.uniform(-1.2, 1.2) * spread)
        up = bool(g.random() < 0.5)
        edge = max(spot, strike) if up else min(spot, strike)
        level = edge * np.exp((1 if up else -1) * g.uniform(0.05, 1.2) * spread)
        m = {
            "spot": spot, "strike": strike, "tau_years": tau, "volatility": sigma, "rate": rate, "carry_yield": carry
        }  # fmt: skip
        if style == "plain":
            ours = black_scholes.greeks(kind, **m)
            exact = exact_premium(kind, strike=strike, level=None, up=up, into=False, carry=carry)
        else:
            ours = barrier.greeks(kind, barrier=level, knock_in=style == "in", **m)
            exact = exact_premium(kind, strike=strike, level=level, up=up, into=style == "in", carry=carry)
        with mpmath.workdps(50):
            at = [mpmath.mpf(float(x)) for x in (spot, tau, sigma, rate)]
            for name, by in PLACES.items():
                counts = tuple(by.count(place) for place in ORDER)
                derivative = mpmath.diff(exact, tuple(at), counts) * np.prod([UNIT[place] for place in by])
                # what one unit of the whole option's size would be: differences of large terms are judged by it
                size = spot * np.prod(
                    [UNIT[p] / {"spot": spot * spread, "sigma": 1, "tau": tau, "rate": 1}[p] for p in by]
                )
                assert abs(getattr(ours, name) - float(derivative)) <= 1e-9 * abs(float(derivative)) + 1e-12 * abs(
                    size
                ), name
