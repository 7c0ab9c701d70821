"""Canaries: when a queue last proved that it is consumed, not only connected."""

from __future__ import annotations

from sqlmodel import Session

from btcfi.adapters.store.spine.edges import upsert
from btcfi.adapters.store.spine.tables import CanaryRow
from btcfi.units import UnixSeconds


def note_canary(session: Session, queue: str, *, now: UnixSeconds) -> None:
    """Note that a queue was consumed just now."""
    statement = upsert(session, CanaryRow).values(queue=queue, seen_at_unix=now)
    session.execute(statement.on_conflict_do_update(index_elements=["queue"], set_={"seen_at_unix": now}))
