"""How a side gets a transaction of a disputed contract into a block in time: at today's rate, replaced when stuck.

What both know beforehand is of version 3 with an anchor: a child pays, and a later one replaces it (``Sender.pay``).
What takes an output home at the end is one's own: a later one pays more out of it (``Sender.sweep``). Each is written
down before it is sent, so whichever is mined is known as ours, and its coin is nobody else's meanwhile. What to send
next says ``contracts.settling``, the same as for settlements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from btcfi.adapters.chain.node import FeeTooLowError, Node
from btcfi.adapters.chain.pool import asking_rate, waiting_on
from btcfi.adapters.party.dispute_files import CHILDREN, DisputeFiles
from btcfi.adapters.party.dispute_room import shown_txid
from btcfi.adapters.party.settling import SETTLE_TARGET_BLOCKS, look_at_pool
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.fees import DUST_P2TR, INCREMENTAL_FEE_RATE, FeeRule, fee_for
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxOut
from btcfi.contracts import netting
from btcfi.contracts.settle import CompletedCet
from btcfi.contracts.settling import (
    BUMP_AFTER_BLOCKS,
    COIN_INPUT,
    Again,
    Alone,
    Fresh,
    Terms,
    Version,
    View,
    Wait,
    late_of,
    next_step,
    rate_of,
)
from btcfi.contracts.watch import REMEMBERED_BLOCKS
from btcfi.errors import ConflictError
from btcfi.units import Height, Sats, display_txid

_SWEEPS: Final = "sweeps-"


class StuckError(ConflictError):
    """A transaction that should pay more, and cannot."""

    def __init__(self, name: str, what: str, why: str) -> None:
        super().__init__(f"dispute {name[:16]}: the {what} waits, and cannot pay more: {why}")
        self.what, self.why = what, why


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A transaction that a side has to send now."""

    what: str
    """In a word."""
    transaction: Transaction
    """Signed."""
    fee: Sats
    """Its own."""
    stake: Sats
    """What is lost without it, and so the most that is paid for it."""
    until: Height | None
    """The block before which it should be mined; None: none does."""
    yields: bool = False
    """Whether what else waits that spends its coin is left alone, rather than outbid."""


class Sender:
    """Sends a party's transactions of disputed contracts."""

    def __init__(
        self, files: DisputeFiles, node: Node, wallet: PartyWallet, *, fees: FeeRule, urgent: bool = False
    ) -> None:  # fmt: skip
        """Take a desk's rooms. urgent: what waits is replaced at once where it pays less than the fees ask for."""
        self._files, self._node, self._wallet, self._fees, self._urgent = files, node, wallet, fees, urgent

    def pay(self, name: str, due: Due) -> bool:
        """Send what has an anchor with a child that pays enough today; return whether anything was sent.

        Raises StuckError, TxRejectedError: it is tried again at the next look.
        """
        parent, tip = due.transaction, self._node.block_count()
        sent = self._files.find_versions(name, f"{CHILDREN}{shown_txid(parent)}")
        spend = CompletedCet(
            transaction=parent, bucket=0, outcome=0, payout=Sats(0), seller_return=Sats(0), fee=due.fee
        )
        pool = look_at_pool(self._node, self._wallet, sent, parent.inputs[0].outpoint, spend, tip=tip)
        if due.yields and pool.view.rival is not None:
            return False
        step = next_step(
            spend, sent, pool.coins, pool.view, self._terms(due.stake, due.until, tip),
            change_script=self._wallet.script,
        )  # fmt: skip
        match step:
            case Wait():
                if step.stuck:
                    raise StuckError(name, due.what, step.why)
                return False
            case Alone():
                try:
                    self._node.send(parent)
                except FeeTooLowError as e:
                    raise StuckError(name, due.what, step.why) from e
            case Again():
                self._node.send_package([parent, step.version.transaction])
            case Fresh():
                self._node.send_package([parent, self._child(name, parent, step, tip=tip)])
        return True

    def _child(self, name: str, parent: Transaction, step: Fresh, *, tip: Height) -> Transaction:
        """Sign a child and write it down, which keeps its coin for it."""
        what = f"{CHILDREN}{shown_txid(parent)}"
        child, spent = netting.refund_child_paying(
            parent, step.coin, change_script=self._wallet.script, fee=step.fee
        )  # fmt: skip
        key = self._wallet.by_script[step.coin.output.script]
        signed = child.with_witness(COIN_INPUT, [key.sign_input(child, COIN_INPUT, spent)])
        made = Version(transaction=signed, fee=step.fee, height=tip)
        self._files.put_versions(name, what, (*self._files.find_versions(name, what), made))
        return signed

    def sweep(
        self, name: str, what: str, held: tuple[OutPoint, TxOut], build: Callable[[Sats], Transaction], *,
        until: Height | None = None,
    ) -> Transaction | None:  # fmt: skip
        """Send what takes an output home, at a fee out of it that is enough today; None: what was sent waits well.

        build: makes and signs it at a fee. Raises StuckError, TxRejectedError.
        """
        (coin, output), tip = held, self._node.block_count()
        place = f"{_SWEEPS}{display_txid(coin.txid)}-{coin.index}"
        sent, waiting = self._files.find_versions(name, place), waiting_on(self._node, [coin]).get(coin)
        terms = self._terms(Sats(output.value - DUST_P2TR), until, tip)
        view = View(tip=tip, estimate=asking_rate(self._node, SETTLE_TARGET_BLOCKS))
        vsize = build(Sats(0)).vsize  # this one is shown to nobody
        goal, last = fee_for(vsize, rate_of(sent, view, terms)), max(sent, key=lambda one: one.fee, default=None)
        ours = waiting is not None and waiting.txid in {one.transaction.txid for one in sent}
        near = terms.refund_height - tip <= self._fees.deadline_blocks
        if ours and waiting is not None:
            if waiting.fee >= goal or (late_of(sent, view, terms) < BUMP_AFTER_BLOCKS and not near):
                return None
        elif waiting is None and last is not None and last.fee >= goal:
            self._node.send(last.transaction)  # a node has forgotten it
            return last.transaction
        least = max(
            0 if waiting is None else waiting.outbid(vsize),
            0 if last is None else last.fee + fee_for(vsize, INCREMENTAL_FEE_RATE),
            fee_for(vsize, self._fees.floor),
        )  # fmt: skip
        if least > terms.stake:
            raise StuckError(name, what, f"it would cost {least:,} sats, and it brings {output.value:,}")
        fee = Sats(max(least, min(goal, terms.stake)))
        made = build(fee)
        self._files.put_versions(name, place, (*sent, Version(transaction=made, fee=fee, height=tip)))
        self._node.send(made)
        return made

    def _terms(self, stake: Sats, until: Height | None, tip: Height) -> Terms:
        deadline = tip + REMEMBERED_BLOCKS if until is None else until
        if self._urgent:
            deadline = min(deadline, tip + self._fees.deadline_blocks)
        return Terms(expiry_height=Height(0), refund_height=Height(deadline), stake=stake, rule=self._fees)
