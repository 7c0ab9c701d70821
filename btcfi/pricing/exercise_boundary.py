"""The early-exercise boundary of the American put, and the put's value above it, to about nine digits.

The boundary solves a fixed-point equation under an integral (Kim 1990; Andersen, Lake & Offengenden 2016). It depends
on volatility, rate and yield only, not on strike or spot, so one boundary serves every American put of a book: the
costly part is done once per refresh, and each option costs one quadrature. Calls come by put-call symmetry.
"""
# ruff: noqa: C901, FBT001, PLR0912, PLR0917 - a compiled kernel takes positional numbers only, and inlines its loops

from __future__ import annotations

import math
from typing import Final

import numpy as np

from btcfi.pricing.compiled import kernel
from btcfi.pricing.domain import FloatArray
from btcfi.pricing.kernels import (
    DTAU,
    DX,
    DXX,
    INV_SQRT_2PI,
    VALUE,
    norm_cdf,
    norm_pdf,
    vanilla,
)

DEGREE: Final = 12
"""Of the Chebyshev polynomial through log(boundary)**2 in the root of time; with the quadratures below the premium
differs from QuantLib's high-precision scheme by less than 2e-6 of the spot (median 1e-9)."""

TOLERANCE: Final = 1e-8
"""Change of the log boundary at which the iteration stops; the premium's error is of second order in it."""

FAST_ITERATIONS: Final = 60
SAFE_ITERATIONS: Final = 400
"""Before the fast equation, and then the slow but steady one, give up."""

TINY: Final = 1e-300

_boundary_nodes, _boundary_weights = np.polynomial.legendre.leggauss(16)
_price_nodes, _price_weights = np.polynomial.legendre.leggauss(24)
QUARTER_PI: Final = math.pi / 4.0
# time runs as the squared cosine of an angle: both ends of the integrals, singular in time, are smooth in the angle
BOUNDARY_SIN: Final = np.sin((_boundary_nodes + 1.0) * QUARTER_PI)
BOUNDARY_COS: Final = np.cos((_boundary_nodes + 1.0) * QUARTER_PI)
BOUNDARY_WEIGHT: Final = _boundary_weights * QUARTER_PI
PRICE_SIN: Final = np.sin((_price_nodes + 1.0) * QUARTER_PI)
PRICE_COS: Final = np.cos((_price_nodes + 1.0) * QUARTER_PI)
PRICE_WEIGHT: Final = _price_weights * QUARTER_PI

KEY_SIGMA, KEY_RATE, KEY_YIELD, HORIZON, LOG_LIMIT, COEFFICIENTS = range(6)
"""Columns of a boundary's row: what it was solved for, the longest time, log of its limit at expiry, polynomial."""
ROW: Final = COEFFICIENTS + DEGREE + 1


@kernel
def _clenshaw(row: FloatArray, x: float) -> float:
    """Return the row's polynomial at x in [-1, 1]."""
    b1 = 0.0
    b2 = 0.0
    for k in range(DEGREE, 0, -1):
        b1, b2 = 2.0 * x * b1 - b2 + row[COEFFICIENTS + k], b1
    value: float = x * b1 - b2 + row[COEFFICIENTS]
    return value


@kernel
def log_boundary(row: FloatArray, root_share: float) -> float:
    """Return log(boundary/strike) at the time whose root is ``root_share`` (0 to 1) of the horizon's."""
    value: float = row[LOG_LIMIT] - math.sqrt(max(_clenshaw(row, 2.0 * root_share - 1.0), 0.0))
    return value


@kernel
def _interpolate(row: FloatArray, squares: FloatArray) -> None:
    """Write the Chebyshev coefficients of values at the Lobatto points."""
    for k in range(DEGREE + 1):
        total = 0.0
        for i in range(DEGREE + 1):
            weight = 0.5 if i in (0, DEGREE) else 1.0
            total += weight * squares[i] * math.cos(math.pi * i * k / DEGREE)
        half = 0.5 if k in (0, DEGREE) else 1.0
        row[COEFFICIENTS + k] = 2.0 * half * total / DEGREE


