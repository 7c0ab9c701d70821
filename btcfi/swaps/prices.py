"""The oracle's prices of a week: one for each business day, the last of which settles the week and begins the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from btcfi.swaps.errors import Guard, SwapRefusedError
from btcfi.swaps.returns import Prices
from btcfi.units import UnixSeconds

HOUR: Final = 3_600
DAY: Final = 24 * HOUR

POST_SECONDS: Final = 22 * HOUR
"""Between two posts, at least. Source: the appendix, section 9."""

CORRECTION_SECONDS: Final = 30 * 60
"""For which the latest price may be corrected, from its first post on. Source: the appendix, section 9 (C28)."""

WEEK_SECONDS: Final = 5 * DAY
"""Between two posts that settle, at least."""

NEVER: Final = UnixSeconds(0)

MAX_SLOTS: Final = 5
"""Of a week: the settlement before, and the business days since."""


@dataclass(frozen=True, slots=True)
class Start:
    """When a position starts: a week by its number, and a day of it; day 0 is the settlement before."""

    week: int
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBoard:
    """What the oracle has posted: this week's prices and the last's. Prices by contract."""

    week: int = 0
    slots: tuple[Mapping[str, Prices], ...] = ()
    """Of this week, by day; none before the first post ever."""
    last_week: tuple[Mapping[str, Prices], ...] = ()
    """Of the week that was settled by this week's first."""
    posted_at: UnixSeconds = NEVER
    """The latest slot's first post."""
    changed_at: UnixSeconds = NEVER
    """Its post or last correction."""
    settlement_at: UnixSeconds = NEVER
    """The latest post that settles a week."""

    @property
    def next_start(self) -> Start:
        """Where a position starts that is initialised now: at the next post, which may be the one that settles."""
        return Start(self.week, len(self.slots))

    def price(self, start: Start, contract: str) -> Prices:
        """Return a contract's price on a day of this week or the last. Raises SwapRefusedError for another."""
        slots = self.slots if start.week == self.week else self.last_week if start.week == self.week - 1 else ()
        if start.slot >= len(slots) or contract not in slots[start.slot]:
            raise SwapRefusedError(Guard.PRICES, f"none of {contract} on day {start.slot}", "a day that was posted")
        return slots[start.slot][contract]

    def posted(self, prices: Mapping[str, Prices], *, settles: bool, now: UnixSeconds) -> PriceBoard:
        """Return the board with a new day's prices. Raises SwapRefusedError, naming the guard."""
        if not prices:
            raise SwapRefusedError(Guard.PRICES, "no prices", "one of each contract")
        if self.slots and set(prices) != set(self.slots[-1]):
            raise SwapRefusedError(Guard.PRICES, f"of {sorted(prices)}", f"of {sorted(self.slots[-1])}, all at once")
        if self.slots and now < self.posted_at + POST_SECONDS:
            raise SwapRefusedError(Guard.TOO_SOON, f"a post at {now}", f"{self.posted_at + POST_SECONDS} or later")
        held = MappingProxyType(dict(prices))
        if not self.slots or settles:
            if self.slots and now < self.settlement_at + WEEK_SECONDS:
                due = self.settlement_at + WEEK_SECONDS
                raise SwapRefusedError(Guard.TOO_SOON, f"a settling post at {now}", f"{due} or later")
            return PriceBoard(
                week=self.week + 1, slots=(held,), last_week=self.slots, posted_at=now, changed_at=now,
                settlement_at=now,
            )  # fmt: skip
        if len(self.slots) == MAX_SLOTS:
            raise SwapRefusedError(Guard.PRICES, f"a week of {MAX_SLOTS} days", "the post that settles it")
        return replace(self, slots=(*self.slots, held), posted_at=now, changed_at=now)

    def corrected(self, prices: Mapping[str, Prices], *, now: UnixSeconds) -> PriceBoard:
        """Return the board with the latest day's prices corrected. Raises SwapRefusedError, naming the guard."""
        if not self.slots or set(prices) != set(self.slots[-1]):
            raise SwapRefusedError(Guard.PRICES, f"of {sorted(prices)}", "of what was posted last, all at once")
        if now > (due := self.posted_at + CORRECTION_SECONDS):
            raise SwapRefusedError(Guard.TOO_LATE, f"a correction at {now}", f"{due} at the latest")
        return replace(self, slots=(*self.slots[:-1], MappingProxyType(dict(prices))), changed_at=now)
