"""The states of a disputed contract as the chain shows them, and every edge between two: which transaction makes it.

    unopened -> open -> claimed -> paid | disproved                        digits are claimed at once
                open -> held -> released | challenged                      of a lazy contract
                        challenged -> revealed -> paid | disproved
                        challenged -> overdue
                open -> silence claimed -> claimed | held | silence ended
                open -> refunded
    open, silence claimed, held, challenged -> closed                      by both, by the key path
    open, silence claimed, held, challenged -> spent otherwise             none of these terms' transactions

A state is a function of the chain alone (``garbled.game.positions``). An edge of the table is one transaction that one
side sends, from one block on; what the other side may send later is the deadline. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.stages import Stage
from btcfi.units import Height

if TYPE_CHECKING:
    from btcfi.disputes.garbled.game import Position
    from btcfi.disputes.garbled.terms import DisputeTerms

BLOCK_SECONDS: Final = 600
"""That a block takes on the average: what an estimate counts with. Source: the chain's own target."""


class By(StrEnum):
    """The transaction that makes an edge."""

    OPENING = "opening"
    CLAIM = "claim"
    SILENCE = "claim of silence"
    SILENCE_END = "end of the silence"
    REFUND = "refund"
    CHALLENGE = "challenge"
    RELEASE = "release"
    REVEAL = "reveal"
    OVERDUE = "taking of what is overdue"
    PAYOUT = "payout"
    DISPROOF = "disproof"
    CLOSE = "close"
    OTHER = "a transaction of no such terms"


Since = Callable[["DisputeTerms", Height], int]
"""The first block that can hold a transaction, by the terms and by the block of the one before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One transaction's way from a state to the next."""

    source: Stage
    target: Stage
    by: By
    side: Side | None
    """Who sends it; None: both agree to it."""
    since: Since


def _at_once(_terms: DisputeTerms, at: Height) -> int:
    return at + 1


def _after_blocks(terms: DisputeTerms, at: Height) -> int:
    return at + terms.dispute_blocks


def _claimable(terms: DisputeTerms, at: Height) -> int:
    return max(at, terms.claim_height) + 1


def _silence(terms: DisputeTerms, at: Height) -> int:
    return max(at, terms.silence_height) + 1


def _refund(terms: DisputeTerms, at: Height) -> int:
    return max(at, terms.refund_height) + 1


_P, _V = Side.CLAIMANT, Side.VERIFIER
_ROWS: Final[tuple[tuple[Stage, Stage, By, Side | None, Since], ...]] = (
    (Stage.UNOPENED, Stage.OPEN, By.OPENING, None, _at_once),
    (Stage.OPEN, Stage.CLAIMED, By.CLAIM, _P, _claimable),
    (Stage.OPEN, Stage.HELD, By.CLAIM, _P, _claimable),
    (Stage.OPEN, Stage.SILENT, By.SILENCE, _V, _silence),
    (Stage.OPEN, Stage.REFUNDED, By.REFUND, _P, _refund),
    (Stage.SILENT, Stage.CLAIMED, By.CLAIM, _P, _at_once),
    (Stage.SILENT, Stage.HELD, By.CLAIM, _P, _at_once),
    (Stage.SILENT, Stage.SILENCE_ENDED, By.SILENCE_END, _V, _after_blocks),
    (Stage.HELD, Stage.CHALLENGED, By.CHALLENGE, _V, _at_once),
    (Stage.HELD, Stage.RELEASED, By.RELEASE, _P, _after_blocks),
    (Stage.CHALLENGED, Stage.REVEALED, By.REVEAL, _P, _at_once),
    (Stage.CHALLENGED, Stage.OVERDUE, By.OVERDUE, _V, _after_blocks),
    (Stage.CLAIMED, Stage.DISPROVED, By.DISPROOF, _V, _at_once),
    (Stage.CLAIMED, Stage.PAID, By.PAYOUT, _P, _after_blocks),
    (Stage.REVEALED, Stage.DISPROVED, By.DISPROOF, _V, _at_once),
    (Stage.REVEALED, Stage.PAID, By.PAYOUT, _P, _after_blocks),
    *(
        (stage, Stage.CLOSED, By.CLOSE, None, _at_once)
        for stage in (Stage.OPEN, Stage.SILENT, Stage.HELD, Stage.CHALLENGED)
    ),
    *(
        (stage, Stage.SPENT_OTHERWISE, By.OTHER, None, _at_once)
        for stage in (Stage.OPEN, Stage.SILENT, Stage.HELD, Stage.CHALLENGED)
    ),
)

EDGES: Final = tuple(
    Edge(source=source, target=target, by=by, side=side, since=since) for source, target, by, side, since in _ROWS
)

_LAZY: Final = frozenset({Stage.HELD, Stage.CHALLENGED, Stage.REVEALED, Stage.RELEASED, Stage.OVERDUE})
"""States of lazy contracts alone."""

_BY_STAGES: Final = {(one.source, one.target): one for one in EDGES}


def edge(source: Stage, target: Stage) -> Edge:
    """Return the edge between two states. Raises KeyError where the table has none."""
    return _BY_STAGES[source, target]


def edges_of(terms: DisputeTerms) -> Sequence[Edge]:
    """Return the edges that a contract of these terms can take."""
    never = {Stage.CLAIMED} if terms.is_lazy else _LAZY
    return [one for one in EDGES if not {one.source, one.target} & never]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a side can send at a position."""

    side: Side
    by: By
    since: Height
    """The first block that can hold it."""
    until: Height | None
    """The last block in which no move of the other side can be held beside it; None: none ever can from then on."""


def moves(terms: DisputeTerms, here: Position) -> Sequence[Move]:
    """Return what each side can send at a position without the other's help, the earliest first."""
    if here.at is None or here.stage.ended:
        return ()
    at = here.at
    found = [
        (Height(one.since(terms, at)), one.side, one.by)
        for one in edges_of(terms)
        if one.source is here.stage and one.side is not None
    ]
    found.sort(key=lambda one: (one[0], one[2]))
    return [
        Move(
            side=side, by=by, since=since,
            until=min((Height(other - 1) for other, whose, _ in found if whose is not side and other > since),
                      default=None),
        )
        for since, side, by in found
    ]  # fmt: skip


def deadline(terms: DisputeTerms, here: Position) -> Height | None:
    """Return the last block that is safe for who is to move now, after which the other side may; None: nobody waits."""
    return next((one.until for one in moves(terms, here) if one.until is not None), None)


def overdue(terms: DisputeTerms, here: Position) -> Height | None:
    """Return the block by which a position that nobody moves on can have been ended by somebody; None at an end."""
    return max((one.since for one in moves(terms, here)), default=None)


def estimated(height: Height, *, tip: Height, at: int) -> int:
    """Return about when a block comes, in unix seconds, seen from the tip at a time: ten minutes a block."""
    return at + (height - tip) * BLOCK_SECONDS
