"""A party's half of contracts that end together: its yes, its nonces, its partial signatures, and its patience.

Its owner says once, to the process that answers, that contracts may end so (``party run --batches``), and its mandate
for closes bounds each. Everything that is signed follows from our own folder: the contract, the oracles' attestations
as we checked them, the CET that we could send ourselves, our own guest's proof root. Nonces are in this process's
memory alone: one that is killed between the rounds knows none, which costs the others a try. Source:
docs/decisions/0076.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from btcfi.adapters.chain.node import Node, TxRejectedError
from btcfi.adapters.chain.pool import waiting_on
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.agreements import Agreements
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.bitcoin.transaction import OutPoint
from btcfi.contracts.batch import Ending, Holding, NotAskedError, Seat, Side
from btcfi.contracts.mandate import Authority
from btcfi.contracts.messages import Role
from btcfi.contracts.payouts import decode_terms, price_input
from btcfi.contracts.settle import CompletedCet, TooFewAttestationsError, complete_cet
from btcfi.contracts.watch import ContractStatus
from btcfi.errors import ConflictError, InvalidInputError, RetryableError
from btcfi.market.batch_letters import AllNonces, Asked, Done, Said
from btcfi.units import Hash32, Height, Txid

log = logging.getLogger(__name__)

HOLD_SECONDS: Final = 300
"""From the attestation, in which we leave a contract to a batch; as long as the desk's own patience, and some."""

HOLD_BLOCKS: Final = 6
"""So long a batch that we have signed may wait in the pool before our CET is sent against it."""

LAST_BLOCKS: Final = 36
"""Before the refund height nothing is left to a batch: our CET must still be in time."""

MOST_SEATS: Final = 32
"""Batches at once that we take part in; of one that is forgotten nothing more is signed."""

MOST_ENDS: Final = 128
"""Of one contract that its file names: a desk's rules ask for seven, and a reorganisation for those again."""


class NotAttestedYetError(ConflictError, RetryableError):
    """A batch of a contract whose attestations have not come: they may be in the next letter."""

    def __init__(self, contract: str) -> None:
        super().__init__(f"contract {contract[:16]} is not attested here yet; its batch waits for that")
        self.contract = contract


class NoBatchesError(ConflictError):
    """A batch, of a party whose owner has not said that its contracts may end so."""

    def __init__(self) -> None:
        super().__init__("our owner lets no contract end together with others; `btcfi party run --batches` does")


@dataclass(slots=True)
class _Sitting:
    seat: Seat
    holdings: dict[OutPoint, PartyContract]


@dataclass(frozen=True, slots=True)
class _Waits:
    since: float
    tip: Height


