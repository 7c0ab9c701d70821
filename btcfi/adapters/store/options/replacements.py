"""A settlement that waits pays more: its child is replaced, and the CET below it stays as it is.

One coin at a time is kept for a child. What is sent next, ``btcfi.contracts.settling`` says, for a party too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.tables import UNMINED, CoinState, TransactionRow, TransactionState, WalletOutpointRow
from btcfi.adapters.store.chain.transactions import put_transaction
from btcfi.adapters.store.chain.walk import give_way
from btcfi.adapters.store.chain.wallet import CHILD_COIN, largest_coin, pick_coin, reserve_coin
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.building import PaidChild, coins_of, completed, paid_child, terms_of
from btcfi.adapters.store.options.purposes import CHILD, SETTLEMENT
from btcfi.adapters.store.options.settled import settlement_of
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.spine.edges import count, cross
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.transaction import OutPoint, parse_outpoint, parse_transaction
from btcfi.contracts.settle import CompletedCet
from btcfi.contracts.settling import (
    BUMP_AFTER_BLOCKS,
    COIN_INPUT,
    Again,
    Fresh,
    Step,
    Version,
    View,
    Wait,
    Waiting,
    coin_wanted,
    next_step,
)
from btcfi.errors import BtcfiError, NotFoundError
from btcfi.units import Height, Sats, UnixSeconds, display_txid


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unmined:
    """A CET that no block holds, with the versions of its child."""

    cet: TransactionRow
    option: OptionRow
    children: Sequence[TransactionRow]

    @property
    def standing(self) -> TransactionRow | None:
        """The child that stands."""
        return next((one for one in self.children if one.replaced_by is None), None)

    @property
    def outpoints(self) -> tuple[OutPoint, ...]:
        """The collateral, and the CET's outputs, the anchor first: it can have one child, whichever that spends."""
        transaction = parse_transaction(bytes.fromhex(self.cet.raw_hex))
        outputs = (transaction.outpoint(index) for index in reversed(range(len(transaction.outputs))))
        return transaction.inputs[0].outpoint, *outputs

    def child_in(self, pool: Mapping[OutPoint, Waiting]) -> Waiting | None:
        """Return the CET's child in the pool, if it has one."""
        return next((pool[outpoint] for outpoint in self.outpoints[1:] if outpoint in pool), None)


def contested_outpoints(session: Session, *, tip: Height) -> list[OutPoint]:
    """Return what the settlements that wait spend and offer: collaterals and outputs, to be looked for in the pool."""
    return [outpoint for one in _unmined(session, tip) for outpoint in one.outpoints]


def bump_children(
    session: Session,
    wallet: TaprootKey,
    *,
    estimate: SatsPerKvb | None,
    rule: FeeRule,
    tip: Height,
    now: UnixSeconds,
    pool: Mapping[OutPoint, Waiting] | None = None,
) -> int:
    """Replace the children of the CETs that wait too long, or that others contest; return how many.

    pool: what the node has waiting on ``contested_outpoints``. One that cannot be replaced keeps why, and harms no
    other. Call it with the wallet's lease.
    """
    bumped = 0
    for one in _unmined(session, tip):
        row = one.standing or one.cet
        if not _is_due(one, pool or {}, rule, tip):
            continue
        try:
            with session.begin_nested():
                bumped += _bump(session, one, wallet, View(tip=tip, estimate=estimate), pool or {}, rule, now)
        except BtcfiError as e:
            row.last_error = f"waits, and cannot be replaced: {e}"
    if bumped:
        count(session, "bumped_children", bumped)
    return bumped


def _unmined(session: Session, tip: Height) -> list[_Unmined]:
    """Return the CETs that a block could hold and none does; before its height no fee makes one valid."""
    query = select(TransactionRow, OptionRow).join(OptionRow, col(OptionRow.id) == col(TransactionRow.subject))
    unmined = session.execute(query.where(
        col(TransactionRow.purpose) == SETTLEMENT, col(TransactionRow.state).in_(UNMINED),
        col(OptionRow.expiry_height) <= tip,
    )).all()  # fmt: skip
    waiting = [(row, option) for row, option in unmined if _has_anchor(row)]
    children = session.execute(select(TransactionRow).where(
        col(TransactionRow.purpose) == CHILD,
        col(TransactionRow.subject).in_([option.id for _, option in waiting]),
    )).scalars().all()  # fmt: skip
    return [
        _Unmined(cet=cet, option=option, children=[one for one in children if one.subject == option.id])
        for cet, option in waiting
    ]


