"""The price that settles: one agreed minute, or the mean or the median of a window of them.

Pure: the agreed minutes are arguments. A window that lacks minutes is never given up: it takes the next ones after its
end until two thirds of it are there, and names them (docs/oracle.md, "Windows").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.records import Rule, teach
from btcfi.units import SECONDS_PER_MINUTE, CentsPerBtc, Minutes, Slot

MOST_MINUTES: Final = 60
"""Of a window: an hour. As many minutes a tick opens again after an outage."""

MINUTES_AFTER: Final = 10_080
"""Minutes after its end that a window may take up: a week, as long as the refund path waits."""


class FixingKind(StrEnum):
    """What is made of a window's minutes."""

    MINUTE = "minute"
    """The price of the last minute; of the next one where that has none."""
    TWAP = "twap"
    """The mean of the minutes, each counting the same: the time-weighted average price."""
    MEDIAN = "median"


class WrongFixingError(InvalidInputError):
    """A text that names no fixing."""


@dataclass(frozen=True, slots=True)
class Fixing:
    """A rule of settlement: ``minute``, ``twap:N`` or ``median:N``. Raises WrongFixingError for another window."""

    kind: FixingKind
    minutes: Minutes

    def __post_init__(self) -> None:
        """Check the window: one minute, or 2 to MOST_MINUTES of them."""
        low, high = (1, 1) if self.kind is FixingKind.MINUTE else (2, MOST_MINUTES)
        if isinstance(self.minutes, bool) or not isinstance(self.minutes, int) or not low <= self.minutes <= high:
            raise WrongFixingError("fixing", f"{self.kind}:{self.minutes}", EXPECTED)

    def __str__(self) -> str:
        return self.kind.value if self.kind is FixingKind.MINUTE else f"{self.kind.value}:{self.minutes}"

    @property
    def least(self) -> int:
        """How many minutes it needs: two thirds of its window, rounded up."""
        return -(-2 * self.minutes // 3)

    def window(self, end: Slot) -> range:
        """Return the slots of the window whose last minute is ``end``, oldest first."""
        return range(end - (self.minutes - 1) * SECONDS_PER_MINUTE, end + 1, SECONDS_PER_MINUTE)


EXPECTED: Final = f"minute, twap:N or median:N, N from 2 to {MOST_MINUTES}"

MINUTE: Final = Fixing(FixingKind.MINUTE, Minutes(1))
"""One agreed minute: what every contract of event version 1 settles on."""


def parse_fixing(text: str) -> Fixing:
    """Return the fixing of its text, in its one spelling: ``minute``, ``twap:30``. Raises WrongFixingError."""
    kind, colon, minutes = text.partition(":")
    try:
        found = Fixing(FixingKind(kind), Minutes(int(minutes) if colon else 1))
    except (ValueError, WrongFixingError) as e:  # of either the text as it was given: of "twap" not "twap:1"
        raise WrongFixingError("fixing", repr(text[:40]), EXPECTED) from e
    if str(found) != text:
        raise WrongFixingError("fixing", repr(text[:40]), EXPECTED)
    return found


teach(Fixing, Rule(parse_fixing, EXPECTED))


class LeftOut(StrEnum):
    """Why a minute of a window does not count."""

    VOID = "void"
    """The venues agreed on no price."""
    THIN = "thin"
    """They did, and it is too thin to settle on by the preset."""
    NEVER_ASKED = "never_asked"
    """Nobody opened its round, and nobody can any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A fixing, and every minute that it is made of."""

    price: CentsPerBtc
    """Whole cents, rounded down."""
    used: tuple[tuple[Slot, CentsPerBtc], ...]
    """The minutes that count, oldest first; those after the window's end stand in for missing ones."""
    left_out: tuple[tuple[Slot, LeftOut], ...]
    """The minutes up to the last used one that do not count, and why."""
    end: Slot
    """The window's last minute."""

    @property
    def late(self) -> tuple[Slot, ...]:
        """The minutes that were taken after the window's end."""
        return tuple(at for at, _ in self.used if at > self.end)

    @property
    def last(self) -> Slot:
        """The newest minute that counts."""
        return self.used[-1][0]


Said = CentsPerBtc | LeftOut
"""What a closed minute says to a window."""


def fix(fixing: Fixing, end: Slot, minutes: Mapping[Slot, Said]) -> Fixed | None:
    """Return the fixing of the window that ends with the minute ``end``, None while it cannot be known.

    minutes: every closed minute, from the window's first on; one that is still open, or not reached, is not in it, and
    everything after the first gap waits for it. Order and later minutes cannot change a fixing that is known.
    """
    used: list[tuple[Slot, CentsPerBtc]] = []
    left_out: list[tuple[Slot, LeftOut]] = []
    last = end + MINUTES_AFTER * SECONDS_PER_MINUTE
    for second in range(fixing.window(end)[0], last + 1, SECONDS_PER_MINUTE):
        at = Slot(second)
        if at > end and len(used) >= fixing.least:
            break
        said = minutes.get(at)
        if said is None:
            return None
        if isinstance(said, LeftOut):
            left_out.append((at, said))
        else:
            used.append((at, said))
    if len(used) < fixing.least:
        return None
    return Fixed(price=fixed_price(fixing, [p for _, p in used]), used=tuple(used), left_out=tuple(left_out), end=end)


def fixed_price(fixing: Fixing, prices: list[CentsPerBtc]) -> CentsPerBtc:
    """Return what the rule makes of the prices that count, whole cents, rounded down. At least one price."""
    if fixing.kind is FixingKind.MINUTE:
        return prices[-1]
    if fixing.kind is FixingKind.TWAP:
        return CentsPerBtc(sum(prices) // len(prices))
    ordered, n = sorted(prices), len(prices)
    return CentsPerBtc((ordered[(n - 1) // 2] + ordered[n // 2]) // 2)
