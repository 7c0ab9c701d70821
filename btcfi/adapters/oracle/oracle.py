"""An oracle: collects what the nodes signed, computes each minute itself, announces, and attests what it computed.

It believes no aggregator: a submission counts by its node's signature, and what the submissions add up to is computed
here. What an aggregator can do is keep one back; then another one's counts, and where all do, the minute lacks it. So a
minute is closed by the word of all of them, and by that of some only once it is old. Nobody is waited for with the lock
held: who is asked, or who asks, may be slow.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from threading import Lock, RLock
from typing import Any, Final

import structlog

from btcfi.adapters.oracle.folder import OracleFolder
from btcfi.adapters.oracle.sources import MOST_MINUTES, MinuteState, Page, Served, Source
from btcfi.errors import BtcfiError, ConflictError, InvalidInputError, NotHeldError, RetryableError
from btcfi.oracle.announcement import NO_PROGRAM, Announcement, OracleEvent, announce
from btcfi.oracle.attestation import Attestation, attest
from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.fixing import Said
from btcfi.oracle.own_minutes import Computed, Lacking, OwnMinute, Span, Touch, compute, parse_condition
from btcfi.oracle.path import Ladder
from btcfi.oracle.path_evidence import PathEvidence, evidence_of
from btcfi.oracle.quote import Feed
from btcfi.oracle.round_book import Registry
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import SECONDS_PER_MINUTE, Slot, UnixSeconds

HORIZON_SECONDS: Final = 400 * 86_400
"""How far ahead of now an event may lie, and how long before its expiry a condition may begin."""

KEPT_MINUTES: Final = 512
"""In memory; older ones are read from the folder."""

KEPT_DAYS: Final = 500
"""Minutes are kept so long, more than the longest barrier watches; of older ones nothing is attested any more."""

KEPT_SAYINGS: Final = 600_000
"""What minutes said to windows and barriers, in memory, by all rules: a barrier of 400 days is 576,000 minutes."""

MOST_READ: Final = 2_000
"""Minutes that one question reads from the folder; the next question goes on from there."""

AWAY_SECONDS: Final = 900
"""After a minute's end, an aggregator that cannot be asked, or is behind, is waited for so long: another one may keep
something back. Then those decide that answer."""

OPEN_SECONDS: Final = 7_200
"""One that says that the round is open is believed for so long: it is opened and asked for again for an hour."""

MOST_WANTED: Final = 10_000
"""Lacking minutes that are remembered to be asked for; whoever asks again names them again."""

SLOW_SECONDS: Final = 2.0
"""An aggregator that does not answer, and takes longer to do so, is left alone for REST_SECONDS."""

REST_SECONDS: Final = 15.0

PAGES_AT_ONCE: Final = 4
"""Pages that one question fetches; the rest is fetched by and by, and the answer until then is what is lacking."""

AGAIN_SECONDS: Final = 1.0
"""Between two fetches of one minute for somebody's question, however many ask."""

ANNOUNCED: Final = 256
"""Announcements kept; any other is made again, the same."""

KEPT_EVIDENCE: Final = 4
"""Of paths, in memory: 142,000 minutes each at most."""

NEVER: Final = Slot(0)
"""Before which no minute lies: nothing is taken as stated."""

MOST_NAMED: Final = 100
"""Minutes left out that a line of the log names."""

log = structlog.get_logger("btcfi.oracle")


class TooEarlyError(RetryableError):
    """An event that is not attested yet, and may be later."""


class NotOverError(TooEarlyError):
    """The last minute of an event's window has not ended."""

    def __init__(self, event: OracleEvent, *, ends_in: int) -> None:
        super().__init__(f"not over: the minute {event.expiry} ends in {ends_in} s")
        self.ends_in = ends_in


class MinutesLackingError(TooEarlyError):
    """The oracle has not computed every minute that decides an event."""

    def __init__(self, lacking: Lacking, problems: Sequence[str]) -> None:
        super().__init__("; ".join([str(lacking), *problems]))
        self.lacking = lacking


