"""American options: exercise at any time up to expiry, with or without a knock-out barrier.

Three methods, each where it is best, and each checked against another:
- plain calls and puts by their exercise boundary (``exercise_boundary``), about nine digits;
- binaries, and calls with a barrier on an asset without yield, in closed form: they are exercised at a fixed level;
- puts with a barrier, and binaries with one between them and their strike, by finite differences (Crank-Nicolson in
  log spot, early exercise by Brennan & Schwartz).
A Leisen-Reimer binomial tree stands beside them as the reference, also for the guest's fixed-point tree.

Conventions. The holder watches the market continuously, so an option about to be knocked out is exercised just before:
at the barrier an American option is worth its intrinsic value. An American binary pays its strike the moment the spot
is at it, so it is never held past that moment.
"""

# ruff: noqa: C901, FBT001, PLR0912, PLR0915, PLR0917 - a compiled kernel takes positional numbers only, and inlines what a reader would split
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from btcfi.pricing.black_scholes import check_kind, quote
from btcfi.pricing.compiled import kernel
from btcfi.pricing.domain import (
    BINARY_CALL,
    BINARY_PUT,
    CALL,
    PUT,
    ArrayLike,
    FloatArray,
    PricingDomainError,
    admit,
    check_barrier,
    shaped,
)
from btcfi.pricing.exercise_boundary import (
    HORIZON,
    ROW,
    log_boundary,
    put_value,
    solve_boundary,
)
from btcfi.pricing.kernels import (
    DRATE,
    DSIGMA,
    DTAU,
    DX,
    DXX,
    INV_SQRT_2PI,
    SLOTS,
    VALUE,
    copy,
    intrinsic,
    knock_out,
    knocked,
    scaled_cdf,
    vanilla,
    vanilla_value,
)

TREE_STEPS: Final = 801
"""Steps of the reference tree; odd, as Leisen & Reimer's inversion wants. Its error falls with the square of it."""

LEAST_PROBABILITY: Final = 1e-12
"""Of a tree's step; nearer to 0 or 1 its up and down moves lose their digits."""

GRID_NODES: Final = 100
GRID_STEPS: Final = 25
"""The solver's grid: measured against an 8001-step tree its worst error is below 1e-4 of the spot (tests)."""

GRID_WIDTHS: Final = 6.0
"""The grid reaches this many standard deviations to each side; beyond lies 1e-9 of the probability."""

HALF_IMPLICIT_STEPS: Final = 4
"""Fully implicit steps at the start (Rannacher): they damp the oscillation that Crank-Nicolson makes of a kink."""

LEVEL_WIDTHS: Final = 5.0
"""A level farther than this many standard deviations (plus drift) changes a premium by less than a millionth."""

BUMP: Final = 1e-3
"""Relative step of volatility, and the grid's absolute step of the rate, where no derivative is in closed form."""

RATE_BUMP: Final = 0.05
"""Step of the rate, relative to it, between two boundaries: rounding and curvature both leave about six digits."""

BOUNDARY_ROWS: Final = 5
"""The market's boundary, and those with rate and volatility moved to each side."""

BUCKETS: Final = 8
LOG_BUCKET: Final = math.log(16.0)
"""Times to expiry that share a boundary differ by at most this factor: over a wider one its polynomial loses digits."""

NO_GAIN: Final = 1e-10
"""Interest or yield, as a share, that exercising early can earn at most; below it the option is European."""

