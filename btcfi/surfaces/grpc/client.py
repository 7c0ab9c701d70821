"""The node's and the operator's side of the oracle services: blocking calls, errors of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc

from btcfi.adapters.oracle_network.node import ReceivedReport
from btcfi.documents import parse_json
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError, UnreachableError
from btcfi.oracle.commitment import PriceCommitment
from btcfi.oracle.report import decode_report
from btcfi.oracle.submission import SignedSubmission
from btcfi.oracle.time_sync import Milliseconds, TimeSample
from btcfi.surfaces.grpc.messages import read_messages, write_commitment, write_submission
from btcfi.surfaces.protos import oracle_pb2 as pb
from btcfi.surfaces.protos import oracle_pb2_grpc
from btcfi.units import Slot

_PASSING: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})


class RefusedError(BtcfiError):
    """The aggregator refused a message: its gRPC status and its reason."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"the aggregator refused it ({code}): {reason}")
        self.code, self.reason = code, reason


class AggregatorClient:
    """One channel to the aggregator.

    url: ``http://host:port`` (plain) or ``https://host:port`` (TLS; ``ca`` is the CA's PEM file where it is not a
    public one, ``key`` and ``certificate`` where the server asks for a client's). Raises InvalidInputError for another.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 5.0,
        ca: Path | None = None,
        key: Path | None = None,
        certificate: Path | None = None,
        api_key: str | None = None,
    ) -> None:
        """api_key: shown with every call, where the aggregator lets nobody read without one."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not parts.port:
            raise InvalidInputError("aggregator url", url, "http://host:port or https://host:port")
        self.url, self._timeout = url, timeout_seconds
        self._metadata = () if api_key is None else (("authorization", f"Bearer {api_key}"),)
        address = f"{parts.hostname}:{parts.port}"
        if parts.scheme == "https":
            pem = [p.read_bytes() if p is not None else None for p in (ca, key, certificate)]
            self._channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*pem))
        else:
            self._channel = grpc.insecure_channel(address)
        self._aggregator: Any = oracle_pb2_grpc.OracleAggregatorStub(self._channel)  # type: ignore[no-untyped-call]
        self._service: Any = oracle_pb2_grpc.OracleServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def submit(self, signed: SignedSubmission, *, nonce: bytes = b"") -> None:
        """Submit a price. Raises RefusedError, UnreachableError."""
        self._call(self._aggregator.SubmitPrice, write_submission(signed, nonce=nonce))

    def commit(self, made: PriceCommitment) -> None:
        """Commit to a price. Raises RefusedError, UnreachableError."""
        self._call(self._aggregator.CommitPrice, write_commitment(made))

    def report(self, slot: Slot) -> ReceivedReport | None:
        """Return a round's report, None when the aggregator has none. Raises RefusedError, UnreachableError."""
        try:
            message: pb.RoundReport = self._call(self._aggregator.GetRoundReport, pb.ReportRequest(slot=slot))
        except NotFoundError:
            return None
        try:
            document = parse_json(message.report_json, "report")
        except InvalidInputError as e:
            raise RefusedError("DATA_LOSS", str(e)) from e
        return ReceivedReport(
            report=decode_report(document),
            signed=read_messages(message),
            final=message.final,
        )

    def sign(self, node_id: str, slot: Slot, signature: bytes) -> None:
        """Send a report's signature. Raises RefusedError, UnreachableError."""
        self._call(self._aggregator.SignReport, pb.ReportSignature(node_id=node_id, slot=slot, signature=signature))

    def measure(self, clock: Callable[[], float]) -> TimeSample | None:
        """Return one time sample against the aggregator, None when it does not answer."""
        sent = _ms(clock())
        try:
            answer = self._call(self._service.HealthCheck, pb.HealthRequest(local_timestamp_ms=sent))
        except BtcfiError:
            return None
        received = max(_ms(clock()), sent)
        return TimeSample(
            server=self.url,
            sent_local=sent,
            received_server=Milliseconds(answer.received_at_ms),
            sent_server=Milliseconds(min(answer.sent_at_ms, answer.received_at_ms + received - sent)),
            received_local=received,
        )

    def health(self) -> pb.HealthResponse:
        """Return the network's health. Raises RefusedError, UnreachableError."""
        answer: pb.HealthResponse = self._call(self._service.HealthCheck, pb.HealthRequest())
        return answer

    def price(self) -> pb.AggregatedPrice:
        """Return the newest final price. Raises NotFoundError before the first, RefusedError, UnreachableError."""
        answer: pb.ConsensusPrice = self._call(self._aggregator.GetConsensusPrice, pb.Empty())
        return answer.price

    def history(self, start: int, end: int) -> pb.PriceHistory:
        """Return the prices of start <= slot < end, a day at most, and the gaps.

        Raises RefusedError, UnreachableError.
        """
        answer: pb.PriceHistory = self._call(self._aggregator.GetPriceHistory, pb.TimeRange(start=start, end=end))
        return answer

    def updates(self, timeout_seconds: float | None = None) -> Iterator[pb.PriceUpdate]:
        """Yield rounds as they happen, until the time is over. Raises RefusedError, UnreachableError."""
        try:
            yield from self._aggregator.SubscribePrices(
                pb.Empty(), timeout=timeout_seconds, wait_for_ready=True, metadata=self._metadata
            )
        except grpc.RpcError as e:
            if timeout_seconds is None or e.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise self._translated(e) from e

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _call(self, method: Any, request: Any) -> Any:  # noqa: ANN401 - grpc has no types
        try:
            return method(request, timeout=self._timeout, metadata=self._metadata)
        except grpc.RpcError as e:
            raise self._translated(e) from e

    def _translated(self, error: Any) -> BtcfiError:  # noqa: ANN401
        code, details = error.code().name, error.details() or ""
        if code in _PASSING:
            return UnreachableError("aggregator", self.url, details[:120], "start it with `btcfi aggregator`")
        if code == "NOT_FOUND":
            return NotFoundError("answer of the aggregator", details)
        return RefusedError(code, details)


def _ms(seconds: float) -> Milliseconds:
    return Milliseconds(int(seconds * 1000))
