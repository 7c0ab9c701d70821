"""American options with a barrier against a plain lattice whose levels are laid on the barrier."""

from __future__ import annotations

import math

import numpy as np
import pytest

from btcfi.pricing import american
from btcfi.pricing.american import _extrapolated
from btcfi.pricing.kernels import SLOTS, VALUE

M = {"spot": 100.0, "tau_years": 0.4, "volatility": 0.7, "rate": 0.06}


def lattice(kind, strike, barrier, levels, *, spot, tau_years, volatility, rate):
    """Cox-Ross-Rubinstein with ``levels`` levels between spot and barrier; at the barrier the option is its payoff.

    An American holder exercises just before the knock-out, so the barrier's own level pays the intrinsic value.
    """
    gap = math.log(barrier / spot) / levels
    dx = abs(gap)
    steps = round(tau_years * volatility**2 / dx**2)
    dt = tau_years / steps
    # the levels are fixed by the barrier, so the probabilities take what is left of the drift and variance
    drift = (rate - 0.5 * volatility**2) * dt
    move = volatility**2 * dt + drift**2
    up, down = 0.5 * (move / dx**2 + drift / dx), 0.5 * (move / dx**2 - drift / dx)
    discount = math.exp(-rate * dt)
    x = np.arange(-steps, steps + 1) * dx
    s = spot * np.exp(x)
    pays = (np.maximum(s - strike, 0), np.maximum(strike - s, 0), strike * (s > strike), strike * (s < strike))[kind]
    pays = np.asarray(pays, dtype=float)
    beyond = s > barrier * (1 + 1e-9) if barrier > strike else s < barrier * (1 - 1e-9)
    wall = np.isclose(s, barrier, rtol=1e-9)
    value = np.where(beyond, 0.0, pays)
    for _ in range(steps):
        held = discount * (up * value[2:] + down * value[:-2] + (1 - up - down) * value[1:-1])
        value[1:-1] = np.maximum(held, pays[1:-1])
        value[beyond] = 0.0
        value[wall] = pays[wall]
    return float(value[steps])


@pytest.mark.parametrize(
    ("kind", "strike", "barrier"),
    [
        (1, 105.0, 80.0),  # a put that dies where it pays most
        (1, 95.0, 130.0),  # a put that dies where it pays nothing
        (1, 120.0, 60.0),
        (0, 95.0, 130.0),  # calls in closed form
        (0, 110.0, 80.0),
        (2, 125.0 - 1e-9, 80.0),  # binaries between strike and barrier, the strike on a level too
        (3, 100.0 / 1.2 + 1e-9, 120.0),
    ],
)
def test_the_premium_is_within_a_thousandth_of_the_spot_of_a_lattice_and_the_lattice_converges_to_it(
    kind, strike, barrier
):
    ours = american.premium(kind, strike=strike, barrier=barrier, **M)
    coarse, fine = (lattice(kind, strike, barrier, levels, **M) for levels in (20, 60))
    assert abs(fine - ours) < 1e-3 * M["spot"]
    assert abs(fine - ours) < max(abs(coarse - ours), 1e-4 * M["spot"])


def test_the_grid_alone_finds_plain_american_puts_to_a_ten_thousandth():
    g = np.random.default_rng(5)
    acc = np.zeros(SLOTS)
    for _ in range(100):
        strike, tau = 100 * math.exp(g.normal(0, 0.3)), g.uniform(0.003, 2)
        sigma, rate = g.uniform(0.1, 1.5), g.uniform(0.0005, 0.1)
        _extrapolated(acc, 1, 100.0, strike, 0.0, False, tau, sigma, rate, 0.0)
        exact = american.premium(1, spot=100.0, strike=strike, tau_years=tau, volatility=sigma, rate=rate)
        assert abs(max(acc[VALUE], strike - 100.0) - exact) < 1e-4 * max(strike, 100.0)


def test_a_barrier_that_can_never_matter_changes_nothing():
    for kind, strike, barrier in ((1, 100.0, 5.0), (2, 110.0, 150.0), (3, 90.0, 50.0)):
        plain = american.premium(kind, strike=strike, **M)
        assert american.premium(kind, strike=strike, barrier=barrier, **M) == pytest.approx(plain, abs=1e-4 * 100)


def test_at_the_barrier_the_option_is_gone_and_just_before_it_is_worth_its_exercise():
    market = {k: v for k, v in M.items() if k != "spot"}
    assert american.premium(0, spot=130.0, strike=95.0, barrier=130.0, **market) == 0.0
    near = american.premium(0, spot=129.999, strike=95.0, barrier=130.0, **market)
    assert near == pytest.approx(35.0, abs=0.01)
