"""One computation of a round's report. What it did not produce is not signed, stored, imported or settled.

A report is a function of what was said and of the terms of the round, and of nothing that only one process saw: why a
silent venue was silent is nobody's to assert, so a venue without a signed word is ``silent`` in the report, whatever
its aggregator may know (``RoundBook.remarks``), and one whose node committed without a reveal is ``not_revealed``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from btcfi.errors import BtcfiError
from btcfi.oracle.commitment import PriceCommitment, commitment_signature_valid
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, Method, Outcome, agreed_price
from btcfi.oracle.quote import Feed, Missing, MissingReason, Observation, VenueId
from btcfi.oracle.report import RoundReport, encode_report, make_report
from btcfi.oracle.submission import SignedSubmission, observation_bytes, signature_valid
from btcfi.units import SECONDS_PER_MINUTE, BasisPoints, Slot, UnixSeconds

NodeKeys = Mapping[str, tuple[VenueId, bytes]]
"""By node id: the venue that it speaks for and its x-only key."""

_FIRST: Final = ("feed", "rule_hash", "outcome", "evidence_root", "kind", "slot", "price", "low", "high")
"""Fields that are compared before the others, so that an error names what money sees first."""

_SINCE: Final = frozenset({"dollar_markets", "reach", "reach_bps", "thin", "volume", "weight"})
"""What an earlier release's reports lack, or weighed by another rule."""

_SHOWN: Final = 80
"""Characters of a value that an error repeats."""


class ReportDiffersError(BtcfiError):
    """A report is not what its observations give: the first field in which it differs."""

    def __init__(self, *, slot: Slot, field: str, told: object, computed: object) -> None:
        super().__init__(f"slot {slot}, {field}: {_short(told)} is told, {_short(computed)} is computed")
        self.slot, self.field, self.told, self.computed = slot, field, told, computed


class AgreedEarlierError(ReportDiffersError):
    """An earlier release's report, which this one's code would have decided otherwise: nobody need have changed it."""

    def __init__(self, *, slot: Slot, field: str, told: object, computed: object) -> None:
        super().__init__(slot=slot, field=field, told=told, computed=computed)
        self.args = (f"{self.args[0]}; it was agreed by an earlier release, which this one does not repeat",)


class ForgedRoundError(BtcfiError):
    """A message among those of a round is not what a registered node signed for it."""

    def __init__(self, slot: Slot, node_id: str, problem: str) -> None:
        super().__init__(f"slot {slot}, {node_id[:64]!r}: {problem}")
        self.slot, self.node_id, self.problem = slot, node_id, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTerms:
    """What decides a round besides what was said."""

    feed: Feed
    rule: ConsensusRule
    registered: frozenset[VenueId]
    """Whose share the quorum counts."""
    legs: frozenset[VenueId]
    """The stablecoin markets that convert."""


Contradiction = tuple[SignedSubmission, SignedSubmission]
"""Two different words of one node for one minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRound:
    """Every signed message that a round's report rests on; what came after its end is not among them."""

    slot: Slot
    submissions: tuple[SignedSubmission, ...]
    contradictions: tuple[Contradiction, ...] = ()
    commitments: tuple[PriceCommitment, ...] = ()


def recompute(
    terms: RoundTerms,
    observations: Collection[Observation],
    *,
    slot: Slot,
    equivocated: Collection[VenueId] = (),
    told: RoundReport | None = None,
    earlier: bool = False,
) -> RoundReport:
    """Return the report that ``observations`` give.

    equivocated: venues whose node contradicted itself. told: a report to hold it against. earlier: ``told`` is an
    earlier release's, compared in what that knew. Raises ReportDiffersError that names the first field in which
    ``told`` differs (AgreedEarlierError of an earlier release's).
    """
    outcome = agreed_price(
        observations, registered=terms.registered, legs=terms.legs, rule=terms.rule, slot=slot, equivocated=equivocated
    )
    report = make_report(
        outcome, observations, feed=terms.feed, rule=terms.rule, registered=terms.registered, legs=terms.legs
    )
    if told is not None:
        _compare(told, report, slot=slot, earlier=earlier)
    return report


def recompute_signed(
    terms: RoundTerms, signed: SignedRound, keys: NodeKeys, *, told: RoundReport | None = None
) -> RoundReport:
    """Return the report that a round's signed messages give, every signature checked.

    Raises ForgedRoundError for a message that no registered node signed for this round, ReportDiffersError as
    ``recompute``.
    """
    check_messages(signed, keys, feed=terms.feed)
    said, silenced = observations_in(signed, {node_id: venue for node_id, (venue, _) in keys.items()})
    return recompute(terms, said, slot=signed.slot, equivocated=silenced, told=told)


