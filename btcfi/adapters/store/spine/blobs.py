"""Bytes by content: what rows name by hash."""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import Session

from btcfi.adapters.store.spine.edges import upsert
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.hashes import sha256
from btcfi.units import Hash32, UnixSeconds


def store_blob(session: Session, raw: bytes, *, now: UnixSeconds) -> Hash32:
    """Store bytes by their SHA-256 and return it; storing them again changes nothing."""
    return store_blobs(session, [raw], now=now)[0]


def store_blobs(session: Session, many: Iterable[bytes], *, now: UnixSeconds) -> list[Hash32]:
    """Store many bytes, each by its SHA-256, with one statement, and return these in order; again changes nothing."""
    bodies = list(many)
    digests = [sha256(raw) for raw in bodies]
    # in one order: two writers of the same bytes in opposite orders would wait for each other
    rows = [
        {"sha256": digest.hex(), "body": raw, "created_at_unix": now}
        for digest, raw in sorted(dict(zip(digests, bodies, strict=True)).items())
    ]
    statement = upsert(session, BlobRow).on_conflict_do_nothing(index_elements=["sha256"])
    if rows:
        session.execute(statement, rows)
    return digests
