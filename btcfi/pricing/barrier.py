"""European barrier options in closed form: knocked out, or in, when the spot touches a level before expiry.

The contract's knock-out is about the path that the oracle observed, through each minute's low and high; that is
continuous watching as far as the candles know, so the correction for watching at intervals is off by default.
"""
# ruff: noqa: PLR0917 - a compiled kernel takes positional numbers only

from __future__ import annotations

import math
from typing import Final

import numpy as np

from btcfi.pricing.black_scholes import Greeks, as_greeks, check_kind, quote
from btcfi.pricing.compiled import kernel
from btcfi.pricing.domain import ArrayLike, FloatArray, admit, check_barrier
from btcfi.pricing.kernels import SLOTS, VALUE, knock_out, knocked, vanilla

DISCRETE_SHIFT: Final = 0.5825971579390106
"""-zeta(1/2)/sqrt(2 pi): a barrier watched every dt acts like one this many sigma*sqrt(dt) farther away (Broadie,
Glasserman & Kou 1997)."""


@kernel
def _barrier_loop(
    out: FloatArray, kind: FloatArray, s: FloatArray, k: FloatArray, barrier: FloatArray, tau: FloatArray,
    sigma: FloatArray, r: FloatArray, q: FloatArray, interval: FloatArray, knock_in: FloatArray,
) -> None:  # fmt: skip
    acc = np.zeros(SLOTS)
    whole = np.zeros(SLOTS)
    for i in range(out.shape[1]):
        up = barrier[i] > k[i]
        level = barrier[i]
        acc[:] = 0.0
        if not knocked(s[i], level, up):
            shift = DISCRETE_SHIFT * sigma[i] * math.sqrt(interval[i])
            level *= math.exp(shift if up else -shift)
            knock_out(acc, int(kind[i]), s[i], k[i], level, up, tau[i], sigma[i], r[i], q[i])
        if knock_in[i] == 1.0:
            vanilla(whole, int(kind[i]), s[i], k[i], tau[i], sigma[i], r[i], q[i])
            for j in range(SLOTS):
                acc[j] = whole[j] - acc[j]
            acc[VALUE] = max(acc[VALUE], 0.0)
        quote(out, i, acc, s[i])


def greeks(
    kind: ArrayLike,
    *,
    spot: ArrayLike,
    strike: ArrayLike,
    barrier: ArrayLike,
    tau_years: ArrayLike,
    volatility: ArrayLike,
    rate: ArrayLike = 0.0,
    carry_yield: ArrayLike = 0.0,
    monitoring_years: ArrayLike = 0.0,
    knock_in: ArrayLike = False,
) -> Greeks:
    """Return the premium and all Greeks of European barrier options, in the units of ``black_scholes.Greeks``.

    barrier: USD per BTC; above the strike it is an up barrier, below it a down barrier, on it an error. A spot at or
    beyond the barrier has touched it. monitoring_years: 0 when watched all the time, else the time between two looks
    (1/365 for daily), by shifting the barrier. knock_in: price the option that comes alive instead of the one that
    dies. Other arguments as for ``black_scholes.premium``. The Greeks with monitoring hold the shifted level fixed.
    Raises PricingDomainError, UnequalLengthsError. Source: Reiner & Rubinstein (1991).
    """
    shape, fields = admit(
        kind=check_kind(kind),
        spot=spot,
        strike=strike,
        barrier=barrier,
        tau_years=tau_years,
        volatility=volatility,
        rate=rate,
        carry_yield=carry_yield,
        monitoring_years=monitoring_years,
        knock_in=np.asarray(knock_in, dtype=np.float64),
    )
    check_barrier(fields[2], fields[3])
    out = np.empty((SLOTS, fields[0].size))
    _barrier_loop(out, *fields)
    return as_greeks(out, shape)


def premium(kind: ArrayLike, **market: ArrayLike) -> FloatArray:
    """Return the premium of European barrier options, in USD per BTC; the keyword arguments of ``greeks``."""
    return greeks(kind, **market).premium
