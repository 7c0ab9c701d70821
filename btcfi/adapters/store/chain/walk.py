"""The chain as the store knows it: the service's coins, our transactions, and the walk along the blocks.

A transaction is stored with its raw bytes before it is sent; outpoints are watched, not txids; a reorganisation is
unwound block by block.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from sqlalchemy import delete, select, update
from sqlmodel import Session, col

from btcfi.adapters.chain.node import Block
from btcfi.adapters.store.chain.sending import mark_sent
from btcfi.adapters.store.chain.tables import BlockRow, TransactionRow, WalletOutpointRow
from btcfi.adapters.store.chain.transactions import Signed, put_transaction
from btcfi.adapters.store.chain.wallet import SERVICE
from btcfi.adapters.store.options.on_chain import (
    _ended_outside,
    _funded,
    _live_collaterals,
    _take_child,
    _take_outside,
    _undo,
    _unknown_fundings,
)
from btcfi.adapters.store.options.settled import settled
from btcfi.adapters.store.spine.edges import Crossing, cross, cross_all, upsert
from btcfi.bitcoin.wallet import COINBASE_MATURITY
from btcfi.units import Height, Sats, UnixSeconds, display_txid, parse_txid

REPLACED_CHILD: Final = "child replaced by "
"""What the purpose of a child begins with, once another child has taken its place."""


# ---- the service's wallet


# ---- settlement


# ---- broadcasting and watching


def walked_to(session: Session) -> BlockRow | None:
    """Return the newest block that was walked."""
    return session.execute(select(BlockRow).order_by(col(BlockRow.height).desc()).limit(1)).scalar_one_or_none()


def unwind(session: Session, height: int, *, now: UnixSeconds) -> None:
    """Take back one walked block that the chain has dropped, with everything that it confirmed."""
    session.execute(delete(BlockRow).where(col(BlockRow.height) == height))
    # a coin that pays for something stays kept for it: our own transactions are mined again
    unused = (col(WalletOutpointRow.height) == height) & (col(WalletOutpointRow.state) == "available")
    session.execute(delete(WalletOutpointRow).where(unused))
    for row in session.execute(select(TransactionRow).where(col(TransactionRow.height) == height)).scalars():
        if row.purpose == "outside":
            session.delete(row)  # whether it comes again is the next walk's to see
        elif row.state in {"confirmed", "final"}:
            _undo(session, row, now)
            cross(
                session, row, "broadcast", now=now, changes={"height": None, "block_hash": None}, detail="reorganised"
            )
        elif row.state == "conflicted":  # its rival is gone: it may confirm after all
            cross(session, row, "broadcast", now=now, changes={"height": None}, detail="its rival was reorganised")


def walk(session: Session, block: Block, height: Height, script: bytes, *, now: UnixSeconds) -> None:
    """Take one block in: our confirmations, the wallet's new and spent outputs, and spends that are not ours.

    script: the service's wallet.
    """
    ours = {row.txid: row for row in _waiting(session)}
    watched = defaultdict(list)
    for waiting in ours.values():
        watched[waiting.spends].append(waiting)
    found = {"height": height, "block_hash": block.header.hash.hex()}
    fundings = _unknown_fundings(session, [display_txid(one.txid) for one in block.transactions])
    collaterals = _live_collaterals(session, block)
    mined = []
    for transaction in block.transactions:
        txid = display_txid(transaction.txid)
        row: TransactionRow | None = ours.get(txid)
        if row is None and txid in fundings:  # the buyer's broadcast was faster than its message
            seen = Signed(
                transaction=transaction, purpose="funding", option_id=fundings[txid],
                spends=transaction.inputs[0].outpoint, fee=Sats(0),
            )  # fmt: skip
            row = put_transaction(session, seen, now=now)
        for rival in [one for txin in transaction.inputs for one in watched[str(txin.outpoint)] if one.txid != txid]:
            if row is not None:
                _outdone(session, rival, txid, now)
            else:
                _conflict(session, rival, txid, height, now)
        if row is None:
            _take_outside(session, transaction, collaterals, found, now)
            _take_child(session, transaction, found, now)
            continue
        mined.append(row)
        if row.purpose.startswith(REPLACED_CHILD):
            row.purpose = "child"  # a block took the version that we had replaced
    mark_sent(session, [parse_txid(row.txid) for row in mined], now=now)
    cross_all(session, [Crossing(row=row, changes=found) for row in mined], "confirmed", now=now)
    _take_outputs(session, block, script, height)
    session.add(BlockRow(height=height, hash=block.header.hash.hex()))


def _waiting(session: Session) -> list[TransactionRow]:
    """Return what a block may confirm: what was sent, and the versions that it replaced."""
    unmined = col(TransactionRow.state).in_(("built", "broadcast"))
    replaced = (col(TransactionRow.state) == "replaced") & col(TransactionRow.spends).in_(
        select(col(TransactionRow.spends)).where(unmined)
    )
    return list(session.execute(select(TransactionRow).where(unmined | replaced)).scalars())


def _conflict(session: Session, row: TransactionRow, txid: str, height: Height, now: UnixSeconds) -> None:
    """Somebody else has spent what we wanted to. The height says which block must go for that to change."""
    if row.state == "replaced":
        return
    kept = None if row.purpose == "child" else height
    cross(session, row, "conflicted", now=now, changes={"height": kept}, detail=f"spent by {txid}")
    if row.purpose == "child":  # somebody else paid the CET's fee: our coin is free again
        rename_child(session, row, txid)


def _outdone(session: Session, row: TransactionRow, txid: str, now: UnixSeconds) -> None:
    """Another version of the same transaction of ours was mined."""
    if row.state == "replaced":
        return
    cross(session, row, "replaced", now=now, detail=f"{txid} was mined instead")
    if row.purpose == "child":
        rename_child(session, row, txid)


def rename_child(session: Session, row: TransactionRow, txid: str) -> None:
    """Make room for the child that takes a child's place, and free the coin that was kept for it."""
    row.purpose = REPLACED_CHILD + txid
    freed = update(WalletOutpointRow).where(
        col(WalletOutpointRow.reserved_by) == row.option_id, col(WalletOutpointRow.state) == "reserved"
    )
    session.execute(freed.values(state="available", reserved_by=None))
    session.expire_all()


