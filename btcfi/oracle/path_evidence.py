"""What a path's value is made of: every minute that decided it, so that anybody computes the outcome again.

An oracle gives it out beside its attestation; a reader needs no oracle to check it. That each minute was agreed so is
held against the rounds' reports, by whoever has them, and those against what the venues' nodes signed. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.oracle.announcement import Announcement, OracleEvent
from btcfi.oracle.attestation import Attestation, check_attestation
from btcfi.oracle.consensus import AgreedPrice
from btcfi.oracle.event_query import event_of, query_of
from btcfi.oracle.fixing import MINUTES_AFTER, LeftOut, Said
from btcfi.oracle.own_minutes import Computed, Lacking, Span, Touch, compute
from btcfi.oracle.path import MOST_SPAN
from btcfi.oracle.report import RoundReport
from btcfi.records import Rule, listed, one_of, optional, record, whole
from btcfi.units import MAX_U32, CentsPerBtc, Slot, slot

KIND: Final = "btcfi/path-evidence"
VERSION: Final = 1

MOST_ROWS: Final = MOST_SPAN + MINUTES_AFTER + 1
"""Minutes of one path: from its first to its last, and those that stand in after it."""


class WrongEvidenceError(BtcfiError):
    """Evidence that does not give the outcome that it claims: what is wrong with it."""

    def __init__(self, event: OracleEvent, problem: str) -> None:
        super().__init__(f"evidence of event {event.id.hex()[:16]}: {problem}")
        self.event, self.problem = event, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMinute:
    """What one minute said: a price that counts, or why it has none, and the range that rungs and barriers see."""

    slot: Slot
    price: CentsPerBtc | None = None
    left_out: LeftOut | None = None
    low: CentsPerBtc | None = None
    high: CentsPerBtc | None = None

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a minute that says two things, or half a range."""
        if (self.price is None) == (self.left_out is None):
            raise InvalidInputError(f"minute {self.slot}", "both or neither of price and left_out", "one of them")
        if (self.low is None) != (self.high is None) or (self.price is not None and self.low is None):
            raise InvalidInputError(f"minute {self.slot}", "half a range, or a price without one", "low and high")
        span, priceless = self.span, self.left_out in {LeftOut.VOID, LeftOut.NEVER_ASKED}
        if span is not None and (span[0] > span[1] or priceless):
            raise InvalidInputError(f"minute {self.slot}", f"{self.low} to {self.high}", "the range of a price")

    @property
    def said(self) -> Said:
        """What a fixing is given."""
        if self.price is not None:
            return self.price
        return self.left_out or LeftOut.NEVER_ASKED

    @property
    def span(self) -> Span | None:
        """What a rung is given."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathEvidence:
    """An event of a path, every minute that decided it, and what they make."""

    event: OracleEvent
    value: CentsPerBtc
    """In hundredths of what is attested: of a dollar, or of a cliquet's point."""
    outcome: int
    minutes: tuple[PathMinute, ...]
    """In their order, none that was not looked at."""


def evidence_of(
    event: OracleEvent, computed: Computed, seen: Mapping[Slot, tuple[Said, Span | None]]
) -> PathEvidence:  # fmt: skip
    """Return the evidence of what an oracle computed. seen: what every minute said that it looked at."""
    if computed.value is None:
        raise InvalidInputError("event.path", "none", "the event of a path")
    rows = tuple(_row(at, said, span) for at, (said, span) in sorted(seen.items()))
    return PathEvidence(event=event, value=computed.value, outcome=computed.outcome, minutes=rows)


def _row(at: Slot, said: Said, span: Span | None) -> PathMinute:
    low, high = span or (None, None)
    why = said if isinstance(said, LeftOut) else None
    return PathMinute(slot=at, price=None if isinstance(said, LeftOut) else said, left_out=why, low=low, high=high)


