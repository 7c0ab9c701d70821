"""Messages that were refused at the broker's door: counted, kept to be looked at, never executed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, select
from sqlmodel import Session, col

from btcfi.adapters.store.spine.edges import count, upsert
from btcfi.adapters.store.spine.fleet_tables import RefusedMessageRow
from btcfi.documents import printable
from btcfi.hashes import sha256
from btcfi.units import UnixSeconds

COUNTER: Final = "refused_at_the_broker"

EXCERPT_BYTES: Final = 200
KEPT_ROWS: Final = 1_000
"""A flood of different rubbish does not fill the store: the oldest go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """One message that was refused."""

    body: bytes
    queue: str
    reason: str


MAX_QUEUE: Final = 100
MAX_REASON: Final = 200
"""Characters that are kept of a queue's name and of a reason."""


def refuse(session: Session, many: Sequence[Refused], *, more: int = 0, now: UnixSeconds) -> None:
    """Count refused messages and keep what is needed to find their sender; ``more`` of a flood are counted only."""
    for one in many:
        _keep(session, one, now)
    count(session, COUNTER, len(many) + more)
    kept = select(col(RefusedMessageRow.sha256)).order_by(col(RefusedMessageRow.last_seen_unix).desc()).limit(KEPT_ROWS)
    session.execute(
        delete(RefusedMessageRow)
        .where(col(RefusedMessageRow.sha256).not_in(kept))
        .execution_options(synchronize_session=False)
    )


def _keep(session: Session, one: Refused, now: UnixSeconds) -> None:
    excerpt = one.body[:EXCERPT_BYTES].decode("ascii", errors="backslashreplace").encode("unicode_escape").decode()
    queue, reason = printable(one.queue, MAX_QUEUE), printable(one.reason, MAX_REASON)
    statement = upsert(session, RefusedMessageRow).values(
        sha256=sha256(one.body).hex(), queue=queue, reason=reason, size_bytes=len(one.body), excerpt=excerpt, times=1,
        first_seen_unix=now, last_seen_unix=now,
    )  # fmt: skip
    again = {"times": RefusedMessageRow.times + 1, "last_seen_unix": now, "reason": reason, "queue": queue}
    session.execute(statement.on_conflict_do_update(index_elements=["sha256"], set_=again))
