"""Compiled scalar kernels: the normal distribution and the closed forms, one option at a time.

Everything here is plain IEEE double arithmetic under numba (cached on disk, no fast-math, no threads), so that one
machine gives the same bits every time. A kernel trusts its inputs; ``btcfi.pricing.domain`` has checked them.

A closed form of European, binary and knock-out options alike is a sum of terms ``w exp(L) N(z)``, where L and z are
smooth in (log spot, volatility, time, rate). ``_add_term`` adds one such term and its derivatives, so every Greek of
every kind comes from one rule, the chain rule, instead of thirty formulas.
"""

# ruff: noqa: FBT001, PLR0915, PLR0917 - a compiled kernel takes positional numbers only, and inlines what a reader would split
from __future__ import annotations

import math
from typing import Final

import numpy as np

from btcfi.pricing.compiled import kernel
from btcfi.pricing.domain import BINARY_CALL, CALL, PUT, FloatArray

SQRT_HALF: Final = math.sqrt(0.5)
INV_SQRT_2PI: Final = 1.0 / math.sqrt(2.0 * math.pi)
DEEP_TAIL: Final = -8.0
"""Below this N(z) is taken through its continued fraction, so that exp(L) N(z) cannot meet 0 * inf."""

LEAST_SD: Final = 1e-100
"""Below this a spread is none: what is divided by its square would not be finite."""

VALUE, DX, DXX, DSIGMA, DTAU, DRATE, DXSIGMA, DSIGMASIGMA, DXTAU = range(9)
"""Places of a kernel's accumulator: the value and its derivatives by x = log spot, volatility, time and rate."""
SLOTS: Final = 9


@kernel
def copy(into: FloatArray, values: FloatArray) -> None:
    """Copy one accumulator into another; a slice assignment would compile numba's messages about shapes along."""
    for j in range(SLOTS):
        into[j] = values[j]


@kernel
def norm_cdf(z: float) -> float:
    """Return the standard normal distribution function with full relative precision in the lower tail."""
    return 0.5 * math.erfc(-z * SQRT_HALF)


@kernel
def norm_pdf(z: float) -> float:
    """Return the standard normal density."""
    return INV_SQRT_2PI * math.exp(-0.5 * z * z)


@kernel
def mills(z: float) -> float:
    """Return N(-z)/n(z) for z >= 8, by its continued fraction (Laplace); relative error below 1e-15 from z = 8 on."""
    fraction = z
    for k in range(24, 0, -1):
        fraction = z + k / fraction
    return 1.0 / fraction


@kernel
def scaled_cdf(exponent: float, z: float) -> float:
    """Return exp(exponent) * N(z) without overflow of the factor or underflow of the distribution."""
    if z < DEEP_TAIL:
        return math.exp(exponent - 0.5 * z * z) * INV_SQRT_2PI * mills(-z)
    return math.exp(exponent) * norm_cdf(z)


@kernel
def intrinsic(kind: int, spot: float, strike: float) -> float:
    """Return what exercise at ``spot`` pays, in USD per BTC; a binary pays its strike strictly in the money."""
    if kind == CALL:
        return max(spot - strike, 0.0)
    if kind == PUT:
        return max(strike - spot, 0.0)
    if kind == BINARY_CALL:
        return strike if spot > strike else 0.0
    return strike if spot < strike else 0.0


@kernel
def vanilla_value(kind: int, s: float, k: float, tau: float, sigma: float, r: float, q: float) -> float:
    """Return the premium of one European option. Black & Scholes (1973), Merton (1973), Reiner & Rubinstein (1991)."""
    growth = math.exp(-q * tau)
    discount = math.exp(-r * tau)
    sd = sigma * math.sqrt(tau)
    if sd < LEAST_SD:
        return discount * intrinsic(kind, s * growth / discount, k)
    d1 = (math.log(s / k) + (r - q) * tau) / sd + 0.5 * sd
    d2 = d1 - sd
    if kind == CALL:
        return max(s * growth * norm_cdf(d1) - k * discount * norm_cdf(d2), 0.0)
    if kind == PUT:
        return max(k * discount * norm_cdf(-d2) - s * growth * norm_cdf(-d1), 0.0)
    return k * discount * norm_cdf(d2 if kind == BINARY_CALL else -d2)


