"""The end of a settlement: its transaction is final, or a party's own was taken for it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.tables import TransactionRow, TransactionState
from btcfi.adapters.store.options.purposes import SETTLEMENT
from btcfi.adapters.store.options.tables import OptionRow, OptionState, SettlementRow, SettlementState
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
        Crossing(row=settlement, fence=settlement.fence)
        for settlement, _ in found
        if settlement.state == SettlementState.BROADCAST
    ]
    cross_all(session, sent, SettlementState.CONFIRMED, now=now)
    for end, paid in ((OptionState.EXERCISED, True), (OptionState.ABANDONED, False)):
        crossings = [
            Crossing(row=option)
            for settlement, option in found
            if option.state == OptionState.EXPIRED and bool(settlement.payout_sats) is paid
        ]
        cross_all(session, crossings, end, now=now)


def adopt(session: Session, row: TransactionRow, settlement: SettlementRow, *, fee: Sats, now: UnixSeconds) -> None:
    """Take a transaction that a block held before we knew it as the settlement that was just built."""
    row.purpose, row.fee_sats = SETTLEMENT, fee
    session.flush()
    option_id = str(row.subject)
    session.get_one(OptionRow, option_id).last_error = None
    changes = {"broadcast_at_unix": now}
    cross(session, settlement, SettlementState.BROADCAST, now=now, fence=settlement.fence, changes=changes)
    if row.state == TransactionState.FINAL:
        settled(session, [option_id], now)
