"""The end of a settlement: its transaction is final, or a party's own was taken for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Select, func, select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.tables import TransactionRow, TransactionState
from btcfi.adapters.store.options.purposes import CHILD, SETTLEMENT
from btcfi.adapters.store.options.tables import OptionRow, OptionState, SettlementRow, SettlementState
from btcfi.adapters.store.spine.edges import Crossing, count, cross, cross_all
from btcfi.bitcoin.transaction import Transaction, parse_transaction
from btcfi.contracts.paid import Paid, paid_by
from btcfi.errors import BtcfiError
from btcfi.units import Sats, UnixSeconds

TOTALS: Final = ("payout", "paid", "returned", "fee", "child_fee")
"""What is added up over the confirmed settlements, in the counters ``settled_NAME_sats``."""


def find_settlement(session: Session, option_id: str) -> SettlementRow | None:
    """Return an option's settlement, if it has one yet."""
    return session.execute(_settlement(option_id)).scalar_one_or_none()


def settlement_of(session: Session, option_id: str) -> SettlementRow:
    """Return the settlement of an option that has one; there is exactly one."""
    row: SettlementRow = session.execute(_settlement(option_id)).scalar_one()
    return row


def found_settlement(session: Session, option_id: str) -> SettlementRow | None:
    """Return the settlement of an option, None while it has none."""
    row: SettlementRow | None = session.execute(_settlement(option_id)).scalar_one_or_none()
    return row


def _settlement(option_id: str) -> Select[SettlementRow]:
    return select(SettlementRow).where(col(SettlementRow.option_id) == option_id)


def settled(session: Session, option_ids: Sequence[str], now: UnixSeconds) -> None:
    """Move settlements and their options on: their transactions are final."""
    query = select(SettlementRow, OptionRow).join(OptionRow, col(OptionRow.id) == col(SettlementRow.option_id))
    found = session.execute(query.where(col(OptionRow.id).in_(option_ids))).all()
    sent = [
        Crossing(row=settlement, fence=settlement.fence, changes=_missing(session, settlement, option))
        for settlement, option in found
        if settlement.state == SettlementState.BROADCAST
    ]
    moved = [one.row for one in cross_all(session, sent, SettlementState.CONFIRMED, now=now)]
    count_settled(session, moved, by=1)
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


def pays(option: OptionRow, transaction: Transaction) -> Paid | None:
    """Return how a settlement's transaction divides the option's collateral; None where it cannot be told."""
    try:
        kept = json.loads(option.contract or "{}")
        buyer, seller = (bytes.fromhex(kept[f"{party}_script"]) for party in ("buyer", "seller"))
        collateral = Sats(option.collateral_sats)
        return paid_by(transaction, collateral=collateral, buyer_script=buyer, seller_script=seller)
    except (BtcfiError, ValueError, KeyError, TypeError):
        return None


def paid_columns(paid: Paid | None) -> dict[str, Any]:
    """Return what a settlement's row says of its transaction; nothing when it cannot be told."""
    if paid is None:
        return {}
    return {"paid_sats": paid.buyer, "returned_sats": paid.seller, "fee_sats": paid.fee}


def in_words(row: SettlementRow, paid: Paid | None) -> str:
    """Return what stands beside a settlement's edge to its transaction: computed and paid, each by its word."""
    if paid is None:
        return ""
    dust = ", dust" if row.payout_sats and not paid.buyer else ""
    return f"pays the buyer {paid.buyer:,} sats{dust}; {row.payout_sats or 0:,} computed"


def _missing(session: Session, settlement: SettlementRow, option: OptionRow) -> dict[str, Any]:
    """Return what an earlier release, which may still run beside this one, left out when it built the settlement."""
    if settlement.paid_sats is not None or settlement.txid is None:
        return {}
    row = session.get(TransactionRow, settlement.txid)
    paid = None if row is None else pays(option, parse_transaction(bytes.fromhex(row.raw_hex)))
    if row is not None and paid is not None:
        row.fee_sats = paid.fee
    return paid_columns(paid)


def count_settled(session: Session, rows: Sequence[SettlementRow], *, by: int) -> None:
    """Add settlements to what was computed, paid and spent in all; by: -1 takes them away again."""
    if not rows:
        return
    children = select(func.coalesce(func.sum(TransactionRow.fee_sats), 0)).where(
        col(TransactionRow.purpose) == CHILD, col(TransactionRow.replaced_by).is_(None),
        col(TransactionRow.subject).in_([row.option_id for row in rows]),
    )  # fmt: skip
    sums = Counter({"child_fee": int(session.execute(children).scalar_one())})
    for row in rows:
        said = {"payout": row.payout_sats, "paid": row.paid_sats, "returned": row.returned_sats, "fee": row.fee_sats}
        sums.update({name: value or 0 for name, value in said.items()})
    for name in TOTALS:
        count(session, f"settled_{name}_sats", by * sums[name])
