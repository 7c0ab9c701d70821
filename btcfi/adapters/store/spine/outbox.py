"""The outbox: what must be published, until it was."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlmodel import Session, col

from btcfi.adapters.store.spine.tables import OutboxRow
from btcfi.units import UnixSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One flow to start."""

    id: str
    flow: str
    arguments: list[Any] | None
    """None when the row has no JSON list: it cannot be started, and says so then."""


def unpublished(session: Session, flows: Collection[str], *, limit: int = 200) -> list[Message]:
    """Return what waits to be published, oldest first: of the ``flows`` that this process knows.

    A row of another one, of a system that was taken out or that newer code brings, waits and holds nothing up.
    """
    query = select(OutboxRow).where(col(OutboxRow.published_at_unix).is_(None), col(OutboxRow.flow).in_(flows))
    rows = session.execute(query.order_by(col(OutboxRow.created_at_unix), col(OutboxRow.id)).limit(limit)).scalars()
    return [Message(id=r.id, flow=r.flow, arguments=_list(r.arguments)) for r in rows]


def _list(text: str) -> list[Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def mark_published(session: Session, ids: list[str], *, now: UnixSeconds) -> None:
    """Note that the broker has taken these; a message published twice is harmless, one never published is not."""
    statement = update(OutboxRow).where(col(OutboxRow.id).in_(ids)).values(published_at_unix=now)
    session.execute(statement.execution_options(synchronize_session=False))


def prune_published(session: Session, *, before: UnixSeconds) -> None:
    """Forget messages that were published long ago."""
    session.execute(delete(OutboxRow).where(col(OutboxRow.published_at_unix) < before))
