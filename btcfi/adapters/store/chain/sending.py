"""What must be sent, what the node has taken, what it refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.handlers import Handlers
from btcfi.adapters.store.chain.tables import TransactionRow, TransactionState
from btcfi.adapters.store.spine.edges import Crossing, cross_all
from btcfi.bitcoin.transaction import Transaction, parse_transaction
from btcfi.units import Txid, UnixSeconds, display_txid

RESEND_SECONDS: Final = 10
"""A transaction that no block holds is sent again this often: a node may have forgotten it."""


def to_send(
    session: Session, handlers: Handlers, *, now: UnixSeconds, limit: int = 256
) -> list[list[Transaction]]:  # fmt: skip
    """Return what must be sent, oldest first: new ones, and those that no block holds for a while. Again is harmless.

    A transaction that spends another of them goes together with it, since its parent may pay no fee of its own.
    """
    fresh = (col(TransactionRow.state) == TransactionState.BUILT) | (
        (col(TransactionRow.state) == TransactionState.BROADCAST)
        & (col(TransactionRow.updated_at_unix) <= now - RESEND_SECONDS)
    )
    query = select(TransactionRow).where(fresh, col(TransactionRow.purpose).not_in(handlers.not_ours))
    rows = session.execute(query.order_by(col(TransactionRow.created_at_unix)).limit(limit)).scalars().all()
    txids = {row.txid for row in rows}
    children = {parent: row for row in rows if (parent := row.spends.partition(":")[0]) in txids}
    alone = [row for row in rows if row.spends.partition(":")[0] not in txids]
    packages = [[row, *([children[row.txid]] if row.txid in children else [])] for row in alone]
    return [[parse_transaction(bytes.fromhex(row.raw_hex)) for row in package] for package in packages]


def mark_sent(session: Session, txids: Iterable[Txid], handlers: Handlers, *, now: UnixSeconds) -> None:
    """Record that the node has taken transactions."""
    rows = rows_of(session, map(display_txid, txids)).values()
    for row in rows:
        if row.state == TransactionState.BROADCAST:
            row.updated_at_unix = now
    built = [Crossing(row=row) for row in rows if row.state == TransactionState.BUILT]
    fresh = cross_all(session, built, TransactionState.BROADCAST, now=now)
    handlers.sent(session, [one.row for one in fresh], now)


def mark_refused(session: Session, reasons: Mapping[Txid, str], *, now: UnixSeconds) -> None:
    """Keep why the node refused transactions; they are sent again at the next watch."""
    rows = rows_of(session, map(display_txid, reasons))
    for txid, reason in reasons.items():
        row = rows[display_txid(txid)]
        row.last_error, row.updated_at_unix = reason, now


def rows_of(session: Session, txids: Iterable[str]) -> dict[str, TransactionRow]:
    """Return those of the transactions that are stored, by txid in display order."""
    wanted = list(txids)
    query = select(TransactionRow).where(col(TransactionRow.txid).in_(wanted))
    return {row.txid: row for row in session.execute(query).scalars()} if wanted else {}
