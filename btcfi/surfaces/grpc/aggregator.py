"""The aggregator: both published oracle services over one ``RoundBook``, on grpcio's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from btcfi.adapters.chain.node import PortInUseError
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.oracle.consensus import AgreedPrice
from btcfi.oracle.report import RoundReport, certified, report_hash
from btcfi.oracle.round_book import ROUNDS_KEPT, RoundBook
from btcfi.oracle.submission import (
    BadSignatureError,
    EquivocationError,
    OversizedSubmissionError,
    SubmissionError,
    UnknownNodeError,
    submission_hash,
)
from btcfi.secp256k1 import schnorr_verify
from btcfi.surfaces.addresses import who_calls
from btcfi.surfaces.grpc.keys import AUTHORIZATION, Keys, KeysNeeded
from btcfi.surfaces.grpc.messages import (
    MAX_MESSAGE_BYTES,
    read_commitment,
    read_submission,
    write_node,
    write_price,
    write_report,
    write_update,
)
from btcfi.surfaces.grpc.store import AggregatorStore
from btcfi.surfaces.protos import oracle_pb2 as pb
from btcfi.surfaces.protos import oracle_pb2_grpc
from btcfi.surfaces.rest.deps import READ
from btcfi.surfaces.rest.errors import RequestRefusedError
from btcfi.surfaces.rest.turns import Places, Turns
from btcfi.surfaces.status import status_of
from btcfi.units import SECONDS_PER_MINUTE, Slot, UnixSeconds, slot, slot_of

MAX_TRANSPORT_BYTES: Final = 16 * MAX_MESSAGE_BYTES
"""Above this gRPC itself refuses (RESOURCE_EXHAUSTED) without reading on; from the other limit on we do, and count."""

MAX_HISTORY_MINUTES: Final = 1440
"""Minutes of one history query: a day. Each round is decoded and its signatures checked again."""

HISTORY_PART: Final = 60 * SECONDS_PER_MINUTE
"""Seconds of it that are read and checked in one go: others are served in between, and who hangs up is heard."""

HISTORIES: Final = 2
HISTORY_WAIT_SECONDS: Final = 20.0
"""Histories under way, one of a caller; so long the others wait."""

REPORTS_KEPT: Final = ROUNDS_KEPT
"""Final reports in memory, for signatures and latecomers; as long as their submissions are."""

MINUTES_RESUMED: Final = 10
"""Minutes that a restart takes up again, or as many as rounds stay open."""

SUBSCRIBER_BACKLOG: Final = 64
"""Updates that wait for a slow subscriber; the oldest go first, a price stream is about now."""

SUBSCRIBERS: Final = 256
SUBSCRIBERS_OF_ONE: Final = 64
"""Open price streams of one server, and of one address."""

SUBSCRIPTION_SECONDS: Final = 86_400.0
"""A price stream is ended then, with OUT_OF_RANGE; its reader subscribes again."""

KEY_CHECK_SECONDS: Final = 5.0
"""A stream of a key that has ended lives this long."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files of the server: its key and certificate, and a CA that clients must have where they need one."""

    key: Path
    certificate: Path
    client_ca: Path | None = None


