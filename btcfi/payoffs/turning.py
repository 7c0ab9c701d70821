"""Where a payoff that nobody wrote down turns: found by a run at every price, or held against what somebody claimed.

Buckets know a range by its ends and its turning points. A program that turns elsewhere would be paid by ranges that
are wrong there, and no sample finds a spike at one price of a quarter of a million: every price is run, once, before
anything is signed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import CENTS_PER_DOLLAR, OracleEvent
from btcfi.payoffs.curve import NetSats
from btcfi.units import CentsPerBtc

Nets = Callable[[Sequence[CentsPerBtc]], Sequence[NetSats]]
"""What a holder gains at each of many prices."""

MOST_TURNS: Final = 4_096
"""Of one payoff: a wave of $128. One that turns more often is noise, such as a sum of legs that round one by one."""

_CHUNK: Final = 4_096
"""Prices a call: a guest's inputs of more would lie in memory at once for nothing."""


class NotMonotoneError(InvalidInputError):
    """A payoff turns where its turning points, as they were claimed, say that it does not."""

    def __init__(self, price: CentsPerBtc, *, turned: CentsPerBtc) -> None:
        super().__init__(
            "turning_points",
            f"the payoff turns at {turned} cents and runs back at {price} cents",
            "every price at which the payoff turns, strikes and floor among them",
        )  # fmt: skip
        self.price, self.turned = price, turned


class TooManyTurnsError(InvalidInputError):
    """A payoff turns so often that its ranges would be single prices."""

    def __init__(self, *, count: int, limit: int, price: CentsPerBtc) -> None:
        super().__init__(
            "turning_points",
            f"{count} of them, the first at {price} cents",
            f"at most {limit}; legs that are rounded one by one turn at every price: sum first, divide once",
        )  # fmt: skip
        self.count, self.limit, self.price = count, limit, price


def every_net(nets: Nets, event: OracleEvent) -> npt.NDArray[np.int64]:
    """Return what the holder gains at every price that the event can state, a run each; errors are those of the run."""
    out = np.empty(event.max_price + 1, dtype=np.int64)
    for first in range(0, len(out), _CHUNK):
        outcomes = range(first, min(first + _CHUNK, len(out)))
        out[first : outcomes.stop] = nets([event.price_of(outcome) for outcome in outcomes])
    return out


def found_turns(every: npt.NDArray[np.int64], event: OracleEvent) -> tuple[CentsPerBtc, ...]:
    """Return the prices at which a payoff turns, given what it is at every price of the event.

    Raises TooManyTurnsError.
    """
    before, _ = _turns(every)
    turned = tuple(event.price_of(int(outcome)) for outcome in before + 1)
    if len(turned) > MOST_TURNS:
        raise TooManyTurnsError(count=len(turned), limit=MOST_TURNS, price=turned[0])
    return turned


def check_turns(every: npt.NDArray[np.int64], event: OracleEvent, claimed: Sequence[CentsPerBtc]) -> None:
    """Check that a payoff turns nowhere but at the claimed prices: at their whole dollar or beside it, as buckets look.

    Raises NotMonotoneError with the first price at which it runs back unannounced.
    """
    around = {price // CENTS_PER_DOLLAR + extra for price in claimed for extra in (-1, 0, 1)}
    known = np.array(sorted(at for at in around if 0 <= at <= event.max_price), dtype=np.int64)
    before, after = _turns(every)
    # an extreme lies flat from one step to the next of another sign: a turn that is known lies on it
    place = np.searchsorted(known, before + 1)
    held = np.zeros(len(before), dtype=np.bool_)
    inside = place < len(known)
    held[inside] = known[place[inside]] <= after[inside]
    if not held.all():
        first = int(np.argmin(held))
        raise NotMonotoneError(
            event.price_of(int(after[first]) + 1), turned=event.price_of(int(before[first]) + 1)
        )  # fmt: skip


def _turns(every: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return of each turn the last outcome before its extreme and the last outcome on it."""
    steps = np.sign(np.diff(every))
    moves = np.flatnonzero(steps)
    turns = np.flatnonzero(steps[moves[1:]] != steps[moves[:-1]])
    return moves[turns], moves[turns + 1]
