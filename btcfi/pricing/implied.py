"""Implied volatility to the last digits that a premium determines.

The premium is first reduced to the normalised out-of-the-money call of Jaeckel (2015): log-moneyness x <= 0, total
volatility s, value b(x, s) between 0 and exp(x/2). b is computed without cancellation in every corner, and solved by a
third-order Householder iteration on an objective that is nearly linear where the premium lies (below the inflection
point 1/log b, around it b, near the upper bound log(bmax - b)); two or three steps reach the end of the double.
"""
# ruff: noqa: PLR0917 - a compiled kernel takes positional numbers only

from __future__ import annotations

import math
from typing import Final

import numpy as np

from btcfi.errors import InvalidInputError
from btcfi.pricing.black_scholes import check_kind
from btcfi.pricing.compiled import kernel
from btcfi.pricing.domain import (
    BINARY_CALL,
    CALL,
    PUT,
    ArrayLike,
    FloatArray,
    NoConvergenceError,
    PricingDomainError,
    admit,
    shaped,
)
from btcfi.pricing.kernels import INV_SQRT_2PI, norm_cdf

MAX_ITERATIONS: Final = 24
"""The worst of ten million drawn cases took far fewer; a case that needs more is reported, not guessed."""

SMALL_SPREAD: Final = 0.1
"""Below this ratio of the half-width to 1 + |h| the difference of two Mills ratios is taken as a Taylor series."""

TAIL: Final = -3.0
"""Below this normal quantile the Mills ratio comes from its continued fraction, above it from erfc."""

EPSILON: Final = 2.0**-52


class PremiumBoundsError(InvalidInputError):
    """A premium at or outside its no-arbitrage bounds: no volatility has it."""

    def __init__(self, *, index: int, premium: float, low: float, high: float) -> None:
        super().__init__(
            "premium",
            f"{premium!r} (entry {index}) has no volatility",
            f"a price strictly between {low!r} and {high!r}",
        )
        self.index, self.premium, self.low, self.high = index, premium, low, high


class BelowIntrinsicError(PremiumBoundsError):
    """A premium below what the forward alone is worth: selling the asset against it is free money."""


class AboveBoundError(PremiumBoundsError):
    """A premium of the whole asset (call) or the whole discounted strike (put), or more: no volatility is enough."""


class NoVegaError(PremiumBoundsError):
    """A premium that is its intrinsic value to the last digit: every small volatility has it, so none can be named."""


@kernel
def _mills_tail(z: float) -> float:
    """Return f in 1/(z + f) = N(-z)/n(z) for z >= 3: the continued fraction's tail, by forward recurrence."""
    # numbers of terms that leave 1e-15 (checked against 50 digits); few enough that no convergent overflows
    if z < 4.0:  # noqa: PLR2004 - see above
        terms = 64
    elif z < 6.0:  # noqa: PLR2004 - see above
        terms = 40
    else:
        terms = 24 if z < 12.0 else 12  # noqa: PLR2004 - see above
    above, below = 1.0, z  # convergents of 1/(z + 2/(z + 3/(z + ...)))
    last_above, last_below = 0.0, 1.0
    for k in range(2, terms):
        above, last_above = z * above + k * last_above, above
        below, last_below = z * below + k * last_below, below
    return above / below


@kernel
def _scaled_and_slope(z: float) -> tuple[float, float]:
    """Return Y(z) = N(z)/n(z) * INV_SQRT_2PI and its derivative z Y + INV_SQRT_2PI, the latter without cancellation."""
    if z < TAIL:
        f = _mills_tail(-z)
        return INV_SQRT_2PI / (f - z), INV_SQRT_2PI * f / (f - z)
    y = math.exp(0.5 * z * z) * norm_cdf(z)
    return y, z * y + INV_SQRT_2PI


