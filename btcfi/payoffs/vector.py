"""The payoffs again in numpy, at all prices of an event at once: the second road, for pictures, tests and worst cases.

Equal to the whole numbers of ``curve`` and ``wave`` at every price: a division of 94 bits is done in two of 63, and a
sine that a double leaves in doubt is asked of the exact one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import OracleEvent
from btcfi.payoffs.curve import Curve
from btcfi.payoffs.wave import Wave
from btcfi.units import CentsPerBtc

NetArray = npt.NDArray[np.int64]
"""Satoshis that the holder gains, one a price; below zero: loses."""

MOST_PRICE: int = (1 << 31) - 1
"""Cents: more would not fit the second half of the division."""

_HALF = 32


def prices_of(event: OracleEvent) -> NetArray:
    """Return the price in cents of every outcome of an event's digits, ascending."""
    dollars = np.arange(event.max_price + 1, dtype=np.int64) * 100
    dollars[0] = event.price_of(0)
    return dollars


def curve_net(curve: Curve, prices: NetArray) -> NetArray:
    """Return what a curve's holder gains at ascending prices in cents. Raises InvalidInputError for other prices."""
    if prices.size and not (prices[0] >= 1 and prices[-1] <= MOST_PRICE and (prices[1:] >= prices[:-1]).all()):
        raise InvalidInputError("prices", "not ascending, or out of range", f"1 to {MOST_PRICE} cents, ascending")
    out = np.empty(prices.shape, dtype=np.int64)
    borders = np.searchsorted(prices, np.array([one.start for one in curve.pieces], dtype=np.int64))
    ends = [*borders[1:].tolist(), prices.size]
    for one, first, last in zip(curve.pieces, borders.tolist(), ends, strict=True):
        if first == last:
            continue
        if not one.numerator:
            out[first:last] = one.constant
            continue
        at = prices[first:last]
        high, low = one.numerator >> _HALF, one.numerator & ((1 << _HALF) - 1)
        whole, rest = np.divmod(np.int64(high), at)
        out[first:last] = one.constant + (whole << _HALF) + ((rest << _HALF) | low) // at
    return out


def wave_net(wave: Wave, prices: NetArray) -> NetArray:
    """Return what a wave's holder gains at each price in cents."""
    at = prices if wave.floor is None else np.maximum(prices, wave.floor)
    angle = 2 * np.pi * (((at - wave.middle) % wave.period) / wave.period)
    near = wave.sats * np.sin(angle)
    out: NetArray = np.floor(near).astype(np.int64)
    # a double's sine of an angle below 7 is off by less than 2**-49, and the amplitude multiplies it
    doubt = np.abs(near - np.rint(near)) <= wave.sats * 2.0**-48
    for place in np.flatnonzero(doubt):
        out[place] = wave.net_at(CentsPerBtc(int(prices[place])))
    return out


def net(payoff: Curve | Wave, prices: NetArray) -> NetArray:
    """Return what the holder gains at ascending prices in cents."""
    return curve_net(payoff, prices) if isinstance(payoff, Curve) else wave_net(payoff, prices)
