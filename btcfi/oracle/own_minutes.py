"""What an oracle computes itself: a minute from the signed submissions, a fixing and a condition from its minutes.

Pure: submissions, registry, rule and clock are arguments. An aggregator can keep submissions back, and cannot forge
one; what it says that they add up to is never looked at (docs/oracle.md, "Oracles").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import OracleEvent
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, Outcome, fit_to_settle
from btcfi.oracle.fixing import MINUTES_AFTER, Fixed, Fixing, LeftOut, Said, fix
from btcfi.oracle.path import Ladder, Path
from btcfi.oracle.quote import Feed
from btcfi.oracle.recompute import RoundTerms, SignedRound, observations_in, recompute
from btcfi.oracle.report import RoundReport
from btcfi.oracle.round_book import Registry
from btcfi.oracle.submission import SignedSubmission, Submission, observation_bytes, signature_valid
from btcfi.units import SECONDS_PER_MINUTE, CentsPerBtc, Slot, UnixSeconds

MOST_A_NODE: Final = 2
"""Submissions of one node that are kept for one minute: two that differ already prove that it contradicts itself."""

MOST_LACKING: Final = 500
"""Minutes of a barrier that are found lacking before the rest is not looked at: they are asked for first."""

MOST_SKEW_MS: Final = 3_000
"""By so much a word may be observed after it was sent, or sent after our now: what an aggregator allows, too."""

MOST_NAMED: Final = 3
"""Minutes that a refusal names; of the others it says how many there are."""

_CONDITION: Final = re.compile(r"agreed price (>=|<=) (\d{1,10}) cents between (\d{1,10}) and (\d{1,10})", re.ASCII)


Span = tuple[CentsPerBtc, CentsPerBtc]
"""A minute's agreed low and high."""


class WrongConditionError(InvalidInputError):
    """An event's condition is not one that minutes decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """A barrier's condition: whether an agreed level reached it after ``since``, up to and with ``until``."""

    level: CentsPerBtc
    above: bool
    """Whether it is reached from below."""
    since: Slot
    until: Slot

    def reached_in(self, span: Span | None) -> bool:
        """Return whether a minute's agreed range reached it; a void minute has none."""
        if span is None:
            return False
        return span[1] >= self.level if self.above else span[0] <= self.level