def check_messages(signed: SignedRound, keys: NodeKeys, *, feed: Feed) -> None:
    """Raise ForgedRoundError unless each message is one node's own, of this round, and no node speaks twice."""
    spoke: set[str] = set()
    for one in signed.submissions:
        _check_submission(signed.slot, one, keys, feed)
        _once(signed.slot, one.submission.node_id, spoke)
    for first, second in signed.contradictions:
        _check_submission(signed.slot, first, keys, feed)
        _check_submission(signed.slot, second, keys, feed)
        node_id = first.submission.node_id
        if second.submission.node_id != node_id or not contradict(first, second):
            raise ForgedRoundError(signed.slot, node_id, "its two messages contradict each other in nothing")
        _once(signed.slot, node_id, spoke)
    committed: set[str] = set()
    for made in signed.commitments:
        if made.slot != signed.slot or made.node_id not in keys:
            raise ForgedRoundError(signed.slot, made.node_id, "a commitment by nobody registered, or of another minute")
        if not commitment_signature_valid(made, keys[made.node_id][1]):
            raise ForgedRoundError(signed.slot, made.node_id, "its commitment is not signed by its key")
        _once(signed.slot, made.node_id, committed)


def contradict(first: SignedSubmission, second: SignedSubmission) -> bool:
    """Return whether the two say different things about one minute of one venue."""
    return first.submission.slot == second.submission.slot and observation_bytes(
        first.submission.observation
    ) != observation_bytes(second.submission.observation)


def observations_in(signed: SignedRound, venues: Mapping[str, VenueId]) -> tuple[list[Observation], set[VenueId]]:
    """Return what a round's messages say, and the venues whose only word is a contradiction.

    venues: of each registered node. A node that committed and has no other message is ``not_revealed``.
    """
    said: list[Observation] = [one.submission.observation for one in signed.submissions]
    heard = {one.submission.node_id for one in signed.submissions}
    silenced = {first.submission.venue for first, _ in signed.contradictions} - {o.venue for o in said}
    for both in signed.contradictions:
        heard.add(both[0].submission.node_id)
        said += [one.submission.observation for one in both if one.submission.venue in silenced]
    said += [
        _not_revealed(made, venues[made.node_id], signed.slot)
        for made in signed.commitments
        if made.node_id not in heard
    ]
    return said, silenced


def _not_revealed(made: PriceCommitment, venue: VenueId, slot: Slot) -> Missing:
    return Missing(
        venue=venue,
        slot=slot,
        reason=MissingReason.NOT_REVEALED,
        detail=f"{made.node_id}: committed, never revealed",
        observed_at=UnixSeconds(slot + SECONDS_PER_MINUTE),
    )


def _check_submission(slot: Slot, signed: SignedSubmission, keys: NodeKeys, feed: Feed) -> None:
    said = signed.submission
    known = keys.get(said.node_id)
    if known is None:
        raise ForgedRoundError(slot, said.node_id, "no registered node")
    if (said.feed, said.slot, said.venue) != (feed, slot, known[0]):
        raise ForgedRoundError(slot, said.node_id, "a submission of another feed, minute or venue")
    if not signature_valid(signed, known[1]):
        raise ForgedRoundError(slot, said.node_id, "its submission is not signed by its key")


def _once(slot: Slot, node_id: str, seen: set[str]) -> None:
    if node_id in seen:
        raise ForgedRoundError(slot, node_id, "it speaks twice")
    seen.add(node_id)


def _compare(told: RoundReport, computed: RoundReport, *, slot: Slot, earlier: bool) -> None:
    difference = next(_differences(encode_report(told), encode_report(computed), "", _SINCE if earlier else ()), None)
    if difference is not None:
        field, theirs, ours = difference
        error = AgreedEarlierError if earlier else ReportDiffersError
        raise error(slot=slot, field=field.removeprefix("outcome."), told=theirs, computed=ours)


def _differences(told: Any, computed: Any, path: str, left_out: Collection[str]) -> Iterator[tuple[str, Any, Any]]:  # noqa: ANN401 - JSON
    if isinstance(told, dict) and isinstance(computed, dict):
        names = sorted(told.keys() | computed.keys(), key=lambda name: (_place(name), name))
        for name in names:
            if name not in left_out:
                inner = f"{path}.{name}" if path else name
                yield from _differences(told.get(name), computed.get(name), inner, left_out)
    elif isinstance(told, list) and isinstance(computed, list):
        for i, (theirs, ours) in enumerate(zip(told, computed, strict=False)):
            yield from _differences(theirs, ours, f"{path}[{i}]", left_out)
        if len(told) != len(computed):
            yield path, f"{len(told)} of them", f"{len(computed)} of them"
    elif type(told) is not type(computed) or told != computed:
        yield path, told, computed


def _place(name: str) -> int:
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def earlier_rule(rule: ConsensusRule, outcome: Outcome) -> ConsensusRule:
    """Return by which rule an earlier release agreed on ``outcome``, as far as its report tells: method and quorum.

    rule: what gives the bands, which it does not tell. An earlier release asked for no thinness.
    """
    return ConsensusRule(
        method=outcome.method if isinstance(outcome, AgreedPrice) else Method.VOLUME_WEIGHTED_MEDIAN,
        outlier_bps=rule.outlier_bps,
        par_band_bps=rule.par_band_bps,
        quorum_numerator=outcome.quorum,
        quorum_denominator=max(outcome.registered, outcome.quorum),
        settle_confidence_bps=rule.settle_confidence_bps,
        least_dollar_markets=0,
        thin_bps=BasisPoints(0),
    )
