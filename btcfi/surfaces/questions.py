"""Questions over HTTP, answered by the standard library alone: what an oracle and an aggregator need, and no more.

GET only, JSON only. A caller is an address; it has a bucket of questions that refills, and a connection a few seconds.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import structlog

from btcfi.adapters.oracle.oracle import TooEarlyError
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.surfaces.status import status_of

Answer: TypeAlias = Callable[[str, Mapping[str, str]], dict[str, Any]]
"""Of a path and a query. Raises a BtcfiError, whose status is the answer's."""

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

log = structlog.get_logger("btcfi.questions")


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


class QuestionServer(ThreadingHTTPServer):
    """Answers questions by one function, each connection in a thread of its own."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, answer: Answer, address: tuple[str, int], *, monotonic: Callable[[], float],
        per_minute: int = QUESTIONS_PER_MINUTE,
    ) -> None:  # fmt: skip
        """``address``: host and port, 0 for a free one. Raises OSError."""
        self.answer = answer
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
    server: QuestionServer
    timeout = SECONDS
    server_version = "btcfi"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one question."""
        if not self.server.buckets.take(str(self.client_address[0])):
            self._say(_TOO_MANY, {"error": f"more than {QUESTIONS_PER_MINUTE} questions a minute"})
            return
        try:
            self._say(200, self._answer())
        except TooEarlyError as e:
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
        return self.server.answer(parts.path, _query(parts.query) if parts.query else {})

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
