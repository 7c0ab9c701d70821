"""Premiums of the payout that the contract really makes: bitcoin, at the settlement price, up to the collateral.

The contract pays payoff/S_T bitcoin. At expiry that is worth payoff dollars, so without a cap its premium is the
dollar premium, and in bitcoin the dollar premium over today's spot: no quanto correction arises. The cap is real,
though: the writer's collateral is a fixed number of bitcoin, which a put outgrows as the price falls. In dollars the
holder gets min(payoff, collateral * S_T), a kinked line, so the capped premium is a sum of plain ones.
"""

from __future__ import annotations

import numpy as np

from btcfi.pricing import black_scholes
from btcfi.pricing.domain import BINARY_CALL, BINARY_PUT, CALL, PUT, ArrayLike, FloatArray, admit, shaped


def premium(
    kind: ArrayLike,
    *,
    spot: ArrayLike,
    strike: ArrayLike,
    tau_years: ArrayLike,
    volatility: ArrayLike,
    collateral_btc: ArrayLike,
    rate: ArrayLike = 0.0,
    carry_yield: ArrayLike = 0.0,
) -> FloatArray:
    """Return the premium, in USD per BTC, of European options whose payout is capped by their collateral.

    collateral_btc: bitcoin locked per BTC of quantity, 1e-6 to 1e6. Other arguments and errors as for
    ``black_scholes.premium``. Divide by the spot (``black_scholes.in_btc``) for the premium in BTC. A call, or a binary
    call, with a whole bitcoin behind it is never capped.
    """
    shape, columns = admit(
        kind=black_scholes.check_kind(kind),
        spot=spot,
        strike=strike,
        tau_years=tau_years,
        volatility=volatility,
        collateral_btc=collateral_btc,
        rate=rate,
        carry_yield=carry_yield,
    )
    kinds, s, k, tau, sigma, cap, r, q = columns
    out = np.empty(kinds.size)
    for which in (CALL, PUT, BINARY_CALL, BINARY_PUT):
        rows = kinds == which
        if rows.any():
            market = {"spot": s[rows], "tau_years": tau[rows], "volatility": sigma[rows]}
            market |= {"rate": r[rows], "carry_yield": q[rows]}
            out[rows] = _capped(which, k[rows], cap[rows], market)
    return shaped(np.maximum(out, 0.0), shape)


def _capped(kind: int, k: FloatArray, cap: FloatArray, market: dict[str, FloatArray]) -> FloatArray:
    plain = black_scholes.premium(kind, strike=k, **market)
    if kind == PUT:
        # below K/(1+c) the put wants more than c bitcoin
        return plain - (1.0 + cap) * black_scholes.put(strike=k / (1.0 + cap), **market)
    if kind == BINARY_PUT:
        # K below the strike, but only c*S below K/c; with c <= 1 that is c*S all the way
        covered = plain - cap * black_scholes.put(strike=k / np.maximum(cap, 1.0), **market)
        asset_below = plain - black_scholes.put(strike=k, **market)
        return np.where(cap > 1.0, covered, cap * asset_below)
    short = cap < 1.0
    if not short.any():
        return plain
    safe = np.where(short, cap, 0.5)
    if kind == CALL:
        # above K/(1-c) the call wants more than c bitcoin
        capped = plain - (1.0 - safe) * black_scholes.call(strike=k / (1.0 - safe), **market)
    else:
        calls = black_scholes.call(strike=k, **market) - black_scholes.call(strike=k / safe, **market)
        capped = safe * (calls + plain)
    return np.where(short, capped, plain)


def payout_btc(kind: int, *, settlement_price: float, strike: float, collateral_btc: float) -> float:
    """Return what one European option pays at expiry, in BTC per BTC of quantity: the limit of ``premium`` there.

    Raises PricingDomainError.
    """
    black_scholes.check_kind(kind)
    _, (price, level, cap) = admit(spot=settlement_price, strike=strike, collateral_btc=collateral_btc)
    s, k = float(price[0]), float(level[0])
    dollars = (max(s - k, 0.0), max(k - s, 0.0), k if s > k else 0.0, k if s < k else 0.0)[kind]
    return min(dollars / s, float(cap[0]))