class BatchDeals:
    """One party's part in batches."""

    def __init__(
        self, store: PartyStore, keystore: Keystore, node: Node, agreements: Agreements, *,
        authority: Callable[[str], Authority], alone: Callable[[PartyContract], None],
        clock: Callable[[], float] = time.time, entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:  # fmt: skip
        """Take the rooms of a desk.

        alone: refuses by raising where a close of a contract is signed and may be finished.
        """
        self._store, self._keystore, self._node, self._agreements = store, keystore, node, agreements
        self._authority, self._alone, self._clock, self._entropy = authority, alone, clock, entropy
        self.wanted = False
        """Whether our owner lets contracts end together with others."""
        self._seats: OrderedDict[str, _Sitting] = OrderedDict()
        self._waits: dict[str, _Waits] = {}
        self._said: set[str] = set()
        self._roots: dict[tuple[str, int], Hash32] = {}
        """Of our own runs of the guest, by contract and outcome."""

    def due_yes(self, statuses: dict[str, ContractStatus | None]) -> list[str]:
        """Return, by their orders' names, the contracts to which a yes is owed: active, and none was said by this run.

        statuses: by contract, of the last watch. A yes that the desk has already changes nothing there.
        """
        if not self.wanted:
            return []
        due = []
        for name, status in statuses.items():
            asked = status is ContractStatus.ACTIVE and name not in self._said
            contract = self._store.readable(name) if asked else None
            if contract is not None and contract.order and contract.accept is not None:
                self._said.add(name)
                due.append(contract.order)
        return due

    # ---- two rounds

    def proposed(self, asked: Asked) -> Said:
        """Return our nonces, after all is compared with our own records. Raises NotAttestedYetError, and as ``Seat``.

        What an earlier proposal of the batch left is forgotten.
        """
        if not self.wanted:
            raise NoBatchesError
        sitting = self._seats.get(asked.batch) or self._sit(asked)
        contracts = list(sitting.holdings.values())
        for contract in contracts:
            self._alone(contract)
        nonces = sitting.seat.consider(
            asked.proposal, self._secrets(sitting), ours=self._ours(),
            authority=self._authority(contracts[0].offer.id.hex()), entropy=self._entropy(32),
        )  # fmt: skip
        self._seats[asked.batch] = sitting
        self._seats.move_to_end(asked.batch)
        while len(self._seats) > MOST_SEATS:
            self._seats.popitem(last=False)
        return Said(batch=asked.batch, number=asked.proposal.number, parts=nonces)

    def signed(self, said: AllNonces) -> Said:
        """Return our partial signatures; each contract's file names the batch as an end of it before they are made.

        Raises NotAskedError for a batch that this process has no nonces of, and as ``Seat``.
        """
        sitting = self._seats.get(said.batch)
        if sitting is None or (txid := sitting.seat.txid) is None:
            raise NotAskedError(said.number, "has no nonces of ours: it was asked before this process, or is over")
        with self._store.alone():
            # an earlier proposal may have had more of ours
            contracts = [sitting.holdings[point] for point in sitting.seat.ends]
            for contract in contracts:
                self._alone(contract)
            authority = self._authority(contracts[0].offer.id.hex())
            for contract in contracts:
                self._note_end(contract.offer.id.hex(), txid)
            partials = sitting.seat.sign(said.number, said.nonces, self._secrets(sitting), authority=authority)
        log.info("signed batch %s: %d contracts of ours end in it", said.batch[:16], len(partials))
        return Said(batch=said.batch, number=said.number, parts=partials)

    def done(self, done: Done) -> None:
        """Send a batch that we have signed, too: its desk may be away. Raises InvalidInputError for another one."""
        made, sitting = done.transaction, self._seats.get(done.batch)
        if not any(made.txid in contract.closes for contract in self._store.contracts()):
            raise InvalidInputError("batch.transaction", "another one", "a batch that we have signed")
        if sitting is not None and not sitting.seat.is_whole(made):
            raise InvalidInputError("batch.transaction", "is not signed by all", "a signature of both for each input")
        with suppress(TxRejectedError):  # the desk sends it, too; what else may be the case the watch says
            self._node.send(made)

    # ---- patience

    def holds(self, contract: PartyContract, funding: OutPoint, *, tip: Height, refund_height: Height) -> str:
        """Return why our CET is not sent yet, nothing where it is.

        A batch that we have signed and that waits in the pool has HOLD_BLOCKS; before that, what may come has
        HOLD_SECONDS. Near the refund height nothing is waited for.
        """
        if not self.wanted or tip + LAST_BLOCKS >= refund_height:
            return ""
        name = contract.offer.id.hex()
        waits = self._waits.setdefault(name, _Waits(since=self._clock(), tip=tip))
        if contract.closes and tip - waits.tip < HOLD_BLOCKS:
            spender = waiting_on(self._node, [funding]).get(funding)
            if spender is not None and spender.txid in contract.closes:
                return "a batch that we have signed waits in the pool"
        if 0 <= self._clock() - waits.since < HOLD_SECONDS:
            return "it may end in a batch"
        return ""

    # ---- by our own records

    def _sit(self, asked: Asked) -> _Sitting:
        """Return a seat for the contracts of ours that a proposal spends, as our own folder has them."""
        points = {txin.outpoint for txin in asked.proposal.transaction.inputs}
        mine: dict[OutPoint, PartyContract] = {}
        holdings, scripts = [], set()
        for contract in list(self._store.contracts()):
            if contract.watch is None or contract.accept is None or contract.sign is None:
                continue
            if not any(one.outpoint in points for one in contract.watch.creations):
                continue
            plan = self._agreements.of(contract).plan
            if plan.funding not in points:
                continue
            if len(contract.closes) >= MOST_ENDS:
                raise InvalidInputError("batch", f"{MOST_ENDS} ends of a contract of ours are signed", "fewer")
            holdings.append(self._holding(contract))
            mine[plan.funding] = contract
            chain = plan.contract
            scripts.add(chain.buyer_script if contract.role is Role.BUYER else chain.seller_script)
        if not holdings:
            raise InvalidInputError("batch.inputs", "none of them is a contract of ours", "at least one")
        if len(scripts) != 1:
            raise InvalidInputError("batch.output", "our contracts are paid at several scripts", "one for all of them")
        return _Sitting(seat=Seat(holdings, script=scripts.pop()), holdings=mine)

    def _ours(self) -> set[OutPoint]:
        """Return the collaterals of every contract in our folder, whatever becomes of it."""
        found: set[OutPoint] = set()
        for contract in list(self._store.contracts()):
            seen = () if contract.watch is None else contract.watch.creations
            found |= {one.outpoint for one in seen}
            if not seen and contract.accept is not None:  # in a block, perhaps, that we have not read
                found.add(self._agreements.of(contract).plan.funding)
        return found

    def _holding(self, contract: PartyContract) -> Holding:
        """Return a contract as our records have it, at the bucket of a CET that we have complete."""
        cet = self._completed(contract)
        plan = self._agreements.of(contract).plan
        offer, accept = contract.offer, contract.accept
        if accept is None:
            raise NotAttestedYetError(offer.id.hex())
        keys = {offer.role: offer.party.key, offer.role.other: accept.party.key}
        run = offer.id.hex(), cet.outcome
        if run not in self._roots:  # once, whatever number of batches asks
            self._roots[run] = self._agreements.proof_root(offer, cet.outcome)
        ending = Ending.of(
            plan, cet.bucket, buyer=Side(owner=Role.BUYER.value, key=keys[Role.BUYER]),
            seller=Side(owner=Role.SELLER.value, key=keys[Role.SELLER]), proof_root=self._roots[run],
        )  # fmt: skip
        event = offer.terms.announcements[0].event
        given = price_input(
            decode_terms(offer.terms.option), event.price_of(cet.outcome), touched=cet.outcome > event.max_price
        ).to_bytes()
        return Holding(ending=ending, role=contract.role, guest_input=given)

    def _completed(self, contract: PartyContract) -> CompletedCet:
        """Return the CET that we could send ourselves. Raises NotAttestedYetError."""
        accept, sign, offer = contract.accept, contract.sign, contract.offer
        known = self._store.attestations()
        said = [known.get((one.event.id, one.oracle_key)) for one in offer.terms.announcements]
        if accept is None or sign is None:
            raise NotAttestedYetError(offer.id.hex())
        parts = {offer.role.other: accept.presignatures, offer.role: sign.presignatures}
        try:
            return complete_cet(
                self._agreements.of(contract).plan, buyer=parts[Role.BUYER], seller=parts[Role.SELLER],
                attestations=[one for one in said if one is not None],
            )  # fmt: skip
        except TooFewAttestationsError as e:
            raise NotAttestedYetError(offer.id.hex()) from e

    def _secrets(self, sitting: _Sitting) -> dict[OutPoint, bytes]:
        return {point: self._keystore.contract_secret(one.number) for point, one in sitting.holdings.items()}

    def _note_end(self, name: str, txid: Txid) -> None:
        """Write a batch down as an end of a contract, so that the watch knows it when it appears."""
        fresh = self._store.load(name)
        if txid not in fresh.closes:
            fresh.closes = (*fresh.closes, txid)
            self._store.save(fresh)
