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
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, Outcome, agreed_price, fit_to_settle
from btcfi.oracle.fixing import MINUTES_AFTER, Fixed, LeftOut, Said, fix
from btcfi.oracle.quote import Feed, VenueId
from btcfi.oracle.round_book import Registry
from btcfi.oracle.submission import SignedSubmission, observation_bytes, signature_valid
from btcfi.units import SECONDS_PER_MINUTE, CentsPerBtc, Slot

MOST_A_NODE: Final = 2
"""Submissions of one node that are kept for one minute: two that differ already prove that it contradicts itself."""

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

    def with_more(self, more: Iterable[SignedSubmission], feed: Feed) -> OwnMinute:
        """Return the minute with what else is true of ``more``; what is forged, foreign or known is left out."""
        kept = list(self.submissions)
        for signed in more:
            said = signed.submission
            node = self.registry.nodes.get(said.node_id)
            if node is None or said.slot != self.slot or said.feed != feed or said.venue != node.venue:
                continue
            words = [observation_bytes(s.submission.observation) for s in kept if s.submission.node_id == said.node_id]
            if observation_bytes(said.observation) in words or len(words) >= MOST_A_NODE:
                continue
            if signature_valid(signed, node.public_key):
                kept.append(signed)
        return self if len(kept) == len(self.submissions) else replace(self, submissions=tuple(kept))

    def outcome(self, rule: ConsensusRule) -> Outcome:
        """Return what the submissions give by a rule. A node that contradicted itself says nothing."""
        if self.stated is not None and not self.submissions:
            return self.stated
        liars = self.contradicted
        believed = [s.submission for s in self.submissions if s.submission.node_id not in liars]
        spoken = {s.venue for s in believed}
        silenced: set[VenueId] = {self.registry.nodes[node].venue for node in liars} - spoken
        return agreed_price(
            [s.observation for s in believed], registered=self.registry.venues, legs=self.registry.legs, rule=rule,
            slot=self.slot, equivocated=silenced,
        )  # fmt: skip

    def says(self, rule: ConsensusRule) -> tuple[Said, Span | None]:
        """Return what the minute says to a window by a rule, and the range that a barrier sees."""
        outcome = self.outcome(rule)
        if not isinstance(outcome, AgreedPrice):
            return LeftOut.VOID, None
        said = outcome.price if fit_to_settle(outcome, rule) else LeftOut.THIN
        return said, (outcome.low, outcome.high)


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
        return f"minutes lacking for {self.of}: {named}" + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """An event's outcome, and what it was made of."""

    outcome: int
    fixed: Fixed
    touched: bool


def compute(
    event: OracleEvent, said_of: Callable[[Slot], Said | None], touched_in: Callable[[Slot, Touch], bool | None]
) -> Computed | Lacking:
    """Return the outcome of an event from an oracle's own minutes, or which of them are lacking.

    said_of: what a closed minute says to a window, None of one that is not there. touched_in: whether it reached a
    barrier, None likewise. Raises WrongConditionError.
    """
    touch = parse_condition(event)
    minutes: dict[Slot, Said] = {}
    window = event.fixing.window(event.expiry)
    lacking = []
    for second in window:
        said = said_of(Slot(second))
        if said is None:
            lacking.append(Slot(second))
        else:
            minutes[Slot(second)] = said
    if lacking:
        return Lacking(slots=tuple(lacking), of=f"the fixing {event.fixing}")
    fixed = fix(event.fixing, event.expiry, minutes)
    after = event.expiry
    while fixed is None:
        after = Slot(after + SECONDS_PER_MINUTE)
        if after > event.expiry + MINUTES_AFTER * SECONDS_PER_MINUTE or (said := said_of(after)) is None:
            return Lacking(slots=(after,), of=f"the fixing {event.fixing}, whose window has too few priced ones")
        minutes[after] = said
        fixed = fix(event.fixing, event.expiry, minutes)
    if touch is None:
        return Computed(outcome=event.outcome(fixed.price), fixed=fixed, touched=False)
    touched = watch(touch, touched_in)
    if isinstance(touched, Lacking):
        return touched
    return Computed(outcome=event.outcome(fixed.price, condition=touched), fixed=fixed, touched=touched)


def watch(touch: Touch, touched_in: Callable[[Slot, Touch], bool | None]) -> bool | Lacking:
    """Return whether any minute of a condition reached its level; which are lacking while one might still do so."""
    lacking = []
    for second in range(touch.since + SECONDS_PER_MINUTE, touch.until + 1, SECONDS_PER_MINUTE):
        found = touched_in(Slot(second), touch)
        if found is None:
            lacking.append(Slot(second))
        elif found:
            return True
    return Lacking(slots=tuple(lacking), of=f"the barrier of {touch.level} cents") if lacking else False
