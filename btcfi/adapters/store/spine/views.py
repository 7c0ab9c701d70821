"""What people read of the spine: events, counters, canaries, blobs, how many rows are in which state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, func, inspect, or_, text
from sqlmodel import Session, col, select

from btcfi.adapters.store.spine.fleet_tables import RefusedMessageRow
from btcfi.adapters.store.spine.paging import aside, stretch
from btcfi.adapters.store.spine.tables import BlobRow, CanaryRow, CounterRow, EventRow, OutboxRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Messages that the broker has not been given yet."""

    count: int
    since_unix: int | None
    """When the oldest was written; None when none waits."""


def has_table(session: Session, name: str) -> bool:
    """Return whether the database has a table: it may be anybody's, or older than this code."""
    return bool(inspect(session.connection()).has_table(name))


def revision_of(session: Session) -> str | None:
    """Return the migration that the database is at; None where it has no tables of ours."""
    if not has_table(session, "alembic_version"):
        return None
    found: str | None = session.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def blob(session: Session, sha256: str | None) -> BlobRow | None:
    """Return the bytes of a hash; None for no hash and for what is not kept any more."""
    return session.get(BlobRow, sha256) if sha256 else None


def by_state(session: Session, table: Any) -> dict[str, int]:  # noqa: ANN401 - any table with a state
    """Return how many rows of a table are in each state."""
    rows = session.execute(select(col(table.state), func.count()).group_by(col(table.state))).all()
    return {str(state): int(count) for state, count in rows}


def count_in(session: Session, table: Any, *states: str) -> int:  # noqa: ANN401 - any table with a state
    """Return how many rows of a table are in one of these states."""
    query = select(func.count()).select_from(table).where(col(table.state).in_(states))
    return int(session.exec(query).one())


def newest_events(session: Session, limit: int) -> Sequence[EventRow]:
    """Return the newest edges of anything, newest first."""
    return stretch(session, select(EventRow), col(EventRow.id), beyond=None, limit=limit, newest_first=True)


def newest_event_id(session: Session) -> int:
    """Return the highest id of an event; 0 when there is none."""
    return session.exec(select(EventRow.id).order_by(col(EventRow.id).desc()).limit(1)).first() or 0


def events_after(
    session: Session, *, entity: str, after: int, limit: int, until: int | None = None
) -> Sequence[EventRow]:  # fmt: skip
    """Return the edges of one kind of row that were crossed after the event ``after``, oldest first.

    until: the last event that is looked at; None: the newest.
    """
    ours = select(EventRow).where(aside(EventRow.entity) == entity)
    if until is not None:
        ours = ours.where(col(EventRow.id) <= until)
    return stretch(session, ours, col(EventRow.id), beyond=(after,), limit=limit)


def events_of(session: Session, subjects: Mapping[str, Sequence[str]], *, limit: int = 500) -> Sequence[EventRow]:
    """Return the edges that some rows crossed, oldest first. subjects: ids by entity."""
    ours = [
        and_(col(EventRow.entity) == entity, col(EventRow.entity_id).in_(ids))
        for entity, ids in subjects.items()
        if ids
    ]
    if not ours:
        return []
    return stretch(session, select(EventRow).where(or_(*ours)), col(EventRow.id), beyond=None, limit=limit)


MOST_QUEUES: Final = 50


def canaries(session: Session) -> Sequence[CanaryRow]:
    """Return when each queue was last seen to be consumed, by name; so many at most as anybody has queues."""
    return session.exec(select(CanaryRow).order_by(col(CanaryRow.queue)).limit(MOST_QUEUES)).all()


def counters(session: Session) -> dict[str, int]:
    """Return what is counted."""
    return {row.name: row.value for row in session.exec(select(CounterRow)).all()}


def waiting(session: Session) -> Waiting:
    """Return what the relay has not published yet, without what was set aside."""
    query = select(func.count(), func.min(OutboxRow.created_at_unix))
    wait = query.where(col(OutboxRow.published_at_unix).is_(None), col(OutboxRow.problem).is_(None))
    count, since = session.exec(wait).one()
    return Waiting(count=int(count), since_unix=since)


def set_aside(session: Session, *, limit: int = 100) -> Sequence[OutboxRow]:
    """Return the outbox rows that could not be started, the oldest first."""
    query = select(OutboxRow).where(col(OutboxRow.published_at_unix).is_(None), col(OutboxRow.problem).is_not(None))
    return session.exec(query.order_by(col(OutboxRow.created_at_unix)).limit(limit)).all()


def count_set_aside(session: Session) -> int:
    """Return how many outbox rows could not be started."""
    query = select(func.count()).where(col(OutboxRow.published_at_unix).is_(None), col(OutboxRow.problem).is_not(None))
    return int(session.exec(query).one())


def refused(session: Session, *, limit: int = 100) -> Sequence[RefusedMessageRow]:
    """Return the messages that were refused at the broker's door, the newest first."""
    query = select(RefusedMessageRow).order_by(col(RefusedMessageRow.last_seen_unix).desc())
    return session.exec(query.limit(limit)).all()
