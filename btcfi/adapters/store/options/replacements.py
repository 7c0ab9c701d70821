"""A settlement that waits pays more: its child is replaced, and the CET below it stays as it is.

One coin at a time is kept for a child. A larger one takes its place when the fee outgrows it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.tables import UNMINED, CoinState, TransactionRow, TransactionState, WalletOutpointRow
from btcfi.adapters.store.chain.transactions import Signed, put_transaction
from btcfi.adapters.store.chain.walk import give_way
from btcfi.adapters.store.chain.wallet import CHILD_COIN, pick_coin, reserve_coin
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.building import signed_child
from btcfi.adapters.store.options.on_chain import transaction_of
from btcfi.adapters.store.options.purposes import CHILD, SETTLEMENT
from btcfi.adapters.store.options.settled import settlement_of
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.spine.edges import count, cross
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb, choose_rate, fee_for
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import Transaction, parse_transaction
from btcfi.bitcoin.wallet import InsufficientFundsError
from btcfi.contracts.settle import Child, CompletedCet, complete_cet
from btcfi.errors import BtcfiError
from btcfi.units import Hash32, Height, Sats, UnixSeconds

BUMP_AFTER_BLOCKS: Final = 3
"""Blocks that a settlement may wait before it pays more; ``choose_rate`` doubles the rate as often."""


def bump_children(
    session: Session,
    wallet: TaprootKey,
    *,
    estimate: SatsPerKvb | None,
    rule: FeeRule,
    tip: Height,
    now: UnixSeconds,
) -> int:
    """Replace the children of the CETs that wait too long by ones that pay more; return how many.

    One that cannot be replaced keeps why, and harms no other. Call it with the wallet's lease.
    """
    query = select(TransactionRow).where(
        col(TransactionRow.purpose) == CHILD, col(TransactionRow.state).in_(UNMINED),
        col(TransactionRow.built_height) <= tip - BUMP_AFTER_BLOCKS,
    )  # fmt: skip
    bumped = 0
    for row in session.execute(query).scalars().all():
        try:
            with session.begin_nested():
                bumped += _bump(session, row, wallet, estimate=estimate, rule=rule, tip=tip, now=now)
        except BtcfiError as e:
            row.last_error = f"waits, and cannot be replaced: {e}"
    if bumped:
        count(session, "bumped_children", bumped)
    return bumped


def _bump(
    session: Session, row: TransactionRow, wallet: TaprootKey, *, estimate: SatsPerKvb | None, rule: FeeRule,
    tip: Height, now: UnixSeconds,
) -> bool:  # fmt: skip
    option = session.get_one(OptionRow, row.subject)
    parent = transaction_of(session, option.id, SETTLEMENT)
    # before its height no fee makes a CET valid; below a confirmed one the child pays for itself only
    late = tip - max(row.built_height or tip, option.expiry_height or 0)
    if parent is None or parent.state not in UNMINED or late < BUMP_AFTER_BLOCKS:
        return False
    rate = choose_rate(estimate, rule, blocks_late=late, blocks_left=(option.refund_height or tip) - tip)
    old = parse_transaction(bytes.fromhex(row.raw_hex))
    cet = _cet(session, option)
    if fee_for(old.vsize + cet.transaction.vsize, rate) <= row.fee_sats:
        return False
    root = Hash32(bytes.fromhex(settlement_of(session, option.id).proof_root or ""))
    replaced = Child(transaction=old, spent=(), fee=Sats(row.fee_sats))
    coin, child, signed = _dearer(session, replaced, cet, wallet, rate=rate, root=root, tip=tip)
    replacing = Signed(
        transaction=signed, purpose=CHILD, subject=option.id, spends=cet.anchor_outpoint, fee=child.fee,
        waits_since=row.built_height,
    )  # fmt: skip
    cross(session, row, TransactionState.REPLACED, now=now, detail=f"replaced by {replacing.txid}")
    give_way(session, row, replacing.txid)
    reserve_coin(coin, replacing.txid)
    put_transaction(session, replacing, now=now)
    return True


def _dearer(
    session: Session, replaced: Child, cet: CompletedCet, wallet: TaprootKey, *, rate: SatsPerKvb, root: Hash32,
    tip: Height,
) -> tuple[WalletOutpointRow, Child, Transaction]:  # fmt: skip
    """Return the coin of the new child, and the child; a larger coin where the old one does not do any more."""
    kept = session.get(WalletOutpointRow, str(replaced.transaction.inputs[1].outpoint))
    try:
        if kept is not None and kept.state == CoinState.RESERVED:
            return (kept, *signed_child(cet, kept, wallet, rate=rate, root=root, replaces=replaced))
        needed = CHILD_COIN  # its own is spent, and any dust that somebody paid us would be the smallest coin
    except InsufficientFundsError as e:
        needed = e.needed
    larger = pick_coin(session, needed, tip=tip)
    if larger is None:
        raise InsufficientFundsError(available=Sats(kept.value_sats if kept else 0), needed=needed)
    return (larger, *signed_child(cet, larger, wallet, rate=rate, root=root, replaces=replaced))


def _cet(session: Session, option: OptionRow) -> CompletedCet:
    contract = contracts.executables_of(session, [option])[option.id]
    return complete_cet(
        contract.plan, buyer=contract.buyer, seller=contract.seller, attestations=contract.attestations
    )  # fmt: skip
