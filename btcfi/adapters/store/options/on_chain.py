"""What a block means for options: funded, spent outside, ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import func, select
from sqlmodel import Session, col

from btcfi.adapters.chain.node import Block
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.chain.transactions import Signed, put_transaction
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.settled import find_settlement, settlement_of
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.spine.edges import Crossing, count, cross, cross_all
from btcfi.bitcoin.transaction import TRUC_VERSION, Transaction, parse_transaction
from btcfi.contracts.option import FUNDING_OUTPUT
from btcfi.units import Sats, UnixSeconds, display_txid

_LIVE: Final = ("CREATED", "ACTIVE", "EXPIRED")


def busiest_minute(session: Session) -> int:
    """Return how many options the expiry minute has that most of them wait for."""
    waiting = select(func.count().label("options")).where(col(OptionRow.state).in_(("CREATED", "ACTIVE")))
    each = waiting.group_by(col(OptionRow.expiry_unix)).subquery()
    return int(session.execute(select(func.max(each.c.options))).scalar_one() or 0)


def _undo(session: Session, row: TransactionRow, now: UnixSeconds) -> None:
    if row.state != "final" or row.purpose not in {"funding", "settlement"}:
        return
    option = session.get_one(OptionRow, row.option_id)
    if row.purpose == "funding" and option.state == "ACTIVE":
        cross(session, option, "CREATED", now=now, detail="funding reorganised")
    if row.purpose == "settlement":
        settlement = settlement_of(session, row.option_id)
        cross(session, settlement, "broadcast", now=now, fence=settlement.fence, detail="reorganised")
        cross(session, option, "EXPIRED", now=now, detail="settlement reorganised")


def _unknown_fundings(session: Session, txids: list[str]) -> dict[str, str]:
    query = select(col(OptionRow.funding_txid), col(OptionRow.id)).where(
        col(OptionRow.funding_txid).in_(txids), col(OptionRow.state) == "CREATED",
        ~select(TransactionRow).where(col(TransactionRow.txid) == OptionRow.funding_txid).exists(),
    )  # fmt: skip
    return {str(txid): option_id for txid, option_id in session.execute(query)}


def _live_collaterals(session: Session, block: Block) -> dict[str, OptionRow]:
    """Return, by funding txid, the options whose collateral a block may spend."""
    inputs = [txin.outpoint for one in block.transactions for txin in one.inputs]
    txids = {display_txid(outpoint.txid) for outpoint in inputs if outpoint.index == FUNDING_OUTPUT}
    query = select(OptionRow).where(col(OptionRow.funding_txid).in_(txids), col(OptionRow.state).in_(_LIVE))
    return {str(option.funding_txid): option for option in session.execute(query).scalars()}


def _take_outside(
    session: Session, transaction: Transaction, collaterals: Mapping[str, OptionRow], found: dict[str, object],
    now: UnixSeconds,
) -> None:  # fmt: skip
    """Keep a spend of an option's collateral that is not ours: a refund, a close between the parties, their own CET."""
    spent = [txin.outpoint for txin in transaction.inputs if txin.outpoint.index == FUNDING_OUTPUT]
    for option in [collaterals[name] for o in spent if (name := display_txid(o.txid)) in collaterals]:
        count(session, "outside_spends")
        option.last_error = f"the collateral was spent outside the service, by {display_txid(transaction.txid)}"
        spend = Signed(
            transaction=transaction, purpose="outside", option_id=option.id,
            spends=contracts.funding_outpoint(option), fee=Sats(0),
        )  # fmt: skip
        row = put_transaction(session, spend, now=now)
        cross(session, row, "confirmed", now=now, changes=found)


def _take_child(session: Session, transaction: Transaction, found: dict[str, object], now: UnixSeconds) -> None:
    """Keep a party's child of a CET: it carries the proof root where ours would."""
    if transaction.version != TRUC_VERSION:
        return
    cet = session.get(TransactionRow, display_txid(transaction.inputs[0].outpoint.txid))
    if cet is not None and cet.purpose in {"outside", "settlement"}:
        theirs = Signed(
            transaction=transaction, purpose="child", option_id=cet.option_id, spends=transaction.inputs[0].outpoint,
            fee=Sats(0),
        )  # fmt: skip
        row = put_transaction(session, theirs, now=now)
        cross(session, row, "confirmed", now=now, changes=found)


def _funded(session: Session, option_ids: Sequence[str], now: UnixSeconds) -> None:
    query = select(OptionRow).where(col(OptionRow.id).in_(option_ids), col(OptionRow.state) == "CREATED")
    crossings = [Crossing(row=row, detail="its funding is final") for row in session.execute(query).scalars()]
    cross_all(session, crossings, "ACTIVE", now=now)


def _ended_outside(session: Session, row: TransactionRow, now: UnixSeconds) -> None:
    """End an option whose collateral the parties have paid out without us, by a refund or a close of their own."""
    if parse_transaction(bytes.fromhex(row.raw_hex)).version == TRUC_VERSION:
        return  # their CET is ours: it is matched when the settlement is built
    option = session.get_one(OptionRow, row.option_id)
    settlement = find_settlement(session, option.id)
    if settlement is not None and contracts.close_seen(session, option, settlement, row, now=now):
        return
    detail = f"ended outside the service by {row.txid}"
    if option.state == "ACTIVE":
        cross(session, option, "EXPIRED", now=now, detail=detail)
    if option.state == "EXPIRED":
        cross(session, option, "ABANDONED", now=now, detail=detail)
        if settlement is not None and settlement.state in {"due", "claimed", "executed", "proven", "built"}:
            cross(session, settlement, "parked", now=now, fence=settlement.fence, detail=detail,
                  changes={"last_error": detail})  # fmt: skip


def transaction_of(session: Session, option_id: str, purpose: str) -> TransactionRow | None:
    """Return an option's funding, settlement or child transaction."""
    query = select(TransactionRow).where(
        col(TransactionRow.option_id) == option_id, col(TransactionRow.purpose) == purpose
    )
    return session.execute(query).scalar_one_or_none()
