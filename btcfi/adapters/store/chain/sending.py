"""What must be sent, what the node has taken, what it refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.adapters.store.spine.edges import Crossing, cross_all
from btcfi.bitcoin.transaction import Transaction, parse_transaction
from btcfi.units import Txid, UnixSeconds, display_txid

RESEND_SECONDS: Final = 10
"""A transaction that no block holds is sent again this often: a node may have forgotten it."""


def to_send(session: Session, *, now: UnixSeconds, limit: int = 256) -> list[list[Transaction]]:
    """Return what must be sent, oldest first: new ones, and those that no block holds for a while. Again is harmless.

    A CET pays no fee of its own, so it goes together with its child; everything else goes alone.
    """
    fresh = (col(TransactionRow.state) == "built") | (
        (col(TransactionRow.state) == "broadcast") & (col(TransactionRow.updated_at_unix) <= now - RESEND_SECONDS)
    )
    query = select(TransactionRow).where(fresh, col(TransactionRow.purpose) != "outside")
    rows = session.execute(query.order_by(col(TransactionRow.created_at_unix)).limit(limit)).scalars().all()
    cets = {row.option_id: row for row in rows if row.purpose == "settlement"}
    children = {row.option_id: row for row in rows if row.purpose == "child"}
    packages = []
    for row in rows:
        if row.purpose == "child" and row.option_id in cets:
            continue  # it goes with its parent
        child = children.get(row.option_id) if row.purpose == "settlement" else None
        packages.append([parse_transaction(bytes.fromhex(r.raw_hex)) for r in (row, child) if r is not None])
    return packages


def mark_sent(session: Session, txids: Iterable[Txid], *, now: UnixSeconds) -> None:
    """Record that the node has taken transactions."""
    rows = rows_of(session, map(display_txid, txids)).values()
    for row in rows:
        if row.state == "broadcast":
            row.updated_at_unix = now
    fresh = cross_all(session, [Crossing(row=row) for row in rows if row.state == "built"], "broadcast", now=now)
    sent = [one.row.option_id for one in fresh if one.row.purpose == "settlement"]
    query = select(SettlementRow).where(col(SettlementRow.option_id).in_(sent), col(SettlementRow.state) == "built")
    crossings = [
        Crossing(row=row, fence=row.fence, changes={"broadcast_at_unix": now})
        for row in (session.execute(query).scalars() if sent else ())
    ]
    cross_all(session, crossings, "broadcast", now=now)


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
