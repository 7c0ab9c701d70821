"""What the store knows about the pipeline, as numbers: one bounded reading for a metrics exporter or a terminal view.

Gauges come from queries that an index answers at any size of the book. Durations come from the event rows, which are
read once each, in order, so that a counter of this process only ever grows and a restart counts the same again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from sqlalchemy import case, func, select, text
from sqlmodel import Session, col

from btcfi.adapters.store.access.api_tables import ApiKeyRow
from btcfi.adapters.store.chain import views as chain
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.tables import (
    LOCKED_OPTIONS,
    UNEXPIRED_OPTIONS,
    OptionRow,
    OptionState,
    PremiumRow,
    SettlementRequestRow,
    SettlementRow,
    SettlementState,
)
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices import views as prices
from btcfi.adapters.store.prices.pauses import pause_of
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine import views as spine
from btcfi.adapters.store.spine.database import known_revisions
from btcfi.adapters.store.spine.machines import machines
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.oracle.quote import Feed
from btcfi.units import SECONDS_PER_MINUTE, Slot, UnixSeconds

BUCKETS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Seconds, inclusive upper bounds of the histograms. Event rows have whole seconds: below 1 there is nothing to see."""

SETTLED: Final = (SettlementState.PROVEN, SettlementState.BROADCAST, SettlementState.CONFIRMED)
"""Milestones of a settlement, each timed from when it became due."""

_LOOK: Final = text(
    "SELECT (SELECT max(id) FROM event), (SELECT max(id) FROM round), (SELECT max(height) FROM block), "
    "(SELECT max(id) FROM quote), (SELECT sum(seen_at_unix) FROM canary), (SELECT count(*) FROM paused_feed), "
    "(SELECT sum(value) FROM counter), (SELECT max(id) FROM console_audit), "
    "(SELECT max(priced_at_unix) FROM premium)"
)
"""Everything that moves writes one of these; no large table is read for it."""

EVENTS_PER_READ: Final = 20_000
"""Rows that one step of ``EventLog.read`` takes in: about 0.2 s."""

GAP_WINDOW: Final = 5_000
"""Newest event ids among which a missing one may still be in flight: PostgreSQL hands ids out before the commit."""

GAP_SECONDS: Final = 120
"""How long a missing id is looked for. A rolled back transaction leaves its ids missing for ever."""


@dataclass(slots=True)
class Histogram:
    """Durations in seconds, counted in buckets."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    """Per bucket, not cumulative; the last one is above every bound."""
    total: float = 0.0
    """Seconds, summed."""

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One kind of transition."""

    entity: str
    from_state: str
    to_state: str


@dataclass(slots=True)
class EventLog:
    """The event rows read so far, as counts: per edge how long its first state lasted, per settlement how long in all.

    One instance a process, read by one thread. ``read`` takes in a bounded number of rows, so call it until it says
    that nothing is left.
    """

    edges: dict[Edge, Histogram] = field(default_factory=dict)
    settled: dict[str, Histogram] = field(default_factory=dict)
    """By state: seconds from ``due`` until a settlement first came there."""
    born: dict[tuple[str, str], int] = field(default_factory=dict)
    """By entity: how many came into being, by their first state."""
    read_to: int = 0
    """Highest event id seen."""
    _since: dict[tuple[str, str], int] = field(default_factory=dict)
    _due: dict[str, int] = field(default_factory=dict)
    _gaps: dict[int, int] = field(default_factory=dict)

    def read(self, session: Session, *, now: UnixSeconds) -> bool:
        """Take in the next rows, and return whether there are more."""
        self._gaps = {id_: seen for id_, seen in self._gaps.items() if now - seen <= GAP_SECONDS}
        late = self._rows(session, col(EventRow.id).in_(self._gaps)) if self._gaps else []
        fresh = self._rows(session, col(EventRow.id) > self.read_to)
        for row in late:
            self._gaps.pop(int(row.id), None)
        self._take(late)
        self._take(fresh)
        if fresh:
            newest = int(fresh[-1].id)
            start = max(self.read_to, newest - GAP_WINDOW) + 1
            there = {int(row.id) for row in fresh}
            self._gaps |= {id_: now for id_ in range(start, newest) if id_ not in there}
            self.read_to = newest
        return len(fresh) == EVENTS_PER_READ

    @staticmethod
    def _rows(session: Session, condition: Any) -> list[Any]:  # noqa: ANN401 - a column expression, rows of six columns
        query = select(
            col(EventRow.id), col(EventRow.entity), col(EventRow.entity_id), col(EventRow.from_state),
            col(EventRow.to_state), col(EventRow.at_unix),
        )  # fmt: skip
        return list(session.execute(query.where(condition).order_by(col(EventRow.id)).limit(EVENTS_PER_READ)).all())

    def _take(self, rows: Iterable[Any]) -> None:
        for row in rows:
            key = (row.entity, row.entity_id)
            if not row.from_state:
                self.born[row.entity, row.to_state] = self.born.get((row.entity, row.to_state), 0) + 1
            else:
                edge = Edge(entity=row.entity, from_state=row.from_state, to_state=row.to_state)
                since = self._since.get(key)
                # without a first event nothing is known about how long it took; the edge is counted all the same
                spent = max(row.at_unix - since, 0) if since is not None else 0
                self.edges.setdefault(edge, Histogram()).add(spent)
            self._remember(row, key)

    def _remember(self, row: Any, key: tuple[str, str]) -> None:  # noqa: ANN401 - as above
        self._since[key] = row.at_unix
        if row.entity == "settlement":
            due = self._due.setdefault(row.entity_id, row.at_unix)
            if row.to_state in SETTLED and row.from_state != SettlementState.CONFIRMED:
                self.settled.setdefault(row.to_state, Histogram()).add(max(row.at_unix - due, 0))
        if (row.entity, row.to_state) in _last_states():
            self._since.pop(key, None)
            self._due.pop(row.entity_id, None)


