"""Bytes by content: what rows name by hash."""

from __future__ import annotations

from sqlmodel import Session

from btcfi.adapters.store.spine.edges import upsert
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.hashes import sha256
from btcfi.units import Hash32, UnixSeconds


def store_blob(session: Session, raw: bytes, *, now: UnixSeconds) -> Hash32:
    """Store bytes by their SHA-256 and return it; storing them again changes nothing."""
    digest = sha256(raw)
    statement = upsert(session, BlobRow).values(sha256=digest.hex(), body=raw, created_at_unix=now)
    session.execute(statement.on_conflict_do_nothing(index_elements=["sha256"]))
    return digest
