"""A party watches: evidence is kept, the chain is walked for every contract, and what is due is sent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from btcfi.adapters.chain.node import Block, InputsSpentError, Node, TxRejectedError
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.agreements import Agreements
from btcfi.adapters.party.close_yes import signed_close
from btcfi.adapters.party.settling import Settler
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.fees import FeeRule
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.contracts import watch
from btcfi.contracts.messages import Accept, Role
from btcfi.contracts.settle import CompletedCet, TooFewAttestationsError, complete_cet
from btcfi.contracts.watch import Action, ChainMovedError, ContractStatus
from btcfi.errors import BtcfiError, NotHeldError, UnreachableError
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import AlreadyAttestedError, Attestation, WrongAttestationError, check_attestation
from btcfi.units import Hash32, Height, Txid

log = logging.getLogger(__name__)

_OPEN: Final = (ContractStatus.FUNDING, ContractStatus.ACTIVE)
"""Where the collateral lies in a block, unspent."""


class Holds(Protocol):
    """Why an attested contract is not settled yet."""

    def __call__(self, contract: PartyContract, funding: OutPoint, *, tip: Height, refund_height: Height) -> str:
        """Return why, nothing where it is settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a watch round found and did about one contract."""

    name: str
    role: Role
    status: ContractStatus | None
    """None: it could not be looked at this time, and the note says why."""
    tip: Height
    action: Action
    note: str = ""


def encode_reports(reports: Sequence[Report]) -> dict[str, Any]:
    """Return the JSON form of a round's reports: what a party's status file and ``btcfi party watch`` say."""
    rows = [
        {
            "contract": report.name,
            "role": report.role.value,
            "status": "unknown" if report.status is None else report.status.value,
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


@dataclass(kw_only=True)
class _Looks:
    """What of a contract's agreement a look at the chain needs, small enough to be kept for every contract."""

    accept: Accept | None = field(repr=False)
    """By which it was computed."""
    funding: OutPoint
    contributions: tuple[OutPoint, ...]
    expected: tuple[tuple[tuple[Hash32, bytes], Announcement], ...]
    """What it is settled by: event and oracle, and what that has announced."""
    threshold: int
    expiry_height: Height
    refund_height: Height
    cets: frozenset[Txid] | None = None
    """Of every payout, once somebody has spent the funding."""


