"""The aggregator's mind: which signed submissions count, for which minute, and what the round says.

Pure state, no clock, no network, no database: every method takes ``now``, so that a test walks through hours in
milliseconds. Whoever holds a ``RoundBook`` stores what it accepts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256
from btcfi.oracle.commitment import PriceCommitment, commitment_signature_valid, opens
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, DropReason, Outcome
from btcfi.oracle.quote import BTC_USD, Feed, Missing, MissingReason, Observation, VenueId
from btcfi.oracle.recompute import (
    Contradiction,
    NodeKeys,
    RoundTerms,
    SignedRound,
    contradict,
    observations_in,
    recompute,
    recompute_signed,
)
from btcfi.oracle.report import RoundReport
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

    @property
    def keys(self) -> NodeKeys:
        """By node: its venue and its key, as messages are checked against them."""
        return {n.node_id: (n.venue, n.public_key) for n in self.nodes.values()}


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
    equivocators: dict[str, Contradiction] = field(default_factory=dict)
    """By node, while the round was open: these nodes are out of it."""
    late: dict[str, Contradiction] = field(default_factory=dict)
    """By node, after the round's end: evidence that changes no price."""
    refused: dict[str, SubmissionError] = field(default_factory=dict)
    report: RoundReport | None = None
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a database kept of the rounds in memory: all that a restart must not forget."""

    submissions: Sequence[tuple[SignedSubmission, UnixSeconds]] = ()
    """With when each was received."""
    contradictions: Sequence[tuple[Contradiction, UnixSeconds]] = ()
    """With when the second message was received: after the round's end it is evidence alone."""
    commitments: Sequence[tuple[PriceCommitment, UnixSeconds]] = ()


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
        self.terms = RoundTerms(feed=feed, rule=rule, registered=registry.venues, legs=registry.legs)
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
            held.report = None
            self._accepted[node_id] -= 1

    def forget_commitment(self, node_id: str, slot: Slot) -> None:
        """Take back a commitment that could not be stored, as ``forget`` does."""
        held = self._round(slot)
        held.commitments.pop(node_id, None)
        held.report = None

    def refuse_unread(self, error: InvalidInputError) -> None:
        """Count a message that could not even be read."""
        self.refusals[getattr(error, "kind", "malformed")] += 1

    def outcome(self, slot: Slot) -> Outcome:
        """Return what the round says with what it has now, priced or void."""
        return self.report(slot).outcome

    def report(self, slot: Slot) -> RoundReport:
        """Return the report of the round as it stands; final once ``settled``."""
        held = self._round(slot)
        if held.report is None:
            said, silenced = self._said(slot)
            held.report = recompute(self.terms, said, slot=slot, equivocated=silenced)
        return held.report

    def everybody_spoke(self, slot: Slot) -> bool:
        """Return whether every registered node has a word in the round: it is complete, though not final yet."""
        held = self._rounds.get(slot)
        return held is not None and set(held.accepted) == set(self.registry.nodes)

    def settled(self, slot: Slot, now: UnixSeconds) -> bool:
        """Return whether nothing can change the round any more: its window is over."""
        return self.state(slot, now) is RoundState.CLOSED

    def finish(self, slot: Slot) -> RoundReport:
        """Return the final report of a settled round and freeze it: a late contradiction changes nothing more.

        It is computed once more from the signed messages alone, as whoever is asked to sign it will. Raises
        ForgedRoundError, ReportDiffersError should that give another report.
        """
        report = recompute_signed(self.terms, self.messages(slot), self.registry.keys, told=self.report(slot))
        self._round(slot).final = True
        return report

    def messages(self, slot: Slot) -> SignedRound:
        """Return every signed message that the round's report rests on."""
        held = self._round(slot)
        return SignedRound(
            slot=slot,
            submissions=tuple(signed for _, signed in sorted(held.accepted.items())),
            contradictions=tuple(both for _, both in sorted(held.equivocators.items())),
            commitments=tuple(made for _, made in sorted(held.commitments.items())),
        )

    def observations(self, slot: Slot) -> list[Observation]:
        """Return what the round's signed messages say."""
        return self._said(slot)[0]

    def remarks(self, slot: Slot) -> list[Missing]:
        """Return why this aggregator did not hear a node whose word is not in the round: told, and in no report."""
        held = self._round(slot)
        return [
            self._missing(node_id, slot, _REASONS.get(error.kind, MissingReason.REFUSED), str(error))
            for node_id, error in sorted(held.refused.items())
            if node_id not in held.accepted and node_id not in held.equivocators
        ]

    def words(self, slot: Slot) -> list[Observation]:
        """Return one word a venue, as a database keeps them: agreeing on these gives the round's price again."""
        outcome = self.outcome(slot)
        latest: dict[VenueId, Observation] = {}
        for said in sorted((*self.remarks(slot), *self.observations(slot)), key=_word_order):
            latest[said.venue] = said
        for dropped in outcome.dropped:
            if (why := _WORDLESS.get(dropped.reason)) is not None:
                latest[dropped.venue] = Missing(
                    venue=dropped.venue,
                    slot=slot,
                    reason=MissingReason.REFUSED,
                    detail=why,
                    observed_at=UnixSeconds(slot + SECONDS_PER_MINUTE),
                )
        return [said for _, said in sorted(latest.items())]

    def submissions(self, slot: Slot) -> list[SignedSubmission]:
        """Return the accepted submissions of a round, by node."""
        return [signed for _, signed in sorted(self._round(slot).accepted.items())]

    def equivocations(self, slot: Slot) -> dict[str, Contradiction]:
        """Return, by node, the two contradicting signed submissions: proof that anybody can check."""
        held = self._round(slot)
        return {**held.late, **held.equivocators}

    def late_contradictions(self, slot: Slot) -> list[Contradiction]:
        """Return those of them that came after the round's end and changed nothing, by node."""
        return [both for _, both in sorted(self._round(slot).late.items())]

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

    def restore(self, kept: Kept) -> set[str]:
        """Put back what a database kept, after a restart. Signatures are checked again, windows are not.

        Returns the nodes of messages that no node of this registry signed, which are left out: one was removed, or has
        another key now.
        """
        foreign: set[str] = set()
        for signed, received in kept.submissions:
            if self._is_ours(signed, foreign):
                held = self._round(signed.submission.slot)
                held.accepted[signed.submission.node_id] = signed
                held.report = None
                self._hear(signed.submission.node_id, received)
        for (first, second), seen in kept.contradictions:
            if self._is_ours(first, foreign) and self._is_ours(second, foreign):
                self._keep_contradiction(self._round(first.submission.slot), first, second, seen)
        for made, received in kept.commitments:
            try:
                self._checked_commitment(made)
            except SubmissionError:
                foreign.add(made.node_id)
            else:
                held = self._round(made.slot)
                held.commitments[made.node_id] = made
                held.report = None
                self._hear(made.node_id, received)
        return foreign

    def _is_ours(self, signed: SignedSubmission, foreign: set[str]) -> bool:
        try:
            node = self._checked(signed)
        except SubmissionError:
            node = None
        if node is None or node.venue != signed.submission.venue:
            foreign.add(signed.submission.node_id)
            return False
        return True

    def _accept(self, signed: SignedSubmission, now: UnixSeconds, nonce: bytes) -> Observation:
        said = signed.submission
        node = self._checked(signed)
        if said.venue != node.venue or said.feed != self.feed:
            raise WrongVenueError(node.node_id, said.venue)
        self._check_contradiction(signed, now)
        self._check_measured_clock(signed)
        self._check_window(said.slot, now)
        self._check_times(signed, now)
        held = self._round(said.slot)
        if node.node_id in held.equivocators:
            raise EquivocationError(node.node_id, said.slot)
        if node.node_id in held.accepted:
            raise ReplayedSubmissionError(node.node_id, said.slot)
        if held.final:
            raise ClosedSlotError(slot=said.slot, open_from=said.slot + SECONDS_PER_MINUTE, open_until=now)
        self._check_commitment(held, signed, now, nonce)
        self._check_evidence(signed)
        held.accepted[node.node_id] = signed
        held.report = None
        self._accepted[node.node_id] += 1
        self._hear(node.node_id, now)
        return said.observation

    def _check_contradiction(self, signed: SignedSubmission, now: UnixSeconds) -> None:
        """Keep a second word that differs from the first, whatever its times say: both are signed for one minute."""
        held = self._rounds.get(signed.submission.slot)
        earlier = held.accepted.get(signed.submission.node_id) if held is not None else None
        if held is not None and earlier is not None and contradict(earlier, signed):
            self._keep_contradiction(held, earlier, signed, now)
            raise EquivocationError(signed.submission.node_id, signed.submission.slot)

    def _keep_contradiction(
        self, held: _Round, first: SignedSubmission, second: SignedSubmission, seen: UnixSeconds
    ) -> None:
        node_id = first.submission.node_id
        if held.final or self.state(held.slot, seen) is RoundState.CLOSED:
            held.late.setdefault(node_id, (first, second))
            return
        held.equivocators.setdefault(node_id, (first, second))
        held.accepted.pop(node_id, None)
        held.report = None

    def _checked(self, signed: SignedSubmission) -> NodeInfo:
        node = self._node(signed.submission.node_id)
        if not signature_valid(signed, node.public_key):
            raise BadSignatureError(node.node_id)
        return node

    def _checked_commitment(self, made: PriceCommitment) -> NodeInfo:
        node = self._node(made.node_id)
        if not commitment_signature_valid(made, node.public_key):
            raise BadSignatureError(node.node_id)
        return node

    def _hear(self, node_id: str, at: UnixSeconds) -> None:
        """Note that a node is alive: only by a word that is new and of an open minute, never by an old one repeated."""
        self._heard[node_id] = max(at, self._heard.get(node_id, at))

    def _commit(self, made: PriceCommitment, now: UnixSeconds) -> None:
        node = self._checked_commitment(made)
        self._check_window(made.slot, now)
        if now >= made.slot + SECONDS_PER_MINUTE + self.policy.commit_seconds:
            raise CommitmentError("commitment", f"{now - made.slot - SECONDS_PER_MINUTE} s late", "before the reveals")
        held = self._round(made.slot)
        if node.node_id in held.commitments:
            raise ReplayedSubmissionError(node.node_id, made.slot)
        held.commitments[node.node_id] = made
        held.report = None
        self._hear(node.node_id, now)

    def _check_measured_clock(self, signed: SignedSubmission) -> None:
        said, proof = signed.submission, signed.submission.time_proof
        if proof is None:
            return
        age, most_age = said.sent_at_ms - proof.local_unix_ms, self.policy.most_proof_age_seconds * 1000
        for offset, most in ((proof.offset_ms, self.policy.most_skew_ms), (age, most_age)):
            if abs(offset) > most:
                raise ClockSkewError(node_id=said.node_id, offset_ms=offset, most_ms=most)

    def _check_times(self, signed: SignedSubmission, now: UnixSeconds) -> None:
        """Refuse a word from the future, one that was long on its way, and one observed before the minute ended."""
        said, skew = signed.submission, self.policy.most_skew_ms + 1000  # `now` is cut to whole seconds
        observed_ms = said.observation.observed_at * 1000
        for offset, most in (
            (said.sent_at_ms - now * 1000, skew),
            (now * 1000 - said.sent_at_ms, self.policy.open_seconds * 1000),
            (observed_ms - said.sent_at_ms, skew),
            ((said.slot + SECONDS_PER_MINUTE) * 1000 - observed_ms, 0),
        ):
            if offset > most:
                raise ClockSkewError(node_id=said.node_id, offset_ms=offset, most_ms=most)

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

    def _said(self, slot: Slot) -> tuple[list[Observation], set[VenueId]]:
        return observations_in(self.messages(slot), {n.node_id: n.venue for n in self.registry.nodes.values()})

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


_WORDLESS: Final = {
    DropReason.EQUIVOCATION: "its node signed two prices for this slot",
    DropReason.NODES_DISAGREE: "its nodes say different candles",
}
"""Why a venue that spoke has no word in the database."""


def _word_order(said: Observation) -> tuple[bool, int, bytes]:
    """Order a venue's words as the consensus does: the latest quote last; absences first."""
    return (not isinstance(said, Missing), said.observed_at, said.evidence or b"")
