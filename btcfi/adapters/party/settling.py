"""A party pays for what brings its money home: the children of its settlements, and its refunds.

What is sent next, ``btcfi.contracts.settling`` says. Here it is given what the node and the wallet know, and what it
says is signed, written down, and only then sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from btcfi.adapters.chain.node import Node
from btcfi.adapters.chain.pool import asking_rate, waiting_on
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.agreements import Agreements
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.fees import FeeRule
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.execution import ExecutionPlan
from btcfi.contracts.messages import Role
from btcfi.contracts.metadata import read_record
from btcfi.contracts.option import Settlement, complete_settlement, sign_settlement
from btcfi.contracts.settle import CompletedCet, child_paying
from btcfi.contracts.settling import (
    COIN_INPUT,
    Again,
    Alone,
    Fresh,
    Terms,
    Version,
    View,
    Wait,
    next_refund,
    next_step,
    stake_of,
)
from btcfi.contracts.setup import Agreement
from btcfi.units import Hash32, Height, Sats

SETTLE_TARGET_BLOCKS: Final = 2
REFUND_TARGET_BLOCKS: Final = 6
"""Blocks within which it should be mined: nobody races a refund once the oracles are silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The pool as a settlement sees it, and the coins that may pay."""

    view: View
    coins: list[Coin]


class Paying(Protocol):
    """What is settled by a CET, as its file has it."""

    role: Role
    children: tuple[Version, ...]
    settlement: Transaction | None


P = TypeVar("P", bound=Paying)


class CetSender(Generic[P]):
    """Sends attested CETs with children that pay, each written down before it is sent."""

    def __init__(
        self, node: Node, wallet: PartyWallet, *, fees: FeeRule, keep: Callable[[P], object],
        root: Callable[[P, int], Hash32],
    ) -> None:  # fmt: skip
        """Take a node and a wallet. keep: writes a contract down. root: of its proof at an outcome, by our own run."""
        self._node, self._wallet, self._fees, self._write, self._root = node, wallet, fees, keep, root

    def settle(self, contract: P, plan: ExecutionPlan, cet: CompletedCet, *, tip: Height) -> str:
        """Send an attested CET as the pool asks for it; return why nothing was sent, or nothing.

        Raises TxRejectedError when the node refuses it: what was signed is kept, and tried again.
        """
        chain = plan.contract
        terms = Terms(
            expiry_height=chain.expiry_height, refund_height=chain.refund_height, rule=self._fees,
            stake=stake_of(cet, seller=contract.role is Role.SELLER),
        )  # fmt: skip
        pool = self._pool(contract.children, plan.funding, cet, tip=tip)
        step = next_step(cet, contract.children, pool.coins, pool.view, terms, change_script=self._wallet.script)
        match step:
            case Wait():
                return step.why
            case Alone():
                self._keep(contract, cet.transaction)
                self._node.send(cet.transaction)
                return step.why
            case Again():
                self._node.send_package([cet.transaction, step.version.transaction])
            case Fresh():
                child = self._child(contract, cet, step, tip=tip)
                self._node.send_package([cet.transaction, child])
        return ""

    def _pool(self, sent: Sequence[Version], collateral: OutPoint, cet: CompletedCet, *, tip: Height) -> Pool:
        return look_at_pool(self._node, self._wallet, sent, collateral, cet, tip=tip)

    def _child(self, contract: P, cet: CompletedCet, step: Fresh, *, tip: Height) -> Transaction:
        """Sign a child and write it down, which keeps its coin for it; it carries the root of our own proof."""
        root = _root_of(contract.children) or self._root(contract, cet.outcome)
        child = child_paying(cet, step.coin, fee=step.fee, change_script=self._wallet.script, proof_root=root)
        signature = self._wallet.keys[step.coin.key_index].sign_input(child.transaction, COIN_INPUT, child.spent)
        signed = child.transaction.with_witness(COIN_INPUT, [signature])
        contract.children = (*contract.children, Version(transaction=signed, fee=child.fee, height=tip))
        self._keep(contract, cet.transaction)
        return signed

    def _keep(self, contract: P, settlement: Transaction) -> None:
        contract.settlement = settlement
        self._write(contract)


def look_at_pool(
    node: Node, wallet: PartyWallet, sent: Sequence[Version], collateral: OutPoint, cet: CompletedCet, *, tip: Height
) -> Pool:  # fmt: skip
    """Return what the pool holds of a settlement, and the coins that may pay for it. sent: versions of its child."""
    ours = {version.transaction.txid for version in sent}
    kept = [version.transaction.inputs[COIN_INPUT].outpoint for version in sent]
    coins = wallet.free(kept)
    waiting = waiting_on(node, [collateral, *cet.outpoints, *(coin.outpoint for coin in coins)])
    spender = waiting.get(collateral)
    child = next((waiting[outpoint] for outpoint in reversed(cet.outpoints) if outpoint in waiting), None)
    cet_waits = spender is not None and spender.txid == cet.transaction.txid
    view = View(
        tip=tip, estimate=asking_rate(node, SETTLE_TARGET_BLOCKS), cet_waits=cet_waits,
        anchor=child, rival=None if cet_waits else spender,
    )  # fmt: skip
    free = [one for one in coins if one.outpoint not in waiting or waiting[one.outpoint].txid in ours]
    return Pool(view=view, coins=free)


class Settler:
    """One party's spends of collaterals. It signs with the wallet's and the contract's own keys, for its own money."""

    def __init__(
        self, store: PartyStore, keystore: Keystore, node: Node, wallet: PartyWallet, agreements: Agreements, *,
        fees: FeeRule,
    ) -> None:  # fmt: skip
        self._store, self._keystore, self._node, self._fees = store, keystore, node, fees
        self._cets: CetSender[PartyContract] = CetSender(
            node, wallet, fees=fees, keep=store.save,
            root=lambda contract, outcome: agreements.proof_root(contract.offer, outcome),
        )  # fmt: skip

    def settle(self, contract: PartyContract, agreement: Agreement, cet: CompletedCet, *, tip: Height) -> str:
        """Send an attested CET as ``CetSender.settle`` does."""
        return self._cets.settle(contract, agreement.plan, cet, tip=tip)

    def refund(self, contract: PartyContract, agreement: Agreement, *, tip: Height) -> str:
        """Send the refund, or one that pays more; return why nothing was sent, or nothing. Raises TxRejectedError."""
        plan = agreement.plan
        view = View(
            tip=tip, estimate=asking_rate(self._node, REFUND_TARGET_BLOCKS),
            rival=waiting_on(self._node, [plan.funding]).get(plan.funding),
        )  # fmt: skip
        known = refunds_of(contract, plan.contract.refund_height)
        step = next_refund(plan.contract, plan.funding, known, view, self._fees)
        match step:
            case Wait():
                return step.why
            case Again():
                self._node.send(step.version.transaction)
            case Settlement():
                secret = self._keystore.contract_secret(contract.number)
                signature = sign_settlement(step, secret, party=Role.SELLER.value)
                refund = complete_settlement(step, seller=signature)
                contract.refunds = (*known, Version(transaction=refund, fee=step.fee, height=tip))
                self._keep(contract, refund)
                self._node.send(refund)
        return ""

    def _keep(self, contract: PartyContract, settlement: Transaction) -> None:
        contract.settlement = settlement
        self._store.save(contract)


def refunds_of(contract: PartyContract, refund_height: Height) -> tuple[Version, ...]:
    """Return the refunds that a party has signed; a file from before they were kept has its only one as settlement."""
    old = contract.settlement
    if contract.refunds or old is None or old.lock_time != refund_height:
        return contract.refunds
    fee = contract.offer.terms.collateral - sum(output.value for output in old.outputs)
    return (Version(transaction=old, fee=Sats(fee), height=refund_height),)


def _root_of(children: Sequence[Version]) -> Hash32 | None:
    """Return the proof root that earlier versions carry: the guest need not run again."""
    for version in children:
        if (record := read_record(version.transaction.outputs[-1].script)) is not None:
            return record[1]
    return None
