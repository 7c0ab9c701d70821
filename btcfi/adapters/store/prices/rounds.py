"""Rounds: one feed's minute is opened once, closed once, and closing it needs no chord."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Select, func, select, update
from sqlmodel import Session, col

from btcfi.adapters.store.prices.observations import observations_of
from btcfi.adapters.store.prices.pauses import pause_of, resumed_at
from btcfi.adapters.store.prices.tables import RoundRow, RoundState
from btcfi.adapters.store.spine.blobs import store_blob
from btcfi.adapters.store.spine.edges import Work, count, cross, enqueue, record_all, upsert
from btcfi.adapters.store.spine.times import lapsed
from btcfi.oracle.consensus import (
    AgreedPrice,
    ConsensusRule,
    encode_outcome,
)
from btcfi.oracle.fixing import MOST_MINUTES
from btcfi.oracle.quote import AWAITED, Feed, Missing, MissingReason, Observation, VenueId, check_ended
from btcfi.oracle.recompute import RoundTerms, recompute
from btcfi.oracle.report import canonical_json, rule_document
from btcfi.units import SECONDS_PER_MINUTE, CentsPerBtc, Slot, UnixSeconds

MAX_ATTEMPTS: Final = 3
"""How often a minute's fetches are queued before it is closed with what came."""

CATCH_UP_SLOTS: Final = MOST_MINUTES
"""How many minutes that nobody opened a tick takes up: as long an outage costs the longest window no minute that the
exchanges still serve."""

CATCH_UP_SECONDS: Final = 3
"""Between two of them, so that the minute that has just closed does not wait behind them."""

LONGEST_PAUSE: Final = 15 * 60
"""Seconds after which exchanges that have a minute in progress are asked for it again, at the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Who speaks for a feed, and by which rule."""

    feed: Feed
    venues: tuple[VenueId, ...]
    legs: tuple[VenueId, ...]
    rule: ConsensusRule

    @property
    def terms(self) -> RoundTerms:
        """What decides its rounds besides what is said."""
        return RoundTerms(feed=self.feed, rule=self.rule, registered=frozenset(self.venues), legs=frozenset(self.legs))

    @property
    def asked(self) -> tuple[VenueId, ...]:
        """Everyone that a round fetches from."""
        return self.venues + self.legs


TICK_PATIENCE_SECONDS: Final = 15
"""After a minute's end, that its tick has to come before the minute is opened without it."""


