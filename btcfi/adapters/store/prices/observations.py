"""What venues said, kept with the bytes they said it in."""

from __future__ import annotations

import json

from sqlalchemy import select
from sqlmodel import Session, col

from btcfi.adapters.store.prices.tables import QuoteRow, RoundRow, RoundState
from btcfi.adapters.store.spine.blobs import store_blob
from btcfi.adapters.store.spine.edges import upsert
from btcfi.oracle.quote import (
    Feed,
    Missing,
    Observation,
    encode_observation,
    read_observation,
)
from btcfi.units import Slot, UnixSeconds


def store_observation(session: Session, feed: Feed, observation: Observation, raw: bytes, *, now: UnixSeconds) -> bool:
    """Store what a venue said and the bytes that say so; return whether it is new (one row a venue and slot).

    What comes after the round was closed is not stored: a settlement agrees on the minute again, and must find what the
    round was closed on.
    """
    if _is_closed(session, feed, observation.slot):
        return False
    if raw:
        store_blob(session, raw, now=now)
    statement = upsert(session, QuoteRow).values(
        feed=feed,
        slot=observation.slot,
        venue=str(observation.venue),
        ok=not isinstance(observation, Missing),
        body=json.dumps(encode_observation(observation)),
        evidence_sha256=observation.evidence.hex() if observation.evidence is not None else None,
        fetched_at_unix=observation.observed_at,
    )
    # what it returns, not rowcount: PostgreSQL's driver has no count for an INSERT of a mapped class
    quiet = statement.on_conflict_do_nothing(index_elements=["feed", "slot", "venue"])
    return session.execute(quiet.returning(col(QuoteRow.venue))).first() is not None


def _is_closed(session: Session, feed: Feed, at: Slot) -> bool:
    state = select(col(RoundRow.state)).where(col(RoundRow.feed) == feed, col(RoundRow.slot) == at)
    # whoever closes it waits for this transaction, or this one for that
    found = session.execute(state.with_for_update(read=True)).scalar_one_or_none()
    return found is not None and found != RoundState.OPEN


def observations_of(session: Session, feed: Feed, at: Slot) -> list[Observation]:
    """Return what every venue said for a slot, by venue."""
    rows = session.execute(select(QuoteRow).where(col(QuoteRow.feed) == feed, col(QuoteRow.slot) == at)).scalars()
    return [read_observation(row.body) for row in sorted(rows, key=lambda r: r.venue)]