@kernel
def _fixed_path(acc: FloatArray, kind: int, s: float, k: float, tau: float, r: float, q: float) -> None:
    """Fill ``acc`` for an option whose spot moves with certainty (no time left, or no volatility)."""
    growth = math.exp(-q * tau)
    discount = math.exp(-r * tau)
    acc[:] = 0.0
    value = intrinsic(kind, s * growth / discount, k)
    if value == 0.0:
        return
    acc[VALUE] = discount * value
    if kind >= BINARY_CALL:
        acc[DTAU] = -r * k * discount
        acc[DRATE] = -tau * k * discount
        return
    sign = 1.0 if kind == CALL else -1.0
    acc[DX] = sign * s * growth
    acc[DXX] = acc[DX]
    acc[DTAU] = sign * (r * k * discount - q * s * growth)
    acc[DRATE] = sign * tau * k * discount
    acc[DXTAU] = -q * acc[DX]


@kernel
def vanilla(acc: FloatArray, kind: int, s: float, k: float, tau: float, sigma: float, r: float, q: float) -> None:
    """Fill ``acc`` (SLOTS floats) with the premium of a European option and its derivatives."""
    root = math.sqrt(tau)
    sd = sigma * root
    if sd < LEAST_SD:
        _fixed_path(acc, kind, s, k, tau, r, q)
        return
    discount = math.exp(-r * tau)
    d1 = (math.log(s / k) + (r - q) * tau) / sd + 0.5 * sd
    d2 = d1 - sd
    cash = k * discount
    if kind >= BINARY_CALL:
        # V = K D N(w d2): every derivative is the chain rule on d2
        w = 1.0 if kind == BINARY_CALL else -1.0
        probability = norm_cdf(w * d2)
        density = w * norm_pdf(d2)
        by_sigma = -d1 / sigma
        by_tau = (r - q) / sd - 0.5 * (d1 + d2) / (2.0 * tau) - 0.25 * sigma / root
        by_rate = root / sigma
        acc[VALUE] = cash * probability
        acc[DX] = cash * density / sd
        acc[DXX] = -cash * density * d2 / (sd * sd)
        acc[DSIGMA] = cash * density * by_sigma
        acc[DTAU] = cash * (density * by_tau - r * probability)
        acc[DRATE] = cash * (density * by_rate - tau * probability)
        acc[DXSIGMA] = cash * density * (d1 * d2 - 1.0) / (sd * sigma)
        acc[DSIGMASIGMA] = cash * density * (d1 + d2 - d1 * d1 * d2) / (sigma * sigma)
        acc[DXTAU] = cash * density / sd * (-r - 0.5 / tau - d2 * by_tau)
        return
    w = 1.0 if kind == CALL else -1.0
    stock = s * math.exp(-q * tau)
    in_stock = w * stock * norm_cdf(w * d1)
    in_cash = w * cash * norm_cdf(w * d2)
    bell = stock * norm_pdf(d1)
    acc[VALUE] = max(in_stock - in_cash, 0.0)
    acc[DX] = in_stock
    acc[DXX] = in_stock + bell / sd
    acc[DSIGMA] = bell * root
    acc[DTAU] = 0.5 * bell * sigma / root + r * in_cash - q * in_stock
    acc[DRATE] = tau * in_cash
    acc[DXSIGMA] = -bell * d2 / sigma
    acc[DSIGMASIGMA] = bell * root * d1 * d2 / sigma
    acc[DXTAU] = -q * in_stock + bell * ((r - q) / sd - d2 / (2.0 * tau))