LEAST_SPREAD: Final = 1e-9
"""Total volatility below which the spot is taken to move with certainty: a billionth of it is under a cent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AmericanGreeks:
    """A premium and its first-order sensitivities and gamma, in the units of ``black_scholes.Greeks``."""

    premium: FloatArray
    delta: FloatArray
    gamma: FloatArray
    vega: FloatArray
    theta: FloatArray
    rho: FloatArray


@kernel
def _peizer_pratt(z: float, n: int) -> float:
    """Return the binomial probability whose n-step distribution has its tail at normal quantile ``z`` (method 2)."""
    reach = z / (n + 1.0 / 3.0 + 0.1 / (n + 1.0))
    return 0.5 + math.copysign(0.5, z) * math.sqrt(-math.expm1(-reach * reach * (n + 1.0 / 6.0)))


@kernel
def tree_value(
    kind: int, s: float, k: float, tau: float, sigma: float, r: float, q: float, steps: int, american: bool
) -> float:  # fmt: skip
    """Return the premium of a call or put by a Leisen & Reimer (1996) tree of ``steps`` (odd) steps."""
    sd = sigma * math.sqrt(tau)
    if sd == 0.0:
        best = vanilla_value(kind, s, k, tau, sigma, r, q)
        return max(best, intrinsic(kind, s, k)) if american else best
    dt = tau / steps
    d1 = (math.log(s / k) + (r - q) * tau) / sd + 0.5 * sd
    p = _peizer_pratt(d1 - sd, steps)
    p_stock = _peizer_pratt(d1, steps)
    growth = math.exp((r - q) * dt)
    discount = math.exp(-r * dt)
    if min(p, p_stock) < LEAST_PROBABILITY or max(p, p_stock) > 1.0 - LEAST_PROBABILITY:
        # so far from the strike that a step's probability is 0 or 1: the option is its bound
        best = vanilla_value(kind, s, k, tau, sigma, r, q)
        return max(best, intrinsic(kind, s, k)) if american else best
    up = growth * p_stock / p
    down = growth * (1.0 - p_stock) / (1.0 - p)
    sign = 1.0 if kind == CALL else -1.0
    ratio = up / down
    values = np.empty(steps + 1)
    low = s * math.exp(steps * math.log(down))
    at = low
    for j in range(steps + 1):
        values[j] = max(sign * (at - k), 0.0)
        at *= ratio
    p_up = discount * p
    p_down = discount * (1.0 - p)
    for i in range(steps - 1, -1, -1):
        if american:
            low /= down
            at = low
            for j in range(i + 1):
                values[j] = max(p_up * values[j + 1] + p_down * values[j], sign * (at - k))
                at *= ratio
        else:
            for j in range(i + 1):
                values[j] = p_up * values[j + 1] + p_down * values[j]
    root: float = values[0]
    return root


@kernel
def _tree_loop(
    out: FloatArray, kind: FloatArray, s: FloatArray, k: FloatArray, tau: FloatArray, sigma: FloatArray,
    r: FloatArray, q: FloatArray, steps: int, american: bool,
) -> None:  # fmt: skip
    for i in range(out.shape[0]):
        out[i] = tree_value(int(kind[i]), s[i], k[i], tau[i], sigma[i], r[i], q[i], steps, american)


@kernel
def _solve_grid(
    acc: FloatArray, kind: int, s: float, k: float, barrier: float, up: bool,
    tau: float, sigma: float, r: float, q: float, refine: int,
) -> None:  # fmt: skip
    """Fill value, dx, dxx and dtau of an American option between its walls by Crank-Nicolson on a log-spot grid.

    A wall is the barrier, or a binary's strike; there the option is worth its intrinsic value, approached from inside.
    """
    x = math.log(s)
    level = math.log(k)
    sd = sigma * math.sqrt(tau)
    mu = r - q - 0.5 * sigma * sigma
    reach = GRID_WIDTHS * sd + abs(mu) * tau
    low, high = x - reach, x + reach
    wall_low, wall_high = False, False
    if barrier > 0.0:
        wall = math.log(barrier)
        if up and wall < high:
            high, wall_high = wall, True
        if not up and wall > low:
            low, wall_low = wall, True
    if kind == BINARY_CALL and level < high:
        high, wall_high = level, True
    if kind == BINARY_PUT and level > low:
        low, wall_low = level, True
    dx = (high - low) / GRID_NODES
    # lay a node on the strike, where the payoff has its kink: stretch the free end, or shift the free grid
    if low < level < high and kind <= PUT:
        if wall_low != wall_high:
            gap = level - low if wall_low else high - level
            cells = math.ceil(gap / dx)
            if cells * 4 >= GRID_NODES or gap / cells > 0.25 * dx:
                dx = gap / cells
        elif not wall_low:
            low = level - math.ceil((level - low) / dx) * dx
    if wall_high and not wall_low:
        count = max(math.ceil((high - low) / dx), 8)
        low = high - count * dx
    else:
        count = max(math.ceil((high - low) / dx - 1e-9), 8)
        if wall_high:
            dx = (high - low) / count
    dx /= refine
    count *= refine
    m = count + 1
    value = np.empty(m)
    payoff = np.empty(m)
    for i in range(m):
        spot = math.exp(low + i * dx)
        payoff[i] = intrinsic(kind, spot, k) if kind <= PUT else 0.0
    if kind == BINARY_CALL and wall_high and (barrier == 0.0 or not up or barrier >= k):
        payoff[m - 1] = k
    if kind == BINARY_PUT and wall_low and (barrier == 0.0 or up or barrier <= k):
        payoff[0] = k
    for i in range(m):
        value[i] = payoff[i]
    rhs = np.empty(m)
    factor = np.empty(m)
    half_variance = 0.5 * sigma * sigma / (dx * dx)
    half_drift = 0.5 * mu / dx
    # upwind where the drift outruns the diffusion of a cell, so that no weight turns negative
    half_variance = max(half_variance, abs(half_drift))
    lower = half_variance - half_drift
    upper = half_variance + half_drift
    middle = -2.0 * half_variance - r
    starting = refine * HALF_IMPLICIT_STEPS // 2
    total = refine * GRID_STEPS + starting
    elapsed = 0.0
    from_low = kind in (PUT, BINARY_PUT)
    step_size = 0.0
    for n in range(1, total + 1):
        target = tau * (n / total) ** 2
        halves = 2 if n <= starting else 1
        weight = 1.0 if n <= starting else 0.5
        dt = (target - elapsed) / halves
        step_size = dt
        for _ in range(halves):
            elapsed += dt
            explicit = (1.0 - weight) * dt
            implicit = weight * dt
            for i in range(1, m - 1):
                rhs[i] = value[i] + explicit * (
                    lower * value[i - 1] + middle * value[i] + upper * value[i + 1]
                )  # fmt: skip
            # the ends: a wall keeps its payoff; a free end follows the discounted forward, or exercise if better
            for end in range(2):
                i = 0 if end == 0 else m - 1
                walled = wall_low if end == 0 else wall_high
                if walled:
                    value[i] = payoff[i]
                elif kind <= PUT:
                    spot = math.exp(low + i * dx)
                    sign = 1.0 if kind == CALL else -1.0
                    held = sign * (spot * math.exp(-q * elapsed) - k * math.exp(-r * elapsed))
                    value[i] = max(held, payoff[i])
                else:
                    value[i] = 0.0
            a = -implicit * lower
            b = 1.0 - implicit * middle
            c = -implicit * upper
            # Brennan & Schwartz: eliminate toward the exercised end, then substitute from it, exercising on the way
            if from_low:
                rhs[m - 2] -= c * value[m - 1]
                factor[m - 2] = b
                for i in range(m - 3, 0, -1):
                    ratio = c / factor[i + 1]
                    factor[i] = b - ratio * a
                    rhs[i] -= ratio * rhs[i + 1]
                for i in range(1, m - 1):
                    value[i] = max((rhs[i] - a * value[i - 1]) / factor[i], payoff[i])
            else:
                rhs[1] -= a * value[0]
                factor[1] = b
                for i in range(2, m - 1):
                    ratio = a / factor[i - 1]
                    factor[i] = b - ratio * c
                    rhs[i] -= ratio * rhs[i - 1]
                for i in range(m - 2, 0, -1):
                    value[i] = max((rhs[i] - c * value[i + 1]) / factor[i], payoff[i])
    # read the grid at the spot: cubic through the four nodes around it
    i = min(max(int((x - low) / dx) - 1, 0), m - 4)
    u = (x - low) / dx - i
    v0, v1, v2, v3 = value[i], value[i + 1], value[i + 2], value[i + 3]
    b1 = v1 - v0
    b2 = 0.5 * (v2 - 2.0 * v1 + v0)
    b3 = (v3 - 3.0 * v2 + 3.0 * v1 - v0) / 6.0
    acc[VALUE] = v0 + u * (b1 + (u - 1.0) * (b2 + (u - 2.0) * b3))
    acc[DX] = (b1 + (2.0 * u - 1.0) * b2 + (3.0 * u * u - 6.0 * u + 2.0) * b3) / dx
    acc[DXX] = (2.0 * b2 + (6.0 * u - 6.0) * b3) / (dx * dx)
    held = 0.5 * sigma * sigma * acc[DXX] + mu * acc[DX] - r * acc[VALUE]
    acc[DTAU] = max(held, 0.0) if step_size > 0.0 else 0.0


@kernel
def _extrapolated(
    acc: FloatArray, kind: int, s: float, k: float, barrier: float, up: bool,
    tau: float, sigma: float, r: float, q: float,
) -> None:  # fmt: skip
    """Fill ``acc`` from a grid and the one twice as fine: their second-order errors cancel (Richardson)."""
    coarse = np.zeros(SLOTS)
    for refine in range(1, 3):
        copy(coarse, acc)
        _solve_grid(acc, kind, s, k, barrier, up, tau, sigma, r, q, refine)
    for j in range(SLOTS):
        acc[j] += (acc[j] - coarse[j]) / 3.0


@kernel
def _certain(
    acc: FloatArray, kind: int, s: float, k: float, barrier: float, up: bool, tau: float, r: float, q: float
) -> None:  # fmt: skip
    """Fill ``acc`` for a spot that moves with certainty: the better of now, the end, and the wall on the way."""
    end = s * math.exp((r - q) * tau)
    best = math.exp(-r * tau) * intrinsic(kind, end, k)
    wall = k if kind >= BINARY_CALL else barrier
    if barrier > 0.0 and knocked(end, barrier, up):
        best = 0.0
    if wall > 0.0 and (s < wall <= end or end <= wall < s):
        # reached on the way, after log(wall/s)/(r - q) years; nothing else is, since a spot crosses no level twice
        paid = k if kind >= BINARY_CALL else intrinsic(kind, wall, k)
        when = math.log(wall / s) / (r - q)
        behind = barrier > 0.0 and wall != barrier and knocked(wall, barrier, up)
        best = 0.0 if behind else max(best, math.exp(-r * when) * paid)
    if kind <= PUT and r > 0.0 and q > 0.0 and r != q:
        # interest gained and yield lost may balance on the way
        when = math.log(q * s / (r * k)) / (q - r)
        if 0.0 < when < tau and not (barrier > 0.0 and knocked(s * math.exp((r - q) * when), barrier, up)):
            best = max(best, math.exp(-r * when) * intrinsic(kind, s * math.exp((r - q) * when), k))
    if intrinsic(kind, s, k) >= best:
        _exercised(acc, kind, s, k)
        return
    acc[VALUE] = best
    if kind <= PUT:
        acc[DX] = s if kind == CALL else -s
        acc[DXX] = acc[DX]


@kernel
def _exercised(acc: FloatArray, kind: int, s: float, k: float) -> None:
    """Fill ``acc`` for an option that is worth exercising now."""
    acc[:] = 0.0
    acc[VALUE] = intrinsic(kind, s, k)
    if kind <= PUT and acc[VALUE] > 0.0:
        acc[DX] = s if kind == CALL else -s
        acc[DXX] = acc[DX]


@kernel
def _add_touch(
    acc: FloatArray, amount: float, level: float, s: float, tau: float, sigma: float, r: float, q: float
) -> None:  # fmt: skip
    """Add ``amount``, paid the moment the spot first reaches ``level`` (Rubinstein & Reiner 1991)."""
    variance = sigma * sigma
    root = math.sqrt(tau)
    sd = sigma * root
    mu = (r - q) / variance - 0.5
    lam = max(math.sqrt(mu * mu + 2.0 * r / variance), 1e-12)
    mu_sigma = -2.0 * (r - q) / (variance * sigma)
    mu_rate = 1.0 / variance
    lam_sigma = (mu * mu_sigma - 2.0 * r / (variance * sigma)) / lam
    lam_rate = (mu * mu_rate + 1.0 / variance) / lam
    gap = math.log(level / s)
    eta = 1.0 if gap < 0.0 else -1.0
    for sign in (1.0, -1.0):
        power = mu + sign * lam
        exponent = power * gap
        z = eta * (gap / sd + sign * lam * sd)
        z_x = -eta / sd
        mass = amount * scaled_cdf(exponent, z)
        bell = amount * INV_SQRT_2PI * math.exp(exponent - 0.5 * z * z)
        acc[VALUE] += mass
        acc[DX] += z_x * bell - power * mass
        acc[DXX] += power * power * mass - (2.0 * power * z_x + z * z_x * z_x) * bell
        by_sigma = eta * (sign * (lam_sigma * sd + lam * root) - gap / (sigma * sd))
        acc[DSIGMA] += (mu_sigma + sign * lam_sigma) * gap * mass + by_sigma * bell
        acc[DTAU] += eta * (sign * lam * sigma / (2.0 * root) - gap / (2.0 * tau * sd)) * bell
        acc[DRATE] += (mu_rate + sign * lam_rate) * gap * mass + eta * sign * lam_rate * sd * bell


@kernel
def _by_grid(
    acc: FloatArray, kind: int, s: float, k: float, barrier: float, up: bool,
    tau: float, sigma: float, r: float, q: float,
) -> None:  # fmt: skip
    """Fill ``acc`` from the finite-difference grid; rate and volatility by one more solution to each side."""
    side = np.zeros(SLOTS)
    step = BUMP * sigma
    by_rate = 0.0
    by_sigma = 0.0
    # the market itself, its rate to both sides, and its volatility where time cannot stand in for it
    for i in range(5 if q != 0.0 else 3):
        sign = 1.0 if i % 2 == 1 else -1.0
        r_moved = r + sign * BUMP if i in {1, 2} else r
        sigma_moved = sigma + sign * step if i in {3, 4} else sigma
        _extrapolated(side, kind, s, k, barrier, up, tau, sigma_moved, r_moved, q)
        if i == 0:
            copy(acc, side)
            if acc[VALUE] <= intrinsic(kind, s, k):
                _exercised(acc, kind, s, k)
                return
        elif i in {1, 2}:
            by_rate += sign * side[VALUE] / (2.0 * BUMP)
        else:
            by_sigma += sign * side[VALUE] / (2.0 * step)
    acc[DRATE] = by_rate
    acc[DSIGMA] = by_sigma if q != 0.0 else 2.0 * (tau * acc[DTAU] - r * by_rate) / sigma


@kernel
def _by_boundary(
    acc: FloatArray, rows: FloatArray, kind: int, s: float, k: float,
    tau: float, sigma: float, r: float, q: float, longest: float,
) -> bool:  # fmt: skip
    """Fill ``acc`` for a plain call or put from the boundaries kept in ``rows``; False when one does not converge."""
    call = kind == CALL
    # a call is the put with asset and cash exchanged
    asset, cash, interest, lost = (k, s, q, r) if call else (s, k, r, q)
    side = np.zeros(SLOTS)
    step = RATE_BUMP * max(r, 0.01)
    step = step if call or step < 0.5 * r else 0.5 * r
    bump = BUMP * sigma
    by_rate = 0.0
    by_sigma = 0.0
    # the market itself, its rate to both sides, and its volatility where time cannot stand in for it
    for i in range(5 if q != 0.0 else 3):
        sign = 1.0 if i % 2 == 1 else -1.0
        moved = sign * step if i in {1, 2} else 0.0
        sigma_moved = sigma + sign * bump if i in {3, 4} else sigma
        interest_moved = interest if call else interest + moved
        lost_moved = lost + moved if call else lost
        if not solve_boundary(rows[i], sigma_moved, interest_moved, lost_moved, longest):
            return False
        put_value(side, rows[i], max(kind, PUT), asset, cash, tau)
        if i == 0:
            copy(acc, side)
            if acc[VALUE] <= intrinsic(kind, s, k):
                _exercised(acc, kind, s, k)
                return True
        elif i in {1, 2}:
            by_rate += sign * side[VALUE] / (2.0 * step)
        else:
            by_sigma += sign * side[VALUE] / (2.0 * bump)
    by_tau = acc[DTAU]
    if q == 0.0:
        by_sigma = 2.0 * (tau * by_tau - r * by_rate) / sigma  # time only counts as sigma**2 t and r t
    if call:
        # homogeneous of degree one in asset and cash: x_cash V + x_asset V = V
        first = acc[VALUE] - acc[DX]
        acc[DXX] = acc[VALUE] - 2.0 * acc[DX] + acc[DXX]
        acc[DX] = first
    acc[DSIGMA] = by_sigma
    acc[DRATE] = by_rate
    acc[DTAU] = by_tau
    return True


@kernel
def _bucket(tau: float, horizon: float) -> int:
    """Return which of the kept boundaries serves a life of ``tau``."""
    return min(int(math.log(max(horizon / tau, 1.0)) / LOG_BUCKET), BUCKETS - 1)


@kernel
def _american(
    acc: FloatArray, rows: FloatArray, kind: int, s: float, k: float, barrier: float, up: bool, level: float,
    tau: float, sigma: float, r: float, q: float, horizon: float,
) -> None:  # fmt: skip
    """Fill ``acc`` with an American option (barrier 0: none) and its first-order derivatives and gamma.

    level: where a put without a barrier is exercised at the latest (0: nowhere); the spot is above it. rows: BUCKETS x
    BOUNDARY_ROWS boundaries that are kept from option to option; horizon: the book's longest time.
    """
    acc[:] = 0.0
    if barrier > 0.0 and knocked(s, barrier, up):
        return
    now = intrinsic(kind, s, k)
    if kind >= BINARY_CALL and (now > 0.0 or s == k):
        acc[VALUE] = k
        return
    spread = sigma * math.sqrt(tau)
    if spread < LEAST_SPREAD:
        _certain(acc, kind, s, k, barrier, up, tau, r, q)
        return
    wall = barrier
    touch = 0.0
    idle = False
    by_grid = False
    if kind >= BINARY_CALL:
        # the barrier matters only on the far side from the strike, or in front of it
        by_grid = barrier > 0.0 and up != (kind == BINARY_CALL)
        touch = k
    elif kind == CALL and q * tau <= NO_GAIN:
        # waiting costs nothing but the barrier: exercise there, if it pays there, else at expiry (Merton 1973)
        idle = True
        touch = barrier if up else 0.0
    elif barrier > 0.0:
        by_grid = True
    else:
        near = level > 0.0 and math.log(s / level) <= LEVEL_WIDTHS * spread
        if kind == PUT and r * tau <= NO_GAIN and q >= 0.0:
            # without interest only the level is worth exercising at
            idle = True
            wall = touch = level if near else 0.0
        else:
            bucket = _bucket(tau, horizon)
            longest = max(tau, horizon * math.exp(-bucket * LOG_BUCKET))
            by_grid = not _by_boundary(acc, rows[bucket], kind, s, k, tau, sigma, r, q, longest)
            if near and not by_grid and acc[VALUE] > now:
                # a level above the boundary of this life is reached first, and no longer the plain put
                row = rows[bucket, 0]
                by_grid = log_boundary(row, math.sqrt(tau / row[HORIZON])) < math.log(level / k)
            wall = level if near else 0.0
    if by_grid:
        _by_grid(acc, kind, s, k, wall, up, tau, sigma, r, q)
        return
    if idle:
        acc[:] = 0.0
        if wall > 0.0:
            knock_out(acc, kind, s, k, wall, up, tau, sigma, r, q)
        else:
            vanilla(acc, kind, s, k, tau, sigma, r, q)
    if touch > 0.0:
        _add_touch(acc, abs(touch - k) if kind <= PUT else k, touch, s, tau, sigma, r, q)
    if idle and acc[VALUE] < now:
        # waiting costs up to NO_GAIN of the price, and rounding: never worth less than exercising
        _exercised(acc, kind, s, k)


@kernel
def american(
    acc: FloatArray, rows: FloatArray, kind: int, s: float, k: float, barrier: float, up: bool, level: float,
    tau: float, sigma: float, r: float, q: float, horizon: float,
) -> None:  # fmt: skip
    """Fill ``acc`` as ``_american`` does, and never below the European option: waiting is one way to exercise.

    At extreme inputs the methods lose their last digits, and a spot that all but stands still its time value.
    """
    _american(acc, rows, kind, s, k, barrier, up, level, tau, sigma, r, q, horizon)
    if kind <= PUT and barrier == 0.0 and level == 0.0:
        acc[VALUE] = max(acc[VALUE], vanilla_value(kind, s, k, tau, sigma, r, q))


@kernel
def _american_loop(
    out: FloatArray, kind: FloatArray, s: FloatArray, k: FloatArray, barrier: FloatArray, tau: FloatArray,
    sigma: FloatArray, r: FloatArray, q: FloatArray,
) -> None:  # fmt: skip
    acc = np.zeros(SLOTS)
    rows = np.full((BUCKETS, BOUNDARY_ROWS, ROW), -1.0)
    for i in range(out.shape[1]):
        up = barrier[i] > k[i]
        american(acc, rows, int(kind[i]), s[i], k[i], barrier[i], up, 0.0, tau[i], sigma[i], r[i], q[i], tau[i])
        quote(out, i, acc, s[i])


def greeks(
    kind: ArrayLike,
    *,
    spot: ArrayLike,
    strike: ArrayLike,
    tau_years: ArrayLike,
    volatility: ArrayLike,
    rate: ArrayLike = 0.0,
    carry_yield: ArrayLike = 0.0,
    barrier: ArrayLike = 0.0,
) -> AmericanGreeks:
    """Return the premium and first-order Greeks of American options, in the units of ``black_scholes.Greeks``.

    Arguments as for ``black_scholes.premium``, and barrier: USD per BTC, 0 for none; above the strike it is up-and-out,
    below it down-and-out. rate: 0 to 1. Error of the premium: below 1e-4 of the spot. Raises PricingDomainError,
    UnequalLengthsError. Source: Brennan & Schwartz (1977).
    """
    shape, fields = admit(
        kind=check_kind(kind),
        spot=spot,
        strike=strike,
        knock_out_barrier=barrier,
        tau_years=tau_years,
        volatility=volatility,
        american_rate=rate,
        carry_yield=carry_yield,
    )
    check_barrier(fields[2], fields[3])
    out = np.empty((SLOTS, fields[0].size))
    _american_loop(out, *fields)
    names = ("premium", "delta", "gamma", "vega", "theta", "rho")
    return AmericanGreeks(**{name: shaped(row, shape) for name, row in zip(names, out[:6], strict=True)})


def premium(kind: ArrayLike, **market: ArrayLike) -> FloatArray:
    """Return the premium of American options, in USD per BTC; the keyword arguments of ``greeks``."""
    return greeks(kind, **market).premium


def tree_premium(
    kind: ArrayLike,
    *,
    spot: ArrayLike,
    strike: ArrayLike,
    tau_years: ArrayLike,
    volatility: ArrayLike,
    rate: ArrayLike = 0.0,
    carry_yield: ArrayLike = 0.0,
    steps: int = TREE_STEPS,
    early_exercise: bool = True,
) -> FloatArray:
    """Return the premium of plain American calls and puts by the reference tree, in USD per BTC.

    steps: odd, 3 to 20001. early_exercise False prices the European option on the same tree. Raises PricingDomainError,
    UnequalLengthsError. Source: Leisen & Reimer (1996).
    """
    if steps % 2 == 0 or not 3 <= steps <= 20_001:  # noqa: PLR2004 - stated in the message
        raise PricingDomainError("steps", steps, "an odd number from 3 to 20001")
    shape, fields = admit(
        kind=check_kind(kind),
        spot=spot,
        strike=strike,
        tau_years=tau_years,
        volatility=volatility,
        american_rate=rate,
        carry_yield=carry_yield,
    )
    if fields[0].size and fields[0].max() > PUT:
        raise PricingDomainError("kind", int(fields[0].max()), "0 call or 1 put on the reference tree")
    out = np.empty(fields[0].size)
    kinds, spots, strikes, taus, sigmas, rates, yields = fields
    _tree_loop(out, kinds, spots, strikes, taus, sigmas, rates, yields, steps, early_exercise)
    return shaped(out, shape)
