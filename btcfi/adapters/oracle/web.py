"""One GET over HTTP, as oracles and those who ask them make it: no proxy, no redirect, a bounded answer, JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from btcfi.documents import parse_json
from btcfi.errors import BtcfiError, InvalidInputError, RetryableError, UnreachableError

MAX_ANSWER_BYTES: Final = 8 << 20
"""An hour of minutes from hundreds of nodes."""

SECONDS: Final = 5.0
"""For one answer. Who is slower is as good as away: others are asked, too."""

_OK: Final = 200
_PASSING: Final = frozenset({425, 429, 500, 502, 503, 504})
"""Statuses after which the same question may be answered later."""


class RefusedAnswerError(BtcfiError):
    """Somebody answers, and refuses: with which status and why."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.url, self.status, self.reason = url, status, reason


class NotYetAnswerError(RefusedAnswerError, RetryableError):
    """It refuses for now."""


@dataclass(frozen=True, slots=True)
class Web:
    """Where somebody answers: ``http://host:port`` or ``https://host:port``, with or without a path."""

    url: str
    what: str = "oracle"
    """What an error calls it."""
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        """Raise InvalidInputError for another URL."""
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
            raise InvalidInputError(f"URL of the {self.what}", self.url[:80], "http://host:port or https://host:port")

    def get(self, path: str, query: dict[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON of an answer. Raises UnreachableError, RefusedAnswerError, NotYetAnswerError."""
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.seconds)
        target = parts.path.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        try:
            connection.request("GET", target, headers={"Accept": "application/json"})
            answer = connection.getresponse()
            body = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, HTTPException, ValueError) as e:
            raise UnreachableError(self.what, self.url, str(e) or type(e).__name__, "is it running?") from e
        finally:
            connection.close()
        if len(body) > MAX_ANSWER_BYTES:
            raise UnreachableError(self.what, self.url, f"an answer of more than {MAX_ANSWER_BYTES:,} bytes", "")
        if answer.status != _OK:
            kind_of = NotYetAnswerError if answer.status in _PASSING else RefusedAnswerError
            raise kind_of(self.url, answer.status, _reason(body, answer.status))
        try:
            return parse_json(body, "answer")
        except InvalidInputError as e:
            raise UnreachableError(self.what, self.url, e.problem, "it speaks another language") from e


def _reason(body: bytes, status: int) -> str:
    try:
        said = json.loads(body)
        text = said.get("error") or said.get("detail") or said.get("title")
    except (ValueError, AttributeError, RecursionError):
        text = None
    return str(text)[:400] if text else f"status {status}"