def check_evidence(evidence: PathEvidence, *, expected: OracleEvent | None = None) -> Computed:
    """Compute a path's outcome again from its evidence, by the function that oracles compute it with; return it.

    expected: the event that the reader holds. Raises WrongEvidenceError: another event, a minute twice or out of order,
    one that is missing or that nothing looked at, another value or outcome.
    """
    event = evidence.event
    if event.path is None:
        raise WrongEvidenceError(event, "it is of no path")
    if expected is not None and event != expected:
        raise WrongEvidenceError(event, f"it is not of event {expected.id.hex()[:16]}")
    slots = [one.slot for one in evidence.minutes]
    if slots != sorted(set(slots)):
        raise WrongEvidenceError(event, "its minutes are not in order, or one stands twice")
    known = {one.slot: one for one in evidence.minutes}
    used: set[Slot] = set()

    def row(at: Slot) -> PathMinute | None:
        used.add(at)
        return known.get(at)

    def touched(at: Slot, touch: Touch) -> bool | None:
        return None if (one := row(at)) is None else touch.reached_in(one.span)

    found = compute(event, lambda at: None if (one := row(at)) is None else one.said, touched)
    if isinstance(found, Lacking):
        raise WrongEvidenceError(event, str(found))
    if unneeded := known.keys() - used:
        raise WrongEvidenceError(event, f"nothing looks at minute {min(unneeded)}")
    if (found.value, found.outcome) != (evidence.value, evidence.outcome):
        said = f"value {evidence.value}, outcome {evidence.outcome}"
        raise WrongEvidenceError(event, f"its minutes make value {found.value}, outcome {found.outcome}, not {said}")
    return found


def check_attested(evidence: PathEvidence, announcement: Announcement, attestation: Attestation) -> None:
    """Check that what an oracle attested is what the evidence makes.

    Raises WrongEvidenceError, WrongAttestationError.
    """
    check_evidence(evidence, expected=announcement.event)
    check_attestation(attestation, announcement)
    if attestation.outcome != evidence.outcome:
        raise WrongEvidenceError(evidence.event, f"{attestation.outcome} was attested, its minutes say another outcome")


def check_minutes(evidence: PathEvidence, reports: Iterable[RoundReport]) -> int:
    """Hold the minutes against the rounds' reports that are at hand; return how many had one.

    A report must be of the minute, agree on its price and its range, and be void where the minute is. That a priced
    minute is too thin to settle on is the preset's word, which a report has not. Raises WrongEvidenceError.
    """
    by_slot = {one.outcome.slot: one.outcome for one in reports}
    held = 0
    for minute in evidence.minutes:
        outcome = by_slot.get(minute.slot)
        if outcome is None:
            continue
        held += 1
        void = minute.left_out in {LeftOut.VOID, LeftOut.NEVER_ASKED}
        if isinstance(outcome, AgreedPrice):
            agrees = minute.span == (outcome.low, outcome.high) and minute.price in {None, outcome.price}
        else:
            agrees = void
        if not agrees:
            raise WrongEvidenceError(evidence.event, f"the report of minute {minute.slot} says another thing of it")
    return held


# ---- JSON


def encode_evidence(evidence: PathEvidence) -> dict[str, Any]:
    """Return evidence as JSON: the event as it is asked for, a row a minute: slot, price, why not, low, high."""
    return {
        "type": KIND,
        "version": VERSION,
        "event": query_of(evidence.event),
        "value_cents": evidence.value,
        "outcome": evidence.outcome,
        "minutes": [
            [one.slot, one.price, None if one.left_out is None else one.left_out.value, one.low, one.high]
            for one in evidence.minutes
        ],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    type: str
    version: int


_HEAD: Final = record(_Head)
_CENTS: Final = optional(whole(1, MAX_U32))
_WHY: Final = optional(one_of(LeftOut))


def _minute(value: object) -> PathMinute:
    if not isinstance(value, list) or len(value) != _COLUMNS:
        raise TypeError(value)
    at, price, why, low, high = value
    cents = [None if (found := _CENTS(one)) is None else CentsPerBtc(found) for one in (price, low, high)]
    return PathMinute(slot=slot(whole(0, MAX_U32)(at)), price=cents[0], left_out=_WHY(why), low=cents[1], high=cents[2])


def _event(value: object) -> OracleEvent:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise TypeError(value)
    return event_of(value)


_COLUMNS: Final = 5
_MINUTE: Final = Rule(_minute, "[slot, price in cents or null, why it does not count or null, low, high]")
_EVIDENCE: Final = record(
    PathEvidence, event=Rule(_event, "an event as it is asked for"),
    value=("value_cents", whole(1, MAX_U32)), outcome=whole(0, MAX_U32), minutes=listed(_MINUTE, MOST_ROWS),
)  # fmt: skip


def decode_evidence(message: object) -> PathEvidence:
    """Return the evidence of a JSON value, unchecked. Raises InvalidInputError naming the field."""
    head = _HEAD.read(message, KIND)
    if (head.type, head.version) != (KIND, VERSION):
        raise InvalidInputError("message", f"{head.type!r} version {head.version}", f"{KIND!r} version {VERSION}")
    return _EVIDENCE.read(message, KIND)
