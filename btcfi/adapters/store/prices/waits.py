"""Which exchanges want to be left alone, so that every worker of a machine obeys what one of them was told."""

from __future__ import annotations

from sqlmodel import Session

from btcfi.adapters.store.prices.wait_tables import VenueWaitRow
from btcfi.units import UnixSeconds


def waits_until(session: Session, exchange: str, host: str) -> UnixSeconds:
    """Return before when ``host`` must not ask ``exchange``; 0 for any time."""
    row = session.get(VenueWaitRow, (exchange, host))
    return UnixSeconds(0 if row is None else row.until_unix)


def note_wait(session: Session, exchange: str, host: str, until: UnixSeconds, *, now: UnixSeconds) -> None:
    """Keep what ``exchange`` has told ``host``, while it lies ahead and until a later word replaces it."""
    if until > max(now, waits_until(session, exchange, host)):
        session.merge(VenueWaitRow(exchange=exchange, host=host, until_unix=until))
