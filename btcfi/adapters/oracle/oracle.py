"""An oracle: collects what the nodes signed, computes each minute itself, announces, and attests what it computed.

It believes no aggregator: a submission counts by its node's signature, and what the submissions add up to is computed
here. What an aggregator can do is keep one back; then another one's counts, and where all do, the minute lacks it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from threading import RLock
from typing import Any, Final

import structlog

from btcfi.adapters.oracle.folder import OracleFolder
from btcfi.adapters.oracle.sources import MOST_MINUTES, MinuteState, Page, Served, Source
from btcfi.errors import BtcfiError, InvalidInputError, NotHeldError, RetryableError
from btcfi.oracle.announcement import Announcement, OracleEvent, announce
from btcfi.oracle.attestation import Attestation, attest
from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.fixing import Said
from btcfi.oracle.own_minutes import Computed, Lacking, OwnMinute, Span, Touch, compute, parse_condition
from btcfi.oracle.quote import Feed
from btcfi.oracle.round_book import Registry
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import SECONDS_PER_MINUTE, Slot, UnixSeconds

HORIZON_SECONDS: Final = 400 * 86_400
"""How far ahead of now an event may lie, and how long before its expiry a condition may begin."""

KEPT_MINUTES: Final = 512
"""In memory; older ones are read from the folder."""

KEPT_SAYINGS: Final = 200_000
"""What minutes said to windows and barriers, in memory: a barrier of a hundred days is 144,000 minutes."""

PAGES_AT_ONCE: Final = 4
"""Pages that one question fetches; the rest is fetched by and by, and the answer until then is what is lacking."""

AGAIN_SECONDS: Final = 1.0
"""Between two fetches of one minute for somebody's question, however many ask."""

ANNOUNCED: Final = 256
"""Announcements kept; any other is made again, the same."""

NEVER: Final = Slot(0)
"""Before which no minute lies: nothing is taken as stated."""

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


class UnknownEventError(InvalidInputError):
    """An event that this oracle never announces: another feed, a preset or program that it does not know, too far."""


