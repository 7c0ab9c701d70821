"""A provider's book: its margin, and the subcontracts that takers have of it. What each may do, and when.

Every function returns an ``Outcome``: the book as it is then, what goes to withdrawal balances or is burned, and the
event. A guard that is not kept raises SwapRefusedError, and nothing has changed. Pure: time is an argument.

Source: the specification in ``docs/swaps.md``, sections "Actions" and "Invariants".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from btcfi.swaps.contract import LOT, MAX_SUBCONTRACTS, NOTHING, burn_fee, close_fee
from btcfi.swaps.errors import Guard, SwapRefusedError
from btcfi.swaps.prices import DAY, PriceBoard, Start
from btcfi.swaps.returns import Side
from btcfi.units import MAX_MONEY_SATS, Sats, UnixSeconds

INACTIVE_SECONDS: Final = 9 * DAY
"""Without a settlement; then everybody leaves. Source: the appendix, section 10, as an ordinary gap is 8 days (C18)."""


class BookStatus(StrEnum):
    """Whether a book settles."""

    OPEN = "open"
    PROVIDER_DEFAULTED = "provider-defaulted"
    INACTIVE = "inactive"


class SubcontractStatus(StrEnum):
    """Where a subcontract is in its life."""

    PENDING = "pending"
    """Taken; its first price is not posted."""
    ACTIVE = "active"
    TERMINATED = "terminated"
    DEFAULTED = "defaulted"

    @property
    def is_live(self) -> bool:
        """Whether it still has a required margin."""
        return self in {SubcontractStatus.PENDING, SubcontractStatus.ACTIVE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subcontract:
    """One taker's position in a book."""

    number: int
    taker: str
    side: Side
    required: Sats
    """Fixed for its life; nothing afterwards."""
    margin: Sats
    taken_at: UnixSeconds
    start: Start | None = None
    """Where its return is measured from; None until prices are initialised."""
    settled_once: bool = False
    """Whether its required margin is netted with the others'."""
    status: SubcontractStatus = SubcontractStatus.PENDING
    cancelled_by: str | None = None
    admin_cancelled: bool = False
    taker_burned: bool = False
    provider_burned: bool = False

    @property
    def is_ending(self) -> bool:
        """Whether it ends at the next settlement."""
        return self.cancelled_by is not None or self.admin_cancelled or self.taker_burned or self.provider_burned

    @property
    def locked(self) -> Sats:
        """What its taker may not withdraw."""
        return self.required if self.status.is_live else Sats(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """One provider's book of one contract."""

    contract: str
    provider: str
    margin: Sats
    minimum_take: Sats
    subcontracts: Mapping[int, Subcontract] = field(default_factory=lambda: MappingProxyType({}))
    """By number; live ones and those not yet redeemed."""
    next_number: int = 1
    netted: Sats = NOTHING
    """What the provider's margin must be for what was settled at least once: the net of both sides then."""
    last_settle_at: UnixSeconds
    """The last settlement; at first, when the book was made."""
    weeks: int = 0
    """That were settled."""
    status: BookStatus = BookStatus.OPEN

    @property
    def live(self) -> Iterable[Subcontract]:
        """Return the subcontracts that have a required margin."""
        return [one for one in self.subcontracts.values() if one.status.is_live]

    @property
    def required(self) -> Sats:
        """What the provider's margin must be: the net of last settlement, and each take since then in full (C20)."""
        return Sats(self.netted + sum(one.required for one in self.live if not one.settled_once))

    @property
    def imbalance(self) -> int:
        """What takers are short of beyond what they are long of: the provider's own long position."""
        return -sum(one.side * one.required for one in self.live)

    def in_settlement(self, board: PriceBoard) -> bool:
        """Whether a week's prices are posted and this book has not settled it."""
        is_over = bool(board.last_week) and board.settlement_at > self.last_settle_at  # the first post ends no week
        return self.status is BookStatus.OPEN and is_over

    def room(self, side: Side, board: PriceBoard) -> Sats:
        """Return the largest required margin that can be taken on a side now. Source: specification, C19, C27."""
        required = self.required * (2 if self.in_settlement(board) else 1)
        most = maximum_take(self.margin, Sats(required), self.imbalance, side)
        return Sats(max(0, min(most, self.margin - self.required)))

    def with_subcontract(self, one: Subcontract) -> Book:
        """Return the book with a subcontract put in or replaced."""
        return replace(self, subcontracts=MappingProxyType({**self.subcontracts, one.number: one}))

    def subcontract(self, number: int) -> Subcontract:
        """Return a subcontract. Raises SwapRefusedError."""
        if number not in self.subcontracts:
            raise SwapRefusedError(Guard.NO_SUBCONTRACT, f"{number} in {self.provider}'s book", "one of the book's")
        return self.subcontracts[number]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What an action did, for the log: its name and its numbers."""

    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an action has done."""

    book: Book
    paid_in: Sats = NOTHING
    """New money of the caller's."""
    credits: tuple[tuple[str, Sats], ...] = ()
    """To withdrawal balances, by owner."""
    burned: Sats = NOTHING
    events: tuple[Event, ...]


def maximum_take(margin: Sats, required: Sats, imbalance: int, side: Side) -> Sats:
    """Return half of a provider's excess margin, and what a take on this side first sets off of its position.

    imbalance: the provider's own long position less its short one. Source: specification, C19.
    """
    return Sats(max(0, max(0, margin - required) // 2 + side * imbalance))


def _event(name: str, book: Book, **fields: Any) -> tuple[Event, ...]:  # noqa: ANN401 - numbers and names
    return (Event(name=name, fields={"contract": book.contract, "provider": book.provider, **fields}),)


def _amount(amount: int) -> Sats:
    if not 0 < amount <= MAX_MONEY_SATS:
        raise SwapRefusedError(Guard.AMOUNT, f"{amount} sats", f"1 to {MAX_MONEY_SATS}")
    return Sats(amount)


def _lots(what: str, amount: int) -> None:
    if amount <= 0 or amount % LOT:
        raise SwapRefusedError(Guard.LOTS, f"{what} of {amount} sats", f"a multiple of {LOT}")


def create_book(contract: str, provider: str, amount: int, minimum_take: int, *, now: UnixSeconds) -> Outcome:
    """Return a new book with a provider's first margin."""
    _lots("a minimum take", minimum_take)
    book = Book(
        contract=contract, provider=provider, margin=_amount(amount), minimum_take=Sats(minimum_take),
        last_settle_at=now,
    )  # fmt: skip
    return Outcome(book=book, paid_in=book.margin, events=_event("book-created", book, margin_sats=amount))


def fund_provider(book: Book, amount: int) -> Outcome:
    """Return the book with more of the provider's margin: anybody may cure, always while it is open."""
    if book.status is not BookStatus.OPEN:
        raise SwapRefusedError(Guard.BOOK_NOT_OPEN, f"the book is {book.status}", "an open one")
    after = replace(book, margin=Sats(book.margin + _amount(amount)))
    return Outcome(book=after, paid_in=Sats(amount), events=_event("provider-funded", book, amount_sats=amount))


def fund_taker(book: Book, number: int, amount: int) -> Outcome:
    """Return the book with more of a taker's margin: anybody may cure, while the subcontract is live."""
    one = _live(book, number)
    after = book.with_subcontract(replace(one, margin=Sats(one.margin + _amount(amount))))
    events = _event("taker-funded", book, number=number, amount_sats=amount)
    return Outcome(book=after, paid_in=Sats(amount), events=events)


def take(
    book: Book, board: PriceBoard, *, taker: str, side: Side, required: int, amount: int, paused: bool, now: UnixSeconds
) -> Outcome:  # fmt: skip
    """Return the book with a new subcontract, whose price is that of the next close it is in time for."""
    if paused:
        raise SwapRefusedError(Guard.PAUSED, "takes are paused", "other actions, or a take later")
    if book.status is not BookStatus.OPEN:
        raise SwapRefusedError(Guard.BOOK_NOT_OPEN, f"the book is {book.status}", "an open one")
    _lots("a required margin", required)
    if required < book.minimum_take:
        raise SwapRefusedError(Guard.MINIMUM_TAKE, f"{required} sats", f"{book.minimum_take} or more")
    if _amount(amount) < required:
        raise SwapRefusedError(Guard.REQUIRED_MARGIN, f"{amount} sats of margin", f"{required} or more")
    if len(book.subcontracts) >= MAX_SUBCONTRACTS:
        raise SwapRefusedError(
            Guard.SUBCONTRACTS, f"{len(book.subcontracts)} in the book", f"{MAX_SUBCONTRACTS} at most"
        )
    if required > (most := book.room(side, board)):
        raise SwapRefusedError(Guard.MAXIMUM_TAKE, f"{required} sats {side.name.lower()}", f"{most} at most")
    one = Subcontract(
        number=book.next_number, taker=taker, side=side, required=Sats(required), margin=Sats(amount), taken_at=now
    )
    after = replace(book.with_subcontract(one), next_number=book.next_number + 1)
    events = _event(
        "taken", book, number=one.number, taker=taker, side=side.name.lower(), required_sats=required,
        margin_sats=amount,
    )  # fmt: skip
    return Outcome(book=after, paid_in=Sats(amount), events=events)


def initialise(book: Book, board: PriceBoard, *, taken_before: UnixSeconds) -> Outcome:
    """Return the book with a start for each take that is in time for the next post. Before that post only."""
    chosen = [one for one in book.live if one.start is None and one.taken_at < taken_before]
    after, start = book, board.next_start
    for one in chosen:
        after = after.with_subcontract(replace(one, start=start, status=SubcontractStatus.ACTIVE))
    numbers = [one.number for one in chosen]
    return Outcome(
        book=after, events=_event("initialised", book, numbers=numbers, week=start.week, slot=start.slot)
    )  # fmt: skip


def cancel(book: Book, board: PriceBoard, number: int, *, caller: str, paid: int) -> Outcome:
    """Return the book with a subcontract that ends at the next settlement. The oracle's fee is 1.5 %."""
    one = _live(book, number)
    _side_of(book, one, caller)
    _outside_settlement(book, board)
    if one.cancelled_by is not None:
        raise SwapRefusedError(Guard.ALREADY_CANCELLED, f"by {one.cancelled_by}", "a subcontract nobody cancelled")
    if paid < (fee := close_fee(one.required)):
        raise SwapRefusedError(Guard.CLOSE_FEE, f"{paid} sats", f"{fee} or more")
    after = book.with_subcontract(replace(one, cancelled_by=caller))
    events = _event("cancelled", book, number=number, by=caller, fee_sats=fee)
    return Outcome(
        book=after, paid_in=_amount(paid), credits=_given((ORACLE, fee), (caller, paid - fee)), events=events
    )


def admin_cancel(book: Book, number: int) -> Outcome:
    """Return the book with a subcontract that ends at the next settlement, without any fee: the oracle's to do."""
    one = _live(book, number)
    if one.admin_cancelled:
        raise SwapRefusedError(Guard.ALREADY_CANCELLED, "by the oracle", "a subcontract nobody cancelled")
    after = book.with_subcontract(replace(one, admin_cancelled=True))
    return Outcome(book=after, events=_event("admin-cancelled", book, number=number))


def burn(book: Book, board: PriceBoard, number: int, *, caller: str, paid: int) -> Outcome:
    """Return the book with a subcontract whose burner's debit of this week goes to nobody; that costs it a quarter."""
    one = _live(book, number)
    _side_of(book, one, caller)
    if not book.in_settlement(board):
        raise SwapRefusedError(Guard.NOT_IN_SETTLEMENT, "no price waits to be settled", "a settlement period")
    by_taker = caller == one.taker and not one.taker_burned
    if not by_taker and (caller != book.provider or one.provider_burned):
        raise SwapRefusedError(Guard.ALREADY_BURNED, f"by {caller}", "once each side")
    if paid < (fee := burn_fee(one.required)):
        raise SwapRefusedError(Guard.BURN_FEE, f"{paid} sats", f"{fee} or more")
    burned = replace(one, taker_burned=True) if by_taker else replace(one, provider_burned=True)
    events = _event("burned", book, number=number, by=caller, burned_sats=fee)
    return Outcome(
        book=book.with_subcontract(burned), paid_in=_amount(paid), credits=_given((caller, paid - fee)), burned=fee,
        events=events,
    )  # fmt: skip


def withdraw_provider(book: Book, board: PriceBoard, amount: int) -> Outcome:
    """Return the book with less of the provider's margin, which goes to its withdrawal balance."""
    _outside_settlement(book, board)
    locked = book.required if book.status is BookStatus.OPEN else 0
    if book.margin - _amount(amount) < locked:
        raise SwapRefusedError(
            Guard.REQUIRED_MARGIN, f"{amount} sats of {book.margin}", f"{book.margin - locked} at most"
        )
    after = replace(book, margin=Sats(book.margin - amount))
    events = _event("provider-withdrew", book, amount_sats=amount)
    return Outcome(book=after, credits=((book.provider, Sats(amount)),), events=events)


def withdraw_taker(book: Book, board: PriceBoard, number: int, amount: int, *, caller: str) -> Outcome:
    """Return the book with less of a taker's margin, which goes to its withdrawal balance."""
    one = book.subcontract(number)
    if caller != one.taker:
        raise SwapRefusedError(Guard.NOT_A_SIDE, f"{caller} is not its taker", one.taker)
    _outside_settlement(book, board)
    if one.margin - _amount(amount) < one.locked:
        most = one.margin - one.locked
        raise SwapRefusedError(Guard.REQUIRED_MARGIN, f"{amount} sats of {one.margin}", f"{most} at most")
    after = book.with_subcontract(replace(one, margin=Sats(one.margin - amount)))
    events = _event("taker-withdrew", book, number=number, amount_sats=amount)
    return Outcome(book=after, credits=((one.taker, Sats(amount)),), events=events)


def redeem(book: Book, number: int) -> Outcome:
    """Return the book without a subcontract that is over; its margin goes to its taker, whoever asks."""
    one = book.subcontract(number)
    if one.status.is_live:
        raise SwapRefusedError(Guard.IS_LIVE, f"{number} is {one.status}", "one that is over")
    left = {key: each for key, each in book.subcontracts.items() if key != number}
    after = replace(book, subcontracts=MappingProxyType(left))
    events = _event("redeemed", book, number=number, amount_sats=one.margin)
    return Outcome(book=after, credits=_given((one.taker, one.margin)), events=events)


def declare_inactive(book: Book, *, now: UnixSeconds) -> Outcome:
    """Return the book that settles no more, as the oracle has been silent: everybody takes its margin home."""
    if book.status is not BookStatus.OPEN:
        raise SwapRefusedError(Guard.BOOK_NOT_OPEN, f"the book is {book.status}", "an open one")
    if now <= (due := book.last_settle_at + INACTIVE_SECONDS):
        raise SwapRefusedError(Guard.STILL_ACTIVE, f"the last settlement was at {book.last_settle_at}", f"after {due}")
    after = replace(ended(book, SubcontractStatus.TERMINATED), status=BookStatus.INACTIVE)
    return Outcome(book=after, events=_event("inactive", book))


def ended(book: Book, status: SubcontractStatus) -> Book:
    """Return the book with every live subcontract over."""
    each = {
        key: replace(one, status=status, required=Sats(0)) if one.status.is_live else one
        for key, one in book.subcontracts.items()
    }
    return replace(book, subcontracts=MappingProxyType(each), netted=Sats(0))


ORACLE: Final = "oracle"
"""Whose withdrawal balance fees go to."""


def _given(*pairs: tuple[str, int]) -> tuple[tuple[str, Sats], ...]:
    return tuple((owner, Sats(amount)) for owner, amount in pairs if amount)


def _live(book: Book, number: int) -> Subcontract:
    one = book.subcontract(number)
    if not one.status.is_live:
        raise SwapRefusedError(Guard.IS_OVER, f"{number} is {one.status}", "a live subcontract")
    return one


def _side_of(book: Book, one: Subcontract, caller: str) -> None:
    if caller not in {one.taker, book.provider}:
        raise SwapRefusedError(Guard.NOT_A_SIDE, f"{caller} in {one.number}", f"{one.taker} or {book.provider}")


def _outside_settlement(book: Book, board: PriceBoard) -> None:
    if book.in_settlement(board):
        raise SwapRefusedError(
            Guard.IN_SETTLEMENT, "a week's prices are posted and not settled", "after its settlement"
        )
