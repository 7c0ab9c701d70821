"""A net book: 1 to 64 signed legs of one expiry between two parties in one contract, with one form in bytes.

The holder's cents are summed leg by leg with their signs, exactly, and a price divides the sum once, down to a satoshi;
below the floor, a term of the book, every price settles as at it. Both sides put in the worst that can happen to them
and nothing more. At most one barrier: legs that end when it is touched make the book two curves, one for each value of
the oracle's condition digit, and the worst of a side is the worst of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is an exception
from typing import Final

import numpy as np

from btcfi.contracts.buckets import Bucket, SingleOutcomeError, ToleranceRule, TooManyBucketsError
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import OracleEvent
from btcfi.oracle.path import Path
from btcfi.payoffs import vector
from btcfi.payoffs.curve import LEAST_FLOOR, MAX_LEGS, CentSats, Curve, Leg, LegKind, Payoff, Piece, curve_of, floored
from btcfi.payoffs.netted import Netted, netted
from btcfi.units import MAX_MONEY_SATS, MAX_U32, SECONDS_PER_MINUTE, CentsPerBtc, Hash32, Sats, Slot

NO_PRICE: Final = CentsPerBtc(0)
"""In bytes: no floor, no barrier, no cash."""

KINDS: Final = (
    LegKind.CALL, LegKind.PUT, LegKind.BINARY_CALL, LegKind.BINARY_PUT, LegKind.DIGITAL_CALL, LegKind.DIGITAL_PUT,
    LegKind.FORWARD,
)  # fmt: skip
"""In the order of the guest's numbers (guest_programs/net_book/net_book.h)."""

LEG_BYTES: Final = Struct("<3IiI")
"""Kind, strike, cash, quantity, whether the barrier ends it: five words, as the guest reads them."""

_HEAD: Final = Struct("<3IQ2I")
"""Version, legs, legs that the barrier ends, expiry, floor, barrier."""

_VERSION: Final = 1
_ID_TAG: Final = "BTCFi/book/v1"
_FLAT: Final = Curve((Piece(start=CentsPerBtc(1), constant=0, numerator=CentSats(0)),))


def _place(leg: Leg) -> tuple[int, int, int]:
    """Return where a leg stands in the one order of a book; two legs of one place are one leg."""
    return KINDS.index(leg.kind), leg.strike, leg.cash or NO_PRICE


