"""What the cap of a week's profit is worth to the long: short a far call, long a far put, in closed form and by chance.

Returns are lognormal over a week of 1/52 year. "Mean return of zero" has two readings: of the logarithm (by which the
appendix's Table 2 comes out), or of the return itself. Source: the appendix, section 3.2; A.17.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from btcfi.pricing.black_scholes import call, put
from btcfi.pricing.domain import FloatArray

WEEKS: Final = 52
"""Of a year. Source: the appendix, section 3.2."""

NODES: Final = 96
"""Of the integral over the margin's price: twice as many change no digit that is printed."""

LEAST_STRIKE: Final = 1e-6
"""Below it a put is worth nothing, and the formula takes none."""


class Drift(StrEnum):
    """Which mean is zero."""

    LOG = "log"
    """Of the logarithm, so that the return's own is above zero."""
    RETURN = "return"
    """Of the return: the price is a martingale."""


class Pricing(StrEnum):
    """What the asset's price is in, against the margin."""

    OWN = "own"
    """The asset is the margin, priced in dollars: a long's profit is convex. A.17."""
    DOLLARS = "dollars"
    """Another asset, priced in dollars: both prices move. A.4."""
    MARGIN = "margin"
    """Priced in the margin itself. A.7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capped:
    """A contract as its cap sees it. Volatilities per square-root year: 0.7 is 70 %."""

    name: str
    pricing: Pricing
    leverage: float
    """Notional for one of margin."""
    volatility: float
    """Of the asset, in what it is priced in."""
    margin_volatility: float = 1.0
    """Of the margin in dollars; read where the asset is another one, priced in dollars."""
    correlation: float = 0.0
    """Of both."""


def weekly(volatility: float) -> float:
    """Return a year's volatility as a week's."""
    return volatility / math.sqrt(WEEKS)


def covering_leverage(volatility: float, *, sigmas: float = 3.0, own: bool = False) -> float:
    """Return the leverage at which the margin covers a fall by so many of a week's standard deviations.

    own: of the margin's own asset, whose fall costs more of it. Source: section 3.2; specification, section 10.
    """
    fall = sigmas * weekly(volatility)
    return (1.0 - fall) / fall if own else 1.0 / fall


def breaches(leverage: float) -> tuple[float, float]:
    """Return the fall and the rise of the margin's own asset at which the whole margin is owed. Source: A.17."""
    return -1.0 / (1.0 + leverage), 1.0 / (leverage - 1.0) if leverage > 1.0 else math.inf


def _drift(volatility: float, drift: Drift) -> float:
    """Return a week's mean logarithm."""
    return 0.0 if drift is Drift.LOG else -(weekly(volatility) ** 2) / 2.0


def _forward(volatility: float, drift: Drift) -> float:
    return math.exp(_drift(volatility, drift) + weekly(volatility) ** 2 / 2.0)


def collar_value(one: Capped, *, drift: Drift = Drift.LOG) -> float:
    """Return what the cap is worth to the long a year, as a part of the notional in what the asset is priced in."""
    if one.pricing is Pricing.DOLLARS:
        return WEEKS * _in_dollars(one, drift)
    forward, market = _forward(one.volatility, drift), {"tau_years": 1.0 / WEEKS, "volatility": one.volatility}
    floor, cap = 1.0 / one.leverage, 1.0 / one.leverage
    if one.pricing is Pricing.MARGIN:
        low = float(put(spot=forward, strike=1.0 - floor, **market)) if floor < 1.0 - LEAST_STRIKE else 0.0
        return WEEKS * (low - float(call(spot=forward, strike=1.0 + cap, **market)))
    down, up = breaches(one.leverage)
    low = (1.0 + floor) * float(put(spot=forward, strike=1.0 + down, **market))
    high = (1.0 - cap) * float(call(spot=forward, strike=1.0 + up, **market)) if math.isfinite(up) else 0.0
    return WEEKS * (low - high)


def _in_dollars(one: Capped, drift: Drift) -> float:
    """Return a week's value: an integral over the margin's price of the options on the asset that each leaves."""
    z, weight = np.polynomial.hermite_e.hermegauss(NODES)
    weight = weight / weight.sum()
    margin = np.exp(_drift(one.margin_volatility, drift) + weekly(one.margin_volatility) * z)
    sigma, rest = weekly(one.volatility), max(0.0, 1.0 - one.correlation**2)
    spot = np.exp(_drift(one.volatility, drift) + sigma * one.correlation * z + sigma**2 * rest / 2.0)
    market = {"tau_years": 1.0 / WEEKS, "volatility": one.volatility * math.sqrt(rest)}
    low = 1.0 - margin / one.leverage
    puts = np.where(
        low > LEAST_STRIKE, put(spot=spot, strike=np.maximum(low, LEAST_STRIKE), **market), 0.0
    )  # fmt: skip
    calls = call(spot=spot, strike=1.0 + margin / one.leverage, **market)
    return float(weight @ (puts - calls))


def capped_returns(one: Capped, asset: FloatArray, margin: FloatArray) -> FloatArray:
    """Return a long's weekly return on its notional, capped. asset, margin: a week's gross returns."""
    cap = asset if one.pricing is Pricing.OWN else np.ones_like(asset) if one.pricing is Pricing.MARGIN else margin
    return np.clip(asset - 1.0, -cap / one.leverage, cap / one.leverage)


def simulated_collar(
    one: Capped, *, paths: int, generator: np.random.Generator, drift: Drift = Drift.LOG, in_dollars: bool = False
) -> tuple[float, float]:
    """Return the collar's value a year and its standard error, from so many weeks; in_dollars: of the margin's."""
    first, second = generator.standard_normal((2, paths))
    margin = np.exp(_drift(one.margin_volatility, drift) + weekly(one.margin_volatility) * first)
    mixed = one.correlation * first + math.sqrt(max(0.0, 1.0 - one.correlation**2)) * second
    asset = np.exp(_drift(one.volatility, drift) + weekly(one.volatility) * mixed)
    gained = (capped_returns(one, asset, margin) - (asset - 1.0)) * (margin if in_dollars else 1.0)
    return WEEKS * float(gained.mean()), WEEKS * float(gained.std(ddof=1)) / math.sqrt(paths)


def in_dollars_of_margin(one: Capped, *, drift: Drift = Drift.RETURN) -> float:
    """Return the value of a contract priced in the margin, measured in dollars: the margin's price weighs each week."""
    shift = one.correlation * weekly(one.volatility) * weekly(one.margin_volatility)
    forward = _forward(one.volatility, drift) * math.exp(shift)
    market = {"tau_years": 1.0 / WEEKS, "volatility": one.volatility, "spot": forward}
    low = float(put(strike=1.0 - 1.0 / one.leverage, **market)) if one.leverage > 1.0 + LEAST_STRIKE else 0.0
    return WEEKS * _forward(one.margin_volatility, drift) * (
        low - float(call(strike=1.0 + 1.0 / one.leverage, **market))
    )  # fmt: skip
