"""A week's returns: ten numbers, one for each day on which a position can start and each side.

All are exact rationals, clamped to the required margin after funding, so that either side can always pay.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from math import floor
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.swaps.contract import Rates, SwapContract
from btcfi.units import Sats

PRICE_UNIT: Final = 1_000_000
"""Prices are whole millionths of the quote."""

MAX_PRICE: Final = 10**18


class Side(IntEnum):
    """Of a taker; the provider's is the other."""

    LONG = 1
    SHORT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """An asset's price and the margin's, at one time. Positive whole millionths."""

    asset: int
    margin: int
    """Of one bitcoin in the asset's quote; not read where the asset is quoted in bitcoin."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a price that there cannot be."""
        if not 0 < self.asset <= MAX_PRICE or not 0 < self.margin <= MAX_PRICE:
            raise InvalidInputError("price", f"{self.asset}, {self.margin} millionths", f"1 to {MAX_PRICE}")


def uncapped_return(contract: SwapContract, side: Side, start: Prices, end: Prices, rates: Rates) -> Fraction:
    """Return a taker's profit as a fraction of its required margin, before the cap. Source: A.4, A.7."""
    move = side * (Fraction(end.asset, start.asset) - 1) - rates.funding(long=side is Side.LONG)
    exchange = Fraction(1) if contract.is_quoted_in_margin else Fraction(start.margin, end.margin)
    return contract.leverage * exchange * move


def taker_return(contract: SwapContract, side: Side, start: Prices, end: Prices, rates: Rates) -> Fraction:
    """Return a taker's profit as a fraction of its required margin, from -1 to 1."""
    return max(Fraction(-1), min(Fraction(1), uncapped_return(contract, side, start, end, rates)))


def taker_profit(required: Sats, part: Fraction) -> int:
    """Return a taker's profit in satoshis: rounded down, and the provider's is the exact opposite."""
    return floor(part * required)
