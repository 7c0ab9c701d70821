"""Paths: one number that an oracle makes of many agreed minutes, so that it settles by digits as a price does.

``asian:60x24`` is the mean of 24 prices, an hour apart; ``cliquet:1440x7:-200:300`` an index of seven daily returns,
each held between -2 % and +3 %; ``ladder:up:SINCE:70000/75000`` the price of the end or the highest rung that was
reached, whichever is more. The text is all of the definition and stands in the event's id: who reads another text has
another event. Whole numbers only: equal minutes give an equal value on every machine. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.oracle.fixing import MOST_MINUTES
from btcfi.records import Rule
from btcfi.units import MAX_U32, SECONDS_PER_MINUTE, CentsPerBtc, Minutes, Slot

MOST_OBSERVATIONS: Final = 1_440
"""Of a mean: a day by the minute."""

MOST_PERIODS: Final = 366
"""Of a cliquet: a year by the day."""

MOST_RUNGS: Final = 16

MOST_EVERY: Final = Minutes(44_640)
"""Minutes between two observations: a month of 31 days."""

MOST_SPAN: Final = Minutes(92 * 1_440)
"""From the first minute that a path looks at to the last: a quarter of a year. The evidence names every one of them."""

INDEX_START: Final = 100_000
"""Points of a cliquet's index before its first period. A point is 1/100,000, a tenth of a basis point, and is attested
as a dollar is: 18 digits hold -100 % to +162 %."""

INDEX_UNIT: Final = INDEX_START * 100
"""The same in hundredths of a point, which is what returns are summed in and what stands for cents."""

POINTS_PER_BPS: Final = 10

HIGHEST: Final = (1 << 18) - 1
"""What 18 digits can state."""

EXPECTED: Final = (
    f"asian:EVERYxCOUNT, cliquet:EVERYxCOUNT:FLOOR:CAP or ladder:up|down:SINCE:RUNG/RUNG; EVERY 1 to {MOST_EVERY} "
    f"minutes, FLOOR and CAP in basis points, rungs in whole dollars; {MOST_SPAN} minutes at most in all"
)


class WrongPathError(InvalidInputError):
    """A text that defines no path, or one that does not fit its event."""


def _wrong(problem: str, expected: str = EXPECTED) -> WrongPathError:
    return WrongPathError("path", problem, expected)


@dataclass(frozen=True, slots=True)
class Asian:
    """The arithmetic mean of ``count`` observations, ``every`` minutes apart, the last at the expiry."""

    every: Minutes
    count: int

    def __post_init__(self) -> None:
        """Raise WrongPathError naming what makes no mean."""
        _check_steps(self.every, self.count, periods=self.count - 1, most=MOST_OBSERVATIONS)

    def __str__(self) -> str:
        return f"asian:{self.every}x{self.count}"

    def times(self, expiry: Slot) -> tuple[Slot, ...]:
        """Return the minutes that are observed, oldest first."""
        return _times(expiry, self.every, self.count)

    def value(self, prices: Sequence[CentsPerBtc]) -> CentsPerBtc:
        """Return the mean of as many prices as there are observations: whole cents, rounded down.

        The nearest dollar of it is the nearest dollar of the exact mean; half a dollar goes up.
        """
        return CentsPerBtc(sum(_counted(prices, self.count)) // self.count)


@dataclass(frozen=True, slots=True)
class Cliquet:
    """An index: 100,000 points and the sum of ``count`` returns, each held between a floor and a cap."""

    every: Minutes
    count: int
    """Periods: there is one observation more."""
    floor_bps: int
    """The least of one return, in basis points; 0 or below."""
    cap_bps: int
    """The most of one return; above 0."""

    def __post_init__(self) -> None:
        """Raise WrongPathError naming what makes no index that 18 digits hold."""
        _check_steps(self.every, self.count, periods=self.count, most=MOST_PERIODS)
        _check_whole("floor", self.floor_bps)
        _check_whole("cap", self.cap_bps)
        if not self.floor_bps <= 0 < self.cap_bps:
            raise _wrong(f"returns between {self.floor_bps} and {self.cap_bps} bp", "a floor up to 0, a cap above it")
        if self.lowest < 1 or self.highest > HIGHEST:
            raise _wrong(f"an index from {self.lowest} to {self.highest} points", f"1 to {HIGHEST} points")

    def __str__(self) -> str:
        return f"cliquet:{self.every}x{self.count}:{self.floor_bps}:{self.cap_bps}"

    @property
    def lowest(self) -> int:
        """The least that the index can be, in points."""
        return INDEX_START + self.count * self.floor_bps * POINTS_PER_BPS

    @property
    def highest(self) -> int:
        """The most that the index can be, in points."""
        return INDEX_START + self.count * self.cap_bps * POINTS_PER_BPS

    def times(self, expiry: Slot) -> tuple[Slot, ...]:
        """Return the minutes that are observed, oldest first: the first is where the first period begins."""
        return _times(expiry, self.every, self.count + 1)

    def value(self, prices: Sequence[CentsPerBtc]) -> CentsPerBtc:
        """Return the index in hundredths of a point.

        Each return is a whole number of ten-millionths, the nearest one, half up, before it is held between its bounds;
        the sum is exact.
        """
        known = _counted(prices, self.count + 1)
        floor, cap = (bps * POINTS_PER_BPS * 100 for bps in (self.floor_bps, self.cap_bps))
        returns = [min(max(return_of(before, after), floor), cap) for before, after in pairwise(known)]
        return CentsPerBtc(INDEX_UNIT + sum(returns))


@dataclass(frozen=True, slots=True)
class Ladder:
    """The price of the end, or the farthest rung that an agreed range reached, whichever is farther."""

    up: bool
    """Whether rungs are reached from below, and the higher value counts; else from above, and the lower."""
    since: Slot
    """The minutes after it are watched, up to and with the expiry."""
    rungs: tuple[int, ...]
    """Whole dollars, in the order in which they are reached."""

    def __post_init__(self) -> None:
        """Raise WrongPathError naming what makes no ladder."""
        if isinstance(self.since, bool) or not 0 < self.since <= MAX_U32 or self.since % SECONDS_PER_MINUTE:
            raise _wrong(f"since {self.since}", "a minute, in unix seconds")
        if not 1 <= len(self.rungs) <= MOST_RUNGS:
            raise _wrong(f"{len(self.rungs)} rungs", f"1 to {MOST_RUNGS}")
        for rung in self.rungs:
            _check_whole("rung", rung)
            if not 1 <= rung <= HIGHEST:
                raise _wrong(f"a rung at ${rung}", f"1 to {HIGHEST} whole dollars")
        if any((high <= low) if self.up else (high >= low) for low, high in pairwise(self.rungs)):
            raise _wrong("rungs out of order", "the order in which they are reached, none twice")

    def __str__(self) -> str:
        return f"ladder:{'up' if self.up else 'down'}:{self.since}:{'/'.join(map(str, self.rungs))}"

    def times(self, expiry: Slot) -> tuple[Slot, ...]:
        """Return the minute whose fixing is the price of the end."""
        return (expiry,)

    @property
    def levels(self) -> tuple[CentsPerBtc, ...]:
        """The rungs in cents, in the order in which they are reached."""
        return tuple(CentsPerBtc(100 * rung) for rung in self.rungs)

    def value(self, prices: Sequence[CentsPerBtc], reached: int = 0) -> CentsPerBtc:
        """Return the price of the end or the last of ``reached`` rungs, in cents."""
        (last,) = _counted(prices, 1)
        if not 0 <= reached <= len(self.rungs):
            raise _wrong(f"{reached} rungs reached", f"0 to {len(self.rungs)}")
        if not reached:
            return last
        level = self.levels[reached - 1]
        return CentsPerBtc(max(last, level) if self.up else min(last, level))


Path = Asian | Cliquet | Ladder
"""The definition of a path's value."""


