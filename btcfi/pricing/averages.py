"""European options that settle on a window: the mean or the median of the prices of N minutes, the last at expiry.

The contract pays payoff(A)/A bitcoin, A the window's price. In today's dollars that is S E[payoff(A)/A], the mean
taken with bitcoin as the numeraire (the spot then drifts by r + sigma**2): no other correction is needed, and for one
minute it is Black and Scholes' formula. A is what the known minutes already add to it plus a lognormal rest that has
the mean and the variance of the minutes to come (Levy 1992, Turnbull & Wakeman 1991): over an hour at most the rest is
so narrow that the shape of its tails does not show.
"""

# ruff: noqa: C901, FBT001, PLR0917 - a compiled kernel takes positional numbers only, and inlines what a reader would split
from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np

from btcfi.oracle.fixing import MINUTES_AFTER, MOST_MINUTES
from btcfi.pricing.compiled import kernel
from btcfi.pricing.domain import BINARY_CALL, CALL, SECONDS_PER_YEAR, FloatArray, IntArray
from btcfi.pricing.kernels import (
    DRATE,
    DSIGMA,
    DTAU,
    DX,
    DXX,
    SLOTS,
    VALUE,
    intrinsic,
    knocked,
    norm_cdf,
    norm_pdf,
)
from btcfi.units import SECONDS_PER_MINUTE

CENTS_PER_USD: Final = 100

MINUTE_YEARS: Final = SECONDS_PER_MINUTE / SECONDS_PER_YEAR

UNSAID, LEFT_OUT = 0, -1
"""What a minute says to a window when it is no price: nothing yet, or that it does not count."""

WIDTHS: Final = 8.0
"""Standard deviations that an integral goes to each side; beyond lies 1e-15 of the probability."""

NODES, WEIGHTS = np.polynomial.legendre.leggauss(32)
"""Of each smooth piece of an integral."""

STEP: Final = 1e-4
"""Relative step of volatility, and absolute one of the rate, of the derivatives of a window's moments."""

FEW_NODES, FEW_WEIGHTS = np.polynomial.legendre.leggauss(10)
"""Of a window of more minutes than these."""

HALVINGS: Final = 24
"""Until a payoff's kink is found: to a ten-millionth of the integral's range."""

FAR_WINDOWS: Final = 48.0
"""So many windows ahead, a knock-out is priced as of one minute and corrected for what the window narrows."""

TINY: Final = 1e-300

SAMPLES: Final = 8192
SEED: Final = 1
"""Of a median's window once it is near or open: until then it is as good as lognormal."""

NEAR_WINDOWS: Final = 2.0
"""So many windows before its first minute a median is sampled."""

SAMPLED_STEP: Final = 0.1
"""Step of the log spot in standard deviations, where samples make the difference."""

SPOT_STEP: Final = 0.02
"""Step of the log spot in standard deviations of what is left, where a barrier leaves no derivative in closed form."""

NARROWER, SKEWER = 1.6, 4.5
"""How a barrier that was not touched bends the law of a window's mean, given where the path ends: its deviation shrinks
by this power of the mean shrinkage x of its minutes', its skewness is this times (1 - x) x**2. Read off 400,000 sampled
paths each with the barrier 0.3 to 2 deviations away; docs/pricing.md has the errors that remain."""

NOTHING_LEFT: Final = 1e-9
"""Total volatility of the rest below which it is taken for certain."""

FIXED, COUNT, PASSED, AHEAD, FIRST = range(5)
"""Places of a window's state: dollars that known minutes add to its price, the minutes that count in all, those of them
that have passed and said nothing, those to come, and the years to the first of these; one a minute follows."""
STATE: Final = 5