@kernel
def _normalised(x: float, s: float) -> float:
    """Return b(x, s) for x <= 0, s > 0: the out-of-the-money call over sqrt(forward * strike), to full precision."""
    h = x / s
    t = 0.5 * s
    bell = math.exp(-0.5 * (h * h + t * t))
    if t < SMALL_SPREAD * (1.0 - h):
        # Y(h+t) - Y(h-t) by its odd Taylor terms; Y'' = Y + h Y', and so on upward
        low, high = _scaled_and_slope(h)
        total = high
        power = 1.0
        for n in range(1, 14):
            low, high = high, h * high + n * low
            power *= t / (n + 1.0)
            if n % 2 == 0:
                total += power * high
        return 2.0 * t * bell * total
    if h + t > -TAIL:
        # near the upper bound Y would overflow: the plain formula has no cancellation here
        return math.exp(0.5 * x) * norm_cdf(h + t) - math.exp(-0.5 * x) * norm_cdf(h - t)
    return bell * (_scaled_and_slope(h + t)[0] - _scaled_and_slope(h - t)[0])


@kernel
def _complement(x: float, s: float) -> float:
    """Return exp(x/2) - b(x, s), a sum of two positive terms."""
    h = x / s
    t = 0.5 * s
    return math.exp(0.5 * x) * norm_cdf(-h - t) + math.exp(-0.5 * x) * norm_cdf(h - t)


@kernel
def _rough_quantile(p: float) -> float:
    """Return the normal quantile of p <= 1/2 to about 5e-4 (Hastings 1955): a first guess, never a result."""
    t = math.sqrt(-2.0 * math.log(p))
    above = 2.515517 + t * (0.802853 + t * 0.010328)
    below = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    return above / below - t


@kernel
def _lower_guess(x: float, beta: float, centre: float, at_centre: float) -> float:
    """Return a first s for beta below the inflection point: s**2 as a rational cubic of -1/log(beta).

    At 0 its value is 0 and its slope x**2/2 (from log b -> -x**2/(2 s**2)); at the centre both are known.
    """
    y = -1.0 / math.log(beta)
    y_end = -1.0 / math.log(at_centre)
    slope = INV_SQRT_2PI * math.exp(x)  # b'(centre): h**2 + t**2 = |x| there
    w_end = centre * centre
    # dy/ds = b'/(b log(b)**2), so dw/dy = 2 s * b log(b)**2 / b'
    m_end = 2.0 * centre * at_centre / (slope * y_end * y_end)
    m_start = 0.5 * x * x
    u = y / y_end
    v = 1.0 - u
    chord = w_end / y_end
    if chord <= 0.0 or m_end <= 0.0:
        return centre
    shape = (m_start + m_end) / chord  # Delbourgo & Gregory: monotone for every pair of positive slopes
    above = w_end * u * u * u + (shape * w_end - y_end * m_end) * u * u * v + y_end * m_start * u * v * v
    below = 1.0 + (shape - 3.0) * u * v
    return math.sqrt(max(above / below, w_end * 1e-12))


@kernel
def _total_volatility(x: float, beta: float) -> float:
    """Return s with b(x, s) = beta for x <= 0 < beta < exp(x/2); negative when MAX_ITERATIONS do not suffice."""
    top = math.exp(0.5 * x)
    centre = math.sqrt(-2.0 * x)
    at_centre = _normalised(x, centre) if centre > 0.0 else 0.0
    lower = beta < at_centre
    upper = beta > 0.5 * top
    if lower:
        s = _lower_guess(x, beta, centre, at_centre)
    else:
        share = (top - beta) / (top - at_centre)
        s = max(-2.0 * _rough_quantile(share * norm_cdf(-0.5 * centre)), centre)
        if s < 1e-3:  # noqa: PLR2004 - at the money and this small, b = s / sqrt(2 pi) and the guess has no digits
            s = max(beta / INV_SQRT_2PI, centre)
    log_beta = math.log(beta)
    last = math.inf
    for _ in range(MAX_ITERATIONS):
        h = x / s
        slope = INV_SQRT_2PI * math.exp(-0.5 * (h * h + 0.25 * s * s))
        second = h * h / s - 0.25 * s
        third = second * second - 3.0 * h * h / (s * s) - 0.25
        if lower:
            b = _normalised(x, s)
            log_b = math.log(b) if b > 0.0 else -745.0
            ratio = slope / b if b > 0.0 else h * h / s
            newton = (log_beta - log_b) * (log_b / log_beta) / ratio
            gamma = second - ratio * (1.0 + 2.0 / log_b)
            delta = (
                third
                + 2.0 * ratio * ratio * (1.0 + 3.0 / log_b * (1.0 + 1.0 / log_b))
                - 3.0 * second * ratio * (1.0 + 2.0 / log_b)
            )
        elif upper:
            rest = _complement(x, s)
            ratio = slope / rest
            newton = math.log(rest / (top - beta)) / ratio
            gamma = second + ratio
            delta = third + 3.0 * ratio * second + 2.0 * ratio * ratio
        else:
            newton = (beta - _normalised(x, s)) / slope
            gamma = second
            delta = third
        step = newton
        bend = 1.0 + newton * (gamma + newton * delta / 6.0)
        if bend > 0.0 and 1.0 + 0.5 * gamma * newton > 0.0:
            step = newton * (1.0 + 0.5 * gamma * newton) / bend
        step = min(max(step, -0.5 * s), s)
        s += step
        size = abs(step)
        # done when the step is rounding, or when steps stop shrinking just above it
        if size <= 2.0 * EPSILON * s or (size <= 1e-12 * s and size >= 0.5 * last):
            return s
        last = size
    return -s


