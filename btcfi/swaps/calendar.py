"""When things happen in a week: New York's clock and the stock exchange's days, as UTC instants.

Instants are compared, never local dates added: a day is 23 or 25 hours twice a year. The exchange's days and half days
come from exchange_calendars, which keeps them for years ahead; a closure that nobody knew of needs a new release of it.

Source: the appendix, sections 9 to 11, by the specification in ``docs/swaps.md``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from btcfi.errors import InvalidInputError
from btcfi.units import UnixSeconds

NEW_YORK: Final = ZoneInfo("America/New_York")
EXCHANGE: Final = "XNYS"

INITIALISE: Final = time(15, 45)
"""Takes before it have this day's close; those from it on the next business day's."""
REFERENCE: Final = time(16, 0)
"""When bitcoin's and ether's price is measured, half days too."""
POST: Final = time(16, 15)
ATTEST: Final = time(16, 45)
"""When no correction is possible any more: two attestations of one event would give the oracle's key away."""
SETTLE_HOURS: Final = 4
"""After the latest post or correction."""

WEDNESDAY: Final = 2

LOOK_BACK_DAYS: Final = 10
"""In which there is a settlement day, whatever the holidays."""

FIRST_YEAR, LAST_YEAR = 2009, 2040


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A business day's instants."""

    date: date
    initialise: UnixSeconds
    reference: UnixSeconds
    index_close: UnixSeconds
    """The official close of stocks: earlier than the reference on half days."""
    post: UnixSeconds
    attest: UnixSeconds
    settle: UnixSeconds
    """The earliest, if nothing is corrected and this day settles."""
    settles: bool
    """Whether it is the week's settlement day."""


@lru_cache(maxsize=1)
def _exchange() -> Any:  # noqa: ANN401 - the library's calendar; pandas behind it takes half a second
    from exchange_calendars import get_calendar  # noqa: PLC0415 - commands that need no day do not wait for pandas

    with warnings.catch_warnings():  # it asks pandas for something that the next pandas will do otherwise
        warnings.simplefilter("ignore", DeprecationWarning)
        return get_calendar(EXCHANGE, start=f"{FIRST_YEAR}-01-01", end=f"{LAST_YEAR}-12-31")


def is_business_day(day: date) -> bool:
    """Return whether the exchange opens. Raises InvalidInputError outside the years that are known."""
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise InvalidInputError("day", day.isoformat(), f"{FIRST_YEAR} to {LAST_YEAR}")
    return bool(_exchange().is_session(day.isoformat()))


def next_business_day(day: date) -> date:
    """Return the first business day after a day."""
    after = day + timedelta(days=1)
    while not is_business_day(after):
        after += timedelta(days=1)
    return after


def settlement_day(day: date) -> date:
    """Return the settlement day of a day's week: Wednesday, or the business day before where that is none."""
    found = day + timedelta(days=WEDNESDAY - day.weekday())
    while not is_business_day(found):
        found -= timedelta(days=1)
    return found


def next_settlement_day(day: date) -> date:
    """Return the first settlement day after a day."""
    found = settlement_day(day)
    return found if found > day else settlement_day(day + timedelta(days=7))


def start_day(taken_at: UnixSeconds) -> date:
    """Return the business day whose close is a take's first price: its own if it comes before the initialisation."""
    local = datetime.fromtimestamp(taken_at, tz=UTC).astimezone(NEW_YORK)
    if is_business_day(local.date()) and taken_at < instant(local.date(), INITIALISE):
        return local.date()
    return next_business_day(local.date())


def start_days(previous: date, settlement: date) -> tuple[date, ...]:
    """Return the days on which a position of the week can start: the settlement before, and each business day since."""
    days, day = [previous], next_business_day(previous)
    while day < settlement:
        days.append(day)
        day = next_business_day(day)
    return tuple(days)


def due_day(posted: date | None, now: UnixSeconds) -> Day | None:
    """Return the day whose prices are posted next, from the time on at which its takes are initialised; None: none yet.

    posted: of the latest post; None before the first, which is a settlement day's. A settlement day that was missed
    comes before any later day, the newest one if several were; other days that were missed are left out, and their
    takes start a day later.
    """
    today = datetime.fromtimestamp(now, tz=UTC).astimezone(NEW_YORK).date()
    first = today - timedelta(days=LOOK_BACK_DAYS) if posted is None else posted + timedelta(days=1)
    span = (today - max(first, today - timedelta(days=LOOK_BACK_DAYS))).days
    behind = [today - timedelta(days=back) for back in range(span + 1)]
    days = [found for one in behind if is_business_day(one) and (found := day_of(one)).initialise <= now]
    settling = next((one for one in days if one.settles and (one.post <= now or one.date == today)), None)
    return settling or (days[0] if days and posted is not None else None)


def instant(day: date, at: time) -> UnixSeconds:
    """Return a New York time of a day as an instant."""
    return UnixSeconds(int(datetime.combine(day, at, tzinfo=NEW_YORK).timestamp()))


def day_of(day: date) -> Day:
    """Return a business day's instants. Raises InvalidInputError for a day on which the exchange is closed."""
    if not is_business_day(day):
        raise InvalidInputError("day", f"{day.isoformat()}, on which the exchange is closed", "a business day")
    post = instant(day, POST)
    return Day(
        date=day, initialise=instant(day, INITIALISE), reference=instant(day, REFERENCE),
        index_close=UnixSeconds(int(_exchange().session_close(day.isoformat()).timestamp())), post=post,
        attest=instant(day, ATTEST), settle=UnixSeconds(post + SETTLE_HOURS * 3_600),
        settles=settlement_day(day) == day,
    )  # fmt: skip