@dataclass(frozen=True, kw_only=True)
class Book:
    """Signed legs of one expiry, in their one order; ``book_of`` brings legs into it."""

    expiry: Slot
    legs: tuple[Leg, ...]
    """Those that live to the expiry."""
    knock_outs: tuple[Leg, ...] = ()
    """Those that end, worth nothing, when the barrier is touched before the expiry or at it."""
    floor: CentsPerBtc | None = None
    """Below it the legs settle as at that price; the barrier is touched by the price itself."""
    barrier: CentsPerBtc | None = None
    """Above the strikes of ``knock_outs`` it is touched from below, below them from above; inclusive."""

    def __post_init__(self) -> None:
        """Raise FloorMissingError, or InvalidInputError naming the field that makes no book."""
        if self.expiry < 0 or self.expiry % SECONDS_PER_MINUTE:
            raise InvalidInputError("expiry", str(self.expiry), "a whole minute")
        if not 1 <= self.count <= MAX_LEGS:
            raise InvalidInputError("legs", str(self.count), f"1 to {MAX_LEGS}, after equal ones are made one")
        for name, legs in (("legs", self.legs), ("knock_outs", self.knock_outs)):
            places = [_place(leg) for leg in legs]
            if any(one >= other for one, other in pairwise(places)):
                raise InvalidInputError(name, "not in order, or two of one place", "the order of `book_of`")
        if self.floor is not None and not LEAST_FLOOR <= self.floor <= MAX_U32:
            raise InvalidInputError("floor", f"{self.floor} cents", f"{LEAST_FLOOR} to {MAX_U32} cents per bitcoin")
        self._check_barrier()
        _ = self.untouched, self.touched  # what is no curve is refused here, and not when it is paid

    def _check_barrier(self) -> None:
        if (self.barrier is None) != (not self.knock_outs):
            raise InvalidInputError("barrier", str(self.barrier), "one where legs end by it, and none elsewhere")
        if self.barrier is None:
            return
        if not 1 <= self.barrier <= MAX_U32:
            raise InvalidInputError("barrier", f"{self.barrier} cents", f"1 to {MAX_U32} cents per bitcoin")
        if self.barrier in {leg.strike for leg in self.knock_outs} or len(
            {leg.strike < self.barrier for leg in self.knock_outs}
        ) > 1:  # fmt: skip
            raise InvalidInputError(
                "barrier", f"{self.barrier} cents, at a strike or between strikes of legs that end by it",
                "a level above all their strikes, or below all of them",
            )  # fmt: skip

    @property
    def count(self) -> int:
        """How many legs it has."""
        return len(self.legs) + len(self.knock_outs)

    @property
    def is_up(self) -> bool:
        """Whether the barrier is touched from below."""
        return self.barrier is not None and self.knock_outs[0].strike < self.barrier

    @cached_property
    def touched(self) -> Curve | None:
        """What the holder gains once the barrier was touched; None without one."""
        return None if self.barrier is None else self._curve(self.legs)

    @cached_property
    def untouched(self) -> Curve:
        """What the holder gains while the barrier was not touched; a settlement price beyond it touches it."""
        every = self._curve((*self.legs, *self.knock_outs))
        if self.barrier is None:
            return every
        rest = self._curve(self.legs)
        if self.is_up:
            return _spliced(every, rest, at=self.barrier)
        return _spliced(rest, every, at=CentsPerBtc(self.barrier + 1))

    def _curve(self, legs: Sequence[Leg]) -> Curve:
        return curve_of(legs, floor=self.floor) if legs else _FLAT

    def condition(self, since: Slot) -> str:
        """Return what the oracle's condition digit states; empty without a barrier. Words as of a single option."""
        if self.barrier is None:
            return ""
        comparison = ">=" if self.is_up else "<="
        return f"agreed price {comparison} {self.barrier} cents between {since} and {self.expiry}"

    def leg_bytes(self) -> bytes:
        """Return the legs as the guest reads them, five words each."""
        rows = [(leg, 0) for leg in self.legs] + [(leg, 1) for leg in self.knock_outs]
        return b"".join(LEG_BYTES.pack(*_place(leg), leg.quantity, ends) for leg, ends in rows)

    def to_bytes(self) -> bytes:
        """Return the one form of the book in bytes."""
        head = _HEAD.pack(
            _VERSION, len(self.legs), len(self.knock_outs), self.expiry, self.floor or NO_PRICE,
            self.barrier or NO_PRICE,
        )  # fmt: skip
        return head + self.leg_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Book:
        """Return the book of ``to_bytes``. Raises InvalidInputError for any other bytes."""
        try:
            version, plain, ending, expiry, floor, barrier = _HEAD.unpack_from(data)
        except StructError as e:
            raise InvalidInputError("book", f"{len(data)} bytes", f"at least {_HEAD.size} bytes") from e
        if version != _VERSION:
            raise InvalidInputError("book.version", str(version), str(_VERSION))
        # counted before anything is made of them
        if plain > MAX_LEGS or ending > MAX_LEGS or len(data) != _HEAD.size + LEG_BYTES.size * (plain + ending):
            raise InvalidInputError("book", f"{len(data)} bytes", f"{LEG_BYTES.size} bytes a leg, up to {MAX_LEGS}")
        rows = list(LEG_BYTES.iter_unpack(data[_HEAD.size :]))
        for place, row in enumerate(rows):
            if row[0] >= len(KINDS) or row[4] != (place >= plain):
                raise InvalidInputError(f"book.legs[{place}]", f"kind {row[0]}, {row[4]}", "a kind, and 0 or 1 in turn")
        legs = [
            Leg(kind=KINDS[row[0]], strike=CentsPerBtc(row[1]), cash=CentsPerBtc(row[2]) or None, quantity=row[3])
            for row in rows
        ]  # fmt: skip
        return cls(
            expiry=Slot(expiry), legs=tuple(legs[:plain]), knock_outs=tuple(legs[plain:]),
            floor=CentsPerBtc(floor) or None, barrier=CentsPerBtc(barrier) or None,
        )  # fmt: skip

    @property
    def id(self) -> Hash32:
        """Hash of the one form."""
        return tagged_hash(_ID_TAG, self.to_bytes())


def book_of(
    legs: Iterable[Leg], *, expiry: Slot, knock_outs: Iterable[Leg] = (), floor: CentsPerBtc | None = None,
    barrier: CentsPerBtc | None = None,
) -> Book:  # fmt: skip
    """Return the book of legs in any order: equal ones made one, and what cancels left out. Raises as ``Book``."""
    return Book(
        expiry=expiry, legs=_merged(legs), knock_outs=_merged(knock_outs), floor=floor, barrier=barrier
    )  # fmt: skip


def _merged(legs: Iterable[Leg]) -> tuple[Leg, ...]:
    sums: dict[tuple[int, int, int], int] = {}
    for leg in legs:
        sums[_place(leg)] = sums.get(_place(leg), 0) + leg.quantity
    return tuple(
        Leg(kind=KINDS[kind], strike=CentsPerBtc(strike), cash=CentsPerBtc(cash) or None, quantity=quantity)
        for (kind, strike, cash), quantity in sorted(sums.items())
        if quantity
    )