@kernel
def _implied_loop(
    out: FloatArray, premium: FloatArray, kind: FloatArray, s: FloatArray, k: FloatArray, tau: FloatArray,
    r: FloatArray, q: FloatArray,
) -> int:  # fmt: skip
    """Fill ``out``; return -1, or the first entry that failed (its out: NaN outside the bounds, -s unconverged)."""
    for i in range(out.shape[0]):
        forward = s[i] * math.exp(-q[i] * tau[i])
        cash = k[i] * math.exp(-r[i] * tau[i])
        sign = 1.0 if kind[i] == CALL else -1.0
        floor = max(sign * (forward - cash), 0.0)
        scale = math.sqrt(forward * cash)
        beta = (premium[i] - floor) / scale
        x = -abs(math.log(forward / cash))
        if not EPSILON * floor / scale < beta < math.exp(0.5 * x):
            out[i] = np.nan
            return i
        total = _total_volatility(x, beta)
        out[i] = total / math.sqrt(tau[i])
        if total < 0.0:
            return i
    return -1


def implied_volatility(
    kind: ArrayLike,
    premium: ArrayLike,
    *,
    spot: ArrayLike,
    strike: ArrayLike,
    tau_years: ArrayLike,
    rate: ArrayLike = 0.0,
    carry_yield: ArrayLike = 0.0,
) -> FloatArray:
    """Return the volatility per square-root year at which a European call or put costs ``premium``.

    kind: 0 call or 1 put. premium: USD per BTC, strictly between the discounted intrinsic value and the asset (call) or
    the discounted strike (put). tau_years > 0; other arguments as for ``black_scholes.premium``. The result is as exact
    as the premium allows: within a few units in the last place times the condition number premium/(volatility*vega).
    Raises, for the first such entry, BelowIntrinsicError, AboveBoundError or NoVegaError (all PremiumBoundsError, which
    name the bounds), PricingDomainError, NoConvergenceError (not seen in tests); UnequalLengthsError. Never a NaN.
    Source: Jaeckel, "Let's be rational" (2015).
    """
    shape, fields = admit(
        premium=premium,
        kind=check_kind(kind),
        spot=spot,
        strike=strike,
        positive_tau_years=tau_years,
        rate=rate,
        carry_yield=carry_yield,
    )
    if fields[1].size and fields[1].max() >= BINARY_CALL:
        # a binary's premium is not monotone in volatility: two volatilities can have it
        raise PricingDomainError("kind", int(fields[1].max()), "0 call or 1 put: a binary has no unique volatility")
    out = np.empty(fields[0].size)
    failed = _implied_loop(out, *fields)
    if failed >= 0:
        price, kind_, s, k, tau, r, q = (float(column[failed]) for column in fields)
        if not math.isnan(out[failed]):
            raise NoConvergenceError("premium", price, MAX_ITERATIONS)
        forward, cash = s * math.exp(-q * tau), k * math.exp(-r * tau)
        sign = 1.0 if kind_ != PUT else -1.0
        low, high = max(sign * (forward - cash), 0.0), forward if kind_ != PUT else cash
        # a premium within rounding of its floor is at it
        at_floor = abs(price - low) <= 2.0 * EPSILON * low
        refused = NoVegaError if at_floor else BelowIntrinsicError if price < low else AboveBoundError
        raise refused(index=failed, premium=price, low=low, high=high)
    return shaped(out, shape)
