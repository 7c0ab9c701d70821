"""Our transactions: stored with their raw bytes before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlmodel import Session

from btcfi.adapters.store.chain.tables import BlockRow, TransactionRow, TransactionState
from btcfi.adapters.store.spine.edges import record_all
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.units import Sats, UnixSeconds, display_txid


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signed transaction, and what it is for."""

    transaction: Transaction
    purpose: str
    subject: str | None
    """Which row of its system it is for, an option's id for instance; None where the purpose says all."""
    spends: OutPoint
    """The outpoint that is watched."""
    fee: Sats
    """Its own: inputs less outputs, a pay-to-anchor output among them. 0 for a stranger's, whose coins are unknown."""
    waits_since: int | None = None
    """The newest block that was walked when its first version was built, if this is not the first."""

    @property
    def txid(self) -> str:
        """Display order."""
        return display_txid(self.transaction.txid)


def put_transaction(session: Session, signed: Signed, *, now: UnixSeconds) -> TransactionRow:
    """Store a signed transaction as built."""
    return put_transactions(session, [signed], now=now)[0]


def put_transactions(session: Session, many: Sequence[Signed], *, now: UnixSeconds) -> list[TransactionRow]:
    """Store signed transactions as built, all or none."""
    tip = _walked(session)
    rows = [
        TransactionRow(
            txid=one.txid, purpose=one.purpose, subject=one.subject, raw_hex=one.transaction.to_bytes().hex(),
            spends=str(one.spends), fee_sats=one.fee, created_at_unix=now, updated_at_unix=now,
            built_height=tip if one.waits_since is None else one.waits_since,
        )
        for one in many
    ]  # fmt: skip
    session.add_all(rows)
    session.flush()
    record_all(session, "chain_transaction", {row.txid: row.purpose for row in rows}, TransactionState.BUILT, now=now)
    return rows


def _walked(session: Session) -> int | None:
    height: int | None = session.execute(select(func.max(BlockRow.height))).scalar_one()
    return height
