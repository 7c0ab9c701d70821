"""Messages that were refused at the broker's door: counted, kept to be looked at, never executed."""

from __future__ import annotations

from typing import Final

from sqlalchemy import delete, select
from sqlmodel import Session, col

from btcfi.adapters.store.spine.edges import count, upsert
from btcfi.adapters.store.spine.fleet_tables import RefusedMessageRow
from btcfi.hashes import sha256
from btcfi.units import UnixSeconds

COUNTER: Final = "refused_at_the_broker"

EXCERPT_BYTES: Final = 200
KEPT_ROWS: Final = 1_000
"""A flood of different rubbish does not fill the store: the oldest go."""


def refuse(session: Session, body: bytes, *, queue: str, reason: str, now: UnixSeconds) -> None:
    """Count a refused message and keep what is needed to find its sender."""
    excerpt = body[:EXCERPT_BYTES].decode("ascii", errors="backslashreplace").encode("unicode_escape").decode()
    statement = upsert(session, RefusedMessageRow).values(
        sha256=sha256(body).hex(), queue=queue, reason=reason, size_bytes=len(body), excerpt=excerpt, times=1,
        first_seen_unix=now, last_seen_unix=now,
    )  # fmt: skip
    again = {"times": RefusedMessageRow.times + 1, "last_seen_unix": now, "reason": reason, "queue": queue}
    session.execute(statement.on_conflict_do_update(index_elements=["sha256"], set_=again))
    count(session, COUNTER)
    kept = select(col(RefusedMessageRow.sha256)).order_by(col(RefusedMessageRow.last_seen_unix).desc()).limit(KEPT_ROWS)
    session.execute(
        delete(RefusedMessageRow)
        .where(col(RefusedMessageRow.sha256).not_in(kept))
        .execution_options(synchronize_session=False)
    )
