"""The aggregator's mind: which signed submissions count, for which minute, and what the round says.

Pure state, no clock, no network, no database: every method takes ``now``, so that a test walks through hours in
milliseconds. Whoever holds a ``RoundBook`` stores what it accepts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256
from btcfi.oracle.commitment import PriceCommitment, commitment_signature_valid, opens
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, Outcome, agreed_price
from btcfi.oracle.quote import BTC_USD, Feed, Missing, MissingReason, Observation, VenueId
from btcfi.oracle.report import RoundReport, make_report
from btcfi.oracle.submission import (
    BadSignatureError,
    ClockSkewError,
    ClosedSlotError,
    CommitmentError,
    EquivocationError,
    EvidenceMismatchError,
    FutureSlotError,
    ReplayedSubmissionError,
    SignedSubmission,
    SubmissionError,
    UnknownNodeError,
    WrongVenueError,
    observation_bytes,
    signature_valid,
)
from btcfi.oracle.venues import exchange_of
from btcfi.oracle.venues.candle import read_response
from btcfi.units import SECONDS_PER_MINUTE, Slot, UnixSeconds, slot_of

ROUNDS_KEPT: Final = 64
"""Minutes held in memory; older ones are in the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """A registered node: one key, one venue."""

    node_id: str
    venue: VenueId
    public_key: bytes
    """32 bytes, x-only."""


class RegistryError(InvalidInputError):
    """The registry of nodes contradicts itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """Who may speak. A venue may have several nodes; it counts once."""

    nodes: Mapping[str, NodeInfo]

    def __post_init__(self) -> None:
        keys = [n.public_key for n in self.nodes.values()]
        if len(set(keys)) != len(keys):
            raise RegistryError("nodes", "two nodes share a key", "one key a node")
        if any(len(k) != 32 for k in keys):  # noqa: PLR2004 - BIP340's size
            raise RegistryError("nodes", "a public key is not 32 bytes", "x-only keys, 64 hex digits")
        if not self.venues:
            raise RegistryError("nodes", "no node for a bitcoin market", "at least one")

    @property
    def venues(self) -> frozenset[VenueId]:
        """The bitcoin markets that the quorum counts."""
        return frozenset(n.venue for n in self.nodes.values() if not n.venue.is_leg)

    @property
    def legs(self) -> frozenset[VenueId]:
        """The markets that convert stablecoins."""
        return frozenset(n.venue for n in self.nodes.values() if n.venue.is_leg)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionPolicy:
    """The preset's numbers about when a submission counts."""

    open_seconds: int = 15
    """How long after its minute a round takes submissions; then it is final."""
    most_skew_ms: int = 2_000
    """A node whose clock is further off is refused."""
    node_timeout_seconds: int = 120
    """A node that was not heard for so long is inactive (the published two minutes)."""
    most_proof_age_seconds: int = 600
    """How old a node's measurement of its clock may be."""
    commit_reveal: bool = False
    """Whether a price must have been committed to before it is revealed."""
    commit_seconds: int = 10
    """With commit and reveal: commitments are taken so long after the minute, reveals only afterwards."""
    require_evidence: bool = False
    """Whether the raw response must come along, so that it can be read again here."""


class RoundState(StrEnum):
    """Where a minute stands."""

    PENDING = "pending"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(slots=True)
class _Round:
    slot: Slot
    accepted: dict[str, SignedSubmission] = field(default_factory=dict)
    commitments: dict[str, PriceCommitment] = field(default_factory=dict)
    equivocators: dict[str, tuple[SignedSubmission, SignedSubmission]] = field(default_factory=dict)
    refused: dict[str, SubmissionError] = field(default_factory=dict)
    outcome: Outcome | None = None
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHealth:
    """What is known of a node."""

    node: NodeInfo
    last_heard: UnixSeconds | None
    active: bool
    accepted: int
    refused: int


