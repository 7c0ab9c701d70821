"""An oracle node: each minute, fetch one venue's closed candle, sign it, submit it, check and sign the report.

The fetch is the very code of the Celery tasks (``ccxt_venue.py``). The node keeps its last submissions in a ring
buffer, so that an aggregator that was away for a moment still gets the minute while its round is open.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Event
from time import monotonic
from typing import Final, Protocol

import structlog

from btcfi.adapters.venues.recorder import Fetches
from btcfi.adapters.venues.rest import Backoff
from btcfi.errors import BtcfiError, InvalidInputError, RetryableError
from btcfi.oracle.commitment import NONCE_BYTES, PriceCommitment, commitment_of, sign_commitment
from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.quote import BTC_USD, Feed, VenueId
from btcfi.oracle.recompute import ForgedRoundError, ReportDiffersError, RoundTerms, SignedRound, recompute_signed
from btcfi.oracle.report import RoundReport, sign_report
from btcfi.oracle.submission import SignedSubmission, Submission, sign_submission
from btcfi.oracle.time_sync import Milliseconds, TimeSample, TimeSyncProof, best_estimate
from btcfi.units import SECONDS_PER_MINUTE, Slot, UnixSeconds, slot_of

RING: Final = 16
"""Submissions kept for sending again: more minutes than any round stays open."""

log = structlog.get_logger()


class IntervalError(InvalidInputError):
    """A collection interval that one-minute candles cannot have."""

    def __init__(self, seconds: int) -> None:
        super().__init__("interval", f"{seconds} s", "a multiple of 60: only closed one-minute candles count")


class ReportRefusedError(BtcfiError):
    """The aggregator's report is not what its submissions give; this node does not sign it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedReport:
    """A round's report as the aggregator sends it."""

    report: RoundReport
    signed: SignedRound
    """What it says that the report rests on."""
    final: bool


class Aggregator(Protocol):
    """What a node needs of the aggregator (``surfaces/grpc/client.py``)."""

    def submit(self, signed: SignedSubmission, *, nonce: bytes = b"") -> None:
        """Submit. Raises RetryableError when it may work later, BtcfiError when it is refused."""

    def commit(self, made: PriceCommitment) -> None:
        """Send a commitment. Raises as ``submit``."""

    def report(self, slot: Slot) -> ReceivedReport | None:
        """Return a round's report, None while there is none."""

    def sign(self, node_id: str, slot: Slot, signature: bytes) -> None:
        """Send a signature of a report."""

    def measure(self, clock: Callable[[], float]) -> TimeSample | None:
        """Return one time sample against the aggregator's clock, None when it does not answer."""


class Said(StrEnum):
    """What became of a minute, for the log and the counters."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """A node's own numbers."""

    node_id: str
    venue: VenueId
    feed: Feed = BTC_USD
    interval_seconds: int = SECONDS_PER_MINUTE
    grace_seconds: float = 2.0
    """After the minute's end, so that the exchange has closed its candle."""
    commit_reveal: bool = False
    commit_seconds: int = 10
    send_response: bool = True
    """Whether the raw response goes along, for the aggregator to read again and keep."""
    retry: Backoff = field(default_factory=lambda: Backoff(attempts=4, first_seconds=0.25, most_seconds=2.0))

    def __post_init__(self) -> None:
        if self.interval_seconds < SECONDS_PER_MINUTE or self.interval_seconds % SECONDS_PER_MINUTE:
            raise IntervalError(self.interval_seconds)
        if not 0 <= self.grace_seconds < SECONDS_PER_MINUTE:
            raise InvalidInputError("grace_seconds", str(self.grace_seconds), "0 to 59: within the minute that follows")


@dataclass(frozen=True, slots=True)
class SpeedClock:
    """A replay's clock: starts at ``start`` when the wall clock is ``epoch`` and runs ``speed`` times as fast."""

    start: float
    epoch: float
    speed: float
    wall: Callable[[], float]

    def __call__(self) -> float:
        """Return unix seconds in the replay."""
        return self.start + (self.wall() - self.epoch) * self.speed


