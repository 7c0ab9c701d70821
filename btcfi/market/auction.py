"""A price that moves by itself towards whoever waits: down from an ask, up from a bid, by steps of the clock.

A Dutch auction of a firm offer. The schedule is signed with the offer, so every price that it can have is its maker's
word; a take names the step that it takes at. Everything is whole numbers, and rounds in the maker's favour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from btcfi.errors import InvalidInputError
from btcfi.market.account import REQUEST_SECONDS
from btcfi.records import record, whole
from btcfi.units import Cents, Sats, UnixSeconds

LEAST_STEP_SECONDS: Final = REQUEST_SECONDS
"""Of a step: a maker's clock may be so far behind the service's, so nobody can take more than one step early."""

MOST_STEP_SECONDS: Final = 86_400
MOST_STEPS: Final = 1_000
"""As fine as a book can show; a day has 2,880 of the shortest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Auction:
    """When an offer's price moves, and where it ends. The offer's own price is that of step 0."""

    begins: UnixSeconds
    """Of step 0: before it nothing is taken."""
    step_seconds: int
    steps: int
    """How often the price moves: the last step has this number."""
    last: Sats
    """The last step's, for one bitcoin."""
    last_cents: Cents
    """The last step's, for one bitcoin."""

    def __post_init__(self) -> None:
        """Check what the schedule alone decides. Raises InvalidInputError naming the field."""
        for name, low, high in (("step_seconds", LEAST_STEP_SECONDS, MOST_STEP_SECONDS), ("steps", 1, MOST_STEPS)):
            if not low <= getattr(self, name) <= high:
                raise InvalidInputError(f"auction.{name}", f"{getattr(self, name)}", f"{low} to {high}")

    @property
    def last_begins(self) -> UnixSeconds:
        """When the last step begins."""
        return self.begins_at(self.steps)

    def begins_at(self, step: int) -> UnixSeconds:
        """Return when a step begins. step: 0 to steps."""
        return UnixSeconds(self.begins + step * self.step_seconds)

    def step_at(self, now: UnixSeconds) -> int | None:
        """Return the newest step that has begun, None before the first."""
        return None if now < self.begins else min((now - self.begins) // self.step_seconds, self.steps)

    def moves_at(self, now: UnixSeconds) -> UnixSeconds | None:
        """Return when the next step begins, the first one too; None once the last has."""
        step = self.step_at(now)
        following = 0 if step is None else step + 1
        return None if following > self.steps else self.begins_at(following)

    def between(self, first: int, last: int, step: int, *, unit: int) -> int:
        """Return the value of a step on the way from ``first`` to ``last``, which are whole units apart.

        Never further than its share of the way: what is left over of a unit is the maker's until the last step.
        """
        way = abs(last - first) // unit * step // self.steps * unit
        return first - way if last < first else first + way


def encode_auction(auction: Auction) -> dict[str, Any]:
    """Return the schedule as JSON."""
    return {
        "begins_unix": auction.begins,
        "step_seconds": auction.step_seconds,
        "steps": auction.steps,
        "last_sats": auction.last,
        "last_cents": auction.last_cents,
    }


AUCTION: Final = record(
    Auction, exact=True, begins="begins_unix", step_seconds=whole(LEAST_STEP_SECONDS, MOST_STEP_SECONDS),
    steps=whole(1, MOST_STEPS), last="last_sats",
)  # fmt: skip