class RoundBook:
    """Rounds of one feed. Not thread-safe: one owner."""

    def __init__(
        self, *, registry: Registry, rule: ConsensusRule, policy: SubmissionPolicy | None = None, feed: Feed = BTC_USD
    ) -> None:
        self.registry, self.rule, self.feed = registry, rule, feed
        self.policy = policy or SubmissionPolicy()
        self.refusals: Counter[str] = Counter()
        """Refused messages by kind."""
        self._rounds: dict[Slot, _Round] = {}
        self._heard: dict[str, UnixSeconds] = {}
        self._accepted: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def state(self, slot: Slot, now: UnixSeconds) -> RoundState:
        """Return whether the round of ``slot`` takes submissions at ``now``."""
        ended = slot + SECONDS_PER_MINUTE
        if now < ended:
            return RoundState.PENDING
        return RoundState.OPEN if now < ended + self.policy.open_seconds else RoundState.CLOSED

    def commit(self, made: PriceCommitment, now: UnixSeconds) -> None:
        """Take a commitment for the minute that has just ended. Raises a SubmissionError that says why not."""
        try:
            self._commit(made, now)
        except SubmissionError as e:
            self._refuse(e, made.node_id, now)
            raise

    def accept(self, signed: SignedSubmission, now: UnixSeconds, *, nonce: bytes = b"") -> Observation:
        """Return the observation of a submission that counts, now stored here.

        now: the aggregator's clock. nonce: opens the commitment, where the preset demands one. Raises a
        SubmissionError: which one says why it does not count. An equivocation is kept; its node is out of the round.
        """
        try:
            return self._accept(signed, now, nonce)
        except SubmissionError as e:
            self._refuse(e, signed.submission.node_id, now)
            raise

    def forget(self, node_id: str, slot: Slot) -> None:
        """Take back an accepted word that could not be stored: never acknowledged, its node will send it again."""
        held = self._round(slot)
        if not held.final and held.accepted.pop(node_id, None) is not None:
            held.outcome = None
            self._accepted[node_id] -= 1

    def refuse_unread(self, error: InvalidInputError) -> None:
        """Count a message that could not even be read."""
        self.refusals[getattr(error, "kind", "malformed")] += 1

    def outcome(self, slot: Slot) -> Outcome:
        """Return what the round says with what it has now, priced or void."""
        held = self._round(slot)
        if held.outcome is None:
            held.outcome = agreed_price(
                self.observations(slot),
                registered=self.registry.venues,
                legs=self.registry.legs,
                rule=self.rule,
                slot=slot,
                equivocated=self._silenced(held),
            )
        return held.outcome

    def report(self, slot: Slot) -> RoundReport:
        """Return the report of the round as it stands; final once ``settled``."""
        return make_report(
            self.outcome(slot),
            self.observations(slot),
            feed=self.feed,
            rule=self.rule,
            registered=self.registry.venues,
            legs=self.registry.legs,
        )

    def everybody_spoke(self, slot: Slot) -> bool:
        """Return whether every registered node has a word in the round: it is complete, though not final yet."""
        held = self._rounds.get(slot)
        return held is not None and set(held.accepted) == set(self.registry.nodes)

    def settled(self, slot: Slot, now: UnixSeconds) -> bool:
        """Return whether nothing can change the round any more: its window is over."""
        return self.state(slot, now) is RoundState.CLOSED

    def finish(self, slot: Slot) -> RoundReport:
        """Return the final report of a settled round and freeze it: a late contradiction changes nothing more."""
        report = self.report(slot)
        self._round(slot).final = True
        return report

    def observations(self, slot: Slot) -> list[Observation]:
        """Return everything that the round knows: accepted words, and why a node's word is not among them."""
        held = self._round(slot)
        result: list[Observation] = [s.submission.observation for s in held.accepted.values()]
        silenced = self._silenced(held)
        for both in held.equivocators.values():
            result += [s.submission.observation for s in both if s.submission.venue in silenced]
        for node_id, error in held.refused.items():
            if node_id not in held.accepted and node_id not in held.equivocators:
                result.append(self._missing(node_id, slot, _REASONS.get(error.kind, MissingReason.REFUSED), str(error)))
        for node_id in held.commitments:
            if node_id not in held.accepted and node_id not in held.refused:
                result.append(self._missing(node_id, slot, MissingReason.NOT_REVEALED, "committed, never revealed"))
        return result

    def words(self, slot: Slot) -> list[Observation]:
        """Return one word a venue, as a database keeps them: agreeing on these gives the round's price again."""
        held = self._round(slot)
        silenced = self._silenced(held)
        latest: dict[VenueId, Observation] = {}
        for said in sorted(self.observations(slot), key=_word_order):
            if said.venue in silenced:
                latest[said.venue] = Missing(
                    venue=said.venue,
                    slot=slot,
                    reason=MissingReason.REFUSED,
                    detail="its node signed two prices for this slot",
                    observed_at=said.observed_at,
                )
            else:
                latest[said.venue] = said
        return [said for _, said in sorted(latest.items())]

    def submissions(self, slot: Slot) -> list[SignedSubmission]:
        """Return the accepted submissions of a round, by node."""
        return [signed for _, signed in sorted(self._round(slot).accepted.items())]

    def equivocations(self, slot: Slot) -> dict[str, tuple[SignedSubmission, SignedSubmission]]:
        """Return, by node, the two contradicting signed submissions: proof that anybody can check."""
        return dict(self._round(slot).equivocators)

    def latest_priced(self, now: UnixSeconds) -> AgreedPrice | None:
        """Return the newest minute's price that is settled, None when no minute in memory has one."""
        for slot in sorted(self._rounds, reverse=True):
            if self.settled(slot, now) and isinstance(priced := self.outcome(slot), AgreedPrice):
                return priced
        return None

    def watch(self, slot: Slot) -> None:
        """Begin the round of a minute even if nobody ever speaks: a silent round is void, not forgotten."""
        self._round(slot)

    def unfinished(self) -> Collection[Slot]:
        """Return the minutes in memory, oldest first."""
        return sorted(self._rounds)

    def health(self, now: UnixSeconds) -> list[NodeHealth]:
        """Return every registered node, and whether it was heard within the timeout."""
        return [
            NodeHealth(
                node=node,
                last_heard=(heard := self._heard.get(node_id)),
                active=heard is not None and now - heard <= self.policy.node_timeout_seconds,
                accepted=self._accepted[node_id],
                refused=self._refused[node_id],
            )
            for node_id, node in sorted(self.registry.nodes.items())
        ]

    def restore(self, submissions: Iterable[SignedSubmission]) -> None:
        """Put back what a database kept, after a restart. Signatures are checked again, windows are not."""
        for signed in submissions:
            node = self._node(signed.submission.node_id)
            if not signature_valid(signed, node.public_key):
                raise BadSignatureError(node.node_id)
            held = self._round(signed.submission.slot)
            held.accepted[node.node_id] = signed
            held.outcome = None

    def _accept(self, signed: SignedSubmission, now: UnixSeconds, nonce: bytes) -> Observation:
        said = signed.submission
        node = self._node(said.node_id)
        if not signature_valid(signed, node.public_key):
            raise BadSignatureError(node.node_id)
        self._heard[node.node_id] = max(now, self._heard.get(node.node_id, now))
        if said.venue != node.venue or said.feed != self.feed:
            raise WrongVenueError(node.node_id, said.venue)
        self._check_measured_clock(signed)
        self._check_window(said.slot, now)
        self._check_sending_time(signed, now)
        held = self._round(said.slot)
        if node.node_id in held.equivocators:
            raise EquivocationError(node.node_id, said.slot)
        earlier = held.accepted.get(node.node_id)
        if earlier is not None:
            if observation_bytes(earlier.submission.observation) == observation_bytes(said.observation):
                raise ReplayedSubmissionError(node.node_id, said.slot)
            held.equivocators[node.node_id] = (earlier, signed)
            if not held.final:
                del held.accepted[node.node_id]
                held.outcome = None
            raise EquivocationError(node.node_id, said.slot)
        if held.final:
            raise ClosedSlotError(slot=said.slot, open_from=said.slot + SECONDS_PER_MINUTE, open_until=now)
        self._check_commitment(held, signed, now, nonce)
        self._check_evidence(signed)
        held.accepted[node.node_id] = signed
        held.outcome = None
        self._accepted[node.node_id] += 1
        return said.observation

    def _commit(self, made: PriceCommitment, now: UnixSeconds) -> None:
        node = self._node(made.node_id)
        if not commitment_signature_valid(made, node.public_key):
            raise BadSignatureError(node.node_id)
        self._check_window(made.slot, now)
        if now >= made.slot + SECONDS_PER_MINUTE + self.policy.commit_seconds:
            raise CommitmentError("commitment", f"{now - made.slot - SECONDS_PER_MINUTE} s late", "before the reveals")
        held = self._round(made.slot)
        if node.node_id in held.commitments:
            raise ReplayedSubmissionError(node.node_id, made.slot)
        held.commitments[node.node_id] = made
        held.outcome = None
        self._heard[node.node_id] = now

    def _check_measured_clock(self, signed: SignedSubmission) -> None:
        said, proof = signed.submission, signed.submission.time_proof
        if proof is None:
            return
        age, most_age = said.sent_at_ms - proof.local_unix_ms, self.policy.most_proof_age_seconds * 1000
        for offset, most in ((proof.offset_ms, self.policy.most_skew_ms), (age, most_age)):
            if abs(offset) > most:
                raise ClockSkewError(node_id=said.node_id, offset_ms=offset, most_ms=most)

    def _check_sending_time(self, signed: SignedSubmission, now: UnixSeconds) -> None:
        # a message may take its time on the way, but cannot come from the future; `now` is cut to whole seconds
        late = now * 1000 - signed.submission.sent_at_ms
        if not -(self.policy.most_skew_ms + 1000) <= late <= self.policy.open_seconds * 1000:
            raise ClockSkewError(
                node_id=signed.submission.node_id, offset_ms=-late, most_ms=self.policy.open_seconds * 1000
            )

    def _check_window(self, slot: Slot, now: UnixSeconds) -> None:
        match self.state(slot, now):
            case RoundState.PENDING:
                raise FutureSlotError(slot=slot, ends_in=slot + SECONDS_PER_MINUTE - now)
            case RoundState.CLOSED:
                raise ClosedSlotError(slot=slot, open_from=now - self.policy.open_seconds + 1, open_until=now)

    def _check_commitment(self, held: _Round, signed: SignedSubmission, now: UnixSeconds, nonce: bytes) -> None:
        if not self.policy.commit_reveal:
            return
        reveals_from = held.slot + SECONDS_PER_MINUTE + self.policy.commit_seconds
        if now < reveals_from:
            raise CommitmentError("reveal", f"{reveals_from - now} s early", "after the time for commitments")
        made = held.commitments.get(signed.submission.node_id)
        if made is None or not opens(made, signed.submission.observation, nonce):
            raise CommitmentError(
                "reveal", "no commitment" if made is None else "against the commitment", "what was committed"
            )

    def _check_evidence(self, signed: SignedSubmission) -> None:
        said, raw = signed.submission, signed.raw_response
        if not raw:
            if self.policy.require_evidence and not isinstance(said.observation, Missing):
                raise EvidenceMismatchError(said.node_id, "no raw response")
            return
        if said.observation.evidence is None or sha256(raw) != said.observation.evidence:
            raise EvidenceMismatchError(said.node_id, "another hash")
        read = read_response(
            exchange_of(said.venue.exchange),
            raw,
            venue=said.venue,
            slot=said.slot,
            now=said.observation.observed_at,
            evidence=said.observation.evidence,
        )
        if not isinstance(said.observation, Missing) and read != said.observation:
            raise EvidenceMismatchError(said.node_id, "it says something else")

    def _silenced(self, held: _Round) -> set[VenueId]:
        """Return the venues whose only word in this round is a contradiction; another node may still speak for one."""
        contradicted = {self.registry.nodes[n].venue for n in held.equivocators}
        return contradicted - {signed.submission.venue for signed in held.accepted.values()}

    def _node(self, node_id: str) -> NodeInfo:
        node = self.registry.nodes.get(node_id)
        if node is None:
            raise UnknownNodeError(node_id)
        return node

    def _round(self, slot: Slot) -> _Round:
        held = self._rounds.get(slot)
        if held is None:
            held = self._rounds[slot] = _Round(slot=slot)
            for old in sorted(self._rounds)[:-ROUNDS_KEPT]:
                del self._rounds[old]
        return held

    def _refuse(self, error: SubmissionError, node_id: str, now: UnixSeconds) -> None:
        self.refusals[error.kind] += 1
        if node_id not in self.registry.nodes or isinstance(error, BadSignatureError | ReplayedSubmissionError):
            return  # anybody can send rubbish in a node's name, or its own old messages: that says nothing about it
        self._refused[node_id] += 1
        current = Slot(slot_of(now) - SECONDS_PER_MINUTE)
        if self.state(current, now) is RoundState.OPEN:
            held = self._round(current)
            if not held.final:
                held.refused[node_id] = error
                held.outcome = None

    def _missing(self, node_id: str, slot: Slot, reason: MissingReason, detail: str) -> Missing:
        return Missing(
            venue=self.registry.nodes[node_id].venue,
            slot=slot,
            reason=reason,
            detail=f"{node_id}: {detail}"[:200],
            observed_at=UnixSeconds(slot + SECONDS_PER_MINUTE),
        )


_REASONS: Final = {
    ClockSkewError.kind: MissingReason.CLOCK_SKEW,
    ClosedSlotError.kind: MissingReason.STALE,
    FutureSlotError.kind: MissingReason.CLOCK_SKEW,
    CommitmentError.kind: MissingReason.NOT_REVEALED,
}


def _word_order(said: Observation) -> tuple[bool, int, bytes]:
    """Order a venue's words as the consensus does: the latest quote last; absences first."""
    return (not isinstance(said, Missing), said.observed_at, said.evidence or b"")
