"""What a net book is worth and risks before its expiry: its curve priced, moved, and held against what it locks.

A book without a barrier is one curve, so its price is a sum of calls and digitals (``value``). One with a barrier is
two curves and a chance that one becomes the other: it is not priced here, and saying so is better than half a price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import CENTS_PER_DOLLAR
from btcfi.payoffs.book import Book, BookContract
from btcfi.payoffs.curve import Leg, curve_of
from btcfi.payoffs.netted import ANY_EVENT, netted
from btcfi.payoffs.value import value
from btcfi.pricing.black_scholes import Greeks
from btcfi.units import CentsPerBtc, Sats

DAYS_PER_YEAR: Final = 365
SECONDS_PER_YEAR: Final = DAYS_PER_YEAR * 86_400
_SATS: Final = 100_000_000

SPOT_MOVES: Final = (-0.30, -0.20, -0.10, -0.05, 0.0, 0.05, 0.10, 0.20, 0.30)
VOLATILITY_MOVES: Final = (-0.25, 0.0, 0.25)
"""Relative, as of ``btcfi risk``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookMarket:
    """At what a book is priced."""

    spot: CentsPerBtc
    tau_years: float
    """Years of 365 days to the expiry."""
    volatility: float
    """Per square-root year: 0.65 is 65 %."""
    rate: float = 0.0
    """Continuously compounded per year."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The whole book after a move of the market, for its holder."""

    spot_move: float
    volatility_move: float
    value_usd: float
    change_usd: float
    """Against today's value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookMargin:
    """What a book locks, and what it may cost each side to leave it under the scenarios."""

    holder: Sats
    writer: Sats
    """What each side puts in: the most that it can ever lose by the payoff."""
    separate: Sats
    """What both would put in if each leg were a contract of its own, at the same floor."""
    greeks: Greeks
    """Of the whole, in USD, for the holder."""
    value_sats: int
    """For the holder, at the spot."""
    scenarios: tuple[Scenario, ...]

    @property
    def net_share(self) -> float:
        """Collateral of the book over that of its legs one by one."""
        return (self.holder + self.writer) / self.separate

    def worst(self, *, holder: bool) -> Scenario:
        """Return the scenario that costs a side most."""
        return min(self.scenarios, key=lambda one: one.change_usd if holder else -one.change_usd)


def book_greeks(book: Book, market: BookMarket) -> Greeks:
    """Return premium and Greeks of a book for its holder, in USD.

    Raises InvalidInputError for a book with a barrier, PricingDomainError.
    """
    if book.barrier is not None:
        raise InvalidInputError("barrier", f"{book.barrier} cents, and a barrier is not priced", "a book without one")
    return value(
        book.untouched, spot=market.spot, tau_years=market.tau_years, volatility=market.volatility, rate=market.rate
    )  # fmt: skip


def book_sats(book: Book, market: BookMarket) -> int:
    """Return what a book is worth to its holder in satoshis at the spot. Raises as ``book_greeks``."""
    return _in_sats(float(book_greeks(book, market).premium), market)


def legs_premium(book: Book, market: BookMarket) -> Sats:
    """Return the sum of the sizes of what its legs are worth: what a tolerance is of. Raises as ``book_greeks``."""
    return Sats(
        max(1, sum(abs(book_sats(_alone(book, leg), market)) for leg in (*book.legs, *book.knock_outs)))
    )  # fmt: skip


def margin(contract: BookContract, market: BookMarket) -> BookMargin:
    """Return what a book locks and risks at a market. Raises as ``book_greeks``."""
    book = contract.book
    greeks = book_greeks(book, market)
    today = float(greeks.premium)
    alone = [netted(curve_of([leg], floor=book.floor), ANY_EVENT) for leg in book.legs]
    return BookMargin(
        holder=contract.holder, writer=contract.writer, separate=Sats(sum(one.collateral for one in alone)),
        greeks=greeks, value_sats=_in_sats(today, market), scenarios=tuple(_scenarios(book, market, today)),
    )  # fmt: skip


def _scenarios(book: Book, market: BookMarket, today: float) -> Sequence[Scenario]:
    found = []
    for move in SPOT_MOVES:
        for other in VOLATILITY_MOVES:
            moved = BookMarket(
                spot=CentsPerBtc(max(1, round(market.spot * (1 + move)))), tau_years=market.tau_years,
                volatility=market.volatility * (1 + other), rate=market.rate,
            )  # fmt: skip
            worth = float(book_greeks(book, moved).premium)
            found.append(
                Scenario(spot_move=move, volatility_move=other, value_usd=worth, change_usd=worth - today)
            )  # fmt: skip
    return found


def _alone(book: Book, leg: Leg) -> Book:
    return Book(expiry=book.expiry, legs=(leg,), floor=book.floor)


def _in_sats(dollars: float, market: BookMarket) -> int:
    return round(dollars * _SATS / (market.spot / CENTS_PER_DOLLAR))