class StillReadingError(TooEarlyError):
    """A barrier of many minutes is read by and by."""

    def __init__(self, at: Slot) -> None:
        super().__init__(f"the minutes of the barrier are read up to {at}; ask again")


class GatheringError(TooEarlyError):
    """Evidence is gathered for one question at a time: of a quarter of a year it takes seconds."""

    def __init__(self) -> None:
        super().__init__("the evidence of a path is gathered for somebody else; ask again")


class UnknownEventError(InvalidInputError):
    """An event that this oracle never announces: another feed, a preset or program that it does not know, too far."""


@dataclass(slots=True)
class Seen:
    """How an aggregator was reached last."""

    reached_at: UnixSeconds | None = None
    problem: str = ""
    rests_until: float = float("-inf")
    """By the monotonic clock: it was slow not to answer, and is asked no sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleSettings:
    """An oracle's own choices."""

    rule_of: Callable[[str], ConsensusRule]
    """The rule of the preset with this SHA-256 (hex). Raises NotHeldError."""
    programs: Collection[str]
    """Hashes (hex) of the guest programs that events may name."""
    trust_before: Slot = NEVER
    """Minutes before it are taken as the aggregator states them where nobody signed anything."""
    schedule: Callable[[UnixSeconds], Sequence[OracleEvent]] = lambda _: ()
    """Events that are announced ahead without being asked for."""