def return_of(before: CentsPerBtc, after: CentsPerBtc) -> int:
    """Return ``after / before - 1`` in ten-millionths, the nearest whole one, half up."""
    return (2 * INDEX_UNIT * (after - before) + before) // (2 * before)


def parse_path(text: str) -> Path:
    """Return the path of its text, in its one spelling. Raises WrongPathError."""
    if not isinstance(text, str) or not text.isascii():
        raise _wrong(repr(text)[:60])
    try:
        found = _read(text)
    except (ValueError, IndexError) as e:
        raise _wrong(repr(text[:60])) from e
    if str(found) != text:
        raise _wrong(repr(text[:60]), f"{EXPECTED}; spelled {found}"[:400])
    return found


def _read(text: str) -> Path:
    kind, *rest = text.split(":")
    if kind == "ladder":
        way, since, rungs = rest
        if way not in {"up", "down"} or rungs.count("/") >= MOST_RUNGS:
            raise ValueError(text)
        return Ladder(way == "up", Slot(_int(since)), tuple(map(_int, rungs.split("/"))))
    every, count = map(_int, rest[0].split("x"))
    if kind == "asian" and len(rest) == 1:
        return Asian(Minutes(every), count)
    _, floor, cap = rest
    if kind != "cliquet":
        raise ValueError(text)
    return Cliquet(Minutes(every), count, _int(floor), _int(cap))


