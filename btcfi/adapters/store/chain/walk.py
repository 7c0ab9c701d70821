"""The walk along the blocks: outpoints are watched, not txids; a reorganisation is unwound block by block.

What an output is for, and so what follows from its spend, the systems' handlers say (``handlers.py``).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import delete, select, update
from sqlmodel import Session, col

from btcfi.adapters.chain.node import Block
from btcfi.adapters.store.chain.handlers import BlockView, Handlers
from btcfi.adapters.store.chain.sending import mark_sent
from btcfi.adapters.store.chain.tables import (
    UNMINED,
    BlockRow,
    CoinState,
    TransactionRow,
    TransactionState,
    WalletOutpointRow,
)
from btcfi.adapters.store.chain.transactions import Signed, put_transaction
from btcfi.adapters.store.chain.wallet import SERVICE, free_coins
from btcfi.adapters.store.spine.edges import Crossing, cross, cross_all, upsert
from btcfi.bitcoin.transaction import Transaction, parse_transaction
from btcfi.bitcoin.wallet import COINBASE_MATURITY
from btcfi.contracts.watch import REMEMBERED_BLOCKS, ChainMovedError
from btcfi.errors import RetryableError
from btcfi.units import Height, UnixSeconds, display_txid, parse_txid


class NodeBehindError(RetryableError):
    """The node's chain ends more than a day below what was walked: it is loading, or it is another chain."""

    def __init__(self, *, tip: Height, walked: int) -> None:
        super().__init__(
            f"the node is at block {tip:,} and {walked:,} was walked: no reorganisation; wait until it has caught up, "
            "or let NODE_URL name the node of this chain"
        )
        self.tip, self.walked = tip, walked


def check_not_behind(last: BlockRow, tip: Height) -> None:
    """Refuse to unwind what a node has not loaded yet. Raises NodeBehindError."""
    if last.height > tip + REMEMBERED_BLOCKS:
        raise NodeBehindError(tip=tip, walked=last.height)


def walked_to(session: Session) -> BlockRow | None:
    """Return the newest block that was walked."""
    return session.execute(select(BlockRow).order_by(col(BlockRow.height).desc()).limit(1)).scalar_one_or_none()


def walk(
    session: Session, block: Block, height: Height, script: bytes, handlers: Handlers, *, now: UnixSeconds
) -> None:  # fmt: skip
    """Take one block in: our confirmations, the wallet's new and spent outputs, and spends that are not ours.

    script: the service's wallet. Raises ChainMovedError for a block that does not build on the last one: what was
    read is of two chains, and what the first of them holds would never be unwound.
    """
    last = walked_to(session)
    if last is not None and block.previous.hex() != last.hash:
        raise ChainMovedError(height)
    ours = {row.txid: row for row in _waiting(session, block)}
    watched = defaultdict(list)
    for waiting in ours.values():
        if waiting.state in UNMINED:
            for spent in _spends(handlers, waiting):
                watched[spent].append(waiting)
    found = {"height": height, "block_hash": block.header.hash.hex()}
    views = handlers.view(session, block)
    mined = []
    for transaction in block.transactions:
        txid = display_txid(transaction.txid)
        row = ours.get(txid) or _faster_than_us(session, views, txid, now)
        for rival in [one for txin in transaction.inputs for one in watched[str(txin.outpoint)] if one.txid != txid]:
            if row is not None:
                _outdone(session, handlers, rival, txid, now)
            else:
                _conflict(session, handlers, rival, txid, height, now)
        if row is None:
            _take_foreign(session, handlers, views, transaction, found, now)
            continue
        mined.append(row)
        _stands(session, handlers, row, height, now)
    mark_sent(session, [parse_txid(row.txid) for row in mined], handlers, now=now)
    cross_all(session, [Crossing(row=row, changes=found) for row in mined], TransactionState.CONFIRMED, now=now)
    _take_outputs(session, block, script, height)
    session.add(BlockRow(height=height, hash=block.header.hash.hex()))


def _spends(handlers: Handlers, row: TransactionRow) -> list[str]:
    """Return the outpoints whose spend by something else overtakes a transaction of ours."""
    if not handlers.purpose(row.purpose).watches_all:
        return [row.spends]
    return [str(txin.outpoint) for txin in parse_transaction(bytes.fromhex(row.raw_hex)).inputs]


def _waiting(session: Session, block: Block) -> list[TransactionRow]:
    """Return what was sent and no block holds, and what this block holds although another had taken its place."""
    txids = [display_txid(one.txid) for one in block.transactions]
    aside = col(TransactionRow.state).in_((TransactionState.REPLACED, TransactionState.CONFLICTED))
    back = aside & col(TransactionRow.txid).in_(txids)
    return list(session.execute(select(TransactionRow).where(col(TransactionRow.state).in_(UNMINED) | back)).scalars())


def _stands(session: Session, handlers: Handlers, row: TransactionRow, height: Height, now: UnixSeconds) -> None:
    """Let a version stand that a block took, also where another had taken its place."""
    if row.state == TransactionState.CONFLICTED:
        cross(session, row, TransactionState.BROADCAST, now=now, changes={"height": None}, detail="its rival is gone")
    if row.replaced_by is not None:
        _has_room(session, handlers, row, height, now)
        row.replaced_by = None


def _has_room(
    session: Session, handlers: Handlers, wanted: TransactionRow | Signed, height: Height, now: UnixSeconds
) -> bool:
    """Return whether nothing else stands for a purpose and subject; what a block holds instead makes it give way."""
    query = select(TransactionRow).where(
        col(TransactionRow.purpose) == wanted.purpose, col(TransactionRow.subject) == wanted.subject,
        col(TransactionRow.replaced_by).is_(None), col(TransactionRow.txid) != wanted.txid,
    )  # fmt: skip
    standing = session.execute(query).scalar_one_or_none() if wanted.subject is not None else None
    if standing is None:
        return True
    if standing.state not in UNMINED or not handlers.purpose(standing.purpose).gives_way:
        return False
    _conflict(session, handlers, standing, wanted.txid, height, now)
    return True