def parse_condition(event: OracleEvent) -> Touch | None:
    """Return what an event's condition watches, None of an event without one. Raises WrongConditionError.

    The text is that of ``contracts.payouts.condition_of``, in its one spelling.
    """
    if not event.condition:
        return None
    expected = "agreed price >= or <= N cents between SLOT and the expiry"
    found = _CONDITION.fullmatch(event.condition)
    if found is None:
        raise WrongConditionError("condition", repr(event.condition[:60]), expected)
    level, since, until = (int(found[place]) for place in (2, 3, 4))
    text = f"agreed price {found[1]} {level} cents between {since} and {until}"
    minutes = since % SECONDS_PER_MINUTE == 0 and since <= until == event.expiry
    if text != event.condition or not minutes or not level:
        raise WrongConditionError("condition", repr(event.condition[:60]), expected)
    return Touch(level=CentsPerBtc(level), above=found[1] == ">=", since=Slot(since), until=Slot(until))


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnMinute:
    """One minute as an oracle holds it."""

    slot: Slot
    registry: Registry
    """Who could speak when it was collected."""
    submissions: tuple[SignedSubmission, ...] = ()
    """Checked: of a registered node, for its venue, this feed and this minute, validly signed."""
    closed: bool = False
    """Whether nobody else is waited for: all nodes have spoken, or the aggregators have closed the round."""
    stated: Outcome | None = None
    """What the aggregator says of a minute before there were signed submissions; only where its owner trusts that."""

    @property
    def is_whole(self) -> bool:
        """Whether every registered node has spoken."""
        return {s.submission.node_id for s in self.submissions} >= self.registry.nodes.keys()

    @property
    def contradicted(self) -> frozenset[str]:
        """The nodes that signed two different things of this minute."""
        said: dict[str, set[bytes]] = {}
        for signed in self.submissions:
            said.setdefault(signed.submission.node_id, set()).add(observation_bytes(signed.submission.observation))
        return frozenset(node for node, words in said.items() if len(words) > 1)

    def with_more(self, more: Iterable[SignedSubmission], feed: Feed, now: UnixSeconds) -> OwnMinute:
        """Return the minute with what else is true of ``more``.

        What is forged, foreign or known is left out, and what claims to be observed before the minute ended, after it
        was sent, or sent after ``now``, which is our clock.
        """
        kept = list(self.submissions)
        for signed in more:
            said = signed.submission
            node = self.registry.nodes.get(said.node_id)
            if node is None or said.slot != self.slot or said.feed != feed or said.venue != node.venue:
                continue
            if not _in_time(said, now):
                continue
            words = [observation_bytes(s.submission.observation) for s in kept if s.submission.node_id == said.node_id]
            if observation_bytes(said.observation) in words or len(words) >= MOST_A_NODE:
                continue
            if signature_valid(signed, node.public_key):
                kept.append(signed)
        return self if len(kept) == len(self.submissions) else replace(self, submissions=tuple(kept))

    def signed_round(self) -> SignedRound:
        """Return what was signed, as a report is computed from it: one word a node, or the two that contradict."""
        said: dict[str, list[SignedSubmission]] = {}
        for signed in self.submissions:
            said.setdefault(signed.submission.node_id, []).append(signed)
        words = [words for _, words in sorted(said.items())]
        return SignedRound(
            slot=self.slot,
            submissions=tuple(one[0] for one in words if len(one) == 1),
            contradictions=tuple((two[0], two[1]) for two in words if len(two) > 1),
        )

    def report(self, rule: ConsensusRule, feed: Feed) -> RoundReport:
        """Return the report that the submissions give by a rule, as whoever recomputes a round gets it.

        Signatures and times were checked when the submissions came.
        """
        terms = RoundTerms(feed=feed, rule=rule, registered=self.registry.venues, legs=self.registry.legs)
        said, silenced = observations_in(
            self.signed_round(), {node_id: node.venue for node_id, node in self.registry.nodes.items()}
        )
        return recompute(terms, said, slot=self.slot, equivocated=silenced)

    def outcome(self, rule: ConsensusRule, feed: Feed) -> Outcome:
        """Return what the submissions give by a rule; of a minute before there were any, what its owner trusts."""
        if self.stated is not None and not self.submissions:
            return self.stated
        return self.report(rule, feed).outcome

    def says(self, rule: ConsensusRule, feed: Feed) -> tuple[Said, Span | None]:
        """Return what the minute says to a window by a rule, and the range that a barrier sees."""
        outcome = self.outcome(rule, feed)
        if not isinstance(outcome, AgreedPrice):
            return LeftOut.VOID, None
        said = outcome.price if fit_to_settle(outcome, rule) else LeftOut.THIN
        return said, (outcome.low, outcome.high)


