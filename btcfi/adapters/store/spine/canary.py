"""Canaries: when a queue last proved that it is consumed, not only connected."""

from __future__ import annotations

from typing import Final

from sqlmodel import Session

from btcfi.adapters.store.spine.edges import upsert
from btcfi.adapters.store.spine.tables import CanaryRow
from btcfi.documents import printable
from btcfi.units import UnixSeconds

MAX_NAME: Final = 40
"""Characters of a queue's name."""


def note_canary(session: Session, queue: str, *, now: UnixSeconds) -> None:
    """Note that a queue was consumed just now. Its name came by a message: it is kept short and as it prints."""
    statement = upsert(session, CanaryRow).values(queue=printable(queue, MAX_NAME), seen_at_unix=now)
    session.execute(statement.on_conflict_do_update(index_elements=["queue"], set_={"seen_at_unix": now}))
