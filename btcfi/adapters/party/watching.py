"""A party watches: evidence is kept, the chain is walked for every contract, and what is due is sent."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from btcfi.adapters.chain.node import Block, InputsSpentError, Node, TxRejectedError
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.agreements import Agreements
from btcfi.adapters.party.settling import Settler
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.fees import FeeRule
from btcfi.contracts import watch
from btcfi.contracts.messages import Role
from btcfi.contracts.settle import CompletedCet, TooFewAttestationsError, complete_cet
from btcfi.contracts.setup import Agreement
from btcfi.contracts.watch import Action, ContractStatus
from btcfi.errors import BtcfiError, NotHeldError, UnreachableError
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import AlreadyAttestedError, Attestation, WrongAttestationError, check_attestation
from btcfi.units import Hash32, Height

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a watch round found and did about one contract."""

    name: str
    role: Role
    status: ContractStatus
    tip: Height
    action: Action
    note: str = ""


def encode_reports(reports: Sequence[Report]) -> dict[str, Any]:
    """Return the JSON form of a round's reports: what a party's status file and ``btcfi party watch`` say."""
    rows = [
        {
            "contract": report.name,
            "role": report.role.value,
            "status": report.status.value,
            "height": report.tip,
            "action": report.action.value,
            "note": report.note,
        }
        for report in reports
    ]
    return {"contracts": rows}


