"""The console's questions to the store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_
from sqlmodel import Session, col, select

from btcfi.adapters.store.access.console_tables import AuditRow, PausedFeedRow, pause_of
from btcfi.adapters.store.chain.tables import BlockRow, TransactionRow
from btcfi.adapters.store.options.tables import OptionRow, PremiumRow, SettlementRequestRow, SettlementRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.tables import CanaryRow, CounterRow, EventRow, OutboxRow
from btcfi.errors import NotFoundError
from btcfi.surfaces.rest.reads import decode_cursor, encode_cursor

HOUR = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """How much of everything is where, now."""

    rounds_open: int
    rounds_priced: int
    """Of the newest 60 minutes that have a round."""
    rounds_void: int
    premiums: int
    """Open options that have a premium of the newest price."""
    premiums_at: int | None
    options: Mapping[str, int]
    settlements: Mapping[str, int]
    oldest_due_unix: int | None
    oldest_due: str | None
    waiting: int
    """Messages that the broker has not been given yet."""
    requests: int
    counters: Mapping[str, int]

    @property
    def open_options(self) -> int:
        """Options that are written and not settled."""
        return sum(self.options.get(state, 0) for state in ("CREATED", "ACTIVE", "EXPIRED"))

    @property
    def on_chain(self) -> int:
        """Settlements between their proof and their last confirmation."""
        return sum(self.settlements.get(state, 0) for state in ("proven", "built", "broadcast"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What an operator looks at first."""

    newest: RoundRow | None
    """The newest priced minute."""
    newest_void: RoundRow | None
    tip: BlockRow | None
    canaries: Sequence[CanaryRow]
    paused: PausedFeedRow | None


def pipeline(session: Session, feed: str) -> Pipeline:
    """Return the pipeline's counts."""
    recent = session.exec(
        select(RoundRow.state).where(RoundRow.feed == feed).order_by(col(RoundRow.slot).desc()).limit(60)
    ).all()
    newest = newest_priced(session, feed)
    settlements = by_state(session, SettlementRow)
    due = session.exec(
        select(SettlementRow.created_at_unix, SettlementRow.id)
        .where(col(SettlementRow.state).in_(("due", "claimed", "executed")))
        .order_by(col(SettlementRow.created_at_unix))
        .limit(1)
    ).first()
    fresh = 0
    if newest is not None:
        fresh = session.exec(select(func.count()).select_from(PremiumRow).where(PremiumRow.slot == newest.slot)).one()
    return Pipeline(
        rounds_open=session.exec(select(func.count()).select_from(RoundRow).where(RoundRow.state == "open")).one(),
        rounds_priced=recent.count("priced"),
        rounds_void=recent.count("void"),
        premiums=fresh,
        premiums_at=session.exec(select(func.max(PremiumRow.priced_at_unix))).one(),
        options=by_state(session, OptionRow),
        settlements=settlements,
        oldest_due_unix=due[0] if due else None,
        oldest_due=due[1] if due else None,
        waiting=session.exec(
            select(func.count()).select_from(OutboxRow).where(col(OutboxRow.published_at_unix).is_(None))
        ).one(),
        requests=session.exec(
            select(func.count()).select_from(SettlementRequestRow).where(SettlementRequestRow.state == "open")
        ).one(),
        counters={row.name: row.value for row in session.exec(select(CounterRow)).all()},
    )


def health(session: Session, feed: str) -> Health:
    """Return the newest price, block and canaries."""
    void = session.exec(
        select(RoundRow)
        .where(RoundRow.feed == feed, RoundRow.state == "void")
        .order_by(col(RoundRow.slot).desc())
        .limit(1)
    ).first()
    return Health(
        newest=newest_priced(session, feed),
        newest_void=void,
        tip=tip(session),
        canaries=session.exec(select(CanaryRow).order_by(col(CanaryRow.queue))).all(),
        paused=pause_of(session, feed),
    )


def newest_events(session: Session, limit: int) -> list[EventRow]:
    """Return the newest edges of anything, newest first."""
    return list(session.exec(select(EventRow).order_by(col(EventRow.id).desc()).limit(limit)).all())


def minutes_of(session: Session, events: Sequence[EventRow]) -> dict[str, int]:
    """Return the minute of every round that ``events`` name: by its number, or as feed@minute when it was opened."""
    named = {event.entity_id for event in events if event.entity == "round"}
    numbers = [int(name) for name in named if name.isdigit()]
    rows = session.exec(select(RoundRow.id, RoundRow.slot).where(col(RoundRow.id).in_(numbers))).all()
    opened = {name: int(slot) for name in named if (slot := name.partition("@")[2]).isdigit()}
    return opened | {str(number): slot for number, slot in rows}


def newest_priced(session: Session, feed: str) -> RoundRow | None:
    """Return the newest priced minute."""
    query = select(RoundRow).where(RoundRow.feed == feed, RoundRow.state == "priced")
    return session.exec(query.order_by(col(RoundRow.slot).desc()).limit(1)).first()


def tip(session: Session) -> BlockRow | None:
    """Return the newest block that was walked."""
    return session.exec(select(BlockRow).order_by(col(BlockRow.height).desc()).limit(1)).first()


def confirmations(row: TransactionRow | None, at: BlockRow | None) -> int:
    """Return a transaction's depth: 1 in the newest block, 0 outside the chain."""
    if row is None or row.height is None or at is None:
        return 0
    return max(0, at.height - row.height + 1)