def _median_variances(most: int) -> FloatArray:
    """Return, by N, the variance of the median of N points of a walk, the first of them 0, in variances of its step.

    An order statistic of a walk is, in law, the maximum of one part of it less that of another (Wendel 1960); the
    moments of a maximum are Spitzer's (1956). Exact for odd N; for even N, the middle of two, a little too much.
    """
    a = np.concatenate(([0.0], 1.0 / np.sqrt(2.0 * np.pi * np.arange(1, most + 1))))
    mean = np.cumsum(a)
    square = np.cumsum(np.convolve(a, a)[: most + 1] + 0.5 * (np.arange(most + 1) > 0))
    variance = square - mean**2
    lower, upper = (np.arange(most) // 2), (np.arange(1, most + 1) // 2)
    middle: FloatArray = variance[lower] + variance[upper] - 0.25 * (mean[upper] - mean[lower]) ** 2
    return np.concatenate(([0.0], middle))


MEDIAN_VARIANCES: Final = _median_variances(MOST_MINUTES)


@kernel
def read_window(
    state: FloatArray, prices: FloatArray, code: int, expiry: int, now: int, said: IntArray, base: int
) -> None:  # fmt: skip
    """Fill a window's state from what its minutes said: ``said[i]`` is that of the minute ``base + 60 i``.

    prices: gets the known ones, dollars. A minute without a word counts as a price to come. As ``fixing.fix`` does, a
    window that lacks minutes takes those after its end until two thirds are there.
    """
    minutes = abs(code)
    least = -(-2 * minutes // 3)
    at = expiry - (minutes - 1) * SECONDS_PER_MINUTE
    state[:] = 0.0
    total = 0.0
    while (at <= expiry or state[COUNT] < least) and at <= expiry + MINUTES_AFTER * SECONDS_PER_MINUTE:
        i = (at - base) // SECONDS_PER_MINUTE
        word = said[i] if 0 <= i < said.shape[0] and at >= base else UNSAID
        if word > 0:
            prices[int(state[COUNT] - state[PASSED] - state[AHEAD])] = word / CENTS_PER_USD
            total += word / CENTS_PER_USD
            state[COUNT] += 1.0
        elif word == UNSAID:
            state[COUNT] += 1.0
            if at <= now:
                state[PASSED] += 1.0
            else:
                if state[AHEAD] == 0.0:
                    state[FIRST] = (at - now) / SECONDS_PER_YEAR
                state[AHEAD] += 1.0
        at += SECONDS_PER_MINUTE
    if state[COUNT] > 0.0:
        state[FIXED] = total / state[COUNT]


@kernel
def moments(out: FloatArray, state: FloatArray, code: int, sigma: float, r: float) -> None:
    """Fill ``out`` with log mean and total volatility of what the minutes to come add, for a spot of one dollar.

    With bitcoin as the numeraire. The mean of a median is that of the middle of its window, as its law is symmetrical.
    """
    drift = r + sigma * sigma
    ahead, passed = int(state[AHEAD]), state[PASSED]
    if ahead == 0:
        out[0], out[1] = math.log(passed / state[COUNT]), 0.0
        return
    if code < 0:
        middle = state[FIRST] + 0.5 * (ahead - 1) * MINUTE_YEARS
        variance = sigma * sigma * (state[FIRST] + MEDIAN_VARIANCES[ahead] * MINUTE_YEARS)
        out[0] = (drift - 0.5 * sigma * sigma) * middle + 0.5 * variance
        out[1] = math.sqrt(variance)
        return
    growth = math.exp(drift * state[FIRST])
    by_minute = math.exp(drift * MINUTE_YEARS)
    spread = math.expm1(sigma * sigma * state[FIRST])
    wider = math.expm1(sigma * sigma * MINUTE_YEARS)
    total = passed
    earlier = 0.0
    square = 0.0
    for _ in range(ahead):
        total += growth
        square += growth * (spread * growth + 2.0 * earlier)
        earlier += spread * growth
        growth *= by_minute
        spread += wider * (1.0 + spread)
    out[0] = math.log(total / state[COUNT])
    out[1] = math.sqrt(math.log1p(square / (total * total)))


@kernel
def _lognormal(h: FloatArray, kind: int, k: float, mu: float, v: float) -> None:
    """Fill ``h`` as ``shares`` does, for a price that is all to come, and uncertain."""
    sign = 1.0 if kind in (CALL, BINARY_CALL) else -1.0
    low = mu - v * v - math.log(k)
    d2 = low / v - 0.5 * v
    cash = math.exp(-low)
    inside = cash * norm_cdf(sign * d2)
    bell = cash * norm_pdf(d2)
    if kind >= BINARY_CALL:
        h[0] = inside
        h[1] = -inside + sign * bell / v
        h[2] = inside - sign * bell * (2.0 / v + d2 / (v * v))
    else:
        h[0] = max(sign * (norm_cdf(sign * (d2 + v)) - inside), 0.0)
        h[1] = sign * inside
        h[2] = -sign * inside + bell / v


@kernel
def shares(h: FloatArray, kind: int, k: float, fixed: float, mu: float, v: float) -> None:
    """Fill ``h`` with E[payoff(A)/A] and its first two derivatives by ``mu``: A = fixed + exp(mu + v z - v**2/2)."""
    sign = 1.0 if kind in (CALL, BINARY_CALL) else -1.0
    h[:] = 0.0
    rest = k - fixed
    if v < NOTHING_LEFT or rest <= 0.0:
        # certain, or above the strike whatever comes: then only the mean of 1/A counts
        if sign < 0.0 and rest <= 0.0:
            return
        if v < NOTHING_LEFT:
            price = fixed + math.exp(mu)
            if intrinsic(kind, price, k) > 0.0:
                _add_point(h, kind, sign, 1.0, price, price - fixed, k)
            return
    if fixed == 0.0:
        _lognormal(h, kind, k, mu, v)
        return
    edge = -WIDTHS
    if rest > 0.0:
        edge = (math.log(rest) - mu) / v + 0.5 * v
    start = max(edge, -WIDTHS) if sign > 0.0 else -WIDTHS
    end = WIDTHS if sign > 0.0 else min(edge, WIDTHS)
    if start >= end:
        return
    half = 0.5 * (end - start)
    for i in range(NODES.shape[0]):
        z = start + half * (1.0 + NODES[i])
        moving = math.exp(mu + v * z - 0.5 * v * v)
        _add_point(h, kind, sign, half * WEIGHTS[i] * norm_pdf(z), fixed + moving, moving, k)
    if rest > 0.0 and abs(edge) < WIDTHS:
        # the edge moves with mu
        bell = norm_pdf(edge)
        if kind >= BINARY_CALL:
            h[1] += sign * bell / v
            h[2] += sign * bell * (edge / (v * v) - rest / (k * v))
        else:
            h[2] += bell * rest / (k * v)


@kernel
def _add_point(h: FloatArray, kind: int, sign: float, weight: float, price: float, moving: float, k: float) -> None:
    """Add payoff/price at one price in the money, and its derivatives by the logarithm of the moving part."""
    share = k / price
    slope = share * moving / price
    bend = slope - 2.0 * slope * moving / price
    if kind >= BINARY_CALL:
        h[0] += weight * share
        h[1] -= weight * slope
        h[2] -= weight * bend
    else:
        h[0] += weight * sign * (1.0 - share)
        h[1] += weight * sign * slope
        h[2] += weight * sign * bend


@kernel
def sampled(
    acc: FloatArray, kind: int, s: float, k: float, samples: FloatArray, alive: FloatArray, steps: FloatArray
) -> None:  # fmt: skip
    """Fill ``acc`` with an option that settles on one of ``samples``, if it is still alive; see ``sample_medians``."""
    acc[:] = 0.0
    for i in range(samples.shape[0] - 1, -1, -1):
        total = 0.0
        for j in range(samples.shape[1]):
            price = samples[i, j]
            total += alive[i, j] * intrinsic(kind, price, k) / price
        sign = 1.0 if i % 2 == 1 else -1.0
        by = -1 if i == 0 else (i - 1) // 2
        value = total / samples.shape[1] * (s * math.exp(sign * steps[0]) if by == 0 else s)
        if i == 0:
            acc[VALUE] = value
            acc[DXX] = (acc[DXX] - 2.0 * value) / (steps[0] * steps[0]) if steps[0] > 0.0 else 0.0
        elif steps[by] > 0.0:
            place = DX if by == 0 else DSIGMA if by == 1 else DTAU if by == 2 else DRATE  # noqa: PLR2004 - of four
            acc[place] += sign * value / (2.0 * steps[by])
            if by == 0:
                acc[DXX] += value


@kernel
def averaged(
    acc: FloatArray, kind: int, s: float, k: float, state: FloatArray, code: int, sigma: float, r: float
) -> None:  # fmt: skip
    """Fill ``acc`` with an option without a barrier that settles on a window, and its derivatives."""
    acc[:] = 0.0
    h = np.zeros(3)
    if state[PASSED] + state[AHEAD] == 0.0:
        # every minute is known: so many bitcoin
        shares(h, kind, k, state[FIXED], -np.inf, 0.0)
        acc[VALUE] = acc[DX] = acc[DXX] = s * h[0]
        return
    here = np.zeros(2)
    side = np.zeros(2)
    slopes = np.zeros((3, 2))
    moved = state.copy()
    # the last of the seven stays: the market itself
    for i in range(6, -1, -1):
        sign = 1.0 if i % 2 == 1 else -1.0
        by = (i - 1) // 2
        up_sigma = STEP * sigma if by == 0 else 0.0
        up_first = STEP * state[FIRST] if by == 1 else 0.0
        up_rate = STEP if by == 2 else 0.0  # noqa: PLR2004 - the third of three
        if i == 0:
            up_sigma = up_first = up_rate = 0.0
        moved[FIRST] = state[FIRST] + sign * up_first
        moments(side, moved, code, sigma + sign * up_sigma, r + sign * up_rate)
        if i == 0:
            here[:] = side
            continue
        step = up_sigma + up_first + up_rate
        if step > 0.0:
            slopes[by] += sign * side / (2.0 * step)
    v = here[1]
    shares(h, kind, k, state[FIXED], here[0] + math.log(s), v)
    acc[VALUE] = s * h[0]
    acc[DX] = s * (h[0] + h[1])
    acc[DXX] = s * (h[0] + 2.0 * h[1] + h[2])
    # the mean moves with mu; the spread diffuses: d/dv = v (d2/dmu2 - d/dmu)
    by_v = v * (h[2] - h[1])
    acc[DSIGMA] = s * (h[1] * slopes[0, 0] + by_v * slopes[0, 1])
    acc[DTAU] = s * (h[1] * slopes[1, 0] + by_v * slopes[1, 1])
    acc[DRATE] = s * (h[1] * slopes[2, 0] + by_v * slopes[2, 1])


@kernel
def _mean_size(m: float, s: float) -> float:
    """Return E|m + s z|, z standard normal."""
    if s <= 0.0:
        return abs(m)
    z = abs(m) / s
    return abs(m) * (1.0 - 2.0 * norm_cdf(-z)) + 2.0 * s * norm_pdf(z)


@kernel
def _bridge(out: FloatArray, state: FloatArray, tau: float, sd: float) -> None:
    """Fill ``out`` with when the minutes to come are, as shares of the life, a bridge's deviation there, and weights.

    Many minutes are taken as an integral over the window, by the nodes of one of its pieces.
    """
    ahead = int(state[AHEAD])
    last = state[FIRST] + (ahead - 1) * MINUTE_YEARS
    for i in range(out.shape[1]):
        if ahead == out.shape[1]:
            at, weight = state[FIRST] + i * MINUTE_YEARS, 1.0
        else:
            half = 0.5 * (last - state[FIRST] + MINUTE_YEARS)
            at, weight = state[FIRST] - 0.5 * MINUTE_YEARS + half * (1.0 + FEW_NODES[i]), 0.5 * ahead * FEW_WEIGHTS[i]
        share = min(max(at / tau, 0.0), 1.0)
        out[0, i], out[1, i], out[2, i] = share, sd * math.sqrt(share * (1.0 - share)), weight


@kernel
def _rest(
    out: FloatArray, x: float, wall: float, s: float, state: FloatArray, sd: float, bridge: FloatArray
) -> None:  # fmt: skip
    """Fill ``out``: dollars that the minutes to come add, and the share of their spread that the barrier leaves.

    Given the log spot's move ``x`` to expiry, and that no barrier was touched on the way: the reflection principle has
    the first two moments of such a path at each minute.
    """
    start, end = abs(wall), abs(wall - x)
    side = 1.0 if wall > 0.0 else -1.0
    mirrored = math.exp(-2.0 * start * end / (sd * sd))
    inside = max(-math.expm1(-2.0 * start * end / (sd * sd)), TINY)
    total = state[PASSED]
    free = 0.0
    held = 0.0
    for i in range(bridge.shape[1]):
        share, deviation, weight = bridge[0, i], bridge[1, i], bridge[2, i]
        direct = start + (end - start) * share
        image = start - (end + start) * share
        away = (_mean_size(direct, deviation) - mirrored * _mean_size(image, deviation)) / inside
        square = (direct * direct - mirrored * image * image) / inside + deviation * deviation
        variance = max(square - away * away, 0.0)
        free += weight * deviation
        held += weight * math.sqrt(variance)
        total += weight * math.exp(wall - side * away + 0.5 * variance)
    out[0] = s * total / state[COUNT]
    out[1] = min(held / free, 1.0) if free > 0.0 else 1.0


@kernel
def _skewed(kind: int, k: float, price: float, width: float, skew: float) -> float:
    """Return what a skewness adds to E[payoff(A)/A], the leading term of Edgeworth's series."""
    if width < NOTHING_LEFT:
        return 0.0
    d = math.log(price / k) / width - 0.5 * width
    bell = skew * k / price * norm_pdf(d) / 6.0
    if kind >= BINARY_CALL:
        return bell * (d * d - 1.0) * (1.0 if kind == BINARY_CALL else -1.0)
    return -bell * d * width


@kernel
def _alive_share(
    kind: int, s: float, k: float, barrier: float, up: bool, tau: float, state: FloatArray, sigma: float, r: float
) -> float:  # fmt: skip
    """Return E[payoff(A)/A; never knocked out], A the mean of a window, by an integral over the price at expiry.

    Given that price and a path inside the barrier, the window's price is taken as lognormal, a little skewed.
    """
    sd = sigma * math.sqrt(tau)
    centre = (r + 0.5 * sigma * sigma) * tau
    wall = math.log(barrier / s)
    ahead = int(state[AHEAD])
    # variance of the rest's mean around a bridge
    spread = 0.0
    earlier = 0.0
    for i in range(ahead):
        at = min((state[FIRST] + i * MINUTE_YEARS) / tau, 1.0)
        spread += (1.0 - at) * (at + 2.0 * earlier)
        earlier += at
    v = sd * math.sqrt(spread) / max(ahead + state[PASSED], 1.0)
    bridge = np.empty((3, min(ahead, FEW_NODES.shape[0])))
    _bridge(bridge, state, tau, sd)
    low, high = centre - WIDTHS * sd, centre + WIDTHS * sd
    low, high = (low, min(high, wall)) if up else (max(low, wall), high)
    if low >= high:
        return 0.0
    rest = np.zeros(2)
    h = np.zeros(3)
    total = 0.0
    # where the window's price is the strike, the payoff has its kink: first find it, then a piece to each side
    left, right = low, high
    kink = low
    for i in range(HALVINGS + 2 * NODES.shape[0]):
        if i < HALVINGS:
            x = kink = 0.5 * (left + right)
        else:
            first = i < HALVINGS + NODES.shape[0]
            start, end = (low, kink) if first else (kink, high)
            half = 0.5 * (end - start)
            node = (i - HALVINGS) % NODES.shape[0]
            x = start + half * (1.0 + NODES[node])
        _rest(rest, x, wall, s, state, sd, bridge)
        price = state[FIXED] + rest[0]
        if i < HALVINGS:
            left, right = (kink, right) if price < k else (left, kink)
            continue
        density = half * WEIGHTS[node] * norm_pdf((x - centre) / sd) / sd
        inside = -math.expm1(-2.0 * wall * (wall - x) / (sd * sd))
        width = v * rest[1] ** NARROWER * rest[0] / price
        _lognormal(h, kind, k, math.log(price), max(width, NOTHING_LEFT))
        skew = SKEWER * (1.0 - rest[1]) * rest[1] ** 2
        total += density * inside * (h[0] + _skewed(kind, k, price, width, -skew if up else skew))
    return max(total, 0.0)


@kernel
def _knock_out_near(
    acc: FloatArray, kind: int, s: float, k: float, barrier: float, up: bool,
    tau: float, sigma: float, r: float, state: FloatArray,
) -> None:  # fmt: skip
    """Fill ``acc`` with a knock-out whose window is near or open; derivatives by differences."""
    acc[:] = 0.0
    sd = sigma * math.sqrt(tau)
    step = min(SPOT_STEP * sd, 0.25 * abs(math.log(barrier / s)))
    moved = state.copy()
    for i in range(8, -1, -1):
        sign = 1.0 if i % 2 == 1 else -1.0
        by = -1 if i == 0 else (i - 1) // 2
        x = sign * step if by == 0 else 0.0
        by_sigma = sign * STEP if by == 1 else 0.0
        by_first = sign * STEP * state[FIRST] if by == 2 else 0.0  # noqa: PLR2004 - the third of four
        by_rate = sign * STEP if by == 3 else 0.0  # noqa: PLR2004 - the last of four
        moved[FIRST] = state[FIRST] + by_first
        at = s * math.exp(x)
        value = at * _alive_share(
            kind, at, k, barrier, up, tau + by_first, moved, sigma * (1.0 + by_sigma), r + by_rate
        )  # fmt: skip
        if i == 0:
            acc[VALUE] = value
            acc[DXX] = (acc[DXX] - 2.0 * value) / (step * step)
        elif by == 0:
            acc[DX] += sign * value / (2.0 * step)
            acc[DXX] += value
        elif by == 1:
            acc[DSIGMA] += sign * value / (2.0 * STEP * sigma)
        elif by == 2:  # noqa: PLR2004 - as above
            acc[DTAU] += value / (2.0 * by_first) if by_first != 0.0 else 0.0
        else:
            acc[DRATE] += sign * value / (2.0 * STEP)


@kernel
def far(state: FloatArray, code: int) -> bool:
    """Return whether a knock-out's window is so far ahead that the price of one minute is corrected for it."""
    return bool(state[FIRST] > FAR_WINDOWS * abs(code) * MINUTE_YEARS)


@kernel
def windowed(
    acc: FloatArray, kind: int, s: float, k: float, barrier: float, up: bool, tau: float, sigma: float, r: float,
    state: FloatArray, code: int,
) -> None:  # fmt: skip
    """Fill ``acc`` with a European option (barrier 0: none) that settles on a window, and its derivatives.

    The barrier is watched without a pause up to expiry (tau 0), as for one minute. For a knock-out that is ``far``,
    ``acc`` holds the one that settles on its last minute.
    """
    sd = sigma * math.sqrt(max(tau, 0.0))
    watched = barrier > 0.0 and tau >= 0.0
    if watched and (knocked(s, barrier, up) or (sd < NOTHING_LEFT and knocked(s * math.exp(r * tau), barrier, up))):
        acc[:] = 0.0
        return
    watched = watched and sd >= NOTHING_LEFT
    if not watched:
        acc[:] = 0.0
    elif not far(state, code):
        _knock_out_near(acc, kind, s, k, barrier, up, tau, sigma, r, state)
        if code > 0:
            return
    # a median, and a far mean, change the price at the payoff's kink: as much as without a barrier, times the
    # probability that a path to the strike has not touched it
    part = np.zeros(SLOTS)
    instead = state.copy()
    for side in range(2 if watched else 1):
        if side == 1 and far(state, code):
            instead[COUNT] = instead[AHEAD] = 1.0
            instead[FIRST] = tau
        averaged(part, kind, s, k, instead, code if side == 0 else abs(code), sigma, r)
        _add_reaching(acc, part, 1.0 - 2.0 * side, math.log(barrier / s) if watched else np.inf,
                      math.log(barrier / k) if watched else np.inf, sd, tau, sigma)  # fmt: skip
    acc[VALUE] = max(acc[VALUE], 0.0)


@kernel
def _add_reaching(
    acc: FloatArray, part: FloatArray, sign: float, wall: float, beyond: float, sd: float, tau: float, sigma: float
) -> None:  # fmt: skip
    """Add ``part`` times the probability that a path from the spot to the strike has not touched a barrier.

    wall, beyond: log distances of the barrier from the spot and from the strike; infinite for none.
    """
    if wall * beyond <= 0.0:
        return
    q = 0.0
    slope = 0.0
    if not math.isinf(wall):
        slope = 2.0 * beyond / (sd * sd)
        q = math.exp(-slope * wall)
    p = 1.0 - q
    exponent = -slope * wall if q > 0.0 else 0.0
    acc[VALUE] += sign * p * part[VALUE]
    acc[DX] += sign * (p * part[DX] - q * slope * part[VALUE])
    acc[DXX] += sign * (p * part[DXX] - 2.0 * q * slope * part[DX] - q * slope * slope * part[VALUE])
    acc[DRATE] += sign * p * part[DRATE]
    acc[DSIGMA] += sign * p * part[DSIGMA]
    acc[DTAU] += sign * p * part[DTAU]
    if q > 0.0:
        acc[DSIGMA] += sign * 2.0 * q * exponent / sigma * part[VALUE]
        acc[DTAU] += sign * q * exponent / tau * part[VALUE]


@lru_cache(maxsize=64)
def _normal_points(dimensions: int) -> FloatArray:
    """Return SAMPLES points of a scrambled Sobol sequence as standard normals, one a row; the same ones always."""
    from scipy.special import ndtri  # noqa: PLC0415 - half a second that only a median's window should pay
    from scipy.stats.qmc import Sobol  # noqa: PLC0415 - as above

    points = Sobol(d=dimensions, seed=SEED).random_base2(SAMPLES.bit_length() - 1)
    normals: FloatArray = ndtri(np.clip(points, 1e-12, 1.0 - 1e-12))
    return normals


def sample_medians(
    prices: FloatArray, state: FloatArray, *,
    spot: float, sigma: float, rate: float, tau: float, barrier: float = 0.0, up: bool = False,
) -> tuple[FloatArray, FloatArray, FloatArray]:  # fmt: skip
    """Return medians of a window, with bitcoin as the numeraire, how alive each is, and the steps between their rows.

    prices: the known ones. barrier: 0 for none; between its minutes a path is a Brownian bridge. The rows: this market,
    then spot, volatility, time and rate moved up and down by their step, all from the same points, so that differences
    are smooth. The main directions of a path take the first dimensions.
    """
    ahead, first = int(state[AHEAD]), float(state[FIRST])
    times = first + MINUTE_YEARS * np.arange(ahead)
    widest = SAMPLED_STEP * sigma * math.sqrt(float(times[-1])) if ahead else STEP
    if barrier > 0.0:
        widest = min(widest, 0.25 * abs(math.log(barrier / spot)))
    steps = np.array([max(widest, 1e-7), STEP * sigma, STEP * first, STEP])
    fixed = np.concatenate((prices, np.full(int(state[PASSED]), np.nan)))
    normals = _normal_points(ahead) if ahead else np.zeros((1, 0))
    rows = np.empty((9, normals.shape[0]))
    alive = np.ones((9, normals.shape[0]))
    for i in range(9):
        sign, by = (1.0 if i % 2 else -1.0), (i - 1) // 2
        moved = np.where(np.arange(4) == by, sign * steps, 0.0) if i else np.zeros(4)
        at, s = times + moved[2], spot * math.exp(moved[0])
        level = sigma + moved[1]
        drift = rate + moved[3] + 0.5 * level * level
        shape, directions = np.linalg.eigh(np.minimum.outer(at, at))
        # the sign of a direction is free, and must not flip between two rows
        root = directions * np.sqrt(np.maximum(shape, 0.0)) * np.where(directions.sum(axis=0) < 0.0, -1.0, 1.0)
        logs = drift * at + level * normals @ root[:, ::-1].T
        said = np.where(np.isnan(fixed), s, fixed)
        every = np.concatenate((np.broadcast_to(said, (logs.shape[0], said.size)), s * np.exp(logs)), axis=1)
        rows[i] = np.median(every, axis=1)
        if barrier > 0.0 and tau >= 0.0:
            alive[i] = _stayed_inside(logs, at, tau + moved[2], level, math.log(barrier / s), up=up)
    return rows, alive, steps


def _stayed_inside(logs: FloatArray, at: FloatArray, tau: float, sigma: float, wall: float, *, up: bool) -> FloatArray:
    """Return the probability that each path has not touched ``wall`` up to ``tau``, given its points."""
    side = 1.0 if up else -1.0
    watched = at <= tau + 0.5 * MINUTE_YEARS
    away = side * (wall - np.concatenate((np.zeros((logs.shape[0], 1)), logs[:, watched]), axis=1))
    variance = sigma * sigma * np.diff(np.concatenate(([0.0], at[watched])))
    inside = np.maximum(away, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        missed = -np.expm1(-2.0 * inside[:, :-1] * inside[:, 1:] / variance)
    clear = (away > 0.0).all(axis=1)
    return np.where(clear, np.where(variance > 0.0, missed, 1.0).prod(axis=1), 0.0)