@dataclass(slots=True)
class Seen:
    """How an aggregator was reached last."""

    reached_at: UnixSeconds | None = None
    problem: str = ""


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
    _sayings: OrderedDict[Slot, dict[ConsensusRule, tuple[Said, Span | None]]] = field(
        init=False, default_factory=OrderedDict
    )
    _asked: OrderedDict[Slot, float] = field(init=False, default_factory=OrderedDict)
    _wanted: set[Slot] = field(init=False, default_factory=set)
    _next: Slot | None = field(init=False, default=None)
    _announce: Callable[[OracleEvent], Announcement] = field(init=False)

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
        with self._lock:
            ledger = self.folder.ledger()
            outcome = ledger.known(oracle_key=self.key, event=event.id)
            if outcome is None:
                ledger.allow(event.id, event.expiry, self.key)
                outcome = self._computed(event, rule)
            return attest(self._secret, self._announce(event), outcome, ledger)

    def _check(self, event: OracleEvent) -> ConsensusRule:
        if event.feed != self.feed:
            raise UnknownEventError("feed", event.feed[:40], self.feed)
        if event.expiry > self.clock() + HORIZON_SECONDS:
            raise UnknownEventError("expiry", str(event.expiry), f"within {HORIZON_SECONDS // 86_400} days")
        touch = parse_condition(event)
        if touch is not None and touch.since < event.expiry - HORIZON_SECONDS:
            raise UnknownEventError("condition", f"since {touch.since}", f"{HORIZON_SECONDS // 86_400} days at most")
        if event.program_hash.hex() not in self.settings.programs:
            raise UnknownEventError("program", event.program_hash.hex(), "a guest program of this release")
        try:
            return self.settings.rule_of(event.preset_hash.hex())
        except NotHeldError as e:
            raise UnknownEventError("preset", event.preset_hash.hex(), "a preset that this oracle holds") from e

    def _computed(self, event: OracleEvent, rule: ConsensusRule) -> int:
        ends_in = event.expiry + SECONDS_PER_MINUTE - self.clock()
        if ends_in > 0:
            raise NotOverError(event, ends_in=ends_in)
        self._complete(event)
        found = self._compute(event, rule)
        for _ in range(PAGES_AT_ONCE):
            if not isinstance(found, Lacking) or not self._fetch(found.slots):
                break
            found = self._compute(event, rule)
        if isinstance(found, Lacking):
            self._wanted.update(found.slots)
            problems = [f"{name}: {seen.problem}" for name, seen in self.seen.items() if seen.problem]
            log.warning("not_attested", event_id=event.id.hex(), reason=str(found), problems=problems)
            raise MinutesLackingError(found, problems)
        log.info(
            "attested", event_id=event.id.hex(), outcome=found.outcome, price_cents=found.fixed.price,
            minutes=len(found.fixed.used), left_out={str(at): why.value for at, why in found.fixed.left_out},
        )  # fmt: skip
        return found.outcome

    def _compute(self, event: OracleEvent, rule: ConsensusRule) -> Computed | Lacking:
        return compute(event, lambda at: self._said(at, rule), lambda at, touch: self._touched(at, touch, rule))

    def _complete(self, event: OracleEvent) -> None:
        """Ask once more for the window's minutes that lack a node's word: another aggregator may have it."""
        window = [Slot(at) for at in event.fixing.window(event.expiry)]
        self._fetch([at for at in window if (own := self._minute(at)) is None or not own.is_whole])

    # ---- its minutes

    def minute(self, at: Slot) -> OwnMinute | None:
        """Return a minute as this oracle holds it."""
        with self._lock:
            return self._minute(at)

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

    def _says(self, at: Slot, rule: ConsensusRule) -> tuple[Said, Span | None] | None:
        if (known := self._sayings.get(at, {}).get(rule)) is not None:
            return known
        own = self._minute(at)
        if own is None or not own.closed:
            return None
        found = self._sayings.setdefault(at, {})[rule] = own.says(rule)
        while len(self._sayings) > KEPT_SAYINGS:
            self._sayings.popitem(last=False)
        return found

    def _said(self, at: Slot, rule: ConsensusRule) -> Said | None:
        found = self._says(at, rule)
        return None if found is None else found[0]

    def _touched(self, at: Slot, touch: Touch, rule: ConsensusRule) -> bool | None:
        found = self._says(at, rule)
        return None if found is None else touch.reached_in(found[1])

    # ---- collecting

    def follow(self) -> int:
        """Take what is new at the aggregators, and some of what was lacking; return how many minutes are new."""
        with self._lock:
            new = self._follow_newest()
            if self._wanted:
                some = sorted(self._wanted)[:MOST_MINUTES]
                self._wanted.difference_update(some)
                self._fetch(some)
            return new

    def _follow_newest(self) -> int:
        pages = self._pages(self._next, MOST_MINUTES)
        slots = sorted({at for page in pages for at in page.minutes})
        newest = max((page.newest for page in pages if page.newest is not None), default=None)
        before = self._next
        self._take(slots, pages)
        for at in slots:
            own = self._minute(at)
            if own is None or not own.closed:
                break
            self._next = Slot(at + SECONDS_PER_MINUTE)
        if newest is not None and self._next is not None:
            # an hour that nobody can complete any more is not waited for: whoever needs it will ask
            self._next = max(self._next, Slot(newest - (MOST_MINUTES - 1) * SECONDS_PER_MINUTE))
        return 0 if before is None or self._next is None else (self._next - before) // SECONDS_PER_MINUTE

    def _fetch(self, slots: Iterable[Slot]) -> bool:
        """Ask every aggregator for minutes, none of them twice a second; return whether anything was asked."""
        now = self.monotonic()
        due: list[Slot] = []
        for at in slots:
            if now - self._asked.get(at, -AGAIN_SECONDS) >= AGAIN_SECONDS and len(due) < MOST_MINUTES * PAGES_AT_ONCE:
                due.append(at)
                self._asked[at] = now
                self._asked.move_to_end(at)
        while len(self._asked) > KEPT_SAYINGS:
            self._asked.popitem(last=False)
        asked = bool(due)
        while due:
            start, end = due[0], due[0] + MOST_MINUTES * SECONDS_PER_MINUTE
            some, due = [at for at in due if at < end], [at for at in due if at >= end]
            span = (some[-1] - start) // SECONDS_PER_MINUTE + 1
            self._take(some, self._pages(start, span))
        return asked

    def _pages(self, start: Slot | None, minutes: int) -> list[Page]:
        pages = []
        for source in self.sources:
            seen = self.seen[source.name]
            try:
                pages.append(source.page(start, minutes))
                if seen.problem:
                    log.info("aggregator_asked_again", aggregator=source.name)
                seen.reached_at, seen.problem = self.clock(), ""
            except BtcfiError as e:
                if not seen.problem:
                    log.warning("aggregator_not_asked", aggregator=source.name, reason=str(e))
                seen.problem = str(e)[:200]
        return pages

    def _take(self, slots: Iterable[Slot], pages: Sequence[Page]) -> None:
        for at in slots:
            served = [page.minutes[at] for page in pages if at in page.minutes]
            old = self._minute(at)
            new = self._merged(old or OwnMinute(slot=at, registry=self.registry), served)
            if new != old and (new.closed or new.submissions):
                self.folder.keep(new)
                self._remember(new)
                self._sayings.pop(at, None)

    def _merged(self, own: OwnMinute, served: Sequence[Served]) -> OwnMinute:
        for one in served:
            own = own.with_more(one.submissions, self.feed)
        said = {one.state for one in served}
        if own.stated is None and not own.submissions and own.slot < self.settings.trust_before:
            own = replace(own, stated=next((one.stated for one in served if one.stated is not None), None))
        over = bool(said & {MinuteState.CLOSED, MinuteState.NEVER_ASKED}) and MinuteState.OPEN not in said
        # a closed minute of which nobody shows a signature is not one without a price: it is one that we lack
        shown = bool(own.submissions) or said <= {MinuteState.NEVER_ASKED, MinuteState.UNKNOWN}
        closed = own.closed or own.is_whole or own.stated is not None or (over and shown)
        return own if closed == own.closed else replace(own, closed=closed)

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
