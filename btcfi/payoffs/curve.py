"""A payoff as pieces of the price: what a holder gains, in satoshis, at every price in cents.

A position that is worth a fixed number of dollars and of bitcoin is worth c + k/S satoshis at the price S, so between
two strikes a sum of calls, puts, binaries and forwards is one piece, and a piece runs in one direction: up where k is
below zero, down where it is above. The legs are summed exactly, in cents times satoshis; a price divides that sum once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType, Protocol

from btcfi.errors import InvalidInputError
from btcfi.options.terms import MAX_QUANTITY, SATS_PER_CENTIBTC
from btcfi.oracle.announcement import OracleEvent
from btcfi.units import MAX_MONEY_SATS, MAX_U32, CentiBtc, CentsPerBtc

NetSats = NewType("NetSats", int)
"""What a holder gains, in satoshis; below zero: what it loses to the other side. The other side gains the opposite."""

CentSats = NewType("CentSats", int)
"""Cents times satoshis, an exact sum of dollars; a price in cents divides it into satoshis. May be below zero."""

MAX_LEGS: Final = 64
"""Of one payoff: what a net book may have (findings/payoffs, section 1)."""

MAX_PIECES: Final = 512
"""Of one payoff: 64 legs have at most three borders each, and a floor."""

LEAST_FLOOR: Final = CentsPerBtc(2)
"""Below one cent there is no price that could settle as at it."""

_MAX_CONSTANT: Final = 1 << 62
"""64 legs of 21 million BTC stay below it; so do the whole numbers of the vectorised twin."""

_MAX_NUMERATOR: Final = 1 << 94
"""The same with 32 bits of price."""


class Payoff(Protocol):
    """What one contract can be made of: ``netted`` asks nothing else of it."""

    def net(self, prices: Sequence[CentsPerBtc]) -> Sequence[NetSats]:
        """Return what the holder gains at each price, rounded down to a satoshi once."""
        ...

    def turning_points(self, event: OracleEvent) -> tuple[CentsPerBtc, ...] | None:
        """Return prices between which the gain runs in one direction, as far as its author knows; None: unknown.

        Of anything but a curve and a wave this is a claim: ``netted`` holds it against every price of the event.
        """
        ...


class FloorMissingError(InvalidInputError):
    """A payoff that is worth dollars at $0 grows without bound in satoshis as the price falls."""

    def __init__(self, owed: CentSats) -> None:
        who = "gain" if owed > 0 else "loss"
        super().__init__(
            "floor", f"none, and the holder's {who} in satoshis has no bound as the price falls",
            "a price below which the contract settles as at that price",
        )  # fmt: skip
        self.owed = owed


class LegKind(StrEnum):
    """What one leg pays for one bitcoin of its quantity, in dollars, at the price S and the strike K."""

    CALL = "call"
    """S - K above the strike."""
    PUT = "put"
    """K - S below the strike."""
    BINARY_CALL = "binary_call"
    """K above the strike, and nothing at it."""
    BINARY_PUT = "binary_put"
    """K below the strike, and nothing at it."""
    FORWARD = "forward"
    """S - K, whatever the price is."""
    DIGITAL_CALL = "digital_call"
    """The leg's cash above the strike, and nothing at it."""
    DIGITAL_PUT = "digital_put"
    """The leg's cash below the strike, and nothing at it."""

    @property
    def is_digital(self) -> bool:
        """Whether it pays an amount that the leg names."""
        return self in {LegKind.DIGITAL_CALL, LegKind.DIGITAL_PUT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One leg of a payoff, bought or sold."""

    kind: LegKind
    strike: CentsPerBtc
    quantity: int
    """Hundredths of a bitcoin; below zero: sold."""
    cash: CentsPerBtc | None = None
    """What a digital pays for one bitcoin of its quantity, in cents; of no other kind."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError naming the field that makes no leg."""
        _check_price("strike", self.strike)
        if self.quantity == 0 or abs(self.quantity) > MAX_QUANTITY:
            raise InvalidInputError(
                "quantity", f"{self.quantity}/100 BTC", f"1 to {MAX_QUANTITY} hundredths of a bitcoin, negative if sold"
            )
        if self.kind.is_digital != (self.cash is not None):
            problem = "none" if self.cash is None else f"{self.cash} cents, of a {self.kind.value}"
            raise InvalidInputError("cash", problem, "what a digital leg pays, and nothing for other kinds")
        if self.cash is not None:
            _check_price("cash", self.cash)

    @property
    def sats(self) -> int:
        """The quantity in satoshis; below zero: sold."""
        return self.quantity * SATS_PER_CENTIBTC

    def changes(self) -> tuple[tuple[CentsPerBtc, int, CentSats], ...]:
        """Return where the leg's value changes, and by how much: from which price, satoshis, cents times satoshis."""
        strike, first = self.strike, CentsPerBtc(1)
        dollars = CentSats(self.sats * (strike if self.cash is None else self.cash))
        match self.kind:
            case LegKind.CALL:
                return ((strike, self.sats, CentSats(-dollars)),)
            case LegKind.PUT:
                return ((first, -self.sats, dollars), (strike, self.sats, CentSats(-dollars)))
            case LegKind.FORWARD:
                return ((first, self.sats, CentSats(-dollars)),)
            case LegKind.BINARY_CALL | LegKind.DIGITAL_CALL:
                return ((CentsPerBtc(strike + 1), 0, dollars),)
            case LegKind.BINARY_PUT | LegKind.DIGITAL_PUT:
                return ((first, 0, dollars), (strike, 0, CentSats(-dollars)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """From its start to the next piece's the holder gains ``constant + numerator / price`` satoshis, rounded down."""

    start: CentsPerBtc
    constant: int
    """Satoshis, may be below zero."""
    numerator: CentSats

    def net(self, price: CentsPerBtc) -> NetSats:
        """Return the gain at a price of the piece: one division, one rounding, down."""
        return NetSats(self.constant + self.numerator // price)


@dataclass(frozen=True, slots=True)
class Curve:
    """Pieces, one beside the other, from one cent on: a payoff."""

    pieces: tuple[Piece, ...]

    def __post_init__(self) -> None:
        """Raise FloorMissingError, or InvalidInputError naming the piece that makes no curve."""
        if not 1 <= len(self.pieces) <= MAX_PIECES:
            raise InvalidInputError("pieces", str(len(self.pieces)), f"1 to {MAX_PIECES}")
        before = 0
        for place, one in enumerate(self.pieces):
            expected = "1 cent" if place == 0 else f"above {before} cents, where the piece before it starts"
            if not before < one.start <= MAX_U32 + 1 or (place == 0) != (one.start == 1):
                raise InvalidInputError(f"pieces[{place}].start", f"{one.start} cents", expected)
            before = one.start
        if self.pieces[0].numerator:
            raise FloorMissingError(self.pieces[0].numerator)
        for place, one in enumerate(self.pieces):
            # a piece runs in one direction: its ends know the most of it
            last = self.pieces[place + 1].start - 1 if place + 1 < len(self.pieces) else max(MAX_U32, one.start)
            most = max(abs(one.net(CentsPerBtc(end))) for end in (one.start, last))
            if most > MAX_MONEY_SATS:
                raise InvalidInputError("quantity", f"up to {most} sats change hands", f"at most {MAX_MONEY_SATS}")
            if abs(one.constant) >= _MAX_CONSTANT or abs(one.numerator) >= _MAX_NUMERATOR:
                raise InvalidInputError(f"pieces[{place}]", "too large", "64 legs of at most 21 million BTC in sum")

    def net_at(self, price: CentsPerBtc) -> NetSats:
        """Return what the holder gains at one price. Raises InvalidInputError for a price of nothing."""
        if price < 1:
            raise InvalidInputError("price", f"{price} cents", "at least 1 cent")
        return self.pieces[bisect_right(self.pieces, price, key=lambda one: one.start) - 1].net(price)

    def net(self, prices: Sequence[CentsPerBtc]) -> list[NetSats]:
        """Return what the holder gains at each price. Raises InvalidInputError for a price of nothing."""
        return [self.net_at(price) for price in prices]

    def turning_points(self, event: OracleEvent) -> tuple[CentsPerBtc, ...]:
        """Return the borders of the pieces that the event can state: a piece has no turn inside."""
        highest = event.price_of(event.max_price)
        return tuple(one.start for one in self.pieces if 1 < one.start <= highest)


def curve_of(legs: Iterable[Leg], *, floor: CentsPerBtc | None = None) -> Curve:
    """Return the sum of legs as one curve; below ``floor`` it settles as at that price.

    Raises FloorMissingError where the sum needs one, InvalidInputError for no legs or too many.
    """
    many = tuple(legs)
    if not 1 <= len(many) <= MAX_LEGS:
        raise InvalidInputError("legs", str(len(many)), f"1 to {MAX_LEGS}")
    steps: dict[CentsPerBtc, list[int]] = {CentsPerBtc(1): [0, 0]}
    for leg in many:
        for at, constant, numerator in leg.changes():
            step = steps.setdefault(at, [0, 0])
            step[0] += constant
            step[1] += numerator
    pieces, bitcoin, dollars = [], 0, 0
    for at in sorted(steps):
        bitcoin, dollars = bitcoin + steps[at][0], dollars + steps[at][1]
        pieces.append(Piece(start=at, constant=bitcoin, numerator=CentSats(dollars)))
    return Curve(floored(pieces, floor))


def floored(pieces: Iterable[Piece], floor: CentsPerBtc | None) -> tuple[Piece, ...]:
    """Return pieces that pay below ``floor`` what they pay at it, neighbours that say the same made one.

    pieces: in order, the first from one cent on. Raises InvalidInputError for a floor below which there is no price.
    """
    every = tuple(pieces)
    if floor is not None:
        if not LEAST_FLOOR <= floor <= MAX_U32:
            raise InvalidInputError("floor", f"{floor} cents", f"{LEAST_FLOOR} to {MAX_U32} cents per bitcoin")
        held = [one for one in every if one.start <= floor][-1]
        low = Piece(start=CentsPerBtc(1), constant=held.net(floor), numerator=CentSats(0))
        at = Piece(start=floor, constant=held.constant, numerator=held.numerator)
        every = (low, at, *(one for one in every if one.start > floor))
    kept: list[Piece] = []
    for one in every:
        if not kept or (kept[-1].constant, kept[-1].numerator) != (one.constant, one.numerator):
            kept.append(one)
    return tuple(kept)


def check_quantity(quantity: CentiBtc) -> None:
    """Check the quantity of a payoff. Raises InvalidInputError."""
    if not 1 <= quantity <= MAX_QUANTITY:
        raise InvalidInputError("quantity", f"{quantity}/100 BTC", f"1 to {MAX_QUANTITY} hundredths of a bitcoin")


def _check_price(field: str, price: CentsPerBtc) -> None:
    if not 1 <= price <= MAX_U32:
        raise InvalidInputError(field, f"{price} cents", f"1 to {MAX_U32} cents per bitcoin")


__all__ = [
    "MAX_LEGS", "MAX_PIECES", "CentSats", "Curve", "FloorMissingError", "Leg", "LegKind", "NetSats", "Payoff", "Piece",
    "check_quantity", "curve_of", "floored",
]  # fmt: skip
