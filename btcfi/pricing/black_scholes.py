"""Black-Scholes-Merton premiums of European calls, puts and cash-or-nothing binaries, over whole arrays at once.

Prices are floats in USD per BTC and live only in this package; ``btcfi.pricing.premium`` turns them into cents.
"""

# ruff: noqa: PLR0917 - a compiled kernel takes positional numbers only, and inlines what a reader would split
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from btcfi.pricing.compiled import kernel
from btcfi.pricing.domain import (
    BINARY_CALL,
    BINARY_PUT,
    CALL,
    DAYS_PER_YEAR,
    PUT,
    ArrayLike,
    FloatArray,
    PricingDomainError,
    admit,
    shaped,
)
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
    vanilla,
    vanilla_value,
)

POINT = 0.01
"""One percentage point: vega is quoted per point of volatility, rho per point of rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeks:
    """A premium and its sensitivities, each an array of the caller's shape (or a float)."""

    premium: FloatArray
    """USD per BTC."""
    delta: FloatArray
    """USD of premium per USD of spot: BTC of spot that hedges one BTC of option."""
    gamma: FloatArray
    """Delta per USD of spot."""
    vega: FloatArray
    """USD per BTC, per percentage point of volatility."""
    theta: FloatArray
    """USD per BTC, per calendar day that passes."""
    rho: FloatArray
    """USD per BTC, per percentage point of the interest rate."""
    vanna: FloatArray
    """Delta per percentage point of volatility (equally vega per USD of spot)."""
    volga: FloatArray
    """Vega per percentage point of volatility."""
    charm: FloatArray
    """Delta per calendar day that passes."""


@kernel
def quote(out: FloatArray, i: int, acc: FloatArray, s: float) -> None:
    """Write the derivatives in ``acc`` to column ``i`` of ``out``, in the units of ``Greeks``."""
    out[0, i] = acc[VALUE]
    out[1, i] = acc[DX] / s
    out[2, i] = (acc[DXX] - acc[DX]) / (s * s)
    out[3, i] = acc[DSIGMA] * POINT
    out[4, i] = -acc[DTAU] / DAYS_PER_YEAR
    out[5, i] = acc[DRATE] * POINT
    out[6, i] = acc[DXSIGMA] / s * POINT
    out[7, i] = acc[DSIGMASIGMA] * POINT * POINT
    out[8, i] = -acc[DXTAU] / s / DAYS_PER_YEAR


@kernel
def _value_loop(
    out: FloatArray, kind: FloatArray, s: FloatArray, k: FloatArray, tau: FloatArray, sigma: FloatArray,
    r: FloatArray, q: FloatArray,
) -> None:  # fmt: skip
    for i in range(out.shape[0]):
        out[i] = vanilla_value(int(kind[i]), s[i], k[i], tau[i], sigma[i], r[i], q[i])


@kernel
def _greeks_loop(
    out: FloatArray, kind: FloatArray, s: FloatArray, k: FloatArray, tau: FloatArray, sigma: FloatArray,
    r: FloatArray, q: FloatArray,
) -> None:  # fmt: skip
    acc = np.zeros(SLOTS)
    for i in range(out.shape[1]):
        vanilla(acc, int(kind[i]), s[i], k[i], tau[i], sigma[i], r[i], q[i])
        quote(out, i, acc, s[i])


def premium(
    kind: ArrayLike,
    *,
    spot: ArrayLike,
    strike: ArrayLike,
    tau_years: ArrayLike,
    volatility: ArrayLike,
    rate: ArrayLike = 0.0,
    carry_yield: ArrayLike = 0.0,
) -> FloatArray:
    """Return the premium of European options, in USD per BTC.

    kind: 0 call, 1 put, 2 binary call, 3 binary put (a binary pays its strike). spot, strike: USD per BTC, 1e-6 to
    1e12. tau_years: years of 365 days, 0 to 100. volatility: per square-root year (1.0 = 100 %), 0 to 100. rate,
    carry_yield: continuously compounded per year, -1 to 1. All broadcast against each other; at tau 0 or volatility 0
    the result is the discounted payoff of the forward. Raises PricingDomainError, UnequalLengthsError. Source: Black &
    Scholes (1973), Merton (1973); binaries Reiner & Rubinstein (1991).
    """
    shape, fields = admit(
        kind=check_kind(kind),
        spot=spot,
        strike=strike,
        tau_years=tau_years,
        volatility=volatility,
        rate=rate,
        carry_yield=carry_yield,
    )
    out = np.empty(fields[0].size)
    _value_loop(out, *fields)
    return shaped(out, shape)


def greeks(
    kind: ArrayLike,
    *,
    spot: ArrayLike,
    strike: ArrayLike,
    tau_years: ArrayLike,
    volatility: ArrayLike,
    rate: ArrayLike = 0.0,
    carry_yield: ArrayLike = 0.0,
) -> Greeks:
    """Return the premium and all Greeks of European options, in the units of ``Greeks``.

    Arguments, domain and errors as for ``premium``.
    """
    shape, fields = admit(
        kind=check_kind(kind),
        spot=spot,
        strike=strike,
        tau_years=tau_years,
        volatility=volatility,
        rate=rate,
        carry_yield=carry_yield,
    )
    out = np.empty((SLOTS, fields[0].size))
    _greeks_loop(out, *fields)
    return as_greeks(out, shape)


def as_greeks(rows: FloatArray, shape: tuple[int, ...]) -> Greeks:
    """Return the nine rows that ``quote`` wrote, named and in the caller's shape."""
    names = ("premium", "delta", "gamma", "vega", "theta", "rho", "vanna", "volga", "charm")
    return Greeks(**{name: shaped(row, shape) for name, row in zip(names, rows, strict=True)})


def check_kind(kind: ArrayLike) -> ArrayLike:
    """Return ``kind`` if every entry is one of the four published option types. Raises PricingDomainError."""
    array = np.asarray(kind)
    if array.dtype.kind not in "iu" or (array.size and (array.min() < CALL or array.max() > BINARY_PUT)):
        first = array.flat[0] if array.size else kind
        raise PricingDomainError("kind", first, "a whole number: 0 call, 1 put, 2 binary call, 3 binary put")
    return kind


def call(**market: ArrayLike) -> FloatArray:
    """Return the premium of European calls; the keyword arguments of ``premium``."""
    return premium(CALL, **market)


def put(**market: ArrayLike) -> FloatArray:
    """Return the premium of European puts; the keyword arguments of ``premium``."""
    return premium(PUT, **market)


def binary_call(**market: ArrayLike) -> FloatArray:
    """Return the premium of options that pay their strike above it; the keyword arguments of ``premium``."""
    return premium(BINARY_CALL, **market)


def binary_put(**market: ArrayLike) -> FloatArray:
    """Return the premium of options that pay their strike below it; the keyword arguments of ``premium``."""
    return premium(BINARY_PUT, **market)


def in_btc(premium_usd: ArrayLike, *, spot: ArrayLike) -> FloatArray:
    """Return a premium in USD per BTC as BTC per BTC of quantity, at ``spot`` USD per BTC.

    Raises PricingDomainError for a spot outside its range. The exact price of a payout in bitcoin is the same number:
    the dollars at expiry buy payoff/S_T bitcoin, worth payoff dollars then (``btcfi.pricing.inverse``).
    """
    _, (at,) = admit(spot=spot)
    dollars = np.asarray(premium_usd, dtype=np.float64)
    return shaped(np.asarray(dollars / at.reshape(np.shape(spot))), np.broadcast_shapes(dollars.shape, np.shape(spot)))