class _Seen:
    """The chain during one watch round: every block is read once for all contracts."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._top = node.block_count()
        self._hashes: dict[Height, Hash32] = {}
        self._blocks: dict[Hash32, Block] = {}

    def block_count(self) -> Height:
        return self._top

    def block_hash(self, at: Height) -> Hash32:
        if at not in self._hashes:
            self._hashes[at] = self._node.block_hash(at)
        return self._hashes[at]

    def block(self, name: Hash32) -> Block:
        if name not in self._blocks:
            self._blocks[name] = self._node.block(name)
        return self._blocks[name]


class Watcher:
    """One party's watch over its contracts: it signs refunds and the children of its own settlements, nothing else."""

    def __init__(
        self, store: PartyStore, keystore: Keystore, node: Node, wallet: PartyWallet, agreements: Agreements, *,
        fees: FeeRule,
    ) -> None:  # fmt: skip
        self._store, self._node = store, node
        self._agreements = agreements
        self._settler = Settler(store, keystore, node, wallet, agreements, fees=fees)
        self._done: set[str] = set()
        self._checked: dict[tuple[Attestation, Announcement], bool] = {}
        """Of what lies in our folder: whether it is genuine."""
        self._announced: dict[tuple[Hash32, bytes], Announcement] = {}
        self._announced_by = 0
        """How many contracts that was read from."""

    def learn(self, attestation: Attestation) -> bool:
        """Keep an attestation of an event of ours, on disk, after checking it; return whether it was new.

        The first outcome that an oracle attested stays. Raises WrongAttestationError for a forged one or one of no
        event and oracle of ours, AlreadyAttestedError for a second outcome.
        """
        named = (attestation.event, attestation.oracle_key)
        announced = self._expected().get(named)
        if announced is None:
            raise WrongAttestationError(attestation.event, "no contract of ours is about this event and oracle")
        check_attestation(attestation, announced)
        known = self._store.attestations().get(named)
        if known is not None and self._is_nobodys(known):
            known = None  # the genuine one takes its place
        if known is not None and known.outcome != attestation.outcome:
            raise AlreadyAttestedError(event=attestation.event, attested=known.outcome, asked=attestation.outcome)
        if known is not None:
            return False
        self._store.keep_attestation(attestation)
        return True

    def _is_nobodys(self, kept: Attestation) -> bool:
        """Return whether no oracle of ours made an attestation in our folder: whoever writes there may have."""
        every = (one for contract in self._store.contracts() for one in contract.offer.terms.announcements)
        named = (kept.event, kept.oracle_key)
        return not any(self._is_of(kept, one) for one in every if (one.event.id, one.oracle_key) == named)

    def _is_of(self, kept: Attestation, announced: Announcement) -> bool:
        """Return whether an attestation from our folder is what this announcement has promised; it is checked once."""
        asked = (kept, announced)
        if asked not in self._checked:
            try:
                check_attestation(kept, announced)
                self._checked[asked] = True
            except WrongAttestationError as e:
                log.warning("attestation in our folder passed over: %s", e)
                self._checked[asked] = False
        return self._checked[asked]

    def _expected(self) -> dict[tuple[Hash32, bytes], Announcement]:
        """Return, by event and oracle, what our contracts are to be settled by."""
        names = self._store.names()
        if len(names) != self._announced_by:
            every = [one for contract in self._store.contracts() for one in contract.offer.terms.announcements]
            self._announced, self._announced_by = {(one.event.id, one.oracle_key): one for one in every}, len(names)
        return self._announced

    def watch(self, attestations: Sequence[Attestation] = ()) -> list[Report]:
        """Walk the chain for every contract that is signed, and do what is due: broadcast, settle, refund.

        What goes wrong with one contract, and evidence that is wrong, is named and stops no other. Raises
        UnreachableError while the node is away, for that is of all of them.
        """
        for one in attestations:
            try:
                self.learn(one)
            except BtcfiError as e:
                log.warning("attestation dropped: %s", e)
        reports = []
        view = _Seen(self._node)
        for name in self._store.names():
            if name in self._done:
                continue
            contract = self._store.readable(name)
            if contract is not None and contract.watch is not None and contract.accept is not None:
                try:
                    report = self._watch_one(name, contract, view)
                except UnreachableError:
                    raise
                except NotHeldError as e:  # the others are watched all the same
                    log.warning("%s waits: %s", name, e)
                    continue
                except Exception as e:  # noqa: BLE001 - whatever it is, it is this contract's and no other's
                    log.warning("%s is not watched this time: %s: %s", name, type(e).__name__, e)
                    continue
                reports.append(report)
                if report.action is Action.DONE and report.tip - self._settled_at(contract) > watch.REMEMBERED_BLOCKS:
                    self._done.add(name)  # deeper than any reorganisation that we follow
        return reports

    @staticmethod
    def _settled_at(contract: PartyContract) -> Height:
        return (
            max((spend.height for spend in contract.watch.spends), default=Height(0)) if contract.watch else Height(0)
        )

    def _watch_one(self, name: str, contract: PartyContract, view: _Seen) -> Report:
        agreement = self._agreements.of(contract)
        plan = agreement.plan
        contributions = [txin.outpoint for txin in agreement.funding.transaction.inputs]
        state = contract.watch or watch.start(view, view.block_count())
        step = watch.advance(state, view, [plan.funding, *contributions])
        contract.watch = step.state
        kept = self._store.attestations()
        known = [(kept.get((one.event.id, one.oracle_key)), one) for one in plan.announcements]
        relevant = [said for said, announced in known if said is not None and self._is_of(said, announced)]
        cet = self._completed(agreement, contract, relevant)
        spenders = {one.txid for one in (contract.settlement, cet and cet.transaction) if one}
        spenders |= {*contract.closes, *(one.transaction.txid for one in contract.refunds)}
        spend = step.state.spend_of(plan.funding)
        if spend is not None and spend.transaction.txid not in spenders:
            # the other side may have settled: any CET of the plan is ours, too
            spenders |= {plan.transaction(bucket).txid for bucket in range(len(plan.buckets))}
        status = watch.contract_status(step.state, plan.funding, contributions=contributions, spenders=spenders)
        action = watch.next_action(
            status,
            tip=step.state.tip,
            expiry_height=plan.contract.expiry_height,
            refund_height=plan.contract.refund_height,
            attested=cet is not None,
            seller=contract.role is Role.SELLER,
        )
        note = self._act(action, contract, agreement, cet, step.state.tip)
        if (step.state.spends, step.state.creations) != (state.spends, state.creations):
            self._store.save(contract)
        self._store.keep_in_mind(contract)  # new blocks alone are read again after a restart
        return Report(name=name, role=contract.role, status=status, tip=step.state.tip, action=action, note=note)

    def _act(
        self, action: Action, contract: PartyContract, agreement: Agreement, cet: CompletedCet | None, tip: Height
    ) -> str:  # fmt: skip
        try:
            if action is Action.BROADCAST_FUNDING and (ours := contract.cancelled or contract.funding) is not None:
                self._node.send(ours)
            elif action is Action.SETTLE and cet is not None:
                return self._settler.settle(contract, agreement, cet, tip=tip)
            elif action is Action.REFUND:
                return self._settler.refund(contract, agreement, tip=tip)
        except InputsSpentError as e:
            return f"somebody else spent it: {e.reason}"
        except TxRejectedError as e:
            return e.reason
        return ""

    def _completed(
        self, agreement: Agreement, contract: PartyContract, attestations: Sequence[Attestation]
    ) -> CompletedCet | None:
        if contract.accept is None or contract.sign is None:
            return None
        if len(attestations) < agreement.plan.threshold:
            return None
        parts = {
            contract.offer.role.other.value: contract.accept.presignatures,
            contract.offer.role.value: contract.sign.presignatures,
        }
        try:
            return complete_cet(agreement.plan, buyer=parts["buyer"], seller=parts["seller"], attestations=attestations)
        except TooFewAttestationsError as e:  # oracles that contradict each other settle nothing, and stop no refund
            log.info("%s: %s", contract.offer.id.hex()[:16], e)
            return None
