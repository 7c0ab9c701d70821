"""API keys: stored by the hash of their secret, ended for good."""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import Session

from btcfi.adapters.store.access.api_tables import ApiKeyRow
from btcfi.units import UnixSeconds


def add_key(
    session: Session, key_id: str, *, secret_sha256: str, name: str, roles: Iterable[str], requests_per_minute: int,
    now: UnixSeconds, expires_at: UnixSeconds | None, account_id: str | None = None,
) -> None:  # fmt: skip
    """Store a key. account_id: whose things it may read, where it is bound to an account."""
    session.add(
        ApiKeyRow(
            id=key_id, secret_sha256=secret_sha256, name=name, roles=" ".join(roles),
            requests_per_minute=requests_per_minute, created_at_unix=now, expires_at_unix=expires_at,
            account_id=account_id,
        )
    )  # fmt: skip


def find_key(session: Session, key_id: str) -> ApiKeyRow | None:
    """Return a key, to be kept after the session."""
    row = session.get(ApiKeyRow, key_id)
    if row is not None:
        session.expunge(row)
    return row


def end_key(session: Session, key_id: str, *, now: UnixSeconds) -> bool:
    """End a key and return whether there is such a one; one that has ended keeps its time."""
    row = session.get(ApiKeyRow, key_id)
    if row is not None:
        row.revoked_at_unix = row.revoked_at_unix or now
    return row is not None