def _take_outputs(session: Session, block: Block, script: bytes, height: Height) -> None:
    """Take the outputs that a block gives to the service's wallet, then those that it spends, also of its own."""
    paid = [
        {"outpoint": str(one.outpoint(index)), "party": SERVICE, "value_sats": output.value, "state": "available",
         "height": height, "mature_height": height + (COINBASE_MATURITY if place == 0 else 1)}
        for place, one in enumerate(block.transactions)
        for index, output in enumerate(one.outputs) if output.script == script
    ]  # fmt: skip
    if paid:
        session.execute(upsert(session, WalletOutpointRow).on_conflict_do_nothing(index_elements=["outpoint"]), paid)
    spent = [str(txin.outpoint) for one in block.transactions for txin in one.inputs]
    session.execute(update(WalletOutpointRow).where(col(WalletOutpointRow.outpoint).in_(spent)).values(state="spent"))


def finalize(session: Session, *, tip: Height, confirmations: int, now: UnixSeconds) -> int:
    """Make final what is deep enough, and move options with it; return how many became final."""
    query = select(TransactionRow).where(
        col(TransactionRow.state) == "confirmed", col(TransactionRow.height) <= tip - confirmations + 1
    )
    deep = [Crossing(row=row) for row in session.execute(query).scalars()]
    rows = [one.row for one in cross_all(session, deep, "final", now=now)]
    _funded(session, [row.option_id for row in rows if row.purpose == "funding"], now)
    settled(session, [row.option_id for row in rows if row.purpose == "settlement"], now)
    for row in rows:
        if row.purpose == "outside":
            _ended_outside(session, row, now)
    return len(rows)