def _has_anchor(settlement: TransactionRow) -> bool:
    """Whether a settlement is a CET: a close pays for itself, and a child of the CET it replaces spends nothing."""
    return parse_transaction(bytes.fromhex(settlement.raw_hex)).outputs[-1].script == P2A_SCRIPT


def _is_due(one: _Unmined, pool: Mapping[OutPoint, Waiting], rule: FeeRule, tip: Height) -> bool:
    """Whether a settlement may have to pay more: it is late or near its deadline, it pays alone, or it is contested."""
    child = one.standing
    if child is not None and child.state not in UNMINED:
        return False
    late = tip - max((child or one.cet).built_height or tip, one.option.expiry_height or 0)
    near = (one.option.refund_height or tip) - tip <= rule.deadline_blocks
    others = [
        waiting.txid
        for waiting, ours in ((pool.get(one.outpoints[0]), one.cet), (one.child_in(pool), child))
        if waiting is not None and (ours is None or display_txid(waiting.txid) != ours.txid)
    ]
    return child is None or bool(others) or late >= BUMP_AFTER_BLOCKS or (near and late > 0)


def _bump(  # noqa: PLR0917 - called once, right above
    session: Session, one: _Unmined, wallet: TaprootKey, view: View, pool: Mapping[OutPoint, Waiting], rule: FeeRule,
    now: UnixSeconds,
) -> bool:  # fmt: skip
    executable = contracts.executables_of(session, [one.option]).get(one.option.id)
    if executable is None:
        raise NotFoundError("checked contract", one.option.id)
    cet = completed(executable)
    terms = terms_of(executable.plan.contract, cet, rule)
    view = _seen(one, cet, view, pool)
    sent = [_version(row) for row in one.children]
    rows = _payers(session, one, coin_wanted(cet, sent, view, terms, change_script=wallet.script), view.tip)
    step = next_step(cet, sent, coins_of(rows, wallet), view, terms, change_script=wallet.script)
    if isinstance(step, Fresh):
        settlement = settlement_of(session, one.option.id)
        _replace(session, one, cet, paid_child(cet, step, rows, wallet, settlement), now=now)
        return True
    if reason := _stuck(step):
        (one.standing or one.cet).last_error = f"waits, and cannot be replaced: {reason}"
    return False


def _seen(one: _Unmined, cet: CompletedCet, view: View, pool: Mapping[OutPoint, Waiting]) -> View:
    spender = pool.get(one.outpoints[0])
    waits = spender is not None and spender.txid == cet.transaction.txid
    return View(
        tip=view.tip, estimate=view.estimate, cet_waits=waits, anchor=one.child_in(pool),
        rival=None if waits else spender,
    )  # fmt: skip


def _version(row: TransactionRow) -> Version:
    transaction = parse_transaction(bytes.fromhex(row.raw_hex))
    return Version(transaction=transaction, fee=Sats(row.fee_sats), height=Height(row.built_height or 0))


def _payers(session: Session, one: _Unmined, wanted: Sats, tip: Height) -> dict[OutPoint, WalletOutpointRow]:
    """Return the coins that may pay: the one that is kept, and the smallest that does, or else the largest.

    No smaller one than CHILD_COIN: any dust that somebody paid us would be the smallest coin.
    """
    child = one.standing
    inputs = parse_transaction(bytes.fromhex(child.raw_hex)).inputs if child is not None else ()
    kept = session.get(WalletOutpointRow, str(inputs[COIN_INPUT].outpoint)) if len(inputs) > COIN_INPUT else None
    mine = kept if kept is not None and kept.state == CoinState.RESERVED else None
    other = pick_coin(session, Sats(max(CHILD_COIN, wanted)), tip=tip) or largest_coin(session, CHILD_COIN, tip=tip)
    return {parse_outpoint(row.outpoint): row for row in (mine, other) if row is not None}


def _stuck(step: Step) -> str:
    """Return why a settlement that should pay more does not."""
    match step:
        case Wait(stuck=True) | Again():
            return step.why
        case _:
            return ""


def _replace(session: Session, one: _Unmined, cet: CompletedCet, child: PaidChild, *, now: UnixSeconds) -> None:
    old = one.standing
    replacing = child.stored(one.option.id, cet, waits_since=(old or one.cet).built_height)
    if old is not None:
        cross(session, old, TransactionState.REPLACED, now=now, detail=f"replaced by {replacing.txid}")
        give_way(session, old, replacing.txid)
    reserve_coin(child.coin, replacing.txid)
    put_transaction(session, replacing, now=now)
