"""What a repeated request was answered: its key is taken before the work, and holds the answer afterwards."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, update
from sqlmodel import Session, col

from btcfi.adapters.store.access.api_tables import IdempotencyRow
from btcfi.adapters.store.spine.edges import upsert
from btcfi.units import UnixSeconds


def take(session: Session, owner: str, key: str, fingerprint: str, *, now: UnixSeconds) -> IdempotencyRow | None:
    """Take the key for a request and return None, or return the row of the request that has it already."""
    statement = upsert(session, IdempotencyRow).values(
        owner=owner, key=key, fingerprint=fingerprint, created_at_unix=now
    )  # fmt: skip
    return None if inserts(session, statement) else session.get_one(IdempotencyRow, (owner, key))


def finish(session: Session, owner: str, key: str, *, status: int, body: bytes) -> None:
    """Keep what the request was answered."""
    session.execute(
        update(IdempotencyRow)
        .where(col(IdempotencyRow.owner) == owner, col(IdempotencyRow.key) == key)
        .values(status=status, body=body)
    )


def give_back(session: Session, owner: str, key: str) -> None:
    """Free the key of a request that came to nothing."""
    ours = col(IdempotencyRow.owner) == owner, col(IdempotencyRow.key) == key, col(IdempotencyRow.body).is_(None)
    session.execute(delete(IdempotencyRow).where(*ours))


def forget(session: Session, *, before: UnixSeconds) -> None:
    """Forget the answers of requests that came long ago."""
    session.execute(delete(IdempotencyRow).where(col(IdempotencyRow.created_at_unix) < before))


def inserts(session: Session, statement: Any) -> bool:  # noqa: ANN401 - either dialect's Insert
    """Execute an INSERT that does nothing on conflict; return whether it inserted."""
    # what it returns, not rowcount: PostgreSQL's driver has no count for an INSERT of a mapped class
    quiet = statement.on_conflict_do_nothing()
    return session.execute(quiet.returning(*quiet.table.primary_key)).first() is not None
