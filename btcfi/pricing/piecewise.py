"""Premium and Greeks of a payoff that is linear in the price between borders: a sum of calls and digitals.

In dollars at expiry such a payoff is some dollars and some bitcoin, and at each border its slope and its level change.
Above the price where it is asked for, a change is a number of calls and of dollars paid above the border; below it, of
puts and of dollars paid below: so what lies far off on either side weighs next to nothing, in the sum's rounding too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from btcfi.pricing import black_scholes
from btcfi.pricing.black_scholes import POINT, Greeks
from btcfi.pricing.domain import BINARY_CALL, BINARY_PUT, CALL, DAYS_PER_YEAR, PUT, FloatArray, admit, shaped


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinks:
    """A payoff in dollars at expiry: ``dollars + bitcoin * S`` between two borders, and how each border changes it."""

    dollars: float
    bitcoin: float
    border: FloatArray
    """USD per BTC, above 0, ascending."""
    slope: FloatArray
    """Bitcoin more above the border than below it."""
    jump: FloatArray
    """Dollars more right above the border than right below it."""
    below: int
    """How many of the borders lie below the part that the dollars and the bitcoin are of."""


def greeks(
    kinks: Kinks, *, spot: float, tau_years: float, volatility: float, rate: float = 0.0, carry_yield: float = 0.0
) -> Greeks:
    """Return premium and Greeks of one payoff at one market, in USD of the whole payoff and in the units of ``Greeks``.

    Arguments, domain and errors as for ``black_scholes.premium``, the borders in the place of the strike.
    """
    _, (s, tau, _, r, q) = admit(
        spot=spot, tau_years=tau_years, volatility=volatility, rate=rate, carry_yield=carry_yield
    )
    total = _held(kinks, spot=float(s[0]), tau=float(tau[0]), rate=float(r[0]), carry=float(q[0]))
    low, high = slice(None, kinks.below), slice(kinks.below, None)
    # a binary pays its strike: one dollar beyond the border is this part of it
    dollars = kinks.jump / kinks.border
    parts = (
        (PUT, kinks.border[low], kinks.slope[low]), (BINARY_PUT, kinks.border[low], -dollars[low]),
        (CALL, kinks.border[high], kinks.slope[high]), (BINARY_CALL, kinks.border[high], dollars[high]),
    )  # fmt: skip
    for kind, strike, weight in parts:
        one = black_scholes.greeks(
            kind, spot=spot, strike=strike, tau_years=tau_years, volatility=volatility, rate=rate,
            carry_yield=carry_yield,
        )  # fmt: skip
        for name in total:
            total[name] += float(np.dot(weight, getattr(one, name)))
    return Greeks(**{name: shaped(np.array([value]), ()) for name, value in total.items()})


def _held(kinks: Kinks, *, spot: float, tau: float, rate: float, carry: float) -> dict[str, float]:
    """Return the Greeks of the dollars and the bitcoin that are there at every price."""
    cash, coin = kinks.dollars * float(np.exp(-rate * tau)), kinks.bitcoin * float(np.exp(-carry * tau))
    said = dict.fromkeys((one.name for one in fields(Greeks)), 0.0)
    said["premium"] = cash + coin * spot
    said["delta"] = coin
    said["theta"] = (rate * cash + carry * coin * spot) / DAYS_PER_YEAR
    said["rho"] = -tau * cash * POINT
    said["charm"] = carry * coin / DAYS_PER_YEAR
    return said
