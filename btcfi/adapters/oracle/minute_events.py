"""An oracle's minute events: each minute's price announced ahead, and signed once its own minute is final.

What a minute says is what the oracle computes itself (``Oracle.said``); the ledger has the first word on it, and that
stays, also when a minute is later known better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import structlog

from btcfi.adapters.minute_ledger import KEPT_MINUTES, FileMinuteLedger
from btcfi.adapters.oracle.oracle import ANNOUNCED, Oracle, TooEarlyError, UnknownEventError
from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.fixing import LeftOut, Said
from btcfi.oracle.minute_event import (
    MinuteAnnouncement,
    MinuteAttestation,
    MinuteBook,
    MinuteEvent,
    MinuteForgottenError,
    MinuteUnsignedError,
    announce_minute,
    attest_minute,
    attested_cents,
)
from btcfi.oracle.own_minutes import OwnMinute
from btcfi.units import SECONDS_PER_MINUTE, Hash32, Minutes, Slot, UnixSeconds, slot_of

WAITS_SECONDS: Final = 600
"""After its end a minute without a fit price is waited for: a venue's word that comes late may still give it one."""

log = structlog.get_logger("btcfi.oracle")


class MinuteNotOverError(TooEarlyError):
    """A minute that has not ended."""

    def __init__(self, slot: Slot, *, ends_in: int) -> None:
        super().__init__(f"not over: the minute {slot} ends in {ends_in} s")
        self.slot, self.ends_in = slot, ends_in


class NoPriceYetError(TooEarlyError):
    """A minute that has no price to settle on so far."""

    def __init__(self, slot: Slot, why: LeftOut, *, until: UnixSeconds) -> None:
        super().__init__(f"minute {slot} is {why.value} so far; until {until} a word that comes late may change that")
        self.slot, self.why, self.until = slot, why, until