class Watcher:
    """One party's watch over its contracts: it signs refunds, children of its settlements and what takes coins home."""

    def __init__(
        self, store: PartyStore, keystore: Keystore, node: Node, wallet: PartyWallet, agreements: Agreements, *,
        fees: FeeRule, take_home: Callable[[str], Transaction], holds: Holds = lambda *_, **__: "",
    ) -> None:  # fmt: skip
        """Take the rooms of a desk.

        take_home: cancels an unfunded contract by its name. holds: why an attested contract is not settled yet, nothing
        where it is.
        """
        self._store, self._node, self._take_home, self._holds = store, node, take_home, holds
        self._agreements = agreements
        self._settler = Settler(store, keystore, node, wallet, agreements, fees=fees)
        self._looks: dict[str, _Looks] = {}
        self._done: set[str] = set()
        self._checked: dict[tuple[Attestation, Announcement], bool] = {}
        """Of what lies in our folder: whether it is genuine."""
        self._buried: tuple[Height, Hash32] | None = None
        """A block that everything that is done lies below: while the chain has it, nothing of that is looked at."""
        self._failed: dict[str, str] = {}
        """Why contracts could not be looked at the last time: it is said once."""
        self.also: Callable[[], Sequence[Announcement]] = lambda: ()
        """What else is settled by attestations: the announcements of our books, which are watched by their own desk."""
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
        every = [one for contract in self._store.contracts() for one in contract.offer.terms.announcements]
        every += self.also()
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
        names, also = self._store.names(), self.also()
        if len(names) + len(also) != self._announced_by:
            every = [one for contract in self._store.contracts() for one in contract.offer.terms.announcements]
            self._announced = {(one.event.id, one.oracle_key): one for one in (*every, *also)}
            self._announced_by = len(names) + len(also)
        return self._announced

    def watch(self, attestations: Sequence[Attestation] = ()) -> list[Report]:
        """Walk the chain for every contract that is signed, and do what is due: broadcast, settle, refund.

        What goes wrong with one contract, and evidence that is wrong, is named and stops no other. What is due is done
        at the node's tip, however many blocks it is away. Raises UnreachableError while the node is away and
        ChainMovedError while its chain changes, for that is of all of them.
        """
        for one in attestations:
            try:
                self.learn(one)
            except BtcfiError as e:
                log.warning("attestation dropped: %s", e)
        while True:
            view = _Seen(self._node)
            self._look_below(view)
            reports = self._pass(view)
            if all(report.tip >= view.block_count() for report in reports):
                return reports

    def _look_below(self, view: _Seen) -> None:
        """Look at what is done again, should a reorganisation have reached it."""
        top, known = view.block_count(), self._buried
        deep = Height(max(0, top - watch.REMEMBERED_BLOCKS))
        try:
            if known is not None and (known[0] > top or view.block_hash(known[0]) != known[1]):
                self._done.clear()
            self._buried = (deep, view.block_hash(deep))
        except UnreachableError:
            raise
        except BtcfiError as e:  # of what is done; what is not is looked at all the same
            log.warning("what is done is not looked at this time: %s", e)

    def _pass(self, view: _Seen) -> list[Report]:
        """Walk a bounded number of blocks for every contract; those that are at the tip then do what is due."""
        reports = []
        for name in self._store.names():
            if name in self._done:
                continue
            contract = self._store.readable(name)
            if contract is not None and contract.watch is not None and contract.accept is not None:
                try:
                    report = self._watch_one(name, contract, view)
                    self._failed.pop(name, None)
                except (UnreachableError, ChainMovedError):
                    raise
                except NotHeldError as e:  # the others are watched all the same
                    report = self._unwatched(name, contract, view, f"waits: {e}")
                except Exception as e:  # noqa: BLE001 - whatever it is, it is this contract's and no other's
                    report = self._unwatched(name, contract, view, f"not watched this time: {type(e).__name__}: {e}")
                reports.append(report)
                if report.action is Action.DONE and report.tip - self._settled_at(contract) > watch.REMEMBERED_BLOCKS:
                    self._looks.pop(name, None)
                    self._done.add(name)  # deeper than any reorganisation that we follow
        return reports

    def _unwatched(self, name: str, contract: PartyContract, view: _Seen, why: str) -> Report:
        """Return the report of a contract that could not be looked at: its owner must see it, and it is tried again."""
        if self._failed.get(name) != why:
            log.warning("%s: %s", name, why)
            self._failed[name] = why
        return Report(name=name, role=contract.role, status=None, tip=view.block_count(), action=Action.WAIT, note=why)

    @staticmethod
    def _settled_at(contract: PartyContract) -> Height:
        return (
            max((spend.height for spend in contract.watch.spends), default=Height(0)) if contract.watch else Height(0)
        )

    def _watch_one(self, name: str, contract: PartyContract, view: _Seen) -> Report:
        looks = self._looks_of(name, contract)
        contributions = looks.contributions
        state = contract.watch or watch.start(view, view.block_count())
        step = watch.advance(state, view, [looks.funding, *contributions])
        contract.watch = step.state
        contract.funded = contract.funded or step.state.created(looks.funding) is not None
        kept = self._store.attestations()
        known = [(kept.get(named), one) for named, one in looks.expected]
        relevant = [said for said, announced in known if said is not None and self._is_of(said, announced)]
        cet = self._completed(looks, contract, relevant)
        spenders = {one.txid for one in (contract.settlement, cet and cet.transaction) if one}
        spenders |= {*contract.closes, *contract.reopenings, *(one.transaction.txid for one in contract.refunds)}
        funded = step.state.spend_of(contributions[0])
        if contract.funding is None and funded is not None and funded.transaction.txid == looks.funding.txid:
            contract.funding = funded.transaction  # the other side completed it: a reorganisation may take it back
        spend = step.state.spend_of(looks.funding)
        if spend is not None and spend.transaction.txid not in spenders:
            # the other side may have settled: any CET of the plan is ours, too
            spenders |= self._cets_of(looks, contract)
        status = watch.contract_status(step.state, looks.funding, contributions=contributions, spenders=spenders)
        action = watch.next_action(
            status,
            tip=step.state.tip,
            expiry_height=looks.expiry_height,
            refund_height=looks.refund_height,
            attested=cet is not None,
            seller=contract.role is Role.SELLER,
        )
        if step.state.tip < view.block_count():  # what is due, the rest of the blocks says
            action = Action.WAIT
        if action is Action.BROADCAST_FUNDING and self._late(contract, attested=bool(relevant)):
            note = self._withdraw(name, contract)
        elif action is Action.WAIT and status in _OPEN and contract.closes:
            note = self._send_close(contract)
        elif action is Action.SETTLE and (
            held := self._holds(contract, looks.funding, tip=step.state.tip, refund_height=looks.refund_height)
        ):  # it is looked at again soon: what is held is due
            note = held
        else:
            note = self._act(action, contract, cet, step.state.tip)
        if (step.state.spends, step.state.creations) != (state.spends, state.creations):
            self._store.save(contract)
        self._store.keep_in_mind(contract)  # new blocks alone are read again after a restart
        return Report(name=name, role=contract.role, status=status, tip=step.state.tip, action=action, note=note)

    def _looks_of(self, name: str, contract: PartyContract) -> _Looks:
        """Return where a contract is looked for, worked out once: its agreement is a megabyte, and a block is soon."""
        known = self._looks.get(name)
        if known is None or known.accept is not contract.accept:
            agreement = self._agreements.of(contract)
            plan = agreement.plan
            known = self._looks[name] = _Looks(
                accept=contract.accept, funding=plan.funding, threshold=plan.threshold,
                expected=tuple(((one.event.id, one.oracle_key), one) for one in plan.announcements),
                contributions=tuple(txin.outpoint for txin in agreement.funding.transaction.inputs),
                expiry_height=plan.contract.expiry_height, refund_height=plan.contract.refund_height,
            )  # fmt: skip
        return known

    def _cets_of(self, looks: _Looks, contract: PartyContract) -> frozenset[Txid]:
        if looks.cets is None:
            plan = self._agreements.of(contract).plan
            looks.cets = frozenset(plan.transaction(bucket).txid for bucket in range(len(plan.buckets)))
        return looks.cets

    def _late(self, contract: PartyContract, *, attested: bool) -> bool:
        """Return whether a contract that no block ever funded is not to be funded any more.

        Who signs last decides whether there is a contract at all. Once the price is known, or half way there, only the
        side that it favours would still fund it; and nobody's own software must do it for the other one.
        """
        if contract.funded or contract.cancelled is not None:
            return False
        overdue = contract.fund_by is not None and self._node.chain_info().median_time >= contract.fund_by
        return attested or overdue

    def _withdraw(self, name: str, contract: PartyContract) -> str:
        try:
            contract.cancelled = self._take_home(name)
        except BtcfiError as e:
            return f"not funded in time, and its coins are not home: {e}"
        return "not funded in time: its coins go home"

    def _act(self, action: Action, contract: PartyContract, cet: CompletedCet | None, tip: Height) -> str:
        try:
            if action is Action.BROADCAST_FUNDING and (ours := contract.cancelled or contract.funding) is not None:
                self._node.send(ours)
            elif action is Action.SETTLE and cet is not None:
                return self._settler.settle(contract, self._agreements.of(contract), cet, tip=tip)
            elif action is Action.REFUND:
                return self._settler.refund(contract, self._agreements.of(contract), tip=tip)
        except InputsSpentError as e:
            return f"somebody else spent it: {e.reason}"
        except TxRejectedError as e:
            return e.reason
        return ""

    def _send_close(self, contract: PartyContract) -> str:
        """Send a close that both have signed and no block holds: who was to send it may be away, or keep it back."""
        made = contract.settlement
        if made is None or made.txid not in contract.closes:
            made = signed_close(self._store, contract)
        try:
            if made is not None:
                self._node.send(made)
        except TxRejectedError as e:
            return e.reason
        return ""

    def _completed(
        self, looks: _Looks, contract: PartyContract, attestations: Sequence[Attestation]
    ) -> CompletedCet | None:  # fmt: skip
        if contract.accept is None or contract.sign is None:
            return None
        if len(attestations) < looks.threshold:
            return None
        plan = self._agreements.of(contract).plan
        parts = {
            contract.offer.role.other.value: contract.accept.presignatures,
            contract.offer.role.value: contract.sign.presignatures,
        }
        try:
            return complete_cet(plan, buyer=parts["buyer"], seller=parts["seller"], attestations=attestations)
        except TooFewAttestationsError as e:  # oracles that contradict each other settle nothing, and stop no refund
            log.info("%s: %s", contract.offer.id.hex()[:16], e)
            return None