def _spliced(low: Curve, high: Curve, *, at: CentsPerBtc) -> Curve:
    """Return ``low`` below a price and ``high`` from it on."""
    pieces = [one for one in low.pieces if one.start < at]
    over = [one for one in high.pieces if one.start <= at][-1]
    pieces.append(Piece(start=at, constant=over.constant, numerator=over.numerator))
    pieces += [one for one in high.pieces if one.start > at]
    # a first piece that starts where the other does is replaced by it: at one cent, all are of ``high``
    return Curve(floored(pieces, None))


def book_net(book: Book, prices: vector.NetArray, *, touched: bool = False) -> vector.NetArray:
    """Return what the holder gains at ascending prices in cents: the second road, in numpy.

    touched: the oracle's condition digit. Raises InvalidInputError for other prices.
    """
    curve = book.touched if touched and book.touched is not None else book.untouched
    return vector.curve_net(curve, np.asarray(prices, dtype=np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class BookContract:
    """A book at the prices of one event: what each side puts in, and what each range of prices pays the holder."""

    book: Book
    event: OracleEvent
    untouched: Netted
    touched: Netted | None
    """Once the barrier was touched; None without one. Both hold the same two amounts."""

    @property
    def holder(self) -> Sats:
        """What the holder puts in: the most that it can lose."""
        return self.untouched.holder

    @property
    def writer(self) -> Sats:
        """What the other side puts in: the most that the holder can gain."""
        return self.untouched.writer

    @property
    def collateral(self) -> Sats:
        """What the contract locks."""
        return self.untouched.collateral

    def buckets(self, rule: ToleranceRule, *, premium: Sats, limit: int = 50_000) -> tuple[Bucket, ...]:
        """Return what every range of outcomes pays the holder; each outcome lies in exactly one.

        premium: what a tolerance is of, the sum of the legs' premiums. The condition's digit stands first.
        Raises SingleOutcomeError, TooManyBucketsError.
        """
        if self.touched is None:
            return self.untouched.buckets(rule, premium=premium, limit=limit)
        found: list[Bucket] = []
        for digit, half in enumerate((self.untouched, self.touched)):
            try:
                ranges = half.buckets(rule, premium=premium, limit=limit)
            except SingleOutcomeError as e:
                ranges = (Bucket(prefix=0, length=0, payout=e.payout),)
            found += [replace(one, prefix=one.prefix | digit << one.length, length=one.length + 1) for one in ranges]
        if len({one.payout for one in found}) == 1:
            raise SingleOutcomeError(found[0].payout)
        if len(found) > limit:
            raise TooManyBucketsError(count=len(found), limit=limit)
        return tuple(found)

    def payout_at(self, outcome: int, rule: ToleranceRule, *, premium: Sats) -> Sats:
        """Return what the range of one outcome pays the holder, without all the others. Raises InvalidInputError."""
        if not 0 <= outcome < 1 << self.event.signed_digits:
            raise InvalidInputError("outcome", str(outcome), f"0 to {(1 << self.event.signed_digits) - 1}")
        digit, price = divmod(outcome, 1 << self.event.digits)
        half = self.touched if digit and self.touched is not None else self.untouched
        return half.payout_at(price, rule, premium=premium)

    def by(self, *, untouched: Payoff, touched: Payoff) -> BookContract:
        """Return the same contract computed by something else that is worth the same, such as the guest."""
        other = None if self.touched is None else replace(self.touched, payoff=touched)
        return replace(self, untouched=replace(self.untouched, payoff=untouched), touched=other)


def contract_of(book: Book, event: OracleEvent, *, path: Path | None = None) -> BookContract:
    """Return a book at the prices of an event, with the worst case of each side over both values of a condition.

    path: what the book's price is the value of, where it is that of a path: no part of the book says so, and the same
    legs over a ladder are another trade. Raises InvalidInputError for an event of another expiry, condition or path, or
    more than all bitcoin.
    """
    if event.path != path:
        raise InvalidInputError("event.path", str(event.path or "none"), str(path or "none"))
    if event.expiry != book.expiry:
        raise InvalidInputError("event.expiry", str(event.expiry), f"{book.expiry}, the book's")
    said = re.fullmatch(r"(.*between )([0-9]{1,12})( and [0-9]+)", event.condition)
    since = Slot(int(said[2])) if said else Slot(0)
    if event.condition != book.condition(since) or since > event.expiry:
        raise InvalidInputError("event.condition", repr(event.condition), repr(book.condition(since)))
    plain = replace(event, condition="")
    low = netted(book.untouched, plain)
    high = None if book.touched is None else netted(book.touched, plain)
    both = [low] if high is None else [low, high]
    holder, writer = max(one.holder for one in both), max(one.writer for one in both)
    if holder + writer > MAX_MONEY_SATS:
        raise InvalidInputError("quantity", f"{holder + writer} sats of collateral", f"at most {MAX_MONEY_SATS}")
    low, *rest = (replace(one, holder=Sats(holder), writer=Sats(writer)) for one in both)
    return BookContract(book=book, event=event, untouched=low, touched=rest[0] if rest else None)