@dataclass(slots=True, kw_only=True)
class Oracle:
    """One oracle, on its folder, which its caller owns. Safe for threads: one question at a time."""

    folder: OracleFolder
    sources: Sequence[Source]
    settings: OracleSettings
    clock: Callable[[], UnixSeconds]
    monotonic: Callable[[], float]
    feed: Feed = field(init=False)
    registry: Registry = field(init=False)
    key: bytes = field(init=False)
    """x-only, 32 bytes."""
    seen: dict[str, Seen] = field(init=False)
    _lock: RLock = field(init=False, default_factory=RLock)
    _secret: bytes = field(init=False, repr=False)
    _minutes: OrderedDict[Slot, OwnMinute] = field(init=False, default_factory=OrderedDict)
    _sayings: dict[ConsensusRule, OrderedDict[Slot, tuple[Said, Span | None]]] = field(init=False, default_factory=dict)
    _asked: OrderedDict[Slot, float] = field(init=False, default_factory=OrderedDict)
    _wanted: set[Slot] = field(init=False, default_factory=set)
    _next: Slot | None = field(init=False, default=None)
    _announce: Callable[[OracleEvent], Announcement] = field(init=False)
    _evidence: OrderedDict[OracleEvent, PathEvidence] = field(init=False, default_factory=OrderedDict)
    _gathering: Lock = field(init=False, default_factory=Lock)

    def __post_init__(self) -> None:
        """Read key and registry. Raises what the folder deserves."""
        self._secret = self.folder.secret()
        self.feed, self.registry = self.folder.registry()
        self.key = public_key_xonly(self._secret)
        self.seen = {source.name: Seen() for source in self.sources}
        newest = self.folder.newest()
        self._next = None if newest is None else Slot(newest - (MOST_MINUTES - 1) * SECONDS_PER_MINUTE)
        self._announce = lru_cache(maxsize=ANNOUNCED)(lambda event: announce(self._secret, event))

    # ---- what it is asked

    def announcement(self, event: OracleEvent) -> Announcement:
        """Return the announcement of an event: a read, for everything in it is derived. Raises UnknownEventError."""
        self._check(event)
        return self._announce(event)

    def announcements(self) -> tuple[Announcement, ...]:
        """Return what is announced ahead by the schedule."""
        return tuple(self.announcement(event) for event in self.settings.schedule(self.clock()))

    def attestation(self, event: OracleEvent) -> Attestation:
        """Return the attestation of an event, by this oracle's own minutes; the same for ever once it was given.

        Raises NotOverError, MinutesLackingError (which minutes), EventHeldError, UnknownEventError.
        """
        rule = self._check(event)
        ledger = self.folder.ledger()
        outcome = ledger.known(oracle_key=self.key, event=event.id)
        if outcome is None:
            ledger.allow(event.id, event.expiry, self.key)
            computed = self._computed(event, rule)
            with self._lock:  # whoever asked at the same moment may have been faster, by an older view
                known = ledger.known(oracle_key=self.key, event=event.id)
                outcome = computed if known is None else known
                return attest(self._secret, self._announce(event), outcome, ledger)
        return attest(self._secret, self._announce(event), outcome, ledger)

    def evidence(self, event: OracleEvent) -> PathEvidence:
        """Return what a path's value is made of, every minute of it, once it is known; nothing is signed by it.

        It is what this oracle's minutes say now: where they say another outcome than was attested, because a word came
        late, that is refused by name. Raises as ``attestation``, InvalidInputError for an event without a path, and
        ConflictError.
        """
        rule = self._check(event)
        if event.path is None:
            raise InvalidInputError("event.path", "none", "the event of a path; a price's minutes are its fixing's")
        with self._lock:
            if (made := self._evidence.get(event)) is not None:
                return made
        if not self._gathering.acquire(blocking=False):
            raise GatheringError
        try:
            return self._gathered(event, rule)
        finally:
            self._gathering.release()

    def _gathered(self, event: OracleEvent, rule: ConsensusRule) -> PathEvidence:
        outcome = self._computed(event, rule)
        attested = self.folder.ledger().known(oracle_key=self.key, event=event.id)
        seen: dict[Slot, tuple[Said, Span | None]] = {}
        found = self._compute(event, rule, seen)
        if isinstance(found, Lacking) or found.outcome != outcome or attested not in {None, outcome}:
            raise ConflictError(f"event {event.id.hex()[:16]}: attested as {attested}, its minutes say {outcome} now")
        made = evidence_of(event, found, seen)
        if attested is not None:  # it says what was attested, so it never says less than a later one
            with self._lock:
                self._evidence[event] = made
                while len(self._evidence) > KEPT_EVIDENCE:
                    self._evidence.popitem(last=False)
        return made

    def _check(self, event: OracleEvent) -> ConsensusRule:
        if event.feed != self.feed:
            raise UnknownEventError("feed", event.feed[:40], self.feed)
        if event.expiry > self.clock() + HORIZON_SECONDS:
            raise UnknownEventError("expiry", str(event.expiry), f"within {HORIZON_SECONDS // 86_400} days")
        if event.expiry < self._oldest():
            raise UnknownEventError("expiry", str(event.expiry), f"at most {KEPT_DAYS} days ago")
        touch = parse_condition(event)
        if touch is not None and touch.since < event.expiry - HORIZON_SECONDS:
            raise UnknownEventError("condition", f"since {touch.since}", f"{HORIZON_SECONDS // 86_400} days at most")
        by_hand = event.path is not None and event.program_hash == NO_PROGRAM
        if not by_hand and event.program_hash.hex() not in self.settings.programs:
            raise UnknownEventError("program", event.program_hash.hex(), "a guest program of this release")
        try:
            return self.settings.rule_of(event.preset_hash.hex())
        except NotHeldError as e:
            raise UnknownEventError("preset", event.preset_hash.hex(), "a preset that this oracle holds") from e

    def _oldest(self) -> int:
        """Return how old an event may be: by the newest minute that is here, which in a replay is years ago."""
        return 0 if self._next is None else min(self._next, self.clock()) - KEPT_DAYS * 86_400

    def _computed(self, event: OracleEvent, rule: ConsensusRule) -> int:
        ends_in = event.expiry + SECONDS_PER_MINUTE - self.clock()
        if ends_in > 0:
            raise NotOverError(event, ends_in=ends_in)
        self._complete(_observed(event))
        found = self._compute(event, rule)
        for _ in range(PAGES_AT_ONCE):
            if not isinstance(found, Lacking) or not self._fetch(found.slots):
                break
            found = self._compute(event, rule)
        # a minute that one kept back would have touched nothing, or left its place in a path to a later one
        if isinstance(found, Computed) and self._fetch(self._void_minutes(event, found, rule)):
            found = self._compute(event, rule)
        if isinstance(found, Lacking):
            self._want(found.slots)
            problems = self._problems()
            log.warning("not_attested", event_id=event.id.hex(), reason=str(found), problems=problems)
            raise MinutesLackingError(found, problems)
        log.info(
            "attested", event_id=event.id.hex(), outcome=found.outcome, price_cents=found.fixed.price,
            minutes=len(found.fixed.used), left_out={str(at): why.value for at, why in found.left_out[:MOST_NAMED]},
            path=None if event.path is None else str(event.path), value_cents=found.value,
        )  # fmt: skip
        return found.outcome

    def _compute(
        self, event: OracleEvent, rule: ConsensusRule, seen: dict[Slot, tuple[Said, Span | None]] | None = None
    ) -> Computed | Lacking:
        """Compute an event; ``seen`` gets what every minute that decided it says."""
        read = 0

        def says(at: Slot) -> tuple[Said, Span | None] | None:
            nonlocal read
            known, was_read = self._says(at, rule)
            read += was_read
            if read > MOST_READ:
                raise StillReadingError(at)
            if seen is not None and known is not None:
                seen[at] = known
            return known

        def touched(at: Slot, touch: Touch) -> bool | None:
            known = says(at)
            return None if known is None else touch.reached_in(known[1])

        return compute(event, lambda at: None if (known := says(at)) is None else known[0], touched)

    def _complete(self, window: Iterable[int]) -> None:
        """Ask once more for the window's minutes that lack a node's word: another aggregator may have it."""
        with self._lock:
            some = [at for at in map(Slot, window) if (own := self._minute(at)) is None or not own.is_whole]
        self._fetch(some)

    def _want(self, slots: Sequence[Slot]) -> None:
        with self._lock:
            self._wanted.update(slots[: max(MOST_WANTED - len(self._wanted), 0)])

    def _problems(self) -> list[str]:
        return [f"{name}: {seen.problem}" for name, seen in self.seen.items() if seen.problem]

    def _void_minutes(self, event: OracleEvent, found: Computed, rule: ConsensusRule) -> list[Slot]:
        """Return the minutes without a price that might have decided otherwise, as far as one question asks for them.

        Those of a barrier or a ladder that was not reached to its end, and those that a path's observations leave out.
        """
        since = [at for at, _ in found.left_out] if event.path is not None else []
        watched = []
        touch = parse_condition(event)
        if touch is not None and not found.touched:
            watched.append(touch.since)
        if isinstance(event.path, Ladder) and found.reached < len(event.path.rungs):
            watched.append(event.path.since)
        if watched:
            with self._lock:
                void = [at for at, said in self._sayings.get(rule, {}).items() if said[1] is None]
            since += [at for at in void if min(watched) < at <= event.expiry]
        return sorted(set(since))[: MOST_MINUTES * PAGES_AT_ONCE]

    # ---- its minutes

    def minute(self, at: Slot) -> OwnMinute | None:
        """Return a minute as this oracle holds it."""
        with self._lock:
            return self._minute(at)

    def said(self, at: Slot, rule: ConsensusRule) -> Said:
        """Return what one minute that is over says by a rule: a price fit to settle on, or why it has none.

        Raises MinutesLackingError for one that is not there, or not closed.
        """
        self._complete([at])
        found = self._said(at, rule)
        if found is None:
            raise MinutesLackingError(Lacking(slots=(at,), of="its own event"), self._problems())
        return found

    def want(self, slots: Iterable[Slot]) -> None:
        """Have minutes that are not closed fetched by and by."""
        self._want([at for at in slots if (own := self.minute(at)) is None or not own.closed])

    def _minute(self, at: Slot) -> OwnMinute | None:
        known = self._minutes.get(at)
        if known is None:
            known = self.folder.load(at, self.registry)
            if known is not None:
                self._remember(known)
        return known

    def _remember(self, minute: OwnMinute) -> None:
        self._minutes[minute.slot] = minute
        while len(self._minutes) > KEPT_MINUTES:
            self._minutes.popitem(last=False)

    def _says(self, at: Slot, rule: ConsensusRule) -> tuple[tuple[Said, Span | None] | None, bool]:
        """Return what a closed minute says by a rule, None of another; and whether it had to be read."""
        with self._lock:
            kept = self._sayings.setdefault(rule, OrderedDict())
            if (known := kept.get(at)) is not None:
                return known, False
            own = self._minute(at)
            if own is None or not own.closed:
                return None, False
            found = kept[at] = own.says(rule, self.feed)
            if sum(map(len, self._sayings.values())) > KEPT_SAYINGS:
                max(self._sayings.values(), key=len).popitem(last=False)
            return found, True

    def _said(self, at: Slot, rule: ConsensusRule) -> Said | None:
        found = self._says(at, rule)[0]
        return None if found is None else found[0]

    # ---- collecting

    def follow(self) -> int:
        """Take what is new at the aggregators, and some of what was lacking; return how many minutes are new."""
        new = self._follow_newest()
        with self._lock:
            some = sorted(self._wanted)[:MOST_MINUTES]
            self._wanted.difference_update(some)
        if some:
            self._fetch(some)
        return new

    def _follow_newest(self) -> int:
        before = self._next
        if before is None:  # whoever says what the newest is says nothing else by it
            newest = self._newest(self._pages(None, 1))
            if newest is None:
                return 0
            self._next = before = self._first_of(newest)
        pages = self._pages(before, MOST_MINUTES)
        with self._lock:
            self._take(range(before, before + MOST_MINUTES * SECONDS_PER_MINUTE, SECONDS_PER_MINUTE), pages)
            reached = before
            while reached < before + MOST_MINUTES * SECONDS_PER_MINUTE:
                own = self._minute(reached)
                if own is None or not own.closed:
                    break
                reached = Slot(reached + SECONDS_PER_MINUTE)
            newest = self._newest(pages)
            # an hour that nobody can complete any more is not waited for: whoever needs it will ask
            self._next = reached if newest is None else max(reached, self._first_of(newest))
        return (reached - before) // SECONDS_PER_MINUTE

    def _newest(self, pages: Sequence[Page]) -> Slot | None:
        """Return the newest minute that an aggregator has, of those that can be: no claim leads beyond our clock."""
        said = [page.newest for page in pages if page.newest is not None]
        return max((at for at in said if at + SECONDS_PER_MINUTE <= self.clock()), default=None)

    @staticmethod
    def _first_of(newest: Slot) -> Slot:
        return Slot(max(newest - (MOST_MINUTES - 1) * SECONDS_PER_MINUTE, 0))

    def _fetch(self, slots: Iterable[Slot]) -> bool:
        """Ask every aggregator for minutes, none of them twice a second; return whether anything was asked."""
        due: list[Slot] = []
        with self._lock:
            now = self.monotonic()
            for at in slots:
                if (
                    now - self._asked.get(at, -AGAIN_SECONDS) >= AGAIN_SECONDS
                    and len(due) < MOST_MINUTES * PAGES_AT_ONCE
                ):
                    due.append(at)
                    self._asked[at] = now
                    self._asked.move_to_end(at)
            while len(self._asked) > MOST_WANTED:
                self._asked.popitem(last=False)
        due.sort()
        asked = bool(due)
        for _ in range(PAGES_AT_ONCE):
            if not due:
                break
            start, end = due[0], due[0] + MOST_MINUTES * SECONDS_PER_MINUTE
            some, due = [at for at in due if at < end], [at for at in due if at >= end]
            span = (some[-1] - start) // SECONDS_PER_MINUTE + 1
            pages = self._pages(start, span)
            with self._lock:
                self._take(some, pages)
        return asked

    def _pages(self, start: Slot | None, minutes: int) -> list[Page]:
        """Ask the aggregators side by side; the first one's page is named ``first`` where its owner trusts it."""
        if len(self.sources) == 1:
            answers = [self._page(self.sources[0], start, minutes)]
        else:
            with ThreadPoolExecutor(max_workers=max(len(self.sources), 1)) as pool:
                answers = list(pool.map(lambda source: self._page(source, start, minutes), self.sources))
        return [page for page in answers if page is not None]

    def _page(self, source: Source, start: Slot | None, minutes: int) -> Page | None:
        seen = self.seen[source.name]
        began = self.monotonic()
        if began < seen.rests_until:
            return None
        try:
            page = source.page(start, minutes)
        except BtcfiError as e:
            if not seen.problem:
                log.warning("aggregator_not_asked", aggregator=source.name, reason=str(e))
            seen.problem = str(e)[:200]
            ended = self.monotonic()
            if ended - began > SLOW_SECONDS:
                seen.rests_until = ended + REST_SECONDS
            return None
        if seen.problem:
            log.info("aggregator_asked_again", aggregator=source.name)
        seen.reached_at, seen.problem = self.clock(), ""
        return replace(page, first=source is self.sources[0])

    def _take(self, slots: Iterable[int], pages: Sequence[Page]) -> None:
        """Take what pages say of the minutes that were asked for, and have ended; the lock is held."""
        now = self.clock()
        for second in slots:
            at = Slot(second)
            served = [(page.minutes[at], page.first) for page in pages if at in page.minutes]
            if not served or at + SECONDS_PER_MINUTE > now:
                continue
            old = self._minute(at)
            new = self._merged(old or OwnMinute(slot=at, registry=self.registry), served, now)
            if new == old or not (new.closed or new.submissions):
                continue
            if (
                new.submissions or new.stated is not None
            ):  # of what nobody signed nothing is kept: it can be asked again
                self.folder.keep(new)
            self._remember(new)
            for kept in self._sayings.values():
                kept.pop(at, None)

    def _merged(self, own: OwnMinute, served: Sequence[tuple[Served, bool]], now: UnixSeconds) -> OwnMinute:
        for one, _ in served:
            own = own.with_more(one.submissions, self.feed, now)
        if own.stated is None and not own.submissions and own.slot < self.settings.trust_before:
            trusted = (one.stated for one, first in served if first and one.stated is not None)
            own = replace(own, stated=next((one for one in trusted if one.slot == own.slot), None))
        closed = (
            own.closed or own.is_whole or own.stated is not None or self._is_over(own, [one for one, _ in served], now)
        )
        return own if closed == own.closed else replace(own, closed=closed)

    def _is_over(self, own: OwnMinute, served: Sequence[Served], now: UnixSeconds) -> bool:
        """Return whether what aggregators say closes a minute: all of them while it is young, then those that answer.

        So who keeps a minute back does not make it void while another one is away or behind; and who says for ever that
        it is open holds nobody up.
        """
        said = {one.state for one in served}
        over = said & {MinuteState.CLOSED, MinuteState.NEVER_ASKED}
        # a closed minute of which nobody shows a signature is not one without a price: it is one that we lack
        shown = bool(own.submissions) or said <= {MinuteState.NEVER_ASKED, MinuteState.UNKNOWN}
        if not over or not shown:
            return False
        age = now - own.slot - SECONDS_PER_MINUTE
        if MinuteState.OPEN in said and age < OPEN_SECONDS:
            return False
        everybody = len(served) == len(self.sources) and MinuteState.UNKNOWN not in said
        return everybody or age >= AWAY_SECONDS

    # ---- for people

    def status(self) -> dict[str, Any]:
        """Return who this is and how it goes, as JSON."""
        newest = None if self._next is None else self._next - SECONDS_PER_MINUTE
        held = self.folder.held()
        return {
            "oracle_key": self.key.hex(),
            "feed": self.feed,
            "nodes": sorted(self.registry.nodes),
            "newest_slot": newest,
            "minutes_wanted": len(self._wanted),
            "trusts_before": self.settings.trust_before or None,
            "held_until": None if held is None else held.until,
            "aggregators": [
                {"url": name, "reached_at_unix": seen.reached_at, "problem": seen.problem or None}
                for name, seen in self.seen.items()
            ],
        }


def _observed(event: OracleEvent) -> list[Slot]:
    """Return the minutes that an event's fixing looks at, of a path's the newest that one question asks for."""
    if event.path is None:
        return [Slot(at) for at in event.fixing.window(event.expiry)]
    most = MOST_MINUTES * PAGES_AT_ONCE
    times = event.path.times(event.expiry)[-most:]
    return [Slot(at) for end in times for at in event.fixing.window(end)][-most:]
