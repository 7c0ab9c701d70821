"""What venues said, kept with the bytes they said it in."""

from __future__ import annotations

import json
from typing import Final

from sqlalchemy import delete, select
from sqlmodel import Session, col

from btcfi.adapters.store.prices.tables import QuoteRow, RoundRow, RoundState
from btcfi.adapters.store.spine.blobs import store_blob
from btcfi.adapters.store.spine.edges import upsert
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.oracle.quote import (
    AWAITED,
    Feed,
    Missing,
    Observation,
    VenueId,
    encode_observation,
    read_observation,
)
from btcfi.units import Slot, UnixSeconds

SHARED_SECONDS: Final = 2 * 3_600
"""How far apart two minutes can be that one answer is evidence for: those that a tick takes up at once, twice over."""


def store_observation(session: Session, feed: Feed, observation: Observation, raw: bytes, *, now: UnixSeconds) -> bool:
    """Store what a venue said and the bytes that say so; return whether it is the venue's word now.

    One row a venue and slot. What may still come (AWAITED) is replaced by any later word, a final word by nothing. Once
    the round is closed nothing is added: its report was made of what was there.
    """
    if _is_closed(session, feed, observation.slot):
        return False
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
    if session.execute(quiet.returning(col(QuoteRow.venue))).first() is None and not _replaced(
        session, feed, observation
    ):
        return False
    if raw:  # of what is nobody's word nothing is kept: no quote would name it, and retention would never find it
        store_blob(session, raw, now=now)
    return True


def is_wanted(session: Session, feed: Feed, at: Slot, venue: VenueId) -> bool:
    """Return whether a venue should be asked for a minute: its round is not closed, and its last word may change."""
    query = select(col(RoundRow.state)).where(col(RoundRow.feed) == feed, col(RoundRow.slot) == at)
    state = session.execute(query).scalar_one_or_none()
    if state not in {None, RoundState.OPEN}:
        return False
    said = select(QuoteRow).where(col(QuoteRow.feed) == feed, col(QuoteRow.slot) == at)
    row = session.execute(said.where(col(QuoteRow.venue) == str(venue))).scalar_one_or_none()
    return row is None or _is_awaited(row)


def _is_awaited(row: QuoteRow) -> bool:
    said = read_observation(row.body)
    return isinstance(said, Missing) and said.reason in AWAITED


def _replaced(session: Session, feed: Feed, observation: Observation) -> bool:
    row = session.execute(
        select(QuoteRow)
        .where(col(QuoteRow.feed) == feed, col(QuoteRow.slot) == observation.slot)
        .where(col(QuoteRow.venue) == str(observation.venue))
        .with_for_update()
    ).scalar_one()
    if not _is_awaited(row):
        return False
    before = row.evidence_sha256
    row.ok = not isinstance(observation, Missing)
    row.body = json.dumps(encode_observation(observation))
    row.evidence_sha256 = observation.evidence.hex() if observation.evidence is not None else None
    row.fetched_at_unix = observation.observed_at
    session.flush()
    if before is not None and before != row.evidence_sha256:
        _forget(session, feed, observation.slot, before)
    return True


def _forget(session: Session, feed: Feed, at: Slot, evidence: str) -> None:
    """Delete the bytes of a word that another replaced, unless they are another minute's evidence too (Gemini's)."""
    others = select(col(QuoteRow.venue)).where(
        col(QuoteRow.feed) == feed, col(QuoteRow.slot) >= at - SHARED_SECONDS,
        col(QuoteRow.slot) <= at + SHARED_SECONDS, col(QuoteRow.evidence_sha256) == evidence,
    )  # fmt: skip
    if session.execute(others.limit(1)).first() is None:
        session.execute(delete(BlobRow).where(col(BlobRow.sha256) == evidence))


def _is_closed(session: Session, feed: Feed, at: Slot) -> bool:
    state = select(col(RoundRow.state)).where(col(RoundRow.feed) == feed, col(RoundRow.slot) == at)
    # whoever closes it waits for this transaction, or this one for that
    found = session.execute(state.with_for_update(read=True)).scalar_one_or_none()
    return found is not None and found != RoundState.OPEN


def observations_of(session: Session, feed: Feed, at: Slot) -> list[Observation]:
    """Return what every venue said for a slot, by venue."""
    rows = session.execute(select(QuoteRow).where(col(QuoteRow.feed) == feed, col(QuoteRow.slot) == at)).scalars()
    return [read_observation(row.body) for row in sorted(rows, key=lambda r: r.venue)]
