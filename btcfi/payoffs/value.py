"""What a payoff is worth before its expiry: a curve as a sum of calls and digitals, a wave by quadrature.

What is priced is what the contract pays: a curve's pieces are dollars and bitcoin at expiry, its floor included. Their
rounding to a satoshi is left out, and so is the end of the oracle's digits for a curve; a wave goes on beyond every
price, so it is held still there as the oracle holds the price. What pays above a strike pays from the next cent on.
"""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction
from itertools import pairwise
from typing import Final

import numpy as np

from btcfi.oracle.announcement import CENTS_PER_DOLLAR, PRICE_DIGITS
from btcfi.payoffs.curve import Curve, Piece
from btcfi.payoffs.wave import Wave
from btcfi.pricing import piecewise, quadrature
from btcfi.pricing.black_scholes import Greeks
from btcfi.pricing.domain import FloatArray
from btcfi.units import CentsPerBtc

HIGHEST: Final = CentsPerBtc(((1 << PRICE_DIGITS) - 1) * CENTS_PER_DOLLAR)
"""The price that an oracle of 18 digits attests for everything above it, too."""

_SATS: Final = 100_000_000
_CENT_SATS_PER_DOLLAR: Final = _SATS * CENTS_PER_DOLLAR


def value(payoff: Curve | Wave, *, spot: CentsPerBtc, tau_years: float, volatility: float, rate: float = 0.0) -> Greeks:
    """Return premium and Greeks of the whole position for its holder, in USD.

    tau_years: years of 365 days, of a wave above 0. volatility: per square-root year (0.65 is 65 %), of a wave above 0.
    rate: continuously compounded per year. Raises PricingDomainError.
    """
    market = {"spot": spot / CENTS_PER_DOLLAR, "tau_years": tau_years, "volatility": volatility, "rate": rate}
    if isinstance(payoff, Curve):
        return piecewise.greeks(kinks_of(payoff, spot), **market)
    return quadrature.greeks(lambda price: _wave_dollars(payoff, price), borders=_wave_borders(payoff), **market)


def kinks_of(curve: Curve, spot: CentsPerBtc) -> piecewise.Kinks:
    """Return a curve's dollars at expiry: c + k/S satoshis at the price S are k dollars and c bitcoin."""
    below = bisect_right(curve.pieces, spot, key=lambda one: one.start) - 1
    held = curve.pieces[max(below, 0)]
    rows = [_kink(before, after) for before, after in pairwise(curve.pieces)]
    border, slope, jump = (np.array([float(row[at]) for row in rows], dtype=np.float64) for at in range(3))
    return piecewise.Kinks(
        dollars=float(Fraction(held.numerator, _CENT_SATS_PER_DOLLAR)), bitcoin=float(Fraction(held.constant, _SATS)),
        border=border, slope=slope, jump=jump, below=max(below, 0),
    )  # fmt: skip


def _kink(before: Piece, after: Piece) -> tuple[Fraction, Fraction, Fraction]:
    """Return border, slope and jump, exact: a float's difference of two large ones would be a jump of its own."""
    border = Fraction(after.start, CENTS_PER_DOLLAR)
    slope = Fraction(after.constant - before.constant, _SATS)
    return border, slope, Fraction(after.numerator - before.numerator, _CENT_SATS_PER_DOLLAR) + slope * border


def _held(wave: Wave, price: FloatArray) -> FloatArray:
    """Return the prices between floor and the end of the oracle's digits, at which the wave is settled."""
    return np.clip(price, (wave.floor or 0) / CENTS_PER_DOLLAR, HIGHEST / CENTS_PER_DOLLAR)


def _wave_dollars(wave: Wave, price: FloatArray) -> FloatArray:
    turns = (_held(wave, price) - wave.middle / CENTS_PER_DOLLAR) / (wave.period / CENTS_PER_DOLLAR)
    return price * np.sin(2.0 * np.pi * turns) * (wave.sats / _SATS)


def _wave_borders(wave: Wave) -> FloatArray:
    """Return the ends of half waves, between which 20 nodes know a sine to the last bit, and where it stands still."""
    low, high = (wave.floor or 1) / CENTS_PER_DOLLAR, HIGHEST / CENTS_PER_DOLLAR
    half, middle = wave.period / CENTS_PER_DOLLAR / 2.0, wave.middle / CENTS_PER_DOLLAR
    crossings = middle + half * np.arange(np.ceil((low - middle) / half), np.floor((high - middle) / half) + 1.0)
    return np.unique(np.concatenate([[low, high], crossings[(crossings > low) & (crossings < high)]]))
