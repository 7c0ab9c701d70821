"""Orders of people that came by a message: each is taken once, however often the message comes."""

from __future__ import annotations

from sqlmodel import Session

from btcfi.adapters.store.spine.edges import upsert
from btcfi.adapters.store.spine.fleet_tables import TakenOrderRow
from btcfi.units import UnixSeconds


def take_order(session: Session, message_id: str | None, *, now: UnixSeconds) -> bool:
    """Note that a message's order is taken, in the caller's transaction; return False for one that was before.

    None, the id of a call without a message, is always taken. Rows are few, as people are, and stay: a recording
    has no age.
    """
    if message_id is None:
        return True
    statement = upsert(session, TakenOrderRow).values(id=message_id, at_unix=now).on_conflict_do_nothing()
    # what it returns, not rowcount: PostgreSQL's driver has no count for an INSERT of a mapped class
    return session.execute(statement.returning(TakenOrderRow.id)).first() is not None
