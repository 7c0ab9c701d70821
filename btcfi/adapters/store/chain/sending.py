"""What must be sent, what the node has taken, what it refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.handlers import Handlers
from btcfi.adapters.store.chain.tables import TransactionRow, TransactionState
from btcfi.adapters.store.spine.edges import Crossing, cross_all
from btcfi.adapters.store.spine.times import lapsed
from btcfi.bitcoin.transaction import Transaction, parse_transaction
from btcfi.units import Txid, UnixSeconds, display_txid

RESEND_SECONDS: Final = 10
"""A transaction that no block holds is sent again this often: a node may have forgotten it."""


def to_send(
    session: Session, handlers: Handlers, *, now: UnixSeconds, limit: int = 256
) -> list[list[Transaction]]:  # fmt: skip
    """Return what must be sent: new ones, and those that no block holds for a while. Again is harmless.

    What no node was asked about yet comes first, then what was tried longest ago, so that neither what waits for blocks
    nor what a node refuses for ever keeps anything back. A transaction that pays for the one it spends goes together
    with it; every other one goes alone, whatever it spends.
    """
    fresh = (col(TransactionRow.state) == TransactionState.BUILT) | (
        (col(TransactionRow.state) == TransactionState.BROADCAST)
        & lapsed(col(TransactionRow.updated_at_unix), now, RESEND_SECONDS)
    )
    query = select(TransactionRow).where(fresh, col(TransactionRow.purpose).not_in(handlers.not_ours))
    untried = (col(TransactionRow.state) == TransactionState.BUILT) & col(TransactionRow.last_error).is_(None)
    order = (untried.desc(), col(TransactionRow.updated_at_unix), col(TransactionRow.created_at_unix))
    rows = {row.txid: row for row in session.execute(query.order_by(*order).limit(limit)).scalars()}
    payers = {_parent(row): row for row in rows.values() if handlers.purpose(row.purpose).pays_for_parent}
    if cut := payers.keys() - rows.keys():  # beyond the limit, or not to be sent now
        rows |= {row.txid: row for row in session.execute(query.where(col(TransactionRow.txid).in_(cut))).scalars()}
    paired = {payer.txid for parent, payer in payers.items() if parent in rows}
    packages = [
        [row, payers[row.txid]] if row.txid in payers else [row] for row in rows.values() if row.txid not in paired
    ]
    return [[parse_transaction(bytes.fromhex(row.raw_hex)) for row in package] for package in packages]


def _parent(row: TransactionRow) -> str:
    """Return the txid, display order, of what a transaction spends."""
    return row.spends.partition(":")[0]


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
