"""A week of one book, settled: debits, credits, then who ends. Source: the specification in ``docs/swaps.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType

from btcfi.swaps.book import ORACLE, Book, BookStatus, Event, Outcome, Subcontract, SubcontractStatus, ended
from btcfi.swaps.contract import Rates, SwapContract, default_fee
from btcfi.swaps.errors import Guard, SwapRefusedError
from btcfi.swaps.prices import DAY, HOUR, PriceBoard, Start
from btcfi.swaps.returns import Side, taker_profit, taker_return
from btcfi.units import Sats, UnixSeconds

SETTLE_SECONDS = 4 * HOUR
"""After the latest post or correction. Source: the appendix's timeline."""

COMPUTE_SECONDS = 11 * DAY // 2
"""After the last settlement of the contract."""

BOOK_SECONDS = 5 * DAY
"""After a book's last settlement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeekReturns:
    """The data points of a week: for each day that it had and each side a part of the required margin."""

    week: int
    """The week that they settle."""
    days: int
    """On which a position could start."""
    rates: Rates
    computed_at: UnixSeconds
    parts: Mapping[tuple[int, Side], Fraction]

    def start(self, one: Subcontract) -> int | None:
        """Return the day of the week from which a subcontract's return counts; None: it starts with the next week.

        One whose week was never settled counts from this week's first day: what no settlement paid is paid by none.
        """
        if one.start is None or (one.start.week == self.week and one.start.slot >= self.days):
            return None
        if one.start.week > self.week:
            return None
        return one.start.slot if one.start.week == self.week else 0

    def of(self, one: Subcontract) -> Fraction:
        """Return a subcontract's profit as a part of its required margin."""
        start = self.start(one)
        return Fraction(0) if start is None else self.parts[start, one.side]


def compute_returns(contract: SwapContract, board: PriceBoard, rates: Rates, *, now: UnixSeconds) -> WeekReturns:
    """Return the ten data points of the week that the latest settling post ended.

    Raises SwapRefusedError where no such week is. Source: the appendix, section 9.
    """
    if len(board.slots) != 1 or not board.last_week:
        raise SwapRefusedError(Guard.NOT_IN_SETTLEMENT, "the latest post settles no week", "after one that does")
    end, week = board.price(Start(board.week, 0), contract.name), board.week - 1
    parts = {
        (slot, side): taker_return(contract, side, board.price(Start(week, slot), contract.name), end, rates)
        for slot in range(len(board.last_week))
        for side in Side
    }
    return WeekReturns(
        week=week, days=len(board.last_week), rates=rates, computed_at=now, parts=MappingProxyType(parts)
    )


def check_settle(book: Book, board: PriceBoard, returns: WeekReturns | None, *, now: UnixSeconds) -> WeekReturns:
    """Return the returns by which a book may be settled now. Raises SwapRefusedError, naming the guard."""
    if book.status is not BookStatus.OPEN:
        raise SwapRefusedError(Guard.BOOK_NOT_OPEN, f"the book is {book.status}", "an open one")
    if not book.in_settlement(board):
        raise SwapRefusedError(Guard.NOT_IN_SETTLEMENT, "no price waits to be settled", "after a settling post")
    if returns is None or returns.week != board.week - 1 or returns.computed_at < board.changed_at:
        raise SwapRefusedError(Guard.NOT_COMPUTED, "the week's returns are not those of its prices", "compute first")
    for due in (board.changed_at + SETTLE_SECONDS, book.last_settle_at + BOOK_SECONDS if book.weeks else 0):
        if now < due:
            raise SwapRefusedError(Guard.TOO_SOON, f"a settlement at {now}", f"{due} or later")
    return returns


def settle(book: Book, returns: WeekReturns, *, now: UnixSeconds) -> Outcome:
    """Return a book after its week.

    A transfer is burned if its debtor burned; whoever burned keeps its own credit. The provider pays at most its
    required margin beyond what the losers paid it: what is short then is taken off all winners in proportion (C21).
    """
    profits = {one.number: taker_profit(one.required, returns.of(one)) for one in book.live}
    margins = {one.number: one.margin for one in book.live}
    pool = burned = 0
    for one in book.live:
        if (lost := -profits[one.number]) > 0:
            margins[one.number] = Sats(margins[one.number] - lost)
            pool, burned = (pool, burned + lost) if one.taker_burned else (pool + lost, burned)
    owed = {one.number: profits[one.number] for one in book.live if profits[one.number] > 0}
    total, available = sum(owed.values()), pool + min(book.margin, book.required)
    paid = {key: amount if total <= available else amount * available // total for key, amount in owed.items()}
    for number, amount in paid.items():
        if book.subcontracts[number].provider_burned:
            burned += amount
        else:
            margins[number] = Sats(margins[number] + amount)
    margin, fees = Sats(book.margin + pool - sum(paid.values())), 0
    each = dict(book.subcontracts)
    for one in book.live:
        after = replace(one, margin=margins[one.number])
        if one.is_ending:
            after = replace(after, status=SubcontractStatus.TERMINATED, required=Sats(0))
        elif after.margin < one.required:
            fee = default_fee(one.required, after.margin)
            fees += fee
            after = replace(
                after, status=SubcontractStatus.DEFAULTED, required=Sats(0), margin=Sats(after.margin - fee)
            )
        elif one.start is not None and one.start.week <= returns.week:
            started = returns.start(one) is not None
            after = replace(after, start=Start(returns.week + 1, 0), settled_once=one.settled_once or started)
        each[one.number] = after
    rest = replace(book, margin=margin, subcontracts=MappingProxyType(each), last_settle_at=now, weeks=book.weeks + 1)
    rest = replace(rest, netted=Sats(abs(sum(one.side * one.required for one in rest.live if one.settled_once))))
    if rest.margin < rest.required:
        fee = default_fee(rest.required, rest.margin)
        fees += fee
        rest = replace(
            ended(rest, SubcontractStatus.TERMINATED), margin=Sats(rest.margin - fee),
            status=BookStatus.PROVIDER_DEFAULTED,
        )  # fmt: skip
    event = Event(
        name="settled",
        fields={
            "contract": book.contract, "provider": book.provider, "week": returns.week,
            "profits_sats": profits, "credits_sats": paid, "burned_sats": burned, "fees_sats": fees,
            "provider_margin_sats": rest.margin, "status": rest.status.value,
        },
    )  # fmt: skip
    return Outcome(
        book=rest, credits=((ORACLE, Sats(fees)),) if fees else (), burned=Sats(burned), events=(event,)
    )  # fmt: skip
