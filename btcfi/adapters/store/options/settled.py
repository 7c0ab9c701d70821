"""The end of a settlement: its transaction is final, or a party's own was taken for it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.spine.edges import Crossing, cross, cross_all
from btcfi.units import Sats, UnixSeconds


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