class OracleNode:
    """One node. ``clock`` and ``wait`` run at the same speed: the wall's, or a replay's."""

    def __init__(
        self,
        settings: NodeSettings,
        *,
        secret: bytes,
        client: Fetches,
        aggregator: Aggregator,
        clock: Callable[[], float],
        wait: Callable[[float], None],
        entropy: Callable[[int], bytes],
        measure_time: Callable[[], list[TimeSample]] = list,
        rule: ConsensusRule | None = None,
        keys: dict[str, tuple[VenueId, bytes]] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``rule`` and ``keys`` (node id to venue, public key): what a report is checked against; None signs none."""
        self.settings, self._secret = settings, secret
        self._client, self._aggregator = client, aggregator
        self._clock, self._wait, self._entropy, self._jitter = clock, wait, entropy, jitter
        self._measure_time, self._rule, self._keys = measure_time, rule, keys
        self._ring: deque[SignedSubmission] = deque(maxlen=RING)
        self._to_sign: deque[Slot] = deque(maxlen=RING)
        self._proof: TimeSyncProof | None = None

    def run(self, stop: Event, *, minutes: int | None = None) -> int:
        """Work until ``stop`` is set (or ``minutes`` are done); return how many minutes were accepted."""
        accepted = done = 0
        due = self._next_due(self._clock())
        while not stop.is_set() and (minutes is None or done < minutes):
            while (now := self._clock()) < due and not stop.is_set():
                self._wait(min(due - now, 1.0))
            if stop.is_set():
                break
            at = Slot(slot_of(UnixSeconds(int(due))) - SECONDS_PER_MINUTE)
            accepted += self.collect(at) is Said.ACCEPTED
            done += 1
            self.sign_reports()
            # a minute that was missed (a suspended machine) is gone: its candle is closed for everybody else, too
            due = max(due + self.settings.interval_seconds, self._next_due(self._clock()))
        return accepted

    def collect(self, at: Slot) -> Said:
        """Fetch, sign and submit one minute."""
        observation, raw = self._client.fetch(at, UnixSeconds(int(self._clock())))
        self.refresh_time_proof()
        submission = Submission(
            feed=self.settings.feed,
            node_id=self.settings.node_id,
            observation=observation,
            sent_at_ms=self._now_ms(),
            time_proof=self._proof,
        )
        sent = raw if self.settings.send_response else b""
        signed = sign_submission(submission, self._secret, aux=self._entropy(32), raw_response=sent)
        self._ring.append(signed)
        nonce = self._commit(signed) if self.settings.commit_reveal else b""
        said = self._submit(signed, nonce)
        if said is Said.ACCEPTED:
            self._to_sign.append(at)
        log.info("minute", node=self.settings.node_id, slot=at, said=said.value, kind=type(observation).__name__)
        return said

    def refresh_time_proof(self) -> None:
        """Measure our clock against the time servers and the aggregator; keep the last proof if nobody answers."""
        samples = self._measure_time()
        servers = len(samples)
        if not samples:
            own = self._aggregator.measure(self._clock)
            samples = [own] if own is not None else []
        if samples:
            self._proof = best_estimate(samples, servers=servers)

    def sign_reports(self) -> int:
        """Check the final reports of our minutes and sign those that we can compute ourselves; return how many."""
        if self._rule is None or self._keys is None:
            return 0
        signed = 0
        for _ in range(len(self._to_sign)):
            at = self._to_sign.popleft()
            try:
                received = self._aggregator.report(at)
                if received is None or not received.final:
                    self._to_sign.append(at)
                    continue
                self.check_report(received, at)
                signature = sign_report(received.report, self._secret, aux=self._entropy(32))
                self._aggregator.sign(self.settings.node_id, at, signature)
                signed += 1
            except RetryableError:
                self._to_sign.append(at)
            except BtcfiError as e:
                log.error("report_not_signed", node=self.settings.node_id, slot=at, problem=str(e))  # noqa: TRY400 - one line says it
        return signed

    def check_report(self, received: ReceivedReport, at: Slot) -> None:
        """Raise ReportRefusedError unless the report of ``at`` is, field by field, what its signed messages give.

        Ours must be among them, and everything is computed by our rule from the nodes that we know.
        """
        if self._rule is None or self._keys is None:
            raise ReportRefusedError("this node has no rule to check reports by")
        ours = {s.signature for s in self._ring if s.submission.slot == at}
        if not any(signed.signature in ours for signed in received.signed.submissions):
            raise ReportRefusedError("our own submission is missing from the report")
        venues = {venue for venue, _ in self._keys.values()}
        terms = RoundTerms(
            feed=self.settings.feed,
            rule=self._rule,
            registered=frozenset(v for v in venues if not v.is_leg),
            legs=frozenset(v for v in venues if v.is_leg),
        )
        if received.signed.slot != at:
            raise ReportRefusedError(f"it is of slot {received.signed.slot}")
        try:
            recompute_signed(terms, received.signed, self._keys, told=received.report)
        except (ForgedRoundError, ReportDiffersError) as e:
            raise ReportRefusedError(str(e)) from e

    def _commit(self, signed: SignedSubmission) -> bytes:
        nonce = self._entropy(NONCE_BYTES)
        said = signed.submission
        commitment = commitment_of(said.node_id, said.observation, nonce)
        made = sign_commitment(said.node_id, said.slot, commitment, self._secret, aux=self._entropy(32))
        self._retrying(lambda: self._aggregator.commit(made))
        reveal_at = said.slot + SECONDS_PER_MINUTE + self.settings.commit_seconds
        while (now := self._clock()) < reveal_at:
            self._wait(min(reveal_at - now, 1.0))
        return nonce

    def _submit(self, signed: SignedSubmission, nonce: bytes) -> Said:
        return self._retrying(lambda: self._aggregator.submit(signed, nonce=nonce))

    def _retrying(self, send: Callable[[], None]) -> Said:
        retry = self.settings.retry
        for attempt in range(retry.attempts):
            try:
                send()
            except RetryableError as e:
                problem = str(e)
                self._wait(retry.wait(attempt, self._jitter()))
            except BtcfiError as e:
                log.error("refused", node=self.settings.node_id, problem=str(e))  # noqa: TRY400 - one line says it
                return Said.REFUSED
            else:
                return Said.ACCEPTED
        log.error("aggregator_unreachable", node=self.settings.node_id, problem=problem)
        return Said.UNREACHABLE

    def _next_due(self, now: float) -> float:
        interval = self.settings.interval_seconds
        return (now // interval + 1) * interval + self.settings.grace_seconds

    def _now_ms(self) -> Milliseconds:
        return Milliseconds(int(self._clock() * 1000))


def interruptible(stop: Event, *, speed: float = 1.0) -> Callable[[float], None]:
    """Return a sleep, in seconds of a clock that runs at ``speed``, which ends when ``stop`` is set."""

    def wait(seconds: float) -> None:
        until = monotonic() + seconds / speed
        stop.wait(max(0.0, until - monotonic()))

    return wait