def _in_time(said: Submission, now: UnixSeconds) -> bool:
    """Return whether a word's times can be true: observed once its minute had ended, sent then, and not to come."""
    observed_ms, sent_ms = said.observation.observed_at * 1000, said.sent_at_ms
    ended_ms = (said.slot + SECONDS_PER_MINUTE) * 1000
    return ended_ms <= observed_ms <= sent_ms + MOST_SKEW_MS and sent_ms <= now * 1000 + MOST_SKEW_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """Why an event's outcome is not known: minutes that are not there, or not closed."""

    slots: tuple[Slot, ...]
    """The minutes, oldest first; never empty."""
    of: str
    """What they are needed for, in words."""

    def __str__(self) -> str:
        named = ", ".join(map(str, self.slots[:MOST_NAMED]))
        more = len(self.slots) - MOST_NAMED
        least = "at least " if len(self.slots) >= MOST_LACKING else ""
        return f"minutes lacking for {self.of}: {named}" + (f" and {least}{more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """An event's outcome, and what it was made of."""

    outcome: int
    fixed: Fixed
    """Of a path its last observation."""
    touched: bool
    observed: tuple[Fixed, ...] = ()
    """Of a path every observation, oldest first."""
    reached: int = 0
    """Of a ladder how many rungs."""
    value: CentsPerBtc | None = None
    """Of a path its value, in hundredths of what is attested."""

    @property
    def left_out(self) -> tuple[tuple[Slot, LeftOut], ...]:
        """The minutes of all observations that do not count, and why."""
        return tuple(one for fixed in self.observed or (self.fixed,) for one in fixed.left_out)


def compute(
    event: OracleEvent, said_of: Callable[[Slot], Said | None], touched_in: Callable[[Slot, Touch], bool | None]
) -> Computed | Lacking:
    """Return the outcome of an event from an oracle's own minutes, or which of them are lacking.

    said_of: what a closed minute says to a window, None of one that is not there. touched_in: whether it reached a
    barrier or a rung, None likewise. Raises WrongConditionError.
    """
    touch = parse_condition(event)
    found = _path(event, event.path, said_of, touched_in) if event.path is not None else _one(event, said_of)
    if isinstance(found, Lacking) or touch is None:
        return found
    touched = watch(touch, touched_in)
    if isinstance(touched, Lacking):
        return touched
    price = found.fixed.price if found.value is None else found.value
    return replace(found, outcome=event.outcome(price, condition=touched), touched=touched)


def _one(event: OracleEvent, said_of: Callable[[Slot], Said | None]) -> Computed | Lacking:
    fixed = fixing_at(event.fixing, event.expiry, said_of)
    if isinstance(fixed, Lacking):
        return fixed
    return Computed(outcome=event.outcome(fixed.price), fixed=fixed, touched=False)


def fixing_at(fixing: Fixing, end: Slot, said_of: Callable[[Slot], Said | None]) -> Fixed | Lacking:
    """Return the fixing of the window that ends with the minute ``end``, or which minutes are lacking for it."""
    minutes: dict[Slot, Said] = {}
    lacking = []
    for second in fixing.window(end):
        said = said_of(Slot(second))
        if said is None:
            lacking.append(Slot(second))
        else:
            minutes[Slot(second)] = said
    if lacking:
        return Lacking(slots=tuple(lacking), of=f"the fixing {fixing}")
    after = end
    priced = sum(not isinstance(said, LeftOut) for said in minutes.values())
    while priced < fixing.least:
        after = Slot(after + SECONDS_PER_MINUTE)
        if after > end + MINUTES_AFTER * SECONDS_PER_MINUTE or (said := said_of(after)) is None:
            return Lacking(slots=(after,), of=f"the fixing {fixing}, whose window has too few priced ones")
        minutes[after] = said
        priced += not isinstance(said, LeftOut)
    fixed = fix(fixing, end, minutes)
    # the loop above counts as it does
    return fixed if fixed is not None else Lacking(slots=(after,), of=f"the fixing {fixing}")


def _path(
    event: OracleEvent, path: Path, said_of: Callable[[Slot], Said | None],
    touched_in: Callable[[Slot, Touch], bool | None],
) -> Computed | Lacking:  # fmt: skip
    """Return the value of a path: each observation is the event's fixing, with the stand-ins that a fixing takes."""
    found = [fixing_at(event.fixing, at, said_of) for at in path.times(event.expiry)]
    lacking = sorted({at for one in found if isinstance(one, Lacking) for at in one.slots})
    if lacking:
        return Lacking(slots=tuple(lacking[:MOST_LACKING]), of=f"the path {path}")
    observed = tuple(one for one in found if isinstance(one, Fixed))
    prices = [one.price for one in observed]
    reached = climbed(path, event.expiry, touched_in) if isinstance(path, Ladder) else 0
    if isinstance(reached, Lacking):
        return reached
    value = path.value(prices, reached) if isinstance(path, Ladder) else path.value(prices)
    return Computed(
        outcome=event.outcome(value), fixed=observed[-1], touched=False, observed=observed, reached=reached, value=value
    )


def climbed(ladder: Ladder, expiry: Slot, touched_in: Callable[[Slot, Touch], bool | None]) -> int | Lacking:
    """Return how many rungs the agreed ranges of a ladder's minutes reached; which lack while one might reach more."""
    rungs = [Touch(level=level, above=ladder.up, since=ladder.since, until=expiry) for level in ladder.levels]
    reached, lacking = 0, []
    for second in range(ladder.since + SECONDS_PER_MINUTE, expiry + 1, SECONDS_PER_MINUTE):
        # who reaches a rung has reached those before it
        while reached < len(rungs) and (found := touched_in(Slot(second), rungs[reached])):
            reached += 1
        if reached == len(rungs):
            return reached
        if found is None:
            lacking.append(Slot(second))
            if len(lacking) >= MOST_LACKING:
                break
    return Lacking(slots=tuple(lacking), of=f"the ladder {ladder}") if lacking else reached


def watch(touch: Touch, touched_in: Callable[[Slot, Touch], bool | None]) -> bool | Lacking:
    """Return whether any minute of a condition reached its level; which are lacking while one might still do so."""
    lacking = []
    for second in range(touch.since + SECONDS_PER_MINUTE, touch.until + 1, SECONDS_PER_MINUTE):
        found = touched_in(Slot(second), touch)
        if found is None:
            lacking.append(Slot(second))
            if len(lacking) >= MOST_LACKING:
                break
        elif found:
            return True
    return Lacking(slots=tuple(lacking), of=f"the barrier of {touch.level} cents") if lacking else False
