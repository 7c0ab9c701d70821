"""Premium and Greeks of any European payoff by an integral over the lognormal: for those without a closed form.

With z the normal of log S_T, every derivative by the spot is the payoff's mean with a Hermite polynomial of z as its
weight (the likelihood ratio), so a payoff that jumps is no harder than a smooth one; the other Greeks follow from those
by the Black-Scholes equation. Gauss-Legendre panels end at the payoff's borders, between which it must be smooth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from btcfi.pricing.black_scholes import Greeks, as_greeks, quote
from btcfi.pricing.domain import ArrayLike, FloatArray, PricingDomainError, admit
from btcfi.pricing.kernels import (
    DRATE,
    DSIGMA,
    DSIGMASIGMA,
    DTAU,
    DX,
    DXSIGMA,
    DXTAU,
    DXX,
    SLOTS,
    VALUE,
)

NODES: Final = 20
"""A panel: exact for polynomials of degree 39."""

WIDEST_PANEL: Final = 0.5
"""In standard deviations."""

TAIL: Final = 12.0
"""Standard deviations: beyond them even z**4 weighs less than 1e-27."""

MOST_PANELS: Final = 1 << 16


def greeks(
    payoff: Callable[[FloatArray], FloatArray], *, borders: ArrayLike = (), spot: float, tau_years: float,
    volatility: float, rate: float = 0.0, carry_yield: float = 0.0,
) -> Greeks:  # fmt: skip
    """Return premium and Greeks of one payoff at one market, in the units of ``Greeks``.

    payoff: dollars at expiry at many prices in USD per BTC, smooth between ``borders``, growing no faster than the
    price. Arguments as for ``black_scholes.premium``; time and volatility must be above 0, for the integral is over a
    spread. Raises PricingDomainError, also for more than 65,536 panels.
    """
    _, columns = admit(
        spot=spot, positive_tau_years=tau_years, volatility=volatility, rate=rate, carry_yield=carry_yield
    )
    s, tau, sigma, r, q = (float(column[0]) for column in columns)
    sd = sigma * math.sqrt(tau)
    if sd <= 0.0:
        raise PricingDomainError("volatility", sigma, "a finite number above 0")
    z, weight = _nodes(_ends(borders, s, sd, (r - q) * tau))
    price = s * np.exp((r - q) * tau - 0.5 * sd * sd + sd * z)
    density = weight * np.exp(-0.5 * z * z) * (math.exp(-r * tau) / math.sqrt(2.0 * math.pi))
    mass = density * payoff(price)
    # Hermite polynomials, orders 0 to 4: each is one more derivative by the log of the spot
    hermite = (np.ones_like(z), z, z * z - 1.0, (z * z - 3.0) * z, (z * z - 6.0) * z * z + 3.0)
    u = [float(np.dot(mass, one)) / sd**order for order, one in enumerate(hermite)]
    out = np.empty((SLOTS, 1))
    quote(out, 0, _accumulated(u, tau=tau, sigma=sigma, rate=r, carry=q), s)
    return as_greeks(out[:, 0], ())


def _accumulated(u: list[float], *, tau: float, sigma: float, rate: float, carry: float) -> FloatArray:
    """Return the kernels' accumulator from the derivatives by log spot: the Black-Scholes equation, differentiated."""
    variance, drift = sigma * sigma, rate - carry
    acc = np.empty(SLOTS)
    acc[VALUE], acc[DX], acc[DXX] = u[0], u[1], u[2]
    acc[DSIGMA] = sigma * tau * (u[2] - u[1])
    acc[DTAU] = 0.5 * variance * (u[2] - u[1]) + drift * u[1] - rate * u[0]
    acc[DRATE] = tau * (u[1] - u[0])
    acc[DXSIGMA] = sigma * tau * (u[3] - u[2])
    acc[DSIGMASIGMA] = tau * (u[2] - u[1]) + variance * tau * tau * (u[4] - 2.0 * u[3] + u[2])
    acc[DXTAU] = 0.5 * variance * (u[3] - u[2]) + drift * u[2] - rate * u[1]
    return acc


def _ends(borders: ArrayLike, s: float, sd: float, growth: float) -> FloatArray:
    """Return the ends of the panels in z, ascending: the borders, and enough between them."""
    _, (prices,) = admit(strike=borders)
    inner = (np.log(prices / s) - growth + 0.5 * sd * sd) / sd
    low, high = -TAIL, TAIL + sd
    inside = np.unique(inner[(inner > low) & (inner < high)])
    even = np.linspace(low, high, math.ceil((high - low) / WIDEST_PANEL) + 1)
    ends = np.unique(np.concatenate([even, inside]))
    if ends.size > MOST_PANELS:
        raise PricingDomainError("borders", int(ends.size), f"at most {MOST_PANELS} panels")
    return ends


def _nodes(ends: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the nodes of every panel and their weights."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    half = 0.5 * np.diff(ends)[:, None]
    middle = 0.5 * (ends[1:] + ends[:-1])[:, None]
    return (middle + half * nodes).reshape(-1), (half * weights).reshape(-1)