def recent_rounds(session: Session, feed: str, limit: int) -> list[RoundRow]:
    """Return the newest rounds of any state, newest first."""
    query = select(RoundRow).where(RoundRow.feed == feed).order_by(col(RoundRow.slot).desc()).limit(limit)
    return list(session.exec(query).all())


def round_at(session: Session, feed: str, slot: int) -> RoundRow:
    """Return a minute's round. Raises NotFoundError."""
    row = session.exec(select(RoundRow).where(RoundRow.feed == feed, RoundRow.slot == slot)).first()
    if row is None:
        raise NotFoundError("round", str(slot), "the prices page lists them")
    return row


def report_of(row: RoundRow) -> dict[str, Any]:
    """Return a round's report, as ``encode_outcome`` wrote it; empty while the round is open."""
    document = json.loads(row.report or "{}")
    inner = document.get("outcome", document)
    return dict(inner) if isinstance(inner, dict) else {}


def option_page(
    session: Session, feed: str, where: Sequence[ColumnElement[bool]], *, limit: int, cursor: str | None
) -> tuple[list[OptionRow], str | None]:
    """Return one page of options, newest first, and the next page's cursor. Raises NoSuchPageError."""
    query = select(OptionRow).where(OptionRow.feed == feed, *where)
    rows = list(
        session.exec(
            query.where(*_before(OptionRow.created_at_unix, OptionRow.id, cursor))
            .order_by(col(OptionRow.created_at_unix).desc(), col(OptionRow.id).desc())
            .limit(limit + 1)
        ).all()
    )
    return rows[:limit], _next(rows, limit)


def settlement_page(
    session: Session, where: Sequence[ColumnElement[bool]], *, limit: int, cursor: str | None
) -> tuple[list[SettlementRow], str | None]:
    """Return one page of settlements, newest first, and the next page's cursor. Raises NoSuchPageError."""
    rows = list(
        session.exec(
            select(SettlementRow)
            .where(*where, *_before(SettlementRow.created_at_unix, SettlementRow.id, cursor))
            .order_by(col(SettlementRow.created_at_unix).desc(), col(SettlementRow.id).desc())
            .limit(limit + 1)
        ).all()
    )
    return rows[:limit], _next(rows, limit)


def settlement_of(session: Session, option_id: str) -> SettlementRow | None:
    """Return an option's settlement."""
    return session.exec(select(SettlementRow).where(SettlementRow.option_id == option_id)).first()


def transactions_of(session: Session, option_id: str) -> list[TransactionRow]:
    """Return an option's transactions, oldest first."""
    query = select(TransactionRow).where(TransactionRow.subject == option_id)
    return list(session.exec(query.order_by(col(TransactionRow.created_at_unix), col(TransactionRow.purpose))).all())


def life_of(session: Session, option: OptionRow) -> list[EventRow]:
    """Return every edge that an option, its settlement and its transactions crossed, in order."""
    settlement = settlement_of(session, option.id)
    txids = [row.txid for row in transactions_of(session, option.id)]
    ours = [and_(col(EventRow.entity).in_(("option", "contract")), col(EventRow.entity_id) == option.id)]
    if settlement is not None:
        ours.append(and_(col(EventRow.entity) == "settlement", col(EventRow.entity_id) == settlement.id))
    if txids:
        ours.append(and_(col(EventRow.entity) == "chain_transaction", col(EventRow.entity_id).in_(txids)))
    query = select(EventRow).where(or_(*ours)).order_by(col(EventRow.id)).limit(500)
    return list(session.exec(query).all())


def parked(session: Session, limit: int) -> list[SettlementRow]:
    """Return the settlements that wait for an operator, longest first."""
    query = select(SettlementRow).where(SettlementRow.state == "parked")
    return list(session.exec(query.order_by(col(SettlementRow.updated_at_unix)).limit(limit)).all())


def audit_page(session: Session, *, limit: int, before: int | None) -> tuple[list[AuditRow], int | None]:
    """Return one page of the audit, newest first, and where the next begins."""
    query = select(AuditRow)
    if before is not None:
        query = query.where(col(AuditRow.id) < before)
    rows = list(session.exec(query.order_by(col(AuditRow.id).desc()).limit(limit + 1)).all())
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None


def begins(column: Any, prefix: str) -> ColumnElement[bool]:  # noqa: ANN401 - a mapped column
    """Return the condition that a text begins with ``prefix``: exactly, without wildcards, in any collation."""
    return func.substr(column, 1, len(prefix)) == prefix


def by_state(session: Session, table: type[OptionRow | SettlementRow]) -> dict[str, int]:
    """Return how many rows are in each state."""
    rows = session.execute(select(col(table.state), func.count()).group_by(col(table.state))).all()
    return {str(state): int(count) for state, count in rows}


def _before(at: Any, key: Any, cursor: str | None) -> list[ColumnElement[bool]]:  # noqa: ANN401 - mapped columns
    if cursor is None:
        return []
    time, last = decode_cursor(cursor)
    # the first condition alone is what an index can begin at
    return [at <= time, or_(at < time, and_(at == time, key < last))]


def _next(rows: Sequence[OptionRow] | Sequence[SettlementRow], limit: int) -> str | None:
    return encode_cursor(rows[limit - 1].created_at_unix, rows[limit - 1].id) if len(rows) > limit else None
