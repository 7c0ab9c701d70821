"""Which exchanges want to be left alone, so that every worker of a machine obeys what one of them was told."""

from __future__ import annotations

from sqlmodel import Session

from btcfi.adapters.store.prices.wait_tables import VenueWaitRow
from btcfi.adapters.store.spine.edges import upsert
from btcfi.adapters.venues.rest import LONGEST_WAIT
from btcfi.units import UnixSeconds


def waits_until(session: Session, exchange: str, host: str, *, now: UnixSeconds) -> UnixSeconds:
    """Return before when ``host`` must not ask ``exchange``; 0 for any time.

    A time further ahead than any that we obey was noted while the host's clock was ahead, and says nothing.
    """
    row = session.get(VenueWaitRow, (exchange, host))
    return UnixSeconds(0 if row is None or row.until_unix > now + LONGEST_WAIT else row.until_unix)


def note_wait(session: Session, exchange: str, host: str, until: UnixSeconds, *, now: UnixSeconds) -> None:
    """Keep what ``exchange`` has told ``host``, while it lies ahead and until a later word replaces it."""
    if max(now, waits_until(session, exchange, host, now=now)) < until <= now + LONGEST_WAIT:
        told = upsert(session, VenueWaitRow).values(exchange=exchange, host=host, until_unix=until)
        # two workers of a machine can be told at the same moment: neither's fetch fails for it
        session.execute(told.on_conflict_do_update(index_elements=["exchange", "host"], set_={"until_unix": until}))
