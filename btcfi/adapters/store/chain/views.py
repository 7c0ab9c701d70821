"""What people read of the chain: the tip as far as it was walked, and our transactions."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func
from sqlmodel import Session, col, select

from btcfi.adapters.store.chain.tables import BlockRow, TransactionRow, TransactionState


def tip(session: Session) -> BlockRow | None:
    """Return the newest block that was walked."""
    return session.exec(select(BlockRow).order_by(col(BlockRow.height).desc()).limit(1)).first()


def transaction(session: Session, txid: str) -> TransactionRow | None:
    """Return a transaction of ours. txid: in display order."""
    return session.get(TransactionRow, txid)


def transactions_of(session: Session, subject: str) -> Sequence[TransactionRow]:
    """Return the transactions of a system's row, an option for instance, oldest first."""
    query = select(TransactionRow).where(TransactionRow.subject == subject)
    return session.exec(query.order_by(col(TransactionRow.created_at_unix), col(TransactionRow.purpose))).all()


def newest_confirmed_height(session: Session) -> int | None:
    """Return the height of the newest block that confirms a transaction of ours which is not final yet."""
    query = select(func.max(TransactionRow.height)).where(TransactionRow.state == TransactionState.CONFIRMED)
    return session.exec(query).one()


def confirmations(row: TransactionRow | None, at: BlockRow | None) -> int:
    """Return a transaction's depth below the tip ``at``: 1 in the newest block, 0 outside the chain."""
    if row is None or row.height is None or at is None:
        return 0
    return max(0, at.height - row.height + 1)
