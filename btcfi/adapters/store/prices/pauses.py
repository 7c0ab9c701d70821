"""Whether an operator has stopped a feed, and until when."""

from __future__ import annotations

from sqlmodel import Session

from btcfi.adapters.store.prices.pause_tables import PausedFeedRow
from btcfi.units import UnixSeconds


def pause_of(session: Session, feed: str) -> PausedFeedRow | None:
    """Return the pause that an operator has laid on ``feed``: its open rounds are closed, new ones are not opened."""
    row = session.get(PausedFeedRow, feed)
    return row if row is not None and row.resumed_at_unix is None else None


def resumed_at(session: Session, feed: str) -> UnixSeconds:
    """Return when ``feed`` was last resumed; 0 for never."""
    row = session.get(PausedFeedRow, feed)
    return UnixSeconds(0 if row is None else row.resumed_at_unix or 0)


def pause(session: Session, feed: str, *, by: str, now: UnixSeconds) -> None:
    """Lay a pause on ``feed``; one that is laid already stays whose it is."""
    if pause_of(session, feed) is None:
        session.merge(PausedFeedRow(feed=feed, paused_by=by, paused_at_unix=now, resumed_at_unix=None))


def resume(session: Session, feed: str, *, now: UnixSeconds) -> None:
    """Take the pause of ``feed`` away, if there is one."""
    if (paused := pause_of(session, feed)) is not None:
        paused.resumed_at_unix = now
