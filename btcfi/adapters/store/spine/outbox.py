"""The outbox: what must be published, until it was.

A row that cannot be started (of a flow that no system of this process has, or with arguments that its flow does not
take) is set aside with its reason: it takes no place among those that wait, is shown, and is tried again now and then,
since it may be newer code's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, select, update
from sqlmodel import Session, col

from btcfi.adapters.store.spine.tables import OutboxRow
from btcfi.adapters.store.spine.times import lapsed
from btcfi.documents import printable
from btcfi.units import UnixSeconds

AGAIN_SECONDS: Final = 60
"""Between two attempts at a row that was set aside."""

AGAIN_AT_ONCE: Final = 20
"""Of them in one reading: whatever their number, they cost those that wait little."""

MAX_PROBLEM: Final = 300
"""Characters of a reason, which may repeat what somebody else wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One flow to start."""

    id: str
    flow: str
    arguments: list[Any] | None
    """None when the row has no JSON list: it cannot be started, and says so then."""


def unpublished(session: Session, flows: Collection[str], *, now: UnixSeconds, limit: int = 200) -> list[Message]:
    """Return what waits to be published, oldest first: of the ``flows`` that this process knows.

    Behind them a few of those that were set aside a while ago.
    """
    query = select(OutboxRow).where(col(OutboxRow.published_at_unix).is_(None), col(OutboxRow.flow).in_(flows))
    query = query.order_by(col(OutboxRow.created_at_unix), col(OutboxRow.id))
    rows = list(session.execute(query.where(col(OutboxRow.problem).is_(None)).limit(limit)).scalars())
    aside = query.where(col(OutboxRow.problem).is_not(None), lapsed(col(OutboxRow.tried_at_unix), now, AGAIN_SECONDS))
    rows += session.execute(aside.limit(AGAIN_AT_ONCE)).scalars()
    return [Message(id=r.id, flow=r.flow, arguments=_list(r.arguments)) for r in rows]


def set_aside(session: Session, problems: Mapping[str, str], *, now: UnixSeconds) -> None:
    """Note why these rows, by id, could not be started."""
    for name, problem in problems.items():
        statement = update(OutboxRow).where(col(OutboxRow.id) == name, col(OutboxRow.published_at_unix).is_(None))
        said = {"problem": printable(problem, MAX_PROBLEM), "tried_at_unix": now}
        session.execute(statement.values(said).execution_options(synchronize_session=False))


def unknown(session: Session, flows: Collection[str], *, limit: int = 100) -> list[Message]:
    """Return rows that wait and are of none of these flows, those left out that were set aside."""
    query = select(OutboxRow).where(col(OutboxRow.published_at_unix).is_(None), col(OutboxRow.problem).is_(None))
    rows = session.execute(query.where(col(OutboxRow.flow).not_in(flows)).limit(limit)).scalars()
    return [Message(id=r.id, flow=r.flow, arguments=_list(r.arguments)) for r in rows]


def _list(text: str) -> list[Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def mark_published(session: Session, ids: list[str], *, now: UnixSeconds) -> None:
    """Note that the broker has taken these; a message published twice is harmless, one never published is not."""
    statement = update(OutboxRow).where(col(OutboxRow.id).in_(ids)).values(published_at_unix=now, problem=None)
    session.execute(statement.execution_options(synchronize_session=False))


def prune_published(session: Session, *, before: UnixSeconds) -> None:
    """Forget messages that were published long ago."""
    session.execute(delete(OutboxRow).where(col(OutboxRow.published_at_unix) < before))