@dataclass(slots=True, kw_only=True)
class MinuteEvents:
    """The minute events of one oracle by one preset. Safe for threads: the ledger decides who was first."""

    oracle: Oracle
    preset_hash: Hash32
    """By whose rule a price is agreed, and fit to settle on."""
    ahead: Minutes
    """How far ahead of now a minute is announced."""
    _secret: bytes = field(init=False, repr=False)
    _rule: ConsensusRule = field(init=False)
    _ledger: FileMinuteLedger = field(init=False)
    _announce: Callable[[MinuteEvent], MinuteAnnouncement] = field(init=False)
    _due: dict[Slot, OwnMinute | None] = field(init=False, default_factory=dict)
    """Minutes that are over and not decided, as they were when they were looked at last."""
    _next: Slot | None = field(init=False, default=None)
    _begins_after: Slot = field(init=False)
    """By what the folder bears witness of: the clock may be behind the one that signed with a ledger that was lost."""

    def __post_init__(self) -> None:
        """Begin the ledger: a minute that may have been signed by one that was lost is not signed again.

        Raises NotHeldError for an unknown preset, InvalidInputError for a damaged ledger.
        """
        self._secret = self.oracle.folder.secret()
        self._rule = self.oracle.settings.rule_of(self.preset_hash.hex())
        self._ledger = self.oracle.folder.minute_ledger()
        self._announce = lru_cache(maxsize=ANNOUNCED)(lambda event: announce_minute(self._secret, event))
        self._begins_after = slot_of(self.oracle.folder.was_already())
        self._book()

    def announcement(self, at: Slot) -> MinuteAnnouncement:
        """Return the announcement of a minute: a read, for everything in it is derived.

        Raises UnknownEventError for a minute too far ahead, MinuteForgottenError for one that is signed no more.
        """
        return self._announced(at, self._book())

    def attestation(self, at: Slot) -> MinuteAttestation:
        """Return the attestation of a minute, the same bytes as long as the ledger keeps it.

        Raises as ``announcement``, MinuteNotOverError, MinutesLackingError, NoPriceYetError, and MinuteUnsignedError
        for a minute that is void or thin and is never signed.
        """
        book = self._book()
        announced = self._announced(at, book)
        said = book.said.get(at)
        if said is None:  # whoever asks at the same moment may be faster, by an older view: the first word stands
            series = announced.event.series
            said = self._ledger.claim(oracle_key=self.oracle.key, series=series, slot=at, said=self._decided(at))
        if isinstance(said, LeftOut):
            raise MinuteUnsignedError(slot=at, why=said)
        return attest_minute(self._secret, announced, said, self._ledger)

    def attest_due(self) -> int:
        """Sign each minute that has become final; return how many. Asks aggregators little: ``follow`` has asked."""
        now = self.oracle.clock()
        self._note_due(slot_of(now))
        signed = 0
        for at, seen in list(self._due.items()):
            own = self.oracle.minute(at)
            if at <= now - KEPT_MINUTES * SECONDS_PER_MINUTE:
                del self._due[at]  # the ledger is about to forget it: whoever asks for it still can
            elif own is not None and own.closed and (own != seen or now >= _waited_for(at)):
                self._due[at] = own
                signed += self._attest(at)
        return signed

    def status(self) -> dict[str, Any]:
        """Return which minutes are signed, as JSON."""
        return {
            "preset_hash": self.preset_hash.hex(),
            "minutes_ahead": self.ahead,
            "signs_after": self._book().mark,
            "undecided": len(self._due),
        }

    def _attest(self, at: Slot) -> bool:
        try:
            self.attestation(at)
        except TooEarlyError:
            return False
        except (MinuteUnsignedError, MinuteForgottenError) as e:
            log.info("minute_not_signed", slot=at, reason=str(e))
            del self._due[at]
            return False
        del self._due[at]
        return True

    def _note_due(self, now: Slot) -> None:
        """Note what has ended since the last look; at the first one, what a process before this one left undecided."""
        if self._next is not None:
            self._due.update(dict.fromkeys(map(Slot, range(self._next, now, SECONDS_PER_MINUTE))))
        else:
            book = self._book()
            oldest = max(book.mark, now - KEPT_MINUTES * SECONDS_PER_MINUTE) + SECONDS_PER_MINUTE
            left = [at for at in map(Slot, range(oldest, now, SECONDS_PER_MINUTE)) if at not in book.said]
            self._due.update(dict.fromkeys(left))
            self.oracle.want(left)
        self._next = now

    def _announced(self, at: Slot, book: MinuteBook) -> MinuteAnnouncement:
        if at > slot_of(self.oracle.clock()) + self.ahead * SECONDS_PER_MINUTE:
            raise UnknownEventError("slot", str(at), f"at most {self.ahead} minutes ahead")
        if at <= book.mark:
            raise MinuteForgottenError(slot=at, mark=book.mark)
        return self._announce(self._event(at))

    def _decided(self, at: Slot) -> Said:
        now = self.oracle.clock()
        if (ends_in := at + SECONDS_PER_MINUTE - now) > 0:
            raise MinuteNotOverError(at, ends_in=ends_in)
        found = self.oracle.said(at, self._rule)
        if not isinstance(found, LeftOut):
            return attested_cents(found)
        if now < _waited_for(at):
            raise NoPriceYetError(at, found, until=_waited_for(at))
        return found

    def _book(self) -> MinuteBook:
        now = slot_of(self.oracle.clock())
        after = max(now, self._begins_after)
        return self._ledger.book(oracle_key=self.oracle.key, series=self._event(now).series, begins_after=after)

    def _event(self, at: Slot) -> MinuteEvent:
        return MinuteEvent(feed=self.oracle.feed, slot=at, preset_hash=self.preset_hash)


def _waited_for(at: Slot) -> UnixSeconds:
    return UnixSeconds(at + SECONDS_PER_MINUTE + WAITS_SECONDS)