def last_over(now: UnixSeconds) -> Slot | None:
    """Return the last minute that is over; None while its tick may still come."""
    slot = Slot(now // SECONDS_PER_MINUTE * SECONDS_PER_MINUTE - SECONDS_PER_MINUTE)
    return slot if now - slot - SECONDS_PER_MINUTE >= TICK_PATIENCE_SECONDS else None


def open_round(session: Session, feed: Feed, slot: Slot, *, now: UnixSeconds, deadline_seconds: int) -> bool:
    """Open the round of a minute and queue its fetches; return False when that was done: two beats are harmless.

    The minutes before it that nobody opened are opened too, since a tick can be lost with its worker: an option is
    settled by its own minute, and a barrier has seen each. ``repair_rounds`` asks for them, one after another. Not
    opened are a minute before one that has a price (options may have been settled by that), and any while an operator
    has paused the feed, or of such a pause. Raises MinuteNotClosedError for a minute that has not ended.
    """
    check_ended(slot, now)
    if pause_of(session, feed) is not None or _is_passed(session, feed, slot):
        return False
    rows = [
        {"feed": feed, "slot": one, "state": str(RoundState.OPEN), "attempts": 0, "opened_at_unix": now,
         "deadline_unix": now + place * CATCH_UP_SECONDS}
        for place, one in enumerate((*_missed(session, feed, slot), slot), start=1)
    ]  # fmt: skip
    # what it returns, not rowcount: PostgreSQL's driver has no count for an INSERT of a mapped class
    quiet = upsert(session, RoundRow).values(rows).on_conflict_do_nothing(index_elements=["feed", "slot"])
    opened = sorted(session.execute(quiet.returning(col(RoundRow.id))).scalars())
    record_all(session, "round", {str(one): "" for one in opened}, RoundState.OPEN, now=now)
    # by this tick, or by a later minute's that came before it
    asked = (
        update(RoundRow)
        .where(col(RoundRow.feed) == feed, col(RoundRow.slot) == slot)
        .where(col(RoundRow.state) == RoundState.OPEN, col(RoundRow.attempts) == 0)
        .values(attempts=1, deadline_unix=now + deadline_seconds)
        .returning(col(RoundRow.slot))
    )
    if session.execute(asked).first() is None:
        return False
    enqueue(session, [Work(flow="price_round", arguments=(feed, slot))], now=now)
    return True


def _is_passed(session: Session, feed: Feed, slot: Slot) -> bool:
    later = select(col(RoundRow.slot)).where(
        col(RoundRow.feed) == feed, col(RoundRow.slot) > slot, col(RoundRow.state) == RoundState.PRICED
    )
    return session.execute(later.limit(1)).first() is not None and find_round(session, feed, slot) is None


def _missed(session: Session, feed: Feed, slot: Slot) -> range:
    """Return the minutes between the newest round before ``slot`` and ``slot``, oldest first."""
    newest = session.execute(
        select(func.max(RoundRow.slot)).where(col(RoundRow.feed) == feed, col(RoundRow.slot) < slot)
    ).scalar_one()
    if newest is None:
        return range(0)
    resumed = -(-resumed_at(session, feed) // SECONDS_PER_MINUTE) * SECONDS_PER_MINUTE
    first = max(newest + SECONDS_PER_MINUTE, slot - CATCH_UP_SLOTS * SECONDS_PER_MINUTE, resumed)
    return range(first, slot, SECONDS_PER_MINUTE)


def find_round(session: Session, feed: Feed, slot: Slot) -> RoundRow | None:
    """Return the round of a minute."""
    return session.execute(_round(feed, slot)).scalar_one_or_none()


def _round(feed: Feed, slot: Slot) -> Select[RoundRow]:
    return select(RoundRow).where(col(RoundRow.feed) == feed, col(RoundRow.slot) == slot)


def close_round(session: Session, register: Register, slot: Slot, *, now: UnixSeconds, final: bool) -> str:
    """Price or void an open round from its stored observations, and return its state.

    final: whether to close it although a venue has not answered (the deadline passed). Closing twice changes nothing.
    Raises MinuteNotClosedError for a minute that has not ended.
    """
    check_ended(slot, now)
    row: RoundRow | None = session.execute(_round(register.feed, slot).with_for_update()).scalar_one_or_none()
    if row is None or row.state != RoundState.OPEN:
        return row.state if row else "unknown"
    observations = observations_of(session, register.feed, slot)
    if not final and not _have_spoken(observations, register):
        return RoundState.OPEN
    outcome = recompute(register.terms, observations, slot=slot).outcome
    rule = canonical_json(rule_document(register.rule, register.venues, register.legs))
    changes: dict[str, object] = {
        "report": json.dumps(encode_outcome(outcome)),
        "rule_sha256": store_blob(session, rule, now=now).hex(),
        "closed_at_unix": now,
    }
    state = RoundState.VOID
    if isinstance(outcome, AgreedPrice):
        state = RoundState.PRICED
        changes |= {"price_cents": outcome.price, "low_cents": outcome.low, "high_cents": outcome.high}
    if not cross(
        session, row, state, now=now, changes=changes, work=[Work(flow="expire_due", arguments=(register.feed,))]
    ):
        session.refresh(row)  # somebody closed it at the same moment
    return row.state


def _have_spoken(observations: Sequence[Observation], register: Register) -> bool:
    """Return whether everybody has said what nothing later will change.

    A leg's market may be silent for minutes, so a minute that it has not published holds up no price.
    """
    open_yet = {o.venue for o in observations if isinstance(o, Missing) and o.reason in AWAITED} & set(register.venues)
    return {o.venue for o in observations} - open_yet >= set(register.asked)


def _has_not_ended(observations: Sequence[Observation], register: Register) -> bool:
    """Return whether more than half of all venues have the minute in progress: then it is our clock that is fast."""
    in_progress = [o for o in observations if isinstance(o, Missing) and o.reason is MissingReason.NOT_CLOSED]
    return 2 * len({o.venue for o in in_progress} & set(register.venues)) > len(register.venues)


def repair_rounds(session: Session, register: Register, *, now: UnixSeconds, deadline_seconds: int) -> int:
    """Take up the rounds that their chord should have closed by now, oldest first; return how many.

    Venues that never answered, or not finally, are asked again, MAX_ATTEMPTS times in all; then the round is closed
    with what is there. One of a minute that has not ended is left alone, and one that has not ended by the clocks of
    most exchanges is asked for again until it has: no clock of ours that runs ahead makes a minute void.
    """
    query = select(RoundRow).where(
        col(RoundRow.feed) == register.feed, col(RoundRow.state) == RoundState.OPEN,
        lapsed(col(RoundRow.deadline_unix), now, longest=LONGEST_PAUSE),
        col(RoundRow.slot) <= now - SECONDS_PER_MINUTE,
    )  # fmt: skip
    rows = list(session.execute(query.order_by(col(RoundRow.slot)).limit(100)).scalars())
    for row in rows:
        slot = Slot(row.slot)
        observations = observations_of(session, register.feed, slot)
        fast = _has_not_ended(observations, register)
        if not fast and (_have_spoken(observations, register) or row.attempts >= MAX_ATTEMPTS):
            close_round(session, register, slot, now=now, final=True)
        else:
            # where our clock is fast, each wait is as long as all before it: an hour ahead, sixty rounds are open
            wait = max(deadline_seconds, min(now - row.opened_at_unix, LONGEST_PAUSE)) if fast else deadline_seconds
            row.attempts, row.deadline_unix = row.attempts + (not fast), now + wait
            enqueue(session, [Work(flow="price_round", arguments=(register.feed, slot))], now=now)
    if rows:
        count(session, "repaired_rounds", len(rows))
    return len(rows)


def latest_priced(session: Session, feed: Feed) -> RoundRow | None:
    """Return the newest minute that has a price."""
    query = select(RoundRow).where(col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.PRICED)
    return session.execute(query.order_by(col(RoundRow.slot).desc()).limit(1)).scalar_one_or_none()


def market_time(newest: Slot | None, *, replay: bool, now: UnixSeconds) -> UnixSeconds:
    """Return the market's time: in a replay the end of the ``newest`` priced minute, if one is, else the wall's.

    replay: whether recorded minutes are priced (``Deployment.replay_clock``); they are old, and so is their market.
    """
    return UnixSeconds(newest + SECONDS_PER_MINUTE) if replay and newest is not None else now


def market_now(session: Session, feed: Feed, *, replay: bool, now: UnixSeconds) -> UnixSeconds:
    """Return the market's time as ``market_time`` does, by the newest priced minute of the store."""
    last = latest_priced(session, feed) if replay else None
    return market_time(None if last is None else Slot(last.slot), replay=replay, now=now)


def settled_until(session: Session, feed: Feed) -> RoundRow | None:
    """Return the newest priced minute before which no round is still open: barriers have seen everything up to it."""
    first_open = session.execute(
        select(func.min(RoundRow.slot)).where(col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.OPEN)
    ).scalar_one()
    query = select(RoundRow).where(col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.PRICED)
    if first_open is not None:
        query = query.where(col(RoundRow.slot) < first_open)
    return session.execute(query.order_by(col(RoundRow.slot).desc()).limit(1)).scalar_one_or_none()


def observed_range(session: Session, feed: Feed, *, after: Slot, until: Slot) -> tuple[CentsPerBtc, CentsPerBtc] | None:
    """Return the lowest and highest agreed level of the minutes after ``after`` up to and with ``until``."""
    low, high = session.execute(
        select(func.min(RoundRow.low_cents), func.max(RoundRow.high_cents)).where(
            col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.PRICED,
            col(RoundRow.slot) > after, col(RoundRow.slot) <= until,
        )
    ).one()  # fmt: skip
    return None if low is None else (CentsPerBtc(low), CentsPerBtc(high))


def closes(session: Session, feed: Feed, *, limit: int = 1440) -> list[int]:
    """Return the newest agreed prices, oldest first, cents per BTC: what realised volatility is computed from."""
    query = select(col(RoundRow.price_cents)).where(
        col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.PRICED
    )
    return [int(p) for p in session.execute(query.order_by(col(RoundRow.slot).desc()).limit(limit)).scalars()][::-1]
