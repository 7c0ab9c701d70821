"""Minutes as the aggregator serves them to oracles: what was signed of each, and where its round stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session, col

from btcfi.adapters.store.prices.network_tables import OracleEquivocationRow, OracleSubmissionRow
from btcfi.adapters.store.prices.tables import RoundRow, RoundState
from btcfi.oracle.quote import Feed
from btcfi.units import SECONDS_PER_MINUTE, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedMinute:
    """One minute. ``state``: ``adapters.oracle.sources.MinuteState``."""

    slot: Slot
    state: str
    messages: tuple[bytes, ...]
    """The signed submissions, PriceSubmission as the aggregator stores it, by node."""
    report: dict[str, Any] | None
    """What this service concluded; nobody has to believe it."""


def newest_round(session: Session, feed: Feed) -> Slot | None:
    """Return the newest minute that has a round."""
    found = session.execute(select(func.max(RoundRow.slot)).where(col(RoundRow.feed) == feed)).scalar_one()
    return None if found is None else Slot(found)


def served_minutes(session: Session, feed: Feed, slots: Iterable[int]) -> list[ServedMinute]:
    """Return each of these minutes, whether it has a round or not."""
    asked = sorted(set(slots))
    query = select(RoundRow).where(col(RoundRow.feed) == feed, col(RoundRow.slot).in_(asked))
    rounds = {row.slot: row for row in session.execute(query).scalars()}
    signed = _signed(session, feed, asked, rounds)
    priced = _newest_priced(session, feed)
    return [_served(Slot(at), rounds.get(at), signed.get(at, []), priced) for at in asked]


def _signed(
    session: Session, feed: Feed, asked: list[int], rounds: Mapping[int, RoundRow]
) -> dict[int, list[bytes]]:  # fmt: skip
    """Return the signed messages by minute, both sides of every contradiction that was seen before its round closed.

    A later one is evidence against its node and changes no minute: or a node could move what was agreed.
    """
    found: dict[int, list[bytes]] = {}
    query = select(OracleSubmissionRow).where(
        col(OracleSubmissionRow.feed) == feed, col(OracleSubmissionRow.slot).in_(asked)
    )
    for one in session.execute(query.order_by(col(OracleSubmissionRow.node_id))).scalars():
        found.setdefault(one.slot, []).append(one.message)
    against = select(OracleEquivocationRow).where(
        col(OracleEquivocationRow.feed) == feed, col(OracleEquivocationRow.slot).in_(asked)
    )
    for two in session.execute(against.order_by(col(OracleEquivocationRow.node_id))).scalars():
        row = rounds.get(two.slot)
        if row is None or row.closed_at_unix is None or two.seen_at_unix <= row.closed_at_unix:
            found.setdefault(two.slot, []).extend((two.first, two.second))
    return found


def _served(
    at: Slot, row: RoundRow | None, signed: list[bytes], priced: int | None
) -> ServedMinute:  # fmt: skip
    if row is None:
        # a minute before one that has a price is opened by nobody any more (``rounds.open_round``)
        state = "never_asked" if priced is not None and at < priced else "unknown"
    elif row.state == RoundState.OPEN:
        state = "open"
    else:
        state = "closed" if signed else "unsigned"
    report = json.loads(row.report) if row is not None and row.report else None
    return ServedMinute(slot=at, state=state, messages=tuple(signed), report=report)


def _newest_priced(session: Session, feed: Feed) -> int | None:
    query = select(func.max(RoundRow.slot)).where(col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.PRICED)
    found: int | None = session.execute(query).scalar_one()
    return found


def page_of(session: Session, feed: Feed, *, start: int | None, minutes: int) -> list[ServedMinute]:
    """Return ``minutes`` minutes from ``start``, or as many up to the newest round; none of the future."""
    newest = newest_round(session, feed)
    if newest is None:
        return []
    first = newest - (minutes - 1) * SECONDS_PER_MINUTE if start is None else start
    last = min(first + (minutes - 1) * SECONDS_PER_MINUTE, newest)
    return served_minutes(session, feed, range(max(first, 0), last + 1, SECONDS_PER_MINUTE))


def has_signed(session: Session, feed: Feed, node_id: str) -> bool:
    """Return whether a node ever signed anything that this store has."""
    query = select(col(OracleSubmissionRow.id)).where(
        col(OracleSubmissionRow.feed) == feed, col(OracleSubmissionRow.node_id) == node_id
    )
    return session.execute(query.limit(1)).first() is not None


def newest_unsigned(session: Session, feed: Feed) -> Slot | None:
    """Return the newest minute with a round of which nobody signed anything, None where every one is signed."""
    signed = select(col(OracleSubmissionRow.id)).where(
        col(OracleSubmissionRow.feed) == feed, col(OracleSubmissionRow.slot) == RoundRow.slot
    )
    query = select(func.max(RoundRow.slot)).where(col(RoundRow.feed) == feed, ~signed.exists())
    found = session.execute(query).scalar_one()
    return None if found is None else Slot(found)
