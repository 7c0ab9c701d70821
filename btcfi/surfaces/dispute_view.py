"""A disputed contract under watch as people see it, put together once for console, REST and command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from btcfi.adapters.store.disputes import views, watching
from btcfi.adapters.store.disputes.tables import DisputeRow, DisputeStepRow
from btcfi.adapters.store.spine.database import Session
from btcfi.disputes import states
from btcfi.disputes.garbled.game import Position
from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.garbled.terms import DisputeTerms
from btcfi.disputes.stages import Stage
from btcfi.disputes.states import By
from btcfi.errors import NotFoundError
from btcfi.units import Height, Sats, UnixSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveView:
    """What a side can send, and between which blocks."""

    side: Side
    by: By
    since: Height
    until: Height | None
    """The last block in which the other side can send nothing beside it; None: it never can."""
    since_about: UnixSeconds
    until_about: UnixSeconds | None
    """When those blocks come, at ten minutes each from now."""

    def is_open(self, tip: int) -> bool:
        """Return whether the next block can hold it."""
        return self.since <= tip + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeView:
    """One contract."""

    row: DisputeRow
    proposal: str
    """The id of its proposal, by which the commands of both sides name it."""
    terms: DisputeTerms
    tip: Height
    moves: Sequence[MoveView]
    steps: Sequence[DisputeStepRow]
    claimed: Sats | None
    """What the claimed range pays the verifier."""

    @property
    def waits_for(self) -> Side | None:
        """Who is to move now: by the deadline, or at all."""
        return next((one.side for one in self.moves if one.until is None or one.until > self.tip), None)


def dispute_view(session: Session, name: str, *, now: UnixSeconds) -> DisputeView:
    """Return a contract by its id, computed from its row and its public part. Raises NotFoundError."""
    row = views.dispute(session, name)
    if row is None:
        raise NotFoundError("dispute", name[:16], "`btcfi dispute register` puts one under watch")
    dispute, tip = watching.public_part(session, name), Height(views.tip_of(session, row))
    terms = dispute.terms
    at = None if row.moved_height is None else Height(row.moved_height)
    here = Position(stage=Stage(row.state), at=at, number=row.claimed_range)

    def about(height: Height) -> UnixSeconds:
        return UnixSeconds(states.estimated(height, tip=tip, at=now))

    return DisputeView(
        row=row, proposal=dispute.acceptance.proposal_id.hex(), terms=terms, tip=tip, steps=views.steps(session, name),
        moves=tuple(
            MoveView(
                side=one.side, by=one.by, since=one.since, until=one.until, since_about=about(one.since),
                until_about=None if one.until is None else about(one.until),
            )
            for one in states.moves(terms, here)
        ),
        claimed=None if row.claimed_range is None else terms.claim.payouts[row.claimed_range],
    )  # fmt: skip
