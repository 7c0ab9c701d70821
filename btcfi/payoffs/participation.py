"""A share in an index: bitcoin for every point between a strike and a cap, what a cliquet's index is paid by.

An index of returns has no dollars in it: 100,000 points are the whole of the bitcoin that the quantity names, and one
point is 1/100,000 of it. So a quantity of 1 BTC, a strike of 100,000 and a cap of 130,000 pay the sum of the returns in
bitcoin, nothing below nothing and 0.3 BTC at most. Straight in the index where a curve is bent in the price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from btcfi.errors import InvalidInputError
from btcfi.options.terms import SATS_PER_CENTIBTC
from btcfi.oracle.announcement import OracleEvent
from btcfi.oracle.path import HIGHEST, INDEX_UNIT
from btcfi.payoffs.curve import NetSats, check_quantity
from btcfi.units import CentiBtc, CentsPerBtc


@dataclass(frozen=True, slots=True, kw_only=True)
class Participation:
    """A payoff of an index in hundredths of a point, which stand where another payoff has cents."""

    strike: CentsPerBtc
    """Up to it nothing is paid."""
    cap: CentsPerBtc
    """From it on no more is paid."""
    quantity: CentiBtc
    """What 100,000 points are, in hundredths of a bitcoin."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError naming the field that makes no participation."""
        check_quantity(self.quantity)
        if not 1 <= self.strike < self.cap <= HIGHEST * 100:
            problem = f"from {self.strike} to {self.cap} hundredths of a point"
            raise InvalidInputError("strikes", problem, f"1 up to {HIGHEST} points, the cap above the strike")

    def net(self, prices: Sequence[CentsPerBtc]) -> list[NetSats]:
        """Return what the holder gains at each index: one division, one rounding, down."""
        sats = self.quantity * SATS_PER_CENTIBTC
        return [NetSats(sats * (min(max(at, self.strike), self.cap) - self.strike) // INDEX_UNIT) for at in prices]

    def turning_points(self, event: OracleEvent) -> tuple[CentsPerBtc, ...]:
        """Return strike and cap."""
        highest = event.price_of(event.max_price)
        return tuple(at for at in (self.strike, self.cap) if at <= highest)