@cache
def _last_states() -> frozenset[tuple[str, str]]:
    """Where an entity normally ends; what a reorganisation takes back is counted from there, its time forgotten."""
    return frozenset((entity, str(end)) for entity, (_, machine) in machines().items() for end in machine.ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The newest agreed price of a feed and what stands behind it."""

    cents: int
    age_seconds: int
    """Since the end of its minute; in a replay since it was agreed."""
    confidence_bps: float
    """Half width of the band that the venues span, relative to the price."""
    range_bps: float
    """Highest minus lowest level of the minute, relative to the price."""
    used: int
    dropped: int
    absent: int
    quorum: int
    registered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything that the store tells at one moment. Ages are seconds, None where there is nothing to be old."""

    at: UnixSeconds
    options: dict[str, int]
    settlements: dict[str, int]
    oldest_settlement: dict[str, int]
    """By state: age of the settlement that became due first among those in it."""
    contracts: dict[str, int]
    oldest_contract: dict[str, int]
    """By state: age of the contract that was ordered first among those in it."""
    overdue_options: int
    """Active options whose expiry minute is over and priced or void, yet not expired."""
    collateral_sats: int
    """Of the options that the chain holds, as ``premium_cents``: what is sold and not funded locks nothing."""
    premium_cents: int
    price: Price | None
    open_rounds: int
    feed_paused: bool
    """Whether an operator stopped the feed on purpose."""
    premiums_age: int | None
    """Of the oldest premium among the open options."""
    unpriced_options: int
    outbox_waiting: int
    outbox_lag: int
    """Age of the oldest message that is not published; 0 when none waits."""
    outbox_set_aside: int
    """Rows that could not be started; they are not among those that wait."""
    canaries: dict[str, int]
    """By queue: seconds since it last proved that it is consumed."""
    counters: dict[str, int]
    requests: dict[str, int]
    transactions: dict[str, int]
    walked_height: int | None
    api_keys: dict[str, int]
    """Usable, expired, revoked: how many. Nothing else of a key leaves the store."""
    database_bytes: int | None
    schema_current: bool


def read_store(session: Session, feed: Feed, *, now: UnixSeconds, replay: bool = False) -> Reading:
    """Return the store's numbers. ``replay``: the market's clock is the newest priced minute, not ``now``."""
    last = prices.newest_priced(session, feed)
    market_now = rounds.market_time(None if last is None else Slot(last.slot), replay=replay, now=now)
    waiting, tip = spine.waiting(session), chain.tip(session)
    premiums_age, unpriced = _premiums(session, now)
    locked, paid = _book(session)
    return Reading(
        at=now,
        options=spine.by_state(session, OptionRow),
        settlements=spine.by_state(session, SettlementRow),
        oldest_settlement=_oldest(session, SettlementRow, SettlementRow.__machine__.pending, now),
        contracts=spine.by_state(session, ContractRow),
        oldest_contract=_oldest(session, ContractRow, ContractRow.__machine__.pending, now),
        overdue_options=_overdue(session, market_now),
        collateral_sats=locked,
        premium_cents=paid,
        price=None if last is None else _price(last, now=now, replay=replay),
        open_rounds=prices.open_rounds(session),
        feed_paused=pause_of(session, feed) is not None,
        premiums_age=premiums_age,
        unpriced_options=unpriced,
        outbox_waiting=waiting.count,
        outbox_lag=0 if waiting.since_unix is None else max(now - waiting.since_unix, 0),
        outbox_set_aside=spine.count_set_aside(session),
        canaries={row.queue: max(now - row.seen_at_unix, 0) for row in spine.canaries(session)},
        counters=spine.counters(session),
        requests=spine.by_state(session, SettlementRequestRow),
        transactions=spine.by_state(session, TransactionRow),
        walked_height=None if tip is None else tip.height,
        api_keys=_api_keys(session, now),
        database_bytes=_size(session),
        schema_current=schema_revision(session) == newest_revision(),
    )


def fingerprint(session: Session) -> tuple[object, ...]:
    """Return something that differs after whatever anybody would want to see: asked four times a second."""
    return tuple(session.execute(_LOOK).one())


def newest_revision() -> str:
    """Return the newest migration that this code knows."""
    return known_revisions()[0]


def schema_revision(session: Session) -> str | None:
    """Return the migration that the database is at."""
    found: str | None = session.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def newest_closed_round(session: Session, feed: Feed) -> tuple[UnixSeconds, str, dict[str, Any]] | None:
    """Return minute, state and report (the JSON of ``encode_outcome``) of the newest round that is closed."""
    row = prices.newest_closed(session, feed)
    return None if row is None else (UnixSeconds(row.slot), row.state, prices.report_of(row))


def _count(session: Session, condition: Any, table: Any) -> int:  # noqa: ANN401 - a column expression and its table
    return int(session.execute(select(func.count()).select_from(table).where(condition)).scalar_one())


def _oldest(session: Session, table: Any, states: Iterable[str], now: UnixSeconds) -> dict[str, int]:  # noqa: ANN401
    query = select(col(table.state), func.min(table.created_at_unix)).where(col(table.state).in_(states))
    return {state: max(now - first, 0) for state, first in session.execute(query.group_by(col(table.state)))}


def _overdue(session: Session, market_now: UnixSeconds) -> int:
    # the expiry minute itself has to pass, and its round has to be fetched, before anything can be late
    late = col(OptionRow.expiry_unix) <= market_now - 2 * SECONDS_PER_MINUTE
    return _count(session, (col(OptionRow.state) == OptionState.ACTIVE) & late, OptionRow)


def _book(session: Session) -> tuple[int, int]:
    query = select(
        func.coalesce(func.sum(OptionRow.collateral_sats), 0), func.coalesce(func.sum(OptionRow.premium_cents), 0)
    ).where(col(OptionRow.state).in_(LOCKED_OPTIONS))
    locked, paid = session.execute(query).one()
    return int(locked), int(paid)


def _price(row: RoundRow, *, now: UnixSeconds, replay: bool) -> Price:
    report = prices.report_of(row)
    cents = int(row.price_cents or 0)
    agreed = row.closed_at_unix if replay and row.closed_at_unix is not None else row.slot + SECONDS_PER_MINUTE
    spread = int(row.high_cents or cents) - int(row.low_cents or cents)
    return Price(
        cents=cents,
        age_seconds=max(now - agreed, 0),
        confidence_bps=float(report.get("confidence_bps", 0)),
        range_bps=spread * 10_000 / cents if cents else 0.0,
        used=len(report.get("used", ())),
        dropped=len(report.get("dropped", ())),
        absent=len(report.get("absent", ())),
        quorum=int(report.get("quorum", 0)),
        registered=int(report.get("registered", 0)),
    )


def _premiums(session: Session, now: UnixSeconds) -> tuple[int | None, int]:
    joined = select(func.min(PremiumRow.priced_at_unix), func.count() - func.count(col(PremiumRow.option_id)))
    query = joined.select_from(OptionRow).outerjoin(PremiumRow, col(PremiumRow.option_id) == col(OptionRow.id))
    first, without = session.execute(query.where(col(OptionRow.state).in_(UNEXPIRED_OPTIONS))).one()
    return (None if first is None else max(now - first, 0)), int(without)


def _api_keys(session: Session, now: UnixSeconds) -> dict[str, int]:
    status = case(
        (col(ApiKeyRow.revoked_at_unix).is_not(None), "revoked"),
        (func.coalesce(ApiKeyRow.expires_at_unix, now + 1) <= now, "expired"),
        else_="usable",
    ).label("status")
    found = {str(name): int(n) for name, n in session.execute(select(status, func.count()).group_by(status))}
    return {"usable": 0, "expired": 0, "revoked": 0} | found


def _size(session: Session) -> int | None:
    if session.get_bind().dialect.name == "postgresql":
        return int(session.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
    pages = session.execute(text("PRAGMA page_count")).scalar_one()
    return int(pages) * int(session.execute(text("PRAGMA page_size")).scalar_one())