def _int(text: str) -> int:
    if len(text) > len(str(MAX_U32)):  # before anybody's digits are multiplied
        raise ValueError(text[:20])
    return int(text)


PATH: Final = Rule(parse_path, EXPECTED)
"""The rule of a path's text in a message."""


def check_fits(path: Path, expiry: Slot, *, fixing_minutes: int) -> None:
    """Check that a path's minutes lie in time, and that no price counts in two of its observations.

    fixing_minutes: how many minutes make one observation. Raises WrongPathError.
    """
    if not 1 <= fixing_minutes <= MOST_MINUTES:
        raise _wrong(f"an observation of {fixing_minutes} minutes", f"1 to {MOST_MINUTES}")
    if isinstance(path, Ladder):
        span = (expiry - path.since) // SECONDS_PER_MINUTE
        if not 1 <= span <= MOST_SPAN:
            raise _wrong(f"a ladder of {span} minutes", f"1 to {MOST_SPAN} minutes before the expiry")
    elif fixing_minutes > path.every:
        raise _wrong(f"observations of {fixing_minutes} minutes each {path.every}", "a fixing that fits between two")
    if path.times(expiry)[0] - fixing_minutes * SECONDS_PER_MINUTE < 0:
        raise _wrong("a first observation before 1970", "a later expiry")


def ahead_minutes(path: Path) -> int:
    """Return how many minutes before the expiry the first observation is; of a ladder none."""
    return 0 if isinstance(path, Ladder) else (len(path.times(Slot(0))) - 1) * path.every


def first_minute(path: Path, expiry: Slot, *, fixing_minutes: int) -> Slot:
    """Return the first minute that a path looks at: who signs once it has begun signs up to what is known in part."""
    if isinstance(path, Ladder):
        end = Slot(expiry - (fixing_minutes - 1) * SECONDS_PER_MINUTE)
        return min(Slot(path.since + SECONDS_PER_MINUTE), end)
    return Slot(path.times(expiry)[0] - (fixing_minutes - 1) * SECONDS_PER_MINUTE)


def in_words(path: Path) -> str:
    """Return what a path's value is, in one line."""
    match path:
        case Asian():
            return f"the mean of {path.count} agreed prices, {path.every} minutes apart, the last at the expiry"
        case Cliquet():
            bounds = f"{path.floor_bps / 100:g} % and {path.cap_bps / 100:g} %"
            return (
                f"an index of 100,000 points and the sum of {path.count} returns over {path.every} minutes each, "
                f"every one held between {bounds}; the last period ends at the expiry"
            )
        case Ladder():
            way, far = ("highest", "above") if path.up else ("lowest", "below")
            rungs = ", ".join(f"${rung:,}" for rung in path.rungs)
            return (
                f"the price at the expiry, or the {way} rung of {rungs} that was reached, if it lies {far} that price"
            )


def _check_steps(every: int, count: int, *, periods: int, most: int) -> None:
    _check_whole("every", every)
    _check_whole("count", count)
    if not 1 <= every <= MOST_EVERY or not 2 <= count <= most:  # noqa: PLR2004 - one is no path
        raise _wrong(f"{count} each {every} minutes", f"2 to {most}, each 1 to {MOST_EVERY} minutes")
    if periods * every > MOST_SPAN:
        raise _wrong(f"{periods * every} minutes in all", f"at most {MOST_SPAN}")


def _check_whole(name: str, value: object) -> None:
    if type(value) is not int:
        raise _wrong(f"{name} {value!r}", "a whole number")


def _times(expiry: Slot, every: int, count: int) -> tuple[Slot, ...]:
    step = every * SECONDS_PER_MINUTE
    return tuple(Slot(expiry - place * step) for place in reversed(range(count)))


def _counted(prices: Sequence[CentsPerBtc], count: int) -> Sequence[CentsPerBtc]:
    if len(prices) != count or min(prices) < 1:
        raise _wrong(f"{len(prices)} prices, or one of nothing", f"{count} prices")
    return prices
