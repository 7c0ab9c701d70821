"""Our transactions: stored with their raw bytes before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, func, select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.tables import BlockRow, TransactionRow
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.spine.edges import Crossing, cross, cross_all, record_all
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.units import Sats, UnixSeconds, display_txid


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signed transaction, and what it is for."""

    transaction: Transaction
    purpose: str
    option_id: str
    spends: OutPoint
    """The outpoint that is watched."""
    fee: Sats
    """What leaves in it, the pay-to-anchor output included."""
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
            txid=one.txid, purpose=one.purpose, option_id=one.option_id, raw_hex=one.transaction.to_bytes().hex(),
            spends=str(one.spends), fee_sats=one.fee, created_at_unix=now, updated_at_unix=now,
            built_height=tip if one.waits_since is None else one.waits_since,
        )
        for one in many
    ]  # fmt: skip
    session.add_all(rows)
    session.flush()
    record_all(session, "chain_transaction", {row.txid: row.purpose for row in rows}, "built", now=now)
    return rows


def _walked(session: Session) -> int | None:
    height: int | None = session.execute(select(func.max(BlockRow.height))).scalar_one()
    return height


def find_settlement(session: Session, option_id: str) -> SettlementRow | None:
    """Return an option's settlement, if it has one yet."""
    return session.execute(_settlement(option_id)).scalar_one_or_none()


def settlement_of(session: Session, option_id: str) -> SettlementRow:
    """Return the settlement of an option that has one; there is exactly one."""
    row: SettlementRow = session.execute(_settlement(option_id)).scalar_one()
    return row


def _settlement(option_id: str) -> Select[SettlementRow]:
    return select(SettlementRow).where(col(SettlementRow.option_id) == option_id)


def settled(session: Session, option_ids: Sequence[str], now: UnixSeconds) -> None:
    """Move settlements and their options on: their transactions are final."""
    query = select(SettlementRow, OptionRow).join(OptionRow, col(OptionRow.id) == col(SettlementRow.option_id))
    found = session.execute(query.where(col(OptionRow.id).in_(option_ids))).all()
    sent = [
        Crossing(row=settlement, fence=settlement.fence) for settlement, _ in found if settlement.state == "broadcast"
    ]
    cross_all(session, sent, "confirmed", now=now)
    for end, paid in (("EXERCISED", True), ("ABANDONED", False)):
        crossings = [
            Crossing(row=option)
            for settlement, option in found
            if option.state == "EXPIRED" and bool(settlement.payout_sats) is paid
        ]
        cross_all(session, crossings, end, now=now)


def adopt(session: Session, row: TransactionRow, settlement: SettlementRow, *, fee: Sats, now: UnixSeconds) -> None:
    """Take a transaction that a block held before we knew it as the settlement that was just built."""
    row.purpose, row.fee_sats = "settlement", fee
    session.flush()
    session.get_one(OptionRow, row.option_id).last_error = None
    cross(session, settlement, "broadcast", now=now, fence=settlement.fence, changes={"broadcast_at_unix": now})
    if row.state == "final":
        settled(session, [row.option_id], now)
