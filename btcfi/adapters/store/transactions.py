"""Our transactions: stored with their raw bytes before anything is sent."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlmodel import Session, col

from btcfi.adapters.store.edges import cross, record
from btcfi.adapters.store.tables import BlockRow, OptionRow, SettlementRow, TransactionRow
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.units import Sats, UnixSeconds, display_txid


def put_transaction(
    session: Session, signed: Transaction, *, purpose: str, option_id: str, spends: OutPoint, fee: Sats,
    now: UnixSeconds,
) -> TransactionRow:  # fmt: skip
    """Store a signed transaction as built. fee: what leaves in it, the pay-to-anchor output included."""
    row = TransactionRow(
        txid=display_txid(signed.txid), purpose=purpose, option_id=option_id, raw_hex=signed.to_bytes().hex(),
        spends=str(spends), fee_sats=fee, built_height=_walked(session), created_at_unix=now, updated_at_unix=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    record(session, "chain_transaction", row.txid, "built", now=now, detail=purpose)
    return row


def _walked(session: Session) -> int | None:
    height: int | None = session.execute(select(func.max(BlockRow.height))).scalar_one()
    return height


def settlement_of(session: Session, option_id: str) -> SettlementRow:
    """Return an option's settlement; there is exactly one."""
    query = select(SettlementRow).where(col(SettlementRow.option_id) == option_id)
    row: SettlementRow = session.execute(query).scalar_one()
    return row


def settled(session: Session, row: TransactionRow, now: UnixSeconds) -> None:
    """Move a settlement and its option on: their transaction is final."""
    option, settlement = session.get_one(OptionRow, row.option_id), settlement_of(session, row.option_id)
    if settlement.state == "broadcast":
        cross(session, settlement, "confirmed", now=now, fence=settlement.fence)
    if option.state == "EXPIRED":
        cross(session, option, "EXERCISED" if settlement.payout_sats else "ABANDONED", now=now)


def adopt(session: Session, row: TransactionRow, settlement: SettlementRow, *, fee: Sats, now: UnixSeconds) -> None:
    """Take a transaction that a block held before we knew it as the settlement that was just built."""
    row.purpose, row.fee_sats = "settlement", fee
    session.flush()
    session.get_one(OptionRow, row.option_id).last_error = None
    cross(session, settlement, "broadcast", now=now, fence=settlement.fence, changes={"broadcast_at_unix": now})
    if row.state == "final":
        settled(session, row, now)
