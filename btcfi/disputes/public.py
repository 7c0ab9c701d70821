"""The public part of a disputed contract: what a watcher needs, and no secret of anybody's.

Both halves of the deal, the point of the fault secret, and from which block on the opening is looked for. Every
transaction follows from these and is computed anew, so nothing in the file has to be believed but what it says of
itself: the proposal is under its identity's signature, and what the chain holds under the opening's txid has the keys
of both. The point alone is nobody's signed word: with another one no claim on the chain is one of these terms, and the
stage says so (``Stage.SPENT_OTHERWISE``). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from btcfi.bitcoin.transaction import Transaction
from btcfi.contracts.setup import WrongMessageError
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled.chains import FaultPoint
from btcfi.disputes.garbled.deal import Acceptance, Deal, Proposal
from btcfi.disputes.garbled.graph import Graph
from btcfi.disputes.garbled.terms import DisputeTerms
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.records import OBJECT, hexadecimal, record, whole
from btcfi.units import Hash32, Height

TYPE: Final = "btcfi/dispute-public"
VERSION: Final = 1

MAX_BYTES: Final = 1 << 20
"""Of a file: a mean of thirty minutes of five oracles has a quarter of it."""

_TAG: Final = "BTCFi/dispute/public/v1"
_MAX_HEIGHT: Final = 499_999_999
"""Above it a lock time is no height. Source: BIP65."""

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PublicDispute:
    """A contract as anybody may know it; whole in itself once it is made."""

    proposal: Proposal
    acceptance: Acceptance
    fault: bytes
    """The point of the fault secret, compressed."""
    since: Height
    """The opening is in no block before it."""

    def __post_init__(self) -> None:
        """Raise WrongMessageError and InvalidInputError for halves that are not of one contract."""
        wire.check_proposer(self.proposal)
        if self.acceptance.proposal_id != wire.proposal_id(self.proposal):
            raise WrongMessageError("dispute acceptance", "is of another proposal")
        latest = self.terms.bond_height  # of terms, keys, heights, coins, change: all, or there is no such contract
        if self.since > latest:
            raise InvalidInputError("since_height", f"{self.since}", f"at most {latest}: then all of it is over")

    @cached_property
    def contract(self) -> Hash32:
        """The contract's identity, as messages between both sides have it."""
        return wire.contract_id(self.proposal, self.acceptance)

    @cached_property
    def id(self) -> Hash32:
        """Of the contract with this fault point: who registers another point takes nobody's place."""
        return tagged_hash(_TAG, self.contract + self.fault)

    @cached_property
    def _opened(self) -> tuple[Transaction, Graph]:
        opening, graph = Deal(self.proposal, self.acceptance, id=self.contract).opened(FaultPoint(self.fault))
        return opening.transaction, graph

    @property
    def opening(self) -> Transaction:
        """What opens it, without its witnesses."""
        return self._opened[0]

    @property
    def graph(self) -> Graph:
        """Every transaction of it."""
        return self._opened[1]

    @property
    def terms(self) -> DisputeTerms:
        """What both have signed up to."""
        return self.graph.terms


@dataclass(frozen=True, slots=True, kw_only=True)
class _Public:
    type: str
    version: int
    proposal: Json
    acceptance: Json
    fault: bytes
    since_height: int


_PUBLIC: Final = record(
    _Public, exact=True, version=whole(VERSION, VERSION), proposal=OBJECT, acceptance=OBJECT, fault=hexadecimal(33),
    since_height=whole(0, _MAX_HEIGHT),
)  # fmt: skip


def encode_public(dispute: PublicDispute) -> Json:
    """Return the public part as JSON."""
    return {
        "type": TYPE, "version": VERSION, "proposal": wire.encode_proposal(dispute.proposal),
        "acceptance": wire.encode_acceptance(dispute.acceptance), "fault": dispute.fault.hex(),
        "since_height": dispute.since,
    }  # fmt: skip


def decode_public(message: object) -> PublicDispute:
    """Return the public part, computed anew. Raises InvalidInputError naming the field, WrongMessageError."""
    flat = _PUBLIC.read(message, "dispute")
    if flat.type != TYPE:
        raise InvalidInputError("type", flat.type[:40], TYPE)
    return PublicDispute(
        proposal=wire.decode_proposal(flat.proposal), acceptance=wire.decode_acceptance(flat.acceptance),
        fault=flat.fault, since=Height(flat.since_height),
    )  # fmt: skip