@kernel
def _add_term(
    acc: FloatArray, weight: float, asset: bool, reflected: bool, phi: float, bound: float, barrier: float,
    s: float, tau: float, sigma: float, r: float, q: float,
) -> None:  # fmt: skip
    """Add weight * exp(L) * N(z): an asset-or-nothing (``asset``) or cash-or-nothing leg beyond ``bound``.

    ``reflected``: the leg of the image at barrier**2/spot, with its factor (barrier/spot)**(2 carry/sigma**2 - 1);
    the difference of a leg and its image vanishes at the barrier (reflection principle).
    """
    x = math.log(s)
    b = r - q
    root = math.sqrt(tau)
    sd = sigma * root
    half = 0.5 if asset else -0.5
    side = -1.0 if reflected else 1.0
    level = math.log(bound)
    exponent = -q * tau if asset else -r * tau
    l_x = 0.0
    l_sigma = 0.0
    l_ss = 0.0
    l_xs = 0.0
    l_rate = 0.0 if asset else -tau
    start = x
    if reflected:
        wall = math.log(barrier)
        variance = sigma * sigma
        power = 2.0 * b / variance - 1.0
        gap = wall - x
        start = wall + gap
        exponent += power * gap
        l_x = -power
        l_sigma = -4.0 * b / (variance * sigma) * gap
        l_ss = 12.0 * b / (variance * variance) * gap
        l_xs = 4.0 * b / (variance * sigma)
        l_rate += 2.0 / variance * gap
    if asset:
        exponent += start
        l_x += side
    l_tau = -q if asset else -r
    y = start - level + b * tau
    z = phi * (y / sd + half * sd)
    z_x = phi * side / sd
    z_sigma = phi * (half * root - y / (sigma * sd))
    z_ss = phi * 2.0 * y / (sigma * sigma * sd)
    z_xs = -z_x / sigma
    z_tau = phi * (b / sd - y / (2.0 * tau * sd) + half * sigma / (2.0 * root))
    z_xt = -z_x / (2.0 * tau)
    z_rate = phi * root / sigma
    mass = weight * scaled_cdf(exponent, z)
    bell = weight * INV_SQRT_2PI * math.exp(exponent - 0.5 * z * z)
    acc[VALUE] += mass
    acc[DX] += l_x * mass + z_x * bell
    acc[DXX] += l_x * l_x * mass + (2.0 * l_x * z_x - z * z_x * z_x) * bell
    acc[DSIGMA] += l_sigma * mass + z_sigma * bell
    acc[DTAU] += l_tau * mass + z_tau * bell
    acc[DRATE] += l_rate * mass + z_rate * bell
    acc[DXSIGMA] += (l_xs + l_x * l_sigma) * mass + (l_x * z_sigma + l_sigma * z_x + z_xs - z * z_x * z_sigma) * bell
    acc[DSIGMASIGMA] += (l_ss + l_sigma * l_sigma) * mass + (
        2.0 * l_sigma * z_sigma + z_ss - z * z_sigma * z_sigma
    ) * bell
    acc[DXTAU] += l_x * l_tau * mass + (l_x * z_tau + l_tau * z_x + z_xt - z * z_x * z_tau) * bell


@kernel
def _add_interval(
    acc: FloatArray, weight: float, asset: bool, low: float, high: float, barrier: float,
    s: float, tau: float, sigma: float, r: float, q: float,
) -> None:  # fmt: skip
    """Add ``weight`` times what pays the asset (or one dollar) when the spot ends in (low, high), barrier untouched.

    low = 0 or high = inf leave the interval open on that side.
    """
    for image in range(2):
        reflected = image == 1
        sign = -weight if reflected else weight
        if low == 0.0:
            _add_term(acc, sign, asset, reflected, -1.0, high, barrier, s, tau, sigma, r, q)
        elif high == np.inf:
            _add_term(acc, sign, asset, reflected, 1.0, low, barrier, s, tau, sigma, r, q)
        else:
            # of the two tails take the one in which both ends are small, so that the difference keeps its digits
            start = barrier * barrier / s if reflected else s
            phi = -1.0 if start * start > low * high else 1.0
            _add_term(acc, sign * phi, asset, reflected, phi, low, barrier, s, tau, sigma, r, q)
            _add_term(acc, -sign * phi, asset, reflected, phi, high, barrier, s, tau, sigma, r, q)


@kernel
def knocked(s: float, barrier: float, up: bool) -> bool:
    """Return whether a spot touches the barrier."""
    return s >= barrier if up else s <= barrier


@kernel
def knock_out(
    acc: FloatArray, kind: int, s: float, k: float, barrier: float, up: bool,
    tau: float, sigma: float, r: float, q: float,
) -> None:  # fmt: skip
    """Fill ``acc`` with a continuously watched European knock-out option and its derivatives.

    Reiner & Rubinstein (1991), written as the payoff on the surviving side of the barrier less its mirror image.
    """
    acc[:] = 0.0
    if knocked(s, barrier, up):
        return
    if sigma * math.sqrt(tau) < LEAST_SD:
        if not knocked(s * math.exp((r - q) * tau), barrier, up):
            _fixed_path(acc, kind, s, k, tau, r, q)
        return
    above = kind in (CALL, BINARY_CALL)
    low = k if above else 0.0
    high = np.inf if above else k
    if up:
        high = min(high, barrier)
    else:
        low = max(low, barrier)
    if low >= high:
        return
    sign = 1.0 if above else -1.0
    # cash first, which is all of a binary; then the asset
    for leg in range(1 if kind >= BINARY_CALL else 2):
        weight = k if kind >= BINARY_CALL else -sign * k
        _add_interval(acc, sign if leg == 1 else weight, leg == 1, low, high, barrier, s, tau, sigma, r, q)
    # rounding must not carry a premium past its no-arbitrage bounds
    acc[VALUE] = min(max(acc[VALUE], 0.0), vanilla_value(kind, s, k, tau, sigma, r, q))
