"""What people read of prices: agreed minutes, what the venues said, how the last rounds went."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select

from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.tables import QuoteRow, RoundRow, RoundState
from btcfi.adapters.store.spine import views as spine_views
from btcfi.adapters.store.spine.paging import Page, newest_page, stretch
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.oracle.quote import Feed
from btcfi.units import CentsPerBtc, Slot, UnixSeconds


class Close(NamedTuple):
    """A minute's agreed price."""

    slot: Slot
    price_cents: CentsPerBtc


def newest_priced(session: Session, feed: str) -> RoundRow | None:
    """Return the newest priced minute."""
    return rounds.latest_priced(session, Feed(feed))


def newest_close(session: Session, feed: str) -> Close | None:
    """Return the newest agreed price without the report behind it: what is asked every second."""
    query = select(RoundRow.slot, RoundRow.price_cents).where(*_priced(feed))
    found = session.exec(query.order_by(col(RoundRow.slot).desc()).limit(1)).first()
    return None if found is None or found[1] is None else Close(Slot(found[0]), CentsPerBtc(found[1]))


def price_age(session: Session, feed: str, *, replay: bool, now: UnixSeconds) -> int | None:
    """Return for how many seconds of the wall clock the newest price has stood, None before the first.

    replay: recorded minutes are old when they are priced, so that their price counts from when it was agreed: a
    recording that is over is as stale as an exchange that is silent.
    """
    query = select(RoundRow.slot, RoundRow.closed_at_unix).where(*_priced(feed))
    found = session.exec(query.order_by(col(RoundRow.slot).desc()).limit(1)).first()
    if found is None:
        return None
    slot, closed = found
    return max(now - (closed if replay and closed is not None else slot), 0)


def newest_void(session: Session, feed: str) -> RoundRow | None:
    """Return the newest minute that has no price."""
    query = select(RoundRow).where(RoundRow.feed == feed, RoundRow.state == RoundState.VOID)
    return session.exec(query.order_by(col(RoundRow.slot).desc()).limit(1)).first()


def newest_closed(session: Session, feed: str) -> RoundRow | None:
    """Return the newest minute that is priced or void."""
    query = select(RoundRow).where(RoundRow.feed == feed, RoundRow.state != RoundState.OPEN)
    return session.exec(query.order_by(col(RoundRow.slot).desc()).limit(1)).first()


def recent_rounds(session: Session, feed: str, limit: int) -> Sequence[RoundRow]:
    """Return the newest rounds of any state, newest first."""
    query = select(RoundRow).where(RoundRow.feed == feed)
    return stretch(session, query, col(RoundRow.slot), beyond=None, limit=limit, newest_first=True)


def recent_states(session: Session, feed: str, limit: int) -> Sequence[str]:
    """Return the states of the newest rounds, newest first."""
    query = select(RoundRow.state).where(RoundRow.feed == feed)
    return stretch(session, query, col(RoundRow.slot), beyond=None, limit=limit, newest_first=True)


def round_at(session: Session, feed: str, slot: int) -> RoundRow | None:
    """Return a minute's round."""
    return rounds.find_round(session, Feed(feed), Slot(slot))


def report_of(row: RoundRow) -> dict[str, Any]:
    """Return a round's report, as ``encode_outcome`` wrote it; empty while the round is open."""
    document = json.loads(row.report or "{}")
    inner = document.get("outcome", document)
    return dict(inner) if isinstance(inner, dict) else {}


def price_page(
    session: Session, feed: str, *, start: int, end: int, limit: int, cursor: str | None = None
) -> Page[RoundRow]:
    """Return one page of agreed minutes from ``start`` to before ``end``, newest first. Raises NoSuchPageError."""
    query = select(RoundRow).where(
        RoundRow.feed == feed,
        RoundRow.state == RoundState.PRICED,
        col(RoundRow.slot) >= start,
        col(RoundRow.slot) < end,
    )
    return newest_page(session, query, col(RoundRow.slot), limit=limit, cursor=cursor)


def prices_after(session: Session, feed: str, slot: int, *, limit: int) -> Sequence[RoundRow]:
    """Return the agreed minutes after a minute, oldest first."""
    query = select(RoundRow).where(*_priced(feed))
    return stretch(session, query, col(RoundRow.slot), beyond=(slot,), limit=limit)


def price_range(session: Session, feed: str, *, since: int) -> tuple[CentsPerBtc, CentsPerBtc] | None:
    """Return the lowest and the highest agreed price of the minutes from ``since`` on, None where there is none."""
    query = select(func.min(RoundRow.price_cents), func.max(RoundRow.price_cents))
    low, high = session.exec(query.where(*_priced(feed), col(RoundRow.slot) >= since)).one()
    return None if low is None or high is None else (CentsPerBtc(low), CentsPerBtc(high))


def closes(session: Session, feed: str, *, until: int, interval: int, limit: int) -> list[int]:
    """Return past agreed prices, oldest first, cents per BTC: the newest ``limit``, a multiple of ``interval`` apart.

    until: the minute of the last. interval: seconds.
    """
    query = (
        select(RoundRow.price_cents)
        .where(*_priced(feed), col(RoundRow.slot) <= until)
        .where(col(RoundRow.slot) % interval == until % interval)
    )
    newest = query.order_by(col(RoundRow.slot).desc()).limit(limit)
    return [cents for cents in reversed(session.exec(newest).all()) if cents is not None]


def minutes_of(session: Session, numbers: Iterable[int]) -> dict[int, int]:
    """Return the minute of each round of a number."""
    rows = session.exec(select(RoundRow.id, RoundRow.slot).where(col(RoundRow.id).in_(list(numbers)))).all()
    return {number: slot for number, slot in rows if number is not None}


def open_rounds(session: Session) -> int:
    """Return how many rounds are open."""
    return spine_views.count_in(session, RoundRow, RoundState.OPEN)


def rounds_by_state(session: Session) -> dict[str, int]:
    """Return how many rounds are in each state."""
    return spine_views.by_state(session, RoundRow)


def closed_between(session: Session, first: int, last: int) -> int:
    """Return how many minutes from ``first`` up to and with ``last`` are priced or void."""
    query = select(func.count()).select_from(RoundRow).where(col(RoundRow.state).in_(RoundRow.__machine__.ends))
    return session.exec(query.where(col(RoundRow.slot) >= first, col(RoundRow.slot) <= last)).one()


def quotes_of(session: Session, feed: str, slot: int) -> Sequence[QuoteRow]:
    """Return what every venue said of a minute, by venue."""
    query = select(QuoteRow).where(QuoteRow.feed == feed, QuoteRow.slot == slot)
    return session.exec(query.order_by(col(QuoteRow.venue))).all()


def evidence(session: Session, feed: str, slot: int, digest: str) -> BlobRow | None:
    """Return the bytes that a venue answered for a minute; None for another minute's, and when they are not kept."""
    ours = select(QuoteRow.id).where(
        QuoteRow.feed == feed, QuoteRow.slot == slot, QuoteRow.evidence_sha256 == digest
    )  # fmt: skip
    return spine_views.blob(session, digest) if session.exec(ours).first() is not None else None


def _priced(feed: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.PRICED