def _faster_than_us(
    session: Session, views: list[BlockView], txid: str, now: UnixSeconds
) -> TransactionRow | None:  # fmt: skip
    """Store a system's own transaction that was in a block before we heard of it."""
    known = next((one for view in views if (one := view.known(txid)) is not None), None)
    return None if known is None else put_transaction(session, known, now=now)


def _take_foreign(  # noqa: PLR0917 - called once, right above
    session: Session, handlers: Handlers, views: list[BlockView], transaction: Transaction, found: dict[str, Any],
    now: UnixSeconds,
) -> None:  # fmt: skip
    """Keep a transaction that is not ours and spends what we watch: one row, of the first system that knows it.

    Anybody can put anything into a block, so nothing that one holds may stop the walk: what is stored already, and
    what finds its place taken, is passed over.
    """
    spend = next((one for view in views if (one := view.foreign(session, transaction)) is not None), None)
    if spend is None or session.get(TransactionRow, spend.txid) is not None:
        return
    if _has_room(session, handlers, spend, found["height"], now):
        row = put_transaction(session, spend, now=now)
        cross(session, row, TransactionState.CONFIRMED, now=now, changes=found)


def _conflict(  # noqa: PLR0917 - called once, right above
    session: Session, handlers: Handlers, row: TransactionRow, txid: str, height: Height, now: UnixSeconds
) -> None:
    """Somebody else has spent what we wanted to. The height says which block must go for that to change."""
    if row.state == TransactionState.REPLACED:
        return
    gives_way = handlers.purpose(row.purpose).gives_way
    kept = None if gives_way else height
    cross(
        session, row, TransactionState.CONFLICTED, now=now, changes={"height": kept}, detail=f"spent by {txid}"
    )  # fmt: skip
    if gives_way:
        give_way(session, row, txid)


def _outdone(session: Session, handlers: Handlers, row: TransactionRow, txid: str, now: UnixSeconds) -> None:
    """Another version of the same transaction of ours was mined."""
    if row.state == TransactionState.REPLACED:
        return
    cross(session, row, TransactionState.REPLACED, now=now, detail=f"{txid} was mined instead")
    if handlers.purpose(row.purpose).gives_way:
        give_way(session, row, txid)


def give_way(session: Session, row: TransactionRow, txid: str) -> None:
    """Note who took a transaction's place, and free the coin that was kept for it."""
    row.replaced_by = txid
    session.flush()
    free_coins(session, row.txid)


def _take_outputs(session: Session, block: Block, script: bytes, height: Height) -> None:
    """Take the outputs that a block gives to the service's wallet, then those that it spends, also of its own."""
    paid = [
        {"outpoint": str(one.outpoint(index)), "party": SERVICE, "value_sats": output.value,
         "state": str(CoinState.AVAILABLE), "height": height,
         "mature_height": height + (COINBASE_MATURITY if place == 0 else 1)}
        for place, one in enumerate(block.transactions)
        for index, output in enumerate(one.outputs) if output.script == script
    ]  # fmt: skip
    if paid:
        session.execute(upsert(session, WalletOutpointRow).on_conflict_do_nothing(index_elements=["outpoint"]), paid)
    spent = [str(txin.outpoint) for one in block.transactions for txin in one.inputs]
    taken = update(WalletOutpointRow).where(col(WalletOutpointRow.outpoint).in_(spent))
    session.execute(taken.values(state=str(CoinState.SPENT)))


def finalize(
    session: Session, handlers: Handlers, *, tip: Height, confirmations: int, now: UnixSeconds
) -> int:  # fmt: skip
    """Make final what is deep enough, and move on what waits for it; return how many became final."""
    query = select(TransactionRow).where(
        col(TransactionRow.state) == TransactionState.CONFIRMED, col(TransactionRow.height) <= tip - confirmations + 1
    )
    deep = [Crossing(row=row) for row in session.execute(query).scalars()]
    rows = [one.row for one in cross_all(session, deep, TransactionState.FINAL, now=now)]
    handlers.final(session, rows, now)
    return len(rows)


def unwind(session: Session, height: int, handlers: Handlers, *, now: UnixSeconds) -> None:
    """Take back one walked block that the chain has dropped, with everything that it confirmed."""
    session.execute(delete(BlockRow).where(col(BlockRow.height) == height))
    # a coin that pays for something stays kept for it: our own transactions are mined again
    unused = (col(WalletOutpointRow.height) == height) & (col(WalletOutpointRow.state) == CoinState.AVAILABLE)
    session.execute(delete(WalletOutpointRow).where(unused))
    for row in session.execute(select(TransactionRow).where(col(TransactionRow.height) == height)).scalars():
        if not handlers.purpose(row.purpose).ours:
            session.delete(row)  # whether it comes again is the next walk's to see
        elif row.state in {TransactionState.CONFIRMED, TransactionState.FINAL}:
            handlers.undone(session, row, now)
            cross(
                session, row, TransactionState.BROADCAST, now=now, changes={"height": None, "block_hash": None},
                detail="reorganised",
            )  # fmt: skip
        elif row.state == TransactionState.CONFLICTED:  # its rival is gone: it may confirm after all
            cross(
                session, row, TransactionState.BROADCAST, now=now, changes={"height": None},
                detail="its rival was reorganised",
            )  # fmt: skip
