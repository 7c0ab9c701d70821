"""One GET over HTTP, as oracles and those who ask them make it: no proxy, no redirect, a bounded answer, JSON."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from btcfi.documents import parse_json
from btcfi.errors import BtcfiError, InvalidInputError, RetryableError, UnreachableError

MAX_ANSWER_BYTES: Final = 8 << 20
"""An hour of minutes from hundreds of nodes."""

SECONDS: Final = 5.0
"""For one whole answer, however it drips. Who is slower is as good as away: others are asked, too."""

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
        try:
            named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            named = False
        clean = self.url.isascii() and self.url.isprintable() and " " not in self.url
        if parts.scheme not in {"http", "https"} or not (named and clean) or parts.query or "@" in parts.netloc:
            raise InvalidInputError(f"URL of the {self.what}", self.url[:80], "http://host:port or https://host:port")

    def get(self, path: str, query: dict[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON of an answer. Raises UnreachableError, RefusedAnswerError, NotYetAnswerError."""
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.seconds)
        target = parts.path.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        try:
            with _cut_off(connection, self.seconds):
                connection.request("GET", target, headers={"Accept": "application/json"})
                answer = connection.getresponse()
                body = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, HTTPException, ValueError) as e:
            raise UnreachableError(self.what, self.url, printable(str(e)) or type(e).__name__, "is it running?") from e
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


@contextmanager
def _cut_off(connection: HTTPConnection, seconds: float) -> Iterator[None]:
    """Give a connection so long for everything: a socket's own timeout begins again with every byte.

    Raises TimeoutError for an answer that was cut off.
    """
    held: list[socket.socket] = []
    late = threading.Event()

    def connected(*where: Any, **how: Any) -> socket.socket:  # noqa: ANN401 - as http.client calls it
        made = socket.create_connection(*where, **how)
        held.append(made.dup())  # TLS takes the first one away
        if late.is_set():
            shut()
        return made

    def shut() -> None:
        late.set()
        for one in held:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    connection._create_connection = connected  # type: ignore[attr-defined]  # noqa: SLF001 - its seam for sockets
    timer = threading.Timer(seconds, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
        broken = None
    except (OSError, HTTPException, ValueError) as e:
        broken = e
    finally:
        timer.cancel()
        for one in held:
            one.close()
    if late.is_set():
        raise TimeoutError(f"no whole answer in {seconds:g} s") from broken
    if broken is not None:
        raise broken


def printable(text: str) -> str:
    """Return text of somebody else's without signs that a terminal obeys."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _reason(body: bytes, status: int) -> str:
    try:
        said = json.loads(body)
        text = said.get("error") or said.get("detail") or said.get("title")
    except (ValueError, AttributeError, RecursionError):
        text = None
    return printable(str(text)[:400]) if text else f"status {status}"
