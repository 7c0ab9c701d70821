"""Which instruments are listed: expiries at 08:00 UTC, and a ladder of strikes for each.

Pure and without memory: the same day, rule and prices give the same list in every process. A listed strike does not
vanish: a ladder stands around *every* price from the lowest to the highest that the caller has seen, so it grows with
the range and never moves with the spot; and a nearer expiry has all strikes of a farther one, and finer ones between
them. What somebody holds, or offers, stays an instrument whether it is listed or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import count, islice
from typing import Final, TypeVar

from btcfi.errors import InvalidInputError
from btcfi.market.instrument import STANDARD_FIXING, Instrument
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE, Fixing
from btcfi.units import MAX_U32, SECONDS_PER_MINUTE, CentsPerBtc, Minutes, Slot, UnixSeconds

T = TypeVar("T")

EXPIRY_HOUR: Final = 8
"""UTC, of every listed expiry but the short ones: the field's hour."""

MOST_INSTRUMENTS: Final = 20_000
"""Of one list: ten times what any market of this kind lists."""

_DAY: Final = 86_400
_FRIDAY: Final = 4
_QUARTER_ENDS: Final = (3, 6, 9, 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """Strikes at one distance from each other, for expiries near enough."""

    step: CentsPerBtc
    """Between two strikes; each is a multiple of it."""
    days: int
    """The farthest expiry that has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingRule:
    """What a market lists. Raises InvalidInputError for one that contradicts itself."""

    kinds: tuple[OptionKind, ...]
    dailies: int
    """The next days."""
    weeklies: int
    """The next Fridays."""
    monthlies: int
    """The last Fridays of as many months."""
    quarterlies: int
    """The last Fridays of March, June, September and December."""
    strikes: int
    """To each side of a price, of every rung that an expiry has."""
    ladder: tuple[Rung, ...]
    """Finest first; the last one holds for every expiry."""
    short: tuple[Minutes, ...] = ()
    """Also expiries on whole multiples of these, for simulations."""
    short_count: int = 2
    """The next so many of each."""
    short_fixing: Fixing = MINUTE
    """What settles those: a window of half an hour is longer than some of them live."""

    def __post_init__(self) -> None:
        """Check that the ladder's steps grow with its days."""
        if not self.ladder or any(rung.step < 1 or rung.days < 1 for rung in self.ladder):
            raise InvalidInputError("listing.ladder", f"{len(self.ladder)} rungs", "at least one, of 1 cent and 1 day")
        if any(a.step >= b.step or a.days > b.days for a, b in zip(self.ladder, self.ladder[1:], strict=False)):
            raise InvalidInputError("listing.ladder", "its steps or days shrink", "finer steps for nearer expiries")
        if any(m < 1 for m in self.short):
            raise InvalidInputError("listing.short", f"{min(self.short)} minutes", "at least 1")


def expiries(rule: ListingRule, now: UnixSeconds) -> tuple[Slot, ...]:
    """Return the listed expiries after ``now``, nearest first."""
    found = {_expiry(day) for day in _days(rule, now)}
    for minutes in rule.short:
        every = minutes * SECONDS_PER_MINUTE
        found |= {Slot((now // every + n) * every) for n in range(1, rule.short_count + 1)}
    return tuple(sorted(found))


def is_short(rule: ListingRule, expiry: Slot) -> bool:
    """Return whether an expiry is one of a simulation's, and not one that markets have."""
    on_the_hour = expiry % _DAY == EXPIRY_HOUR * 3_600
    return not on_the_hour and any(expiry % (m * SECONDS_PER_MINUTE) == 0 for m in rule.short)


def ladder(
    rule: ListingRule, spot: CentsPerBtc, expiry: Slot, now: UnixSeconds, *,
    low: CentsPerBtc | None = None, high: CentsPerBtc | None = None,
) -> tuple[CentsPerBtc, ...]:  # fmt: skip
    """Return the strikes of an expiry, lowest first.

    low, high: the lowest and the highest price seen, so that no strike vanishes while the spot moves; None: the spot.
    """
    lowest, highest = min(spot, low or spot), max(spot, high or spot)
    days = days_left(expiry, now)
    found: set[int] = set()
    for place, rung in enumerate(rule.ladder):
        if days <= rung.days or place == len(rule.ladder) - 1:
            # those below the lowest price, those between, those above the highest
            first = -(-lowest // rung.step) - rule.strikes
            last = highest // rung.step + rule.strikes
            found |= {n * rung.step for n in range(max(first, 1), last + 1)}
    return tuple(CentsPerBtc(strike) for strike in sorted(found) if strike <= MAX_U32)


def days_left(expiry: Slot, now: UnixSeconds) -> int:
    """Return the market's days until an expiry, the one that runs included; they change at 08:00 UTC."""
    return -(-(expiry - EXPIRY_HOUR * 3_600) // _DAY) - (now - EXPIRY_HOUR * 3_600) // _DAY


def day_start(now: UnixSeconds) -> UnixSeconds:
    """Return when the market's day began: the newest 08:00 UTC, from which a caller takes ``low`` and ``high``."""
    return UnixSeconds(now - (now - EXPIRY_HOUR * 3_600) % _DAY)


def listed(
    rule: ListingRule, now: UnixSeconds, spot: CentsPerBtc, *,
    low: CentsPerBtc | None = None, high: CentsPerBtc | None = None,
) -> tuple[Instrument, ...]:  # fmt: skip
    """Return every listed instrument: by expiry, strike and kind.

    spot: the newest agreed price. low, high: as for ``ladder``; since ``day_start`` is enough for a list that only
    grows within a day. Raises InvalidInputError where the range makes more than MOST_INSTRUMENTS.
    """
    return _bounded(
        Instrument(kind=kind, strike=strike, expiry=expiry, fixing=_fixing(rule, expiry))
        for expiry in expiries(rule, now)
        for strike in ladder(rule, spot, expiry, now, low=low, high=high)
        for kind in rule.kinds
    )


def _bounded(many: Iterable[T]) -> tuple[T, ...]:
    found = tuple(islice(many, MOST_INSTRUMENTS + 1))
    if len(found) > MOST_INSTRUMENTS:
        raise InvalidInputError("listing", f"more than {MOST_INSTRUMENTS:,} instruments", "fewer, or a smaller range")
    return found


def _fixing(rule: ListingRule, expiry: Slot) -> Fixing:
    return rule.short_fixing if is_short(rule, expiry) else STANDARD_FIXING


def _expiry(day: date) -> Slot:
    return Slot(int(datetime.combine(day, time(EXPIRY_HOUR), tzinfo=UTC).timestamp()))


def _days(rule: ListingRule, now: UnixSeconds) -> set[date]:
    """Return the days that end a listed option's life."""
    first = datetime.fromtimestamp(day_start(now) + _DAY, UTC).date()
    friday = first + timedelta(days=(_FRIDAY - first.weekday()) % 7)
    days = {first + timedelta(days=n) for n in range(rule.dailies)}
    days |= {friday + timedelta(weeks=n) for n in range(rule.weeklies)}
    ends = (_last_friday(first.year + (first.month - 1 + n) // 12, (first.month - 1 + n) % 12 + 1) for n in count())
    months = rule.monthlies
    quarters = rule.quarterlies
    while months or quarters:
        end = next(ends)
        if end < first:
            continue
        if months:
            days.add(end)
            months -= 1
        if quarters and end.month in _QUARTER_ENDS:
            days.add(end)
            quarters -= 1
    return days


def _last_friday(year: int, month: int) -> date:
    last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - _FRIDAY) % 7)