class Aggregator(oracle_pb2_grpc.OracleAggregatorServicer, oracle_pb2_grpc.OracleServiceServicer):
    """Both services. ``clock`` gives unix seconds as a float: the wall clock, or a replay's."""

    def __init__(
        self, book: RoundBook, *, store: AggregatorStore | None = None, clock: Callable[[], float] = time.time,
        keys: Keys | None = None,
    ) -> None:  # fmt: skip
        """keys: who may read; None: everybody, as where callers without a key may."""
        self.keys = keys or Keys(None, clock=clock)
        self._places = Places(each=SUBSCRIBERS_OF_ONE, most=SUBSCRIBERS)
        self._histories = Turns(each=1, most=HISTORIES)
        self._checking = ThreadPoolExecutor(1, thread_name_prefix="aggregator-checking")
        self._book, self._store, self._clock = book, store, clock
        self._final: dict[Slot, RoundReport] = {}
        self._signatures: dict[Slot, dict[str, bytes]] = {}
        self._told_early: deque[Slot] = deque(maxlen=REPORTS_KEPT)
        self._subscribers: set[asyncio.Queue[pb.PriceUpdate]] = set()
        self._nodes_needed = book.rule.quorum(len(book.registry.nodes))

    def _now(self) -> UnixSeconds:
        return UnixSeconds(int(self._clock()))

    # --- OracleAggregator

    async def SubmitPrice(self, request: Any, context: Any) -> Any:  # noqa: ANN401, N802 - the published name; two services share it
        """Take a submission; acknowledged once it is stored. Serves both services, which published one name."""
        if isinstance(request, pb.PriceRequest):
            await self._submitted(request.submission, context)
            return pb.PriceResponse(success=True, message="accepted", timestamp=self._now())
        return await self._submitted(request, context)

    async def _submitted(self, message: pb.PriceSubmission, context: Any) -> pb.Acknowledgment:  # noqa: ANN401
        try:
            if message.ByteSize() > MAX_MESSAGE_BYTES:
                raise OversizedSubmissionError(size=message.ByteSize(), most=MAX_MESSAGE_BYTES)
            signed = read_submission(message)
        except InvalidInputError as e:
            self._book.refuse_unread(e)
            await _abort(context, e)
        now = self._now()
        try:
            self._book.accept(signed, now, nonce=message.commitment_nonce)
        except BtcfiError as e:
            await self._refused(e, context)
        try:
            if self._store is not None:
                await self._store.keep(signed, now)
        except BtcfiError as e:
            self._book.forget(signed.submission.node_id, signed.submission.slot)
            await self._refused(e, context)
        slot_ = signed.submission.slot
        if self._subscribers and self._book.everybody_spoke(slot_) and slot_ not in self._told_early:
            self._told_early.append(slot_)
            self._tell(write_update(self._book.outcome(slot_), final=False))
        return pb.Acknowledgment(accepted=True, slot=slot_, submission_hash=submission_hash(signed.submission))

    async def _refused(self, error: BtcfiError, context: Any) -> NoReturn:  # noqa: ANN401
        if isinstance(error, EquivocationError) and self._store is not None:
            both = self._book.equivocations(error.slot).get(error.node_id)
            if both is not None:
                try:
                    await self._store.keep_equivocation(*both, self._now())
                except BtcfiError as e:  # kept in memory, and stored with its round
                    log.error("contradiction_not_stored", node=error.node_id, problem=str(e))  # noqa: TRY400 - one line says it
        log.warning("submission_refused", kind=getattr(error, "kind", type(error).__name__), problem=str(error))
        await _abort(context, error)

    async def CommitPrice(self, request: pb.CommitRequest, context: Any) -> pb.Acknowledgment:  # noqa: ANN401, N802
        """Take a commitment, where the preset asks for one before the price."""
        try:
            made = read_commitment(request)
        except InvalidInputError as e:
            self._book.refuse_unread(e)
            await _abort(context, e)
        now = self._now()
        try:
            self._book.commit(made, now)
        except SubmissionError as e:
            await self._refused(e, context)
        try:
            if self._store is not None:
                await self._store.keep_commitment(made, now)
        except BtcfiError as e:
            self._book.forget_commitment(made.node_id, made.slot)
            await self._refused(e, context)
        return pb.Acknowledgment(accepted=True, slot=made.slot)

    async def GetConsensusPrice(self, _request: pb.Empty, context: Any) -> pb.ConsensusPrice:  # noqa: ANN401, N802
        """Return the newest final price. NOT_FOUND before the first."""
        return pb.ConsensusPrice(price=await self._newest(context))

    async def SubscribePrices(self, _request: pb.Empty, context: Any) -> AsyncIterator[pb.PriceUpdate]:  # noqa: ANN401, N802
        """Stream every round from now on: complete (not final), then final, priced or void."""
        address = who_calls(str(context.peer()))
        shown = dict(context.invocation_metadata()).get(AUTHORIZATION)
        # a key that is shown has been asked about before: see KeysNeeded
        refusal = self._places.refusal(address, stranger=shown is None)
        if refusal is not None:
            await _abort(context, refusal)
        queue: asyncio.Queue[pb.PriceUpdate] = asyncio.Queue(SUBSCRIBER_BACKLOG)
        self._subscribers.add(queue)
        loop = asyncio.get_running_loop()
        checked = begun = loop.time()
        try:
            with self._places.place(address):
                while loop.time() < begun + SUBSCRIPTION_SECONDS:
                    if loop.time() >= checked + KEY_CHECK_SECONDS:
                        await self._still_admitted(shown, context)
                        checked = loop.time()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(KEY_CHECK_SECONDS):
                            update = await queue.get()
                        yield update
        finally:
            self._subscribers.discard(queue)
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, "the stream has had its day; subscribe again")

    async def _still_admitted(self, shown: str | bytes | None, context: Any) -> None:  # noqa: ANN401
        try:
            await self.keys.admitted(shown, READ)
        except RequestRefusedError as e:
            await _abort(context, e)

    async def GetPriceHistory(self, request: pb.TimeRange, context: Any) -> pb.PriceHistory:  # noqa: ANN401, N802
        """Return the final prices of a range of a day or less, and by name the minutes without one."""
        try:
            first = slot(-(-request.start // SECONDS_PER_MINUTE) * SECONDS_PER_MINUTE)
            minutes = (request.end - first + SECONDS_PER_MINUTE - 1) // SECONDS_PER_MINUTE
            if not 0 <= minutes <= MAX_HISTORY_MINUTES:
                raise InvalidInputError("time range", f"{minutes} minutes", f"at most {MAX_HISTORY_MINUTES}")  # noqa: TRY301
        except InvalidInputError as e:
            await _abort(context, e)
        history, loop = pb.PriceHistory(), asyncio.get_running_loop()
        try:
            async with self._histories.of(who_calls(str(context.peer())), seconds=HISTORY_WAIT_SECONDS):
                for begin in range(first, request.end, HISTORY_PART):
                    reports = await self._reports(begin, min(begin + HISTORY_PART, request.end))
                    history.prices.extend(await loop.run_in_executor(self._checking, self._priced, reports))
        except BtcfiError as e:
            await _abort(context, e)
        known = {p.timestamp for p in history.prices}
        history.gaps.extend(s for s in range(first, first + minutes * 60, SECONDS_PER_MINUTE) if s not in known)
        return history

    async def GetRoundReport(self, request: pb.ReportRequest, context: Any) -> pb.RoundReport:  # noqa: ANN401, N802
        """Return a round's report with the signed submissions behind it, for whoever wants to check or sign it."""
        try:
            at = slot(request.slot)
        except InvalidInputError as e:
            await _abort(context, e)
        if at in self._final or at in self._book.unfinished():
            final = at in self._final
            report = self._final[at] if final else self._book.report(at)
            late = self._book.late_contradictions(at)
            signatures = self._signatures.get(at, {})
            return write_report(report, self._book.messages(at), signatures, final=final, late=late)
        return await _abort(context, NotFoundError("round", str(at), "recent minutes only; see GetPriceHistory"))

    async def SignReport(self, request: pb.ReportSignature, context: Any) -> pb.Acknowledgment:  # noqa: ANN401, N802
        """Take a node's signature of a final report."""
        node = self._book.registry.nodes.get(request.node_id)
        try:
            report = self._final.get(slot(request.slot))
            if report is None:
                raise NotFoundError("final report", str(request.slot))
            if node is None:
                raise UnknownNodeError(request.node_id)
            if not schnorr_verify(node.public_key, report_hash(report), request.signature):
                raise BadSignatureError(node.node_id)
        except BtcfiError as e:
            self._book.refusals[getattr(e, "kind", "report_signature")] += 1
            await _abort(context, e)
        held = self._signatures[report.slot]
        held[node.node_id] = request.signature
        if self._store is not None:
            await self._store.keep_signatures(report.slot, held)
        return pb.Acknowledgment(accepted=True, slot=report.slot)

    # --- OracleService

    async def HealthCheck(self, _request: pb.HealthRequest, _context: Any) -> pb.HealthResponse:  # noqa: ANN401, N802
        """Return who is active, what was refused, and our clock (two timestamps, as NTP has them)."""
        received = int(self._clock() * 1000)
        nodes = self._book.health(self._now())
        venues = {h.node.venue for h in nodes if h.active and not h.node.venue.is_leg}
        return pb.HealthResponse(
            healthy=len(venues) >= self._book.rule.quorum(len(self._book.registry.venues)),
            active_nodes=sum(h.active for h in nodes),
            timestamp=self._now(),
            version=version("btcfi-oracle-vm"),
            nodes=[write_node(h) for h in nodes],
            received_at_ms=received,
            sent_at_ms=int(self._clock() * 1000),
            refused_by_kind=dict(self._book.refusals),
        )

    async def GetAggregatedPrice(self, request: pb.GetPriceRequest, context: Any) -> pb.GetPriceResponse:  # noqa: ANN401, N802
        """Return the price of a minute, or the newest for 0. NOT_FOUND names a minute without one."""
        if request.slot == 0:
            return pb.GetPriceResponse(price=await self._newest(context))
        try:
            at = slot(request.slot)
        except InvalidInputError as e:
            await _abort(context, e)
        for report, signatures in await self._reports(at, at + 1):
            if isinstance(report.outcome, AgreedPrice):
                return pb.GetPriceResponse(price=self._price(report.outcome, report, signatures))
            why = f"void: {report.outcome.reason.value}, {report.outcome.kept} of {report.outcome.quorum} needed"
            await _abort(context, NotFoundError("price", str(at), why))
        return await _abort(context, NotFoundError("price", str(at), "no such round"))

    # --- rounds

    async def close_rounds(self, *, every_seconds: float) -> None:
        """Finish rounds as their windows end, store them and tell subscribers. Runs until cancelled."""
        watched = slot_of(self._now()) - SECONDS_PER_MINUTE
        while True:
            now = self._now()
            while watched + SECONDS_PER_MINUTE < slot_of(now):
                watched += SECONDS_PER_MINUTE
                self._book.watch(Slot(watched))
            for at in list(self._book.unfinished()):
                if at not in self._final and self._book.settled(at, now):
                    await self._finish_or_try_again(at, now)
            await asyncio.sleep(every_seconds)

    async def _finish_or_try_again(self, at: Slot, now: UnixSeconds) -> None:
        try:
            await self._finish(at, now)
        except BtcfiError as e:  # the database is away: the round is frozen, and told when it is stored
            log.error("round_not_stored", slot=at, problem=str(e))  # noqa: TRY400 - one line says it

    async def _finish(self, at: Slot, now: UnixSeconds) -> None:
        report = self._book.finish(at)
        if self._store is not None:
            words = self._book.words(at)
            for first, second in self._book.messages(at).contradictions:
                await self._store.keep_equivocation(first, second, UnixSeconds(at + SECONDS_PER_MINUTE))
            await self._store.keep_round(report, words, terms=self._book.terms, now=now)
        self._final[at], self._signatures[at] = report, {}
        for old in sorted(self._final)[:-REPORTS_KEPT]:
            del self._final[old], self._signatures[old]
        outcome = report.outcome
        facts = {"dropped": [f"{d.venue} {d.reason}" for d in outcome.dropped]}
        facts["absent"] = [f"{a.venue} {a.reason}" for a in outcome.absent]
        facts["remarks"] = [f"{m.venue} {m.reason}: {m.detail}" for m in self._book.remarks(at)]
        if isinstance(outcome, AgreedPrice):
            log.info("price_agreed", slot=at, price_cents=outcome.price, used=len(outcome.used), **facts)
        else:
            log.error("round_void", slot=at, reason=outcome.reason.value, kept=outcome.kept, **facts)
        self._tell(write_update(outcome, report=report, final=True, remarks=self._book.remarks(at)))

    async def resume(self) -> int:
        """Take up what the database has of the rounds still open; return how many submissions that was.

        Contradictions and commitments too: who lied stays out of its round, who committed may reveal.
        """
        if self._store is None:
            return 0
        now = self._now()
        open_minutes = 1 + self._book.policy.open_seconds // SECONDS_PER_MINUTE
        since = now - max(MINUTES_RESUMED, open_minutes + 1) * SECONDS_PER_MINUTE
        kept = await self._store.kept(since, now)
        if foreign := self._book.restore(kept):
            log.warning("messages_not_of_this_registry", nodes=sorted(foreign))
        for report, signatures in await self._store.history(since, now):
            self._freeze(report)
            self._final[report.slot], self._signatures[report.slot] = report, signatures
        return len(kept.submissions)

    def _freeze(self, stored: RoundReport) -> None:
        """End a round as the database has it, and say so where this code would have ended it otherwise."""
        try:
            if self._book.finish(stored.slot) != stored:
                log.error("stored_report_differs", slot=stored.slot)
        except BtcfiError as e:
            log.error("stored_report_differs", slot=stored.slot, problem=str(e))  # noqa: TRY400 - one line says it

    def _tell(self, update: pb.PriceUpdate) -> None:
        for queue in self._subscribers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(update)

    async def _newest(self, context: Any) -> pb.AggregatedPrice:  # noqa: ANN401
        for at in sorted(self._final, reverse=True):
            report = self._final[at]
            if isinstance(report.outcome, AgreedPrice):
                return self._price(report.outcome, report, self._signatures[at])
        return await _abort(context, NotFoundError("price", "newest", "no minute has a final price yet"))

    async def _reports(self, start: int, end: int) -> list[tuple[RoundReport, dict[str, bytes]]]:
        if self._store is not None:
            return await self._store.history(start, end)
        return [(self._final[s], dict(self._signatures[s])) for s in sorted(self._final) if start <= s < end]

    def _priced(self, reports: list[tuple[RoundReport, dict[str, bytes]]]) -> list[pb.AggregatedPrice]:
        return [self._price(r.outcome, r, held) for r, held in reports if isinstance(r.outcome, AgreedPrice)]

    def _price(self, agreed: AgreedPrice, report: RoundReport, signatures: dict[str, bytes]) -> pb.AggregatedPrice:
        keys = {n.node_id: n.public_key for n in self._book.registry.nodes.values()}
        done = certified(report, signatures, keys, needed=self._nodes_needed)
        return write_price(agreed, report=report, signatures=len(signatures), certified=done)


async def _abort(context: Any, error: BtcfiError) -> NoReturn:  # noqa: ANN401 - grpc.aio has no types
    await context.abort(getattr(grpc.StatusCode, status_of(error).grpc), str(error))
    raise AssertionError("abort raises")  # pragma: no cover - grpc's abort never returns


async def start_server(
    aggregator: Aggregator,
    *,
    host: str,
    port: int,
    tls: TlsFiles | None = None,
    register: Callable[[Any], str] | None = None,
    with_reflection: bool = False,
) -> tuple[Any, int]:
    """Start serving with the health service; return the server and its port (0 picks a free one).

    register: adds further services to the server and returns its full name. with_reflection: also tell callers which
    messages there are, which the proto files do too. Raises PortInUseError, or InvalidInputError when the host is none
    of ours or a TLS file is unreadable.
    """
    server = grpc.aio.server(
        interceptors=[KeysNeeded(aggregator.keys)],
        options=[
            ("grpc.max_receive_message_length", MAX_TRANSPORT_BYTES),
            ("grpc.so_reuseport", 0),
        ],
    )
    oracle_pb2_grpc.add_OracleAggregatorServicer_to_server(aggregator, server)  # type: ignore[no-untyped-call]
    oracle_pb2_grpc.add_OracleServiceServicer_to_server(aggregator, server)  # type: ignore[no-untyped-call]
    names = [service.full_name for service in pb.DESCRIPTOR.services_by_name.values()]
    if register is not None:
        names.append(register(server))
    checker = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checker, server)
    for name in ("", *names):
        await checker.set(name, health_pb2.HealthCheckResponse.SERVING)
    if with_reflection:
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        address = f"{host}:{port}"
        bound = server.add_secure_port(address, _credentials(tls)) if tls else server.add_insecure_port(address)
    except OSError as e:
        raise InvalidInputError("TLS files", str(e), "readable PEM files") from e
    except RuntimeError as e:
        if port and _taken(host, port):
            raise PortInUseError(host=host, port=port) from e
        raise InvalidInputError(
            "address", f"{host}:{port}", "an address of this machine, and a key with its own PEM"
        ) from e
    await server.start()
    if tls is None:
        warn_of_plaintext(host)
    return server, bound


def warn_of_plaintext(host: str) -> None:
    """Say so where others than this machine reach an address; a name other than localhost may lead anywhere."""
    try:
        local = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        log.warning("plaintext_beyond_the_loopback", host=host, advice="give --tls-key and --tls-certificate")


def _taken(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex((host.strip("[]"), port)) == 0


def _credentials(tls: TlsFiles) -> Any:  # noqa: ANN401 - grpc has no types
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    ca = tls.client_ca.read_bytes() if tls.client_ca is not None else None
    return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)
