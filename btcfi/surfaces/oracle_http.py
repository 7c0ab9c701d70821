"""An oracle's HTTP: read-only for the world, by the standard library alone, so that the process stays small.

``GET /v1/oracle``, ``/v1/announcement?…``, ``/v1/announcements``, ``/v1/attestation?…``, ``/v1/minutes/SLOT``. A caller
is an address; it has a bucket of questions that refills, and a connection a few seconds.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import structlog

from btcfi.adapters.oracle.oracle import MinutesLackingError, NotOverError, Oracle
from btcfi.contracts.messages import encode_announcement, encode_attestation
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.oracle.event_query import event_of
from btcfi.oracle.submission_json import encode_signed
from btcfi.surfaces.status import status_of
from btcfi.units import MAX_U32, slot

QUESTIONS_PER_MINUTE: Final = 600
"""Of one address; a tenth of them at once."""

REMEMBERED: Final = 10_000
"""Addresses whose buckets are kept."""

CONNECTIONS: Final = 32
"""At once; whoever comes then is turned away."""

SECONDS: Final = 10.0
"""For a request to come in whole."""

MAX_TARGET: Final = 2_048
"""Characters of a path with its query: an event has at most some 900."""

_TOO_EARLY: Final = 425
_TOO_MANY: Final = 429

log = structlog.get_logger("btcfi.oracle")


class Buckets:
    """A token bucket for each address."""

    def __init__(self, per_minute: int, monotonic: Callable[[], float]) -> None:
        self._per_second, self._full, self._monotonic = per_minute / 60, max(per_minute / 10, 1.0), monotonic
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, caller: str) -> bool:
        """Take one question of a caller's; return whether it had one left."""
        with self._lock:
            now = self._monotonic()
            tokens, since = self._held.pop(caller, (self._full, now))
            tokens = min(self._full, tokens + (now - since) * self._per_second)
            self._held[caller] = (max(tokens - 1.0, 0.0) if tokens >= 1.0 else tokens, now)
            while len(self._held) > REMEMBERED:
                self._held.popitem(last=False)
            return tokens >= 1.0


class OracleServer(ThreadingHTTPServer):
    """The server of one oracle."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, oracle: Oracle, address: tuple[str, int], *, monotonic: Callable[[], float],
        per_minute: int = QUESTIONS_PER_MINUTE,
    ) -> None:  # fmt: skip
        """``address``: host and port, 0 for a free one. Raises OSError."""
        self.oracle = oracle
        self.buckets = Buckets(per_minute, monotonic)
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver has no types
        """Give a connection a thread, if there is room."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Answer one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Say nothing of a connection that broke off."""


class _Handler(BaseHTTPRequestHandler):
    server: OracleServer
    timeout = SECONDS
    server_version = "btcfi-oracle"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one question."""
        if not self.server.buckets.take(str(self.client_address[0])):
            self._say(_TOO_MANY, {"error": f"more than {QUESTIONS_PER_MINUTE} questions a minute"})
            return
        try:
            self._say(200, self._answer())
        except (NotOverError, MinutesLackingError) as e:
            self._say(_TOO_EARLY, {"error": str(e), "kind": type(e).__name__})
        except BtcfiError as e:
            self._say(status_of(e).http, {"error": str(e), "kind": type(e).__name__})
        except Exception as e:  # noqa: BLE001 - one question's trouble is no other's, and says nothing of us
            log.error("question_failed", path=self.path[:200], problem=repr(e)[:200])  # noqa: TRY400 - one line
            self._say(500, {"error": "it could not be answered; the oracle's log says why"})

    def _answer(self) -> dict[str, Any]:
        if len(self.path) > MAX_TARGET:
            raise InvalidInputError("path", f"{len(self.path)} characters", f"at most {MAX_TARGET}")
        parts = urlsplit(self.path)
        oracle = self.server.oracle
        match parts.path.split("/")[1:]:
            case ["v1", "oracle"]:
                return oracle.status()
            case ["v1", "announcements"]:
                return {"announcements": [encode_announcement(one) for one in oracle.announcements()]}
            case ["v1", "announcement"]:
                return encode_announcement(oracle.announcement(event_of(_query(parts.query))))
            case ["v1", "attestation"]:
                return encode_attestation(oracle.attestation(event_of(_query(parts.query))))
            case ["v1", "minutes", text]:
                return _minute(oracle, text)
        raise NotFoundError("answer at", parts.path[:80], "/v1/oracle, /v1/announcement, /v1/attestation")

    def _say(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing of every question."""


def _query(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=16)
    except ValueError as e:
        raise InvalidInputError("query", str(e)[:80], "name=value&…, percent-encoded UTF-8") from e
    query = dict(pairs)
    if len(query) != len(pairs):
        raise InvalidInputError("query", "a name stands twice", "each name once")
    return query


def _minute(oracle: Oracle, text: str) -> dict[str, Any]:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_U32))):
        raise InvalidInputError("slot", repr(text[:20]), "a minute, in unix seconds")
    own = oracle.minute(slot(int(text)))
    if own is None:
        raise NotFoundError("minute", text, "this oracle has not collected it")
    return {
        "slot": own.slot, "closed": own.closed, "nodes": sorted(own.registry.nodes),
        "contradicted": sorted(own.contradicted), "submissions": [encode_signed(one) for one in own.submissions],
    }  # fmt: skip
