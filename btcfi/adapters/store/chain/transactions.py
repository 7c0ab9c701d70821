"""Our transactions: stored with their raw bytes before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, insert, select
from sqlmodel import Session, col

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
    """Store signed transactions as built, all or none, and return their rows in order."""
    add_transactions(session, many, now=now)
    names = [one.txid for one in many]
    query = select(TransactionRow).where(col(TransactionRow.txid).in_(names))
    found = {row.txid: row for row in session.execute(query).scalars()} if names else {}
    return [found[name] for name in names]


def add_transactions(session: Session, many: Sequence[Signed], *, now: UnixSeconds) -> None:
    """Store signed transactions as built, all or none, by one statement; nobody gets a row to change."""
    tip = _walked(session)
    rows = [
        {
            "txid": one.txid, "purpose": one.purpose, "subject": one.subject, "state": TransactionState.BUILT.value,
            "raw_hex": one.transaction.to_bytes().hex(), "spends": str(one.spends), "fee_sats": one.fee,
            "built_height": tip if one.waits_since is None else one.waits_since, "created_at_unix": now,
            "updated_at_unix": now,
        }
        for one in many
    ]  # fmt: skip
    session.flush()  # what this session changed before, such as whose place these take
    if rows:
        session.execute(insert(TransactionRow), rows)
    born = {str(row["txid"]): str(row["purpose"]) for row in rows}
    record_all(session, "chain_transaction", born, TransactionState.BUILT, now=now)


def _walked(session: Session) -> int | None:
    height: int | None = session.execute(select(func.max(BlockRow.height))).scalar_one()
    return height