@kernel
def _iterate(row: FloatArray, fast: bool) -> bool:
    """Solve for the boundary of ``row``; return whether it converged.

    fast: the equation from smooth pasting (FP-A, near-quadratic unless rate/sigma**2 is large); otherwise the one from
    value matching (FP-B, slower, steady everywhere).
    """
    sigma, r, q, horizon = row[KEY_SIGMA], row[KEY_RATE], row[KEY_YIELD], row[HORIZON]
    limit = 0.0 if q <= r else math.log(r / q)
    row[LOG_LIMIT] = limit
    squares = np.zeros(DEGREE + 1)
    share = np.zeros(DEGREE + 1)
    for i in range(DEGREE + 1):
        share[i] = 0.5 * (1.0 + math.cos(math.pi * i / DEGREE))
        squares[i] = min(sigma * math.sqrt(horizon) * share[i], 3.0) ** 2
    relaxation = 1.0
    last = math.inf
    for iteration in range(FAST_ITERATIONS if fast else SAFE_ITERATIONS):
        _interpolate(row, squares)
        change = 0.0
        for i in range(DEGREE):
            root = math.sqrt(horizon) * share[i]
            t = root * root
            sd = sigma * root
            here = limit - math.sqrt(squares[i])
            down = (here + (r - q) * t) / sd - 0.5 * sd
            up = down + sd
            if fast:
                above = norm_pdf(down) / sd
                below = norm_pdf(up) / sd + norm_cdf(up)
            else:
                above = norm_cdf(down)
                below = norm_cdf(up)
            for j in range(BOUNDARY_SIN.shape[0]):
                w = root * BOUNDARY_SIN[j]
                left = root * BOUNDARY_COS[j]
                there = log_boundary(row, share[i] * BOUNDARY_COS[j])
                middle = (here - there + (r - q) * w * w) / (sigma * w)
                half = 0.5 * sigma * w
                weight = BOUNDARY_WEIGHT[j] * 2.0 * left
                if fast:
                    above += r * weight * math.exp(r * left * left) * norm_pdf(middle - half) / sigma
                else:
                    above += r * weight * math.exp(r * left * left) * w * norm_cdf(middle - half)
                if q != 0.0:
                    extra = w * norm_cdf(middle + half)
                    if fast:
                        extra += norm_pdf(middle + half) / sigma
                    below += q * weight * math.exp(q * left * left) * extra
            if not (above > TINY and below > TINY):
                return False
            step = min(math.log(above / below) - (r - q) * t, limit) - here
            change = max(change, abs(step))
            squares[i] = (limit - here - relaxation * step) ** 2
        if change < TOLERANCE:
            _interpolate(row, squares)
            return True
        if iteration > 3 and change > 0.95 * last:  # noqa: PLR2004 - no longer shrinking: it swings, so damp it
            relaxation = max(0.6 * relaxation, 0.05)
        last = change
    return False


@kernel
def solve_boundary(row: FloatArray, sigma: float, r: float, q: float, horizon: float) -> bool:
    """Make ``row`` the boundary for these parameters, unless it is already; return whether there is one."""
    if row[KEY_SIGMA] == sigma and row[KEY_RATE] == r and row[KEY_YIELD] == q and row[HORIZON] >= horizon:
        return True
    row[KEY_SIGMA], row[KEY_RATE], row[KEY_YIELD], row[HORIZON] = sigma, r, q, horizon
    if _iterate(row, True) or _iterate(row, False):
        return True
    row[KEY_SIGMA] = -1.0
    return False


@kernel
def put_value(acc: FloatArray, row: FloatArray, kind: int, s: float, k: float, tau: float) -> None:
    """Fill value, dx, dxx and dtau of an American put (``kind``: PUT) from its solved boundary.

    The premium is the European one and what exercising early earns: interest on the strike, less the yield lost.
    """
    sigma, r, q = row[KEY_SIGMA], row[KEY_RATE], row[KEY_YIELD]
    share = math.sqrt(tau / row[HORIZON])
    moneyness = math.log(s / k)
    if moneyness <= log_boundary(row, share):
        acc[:] = 0.0
        acc[VALUE] = k - s
        acc[DX] = -s
        acc[DXX] = -s
        return
    vanilla(acc, kind, s, k, tau, sigma, r, q)
    root = math.sqrt(tau)
    earned = 0.0
    by_x = 0.0
    by_xx = 0.0
    for j in range(PRICE_SIN.shape[0]):
        w = root * PRICE_SIN[j]
        sd = sigma * w
        there = log_boundary(row, share * PRICE_COS[j])
        down = (moneyness - there + (r - q) * w * w) / sd - 0.5 * sd
        weight = PRICE_WEIGHT[j] * 2.0 * w * root * PRICE_COS[j]
        interest = weight * r * k * math.exp(-r * w * w)
        bell = interest * INV_SQRT_2PI * math.exp(-0.5 * down * down) / sd
        earned += interest * norm_cdf(-down)
        by_x -= bell
        by_xx += bell * down / sd
        if q != 0.0:
            up = down + sd
            lost = weight * q * s * math.exp(-q * w * w)
            tail = lost * norm_cdf(-up)
            bell = lost * INV_SQRT_2PI * math.exp(-0.5 * up * up) / sd
            earned -= tail
            by_x -= tail - bell
            by_xx -= tail - 2.0 * bell + bell * up / sd
    acc[VALUE] = max(acc[VALUE] + earned, k - s)
    acc[DX] += by_x
    acc[DXX] += by_xx
    held = 0.5 * sigma * sigma * (acc[DXX] - acc[DX]) + (r - q) * acc[DX] - r * acc[VALUE]
    acc[DTAU] = max(held, 0.0)
