"""Around every request at either door of one origin: host name, framing, one policy of headers, HEAD, and an id."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from btcfi.errors import BtcfiError
from btcfi.surfaces.rest.bodies import GoneError, Message, Receive, Send, has_body, header
from btcfi.surfaces.rest.errors import AmbiguousLengthError, UnprintablePathError, WrongHostError

POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS: Final = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # not no-referrer: with it browsers send "Origin: null" with our own forms
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=()"),
)
"""Of every answer of console and API: a page of either runs beside the operator's session."""

REQUEST_ID: Final = "X-Request-Id"

_ID: Final = re.compile(rb"[A-Za-z0-9._~-]{1,64}")

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""In no path of ours. A router's ``$`` matches before a line feed at the end: what matches whole would disagree."""

DRAINED_BYTES: Final = 64 << 10
DRAIN_SECONDS: Final = 0.5
"""A refusal reads on so far, so that a caller that is still sending hears it instead of a broken connection."""


class Frame:
    """The outermost layer of an application."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        *,
        hosts: tuple[str, ...],
        new_id: Callable[[], str],
        refuse: Callable[[Request, BtcfiError], Response],
    ) -> None:
        """hosts: names that are served, without port; any when empty. refuse: answers what is turned away here."""
        self._app, self._new_id, self._refuse = app, new_id, refuse
        self._hosts = frozenset(name.lower() for name in hosts)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._id(scope))
        request = Request(exchange.scope)
        try:
            self._check(exchange.scope)
        except BtcfiError as e:
            # where this request ends is not agreed on: nothing after it on this connection is one
            exchange.last = exchange.last or isinstance(e, AmbiguousLengthError)
            await self._refuse(request, e)(exchange.scope, exchange.receive, exchange.send)
            return
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except (ClientDisconnect, GoneError):
            return  # nobody is there to be answered, and nothing of ours has failed
        except Exception as e:
            # whoever serves writes it down, once, and then the id stands in it
            e.add_note(f"{scope['method']} {scope['path'][:200]!r} failed inside, request id {exchange.id}")
            # here and not farther out, so that this answer too has its headers
            unforeseen = exchange.scope["app"].exception_handlers.get(Exception)
            if unforeseen is not None and not exchange.started:
                await (await unforeseen(request, e))(exchange.scope, exchange.receive, exchange.send)
            raise

    def _id(self, scope: Message) -> str:
        given = header(scope, REQUEST_ID.lower().encode())
        return given.decode() if _ID.fullmatch(given) else self._new_id()

    def _check(self, scope: Message) -> None:
        if header(scope, b"content-length") and header(scope, b"transfer-encoding"):
            raise AmbiguousLengthError
        if _CONTROLS.search(scope["path"]):
            raise UnprintablePathError
        if self._hosts and (name := host_name(header(scope, b"host"))) not in self._hosts:
            raise WrongHostError(name)


def host_name(text: bytes) -> str:
    """Return the name of a Host header, without port and brackets, in lower case."""
    name = text.decode("latin-1").strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0] if "]" in name else name
    return name.rpartition(":")[0] if name.count(":") == 1 else name


class _Exchange:
    """One request and its answer, on their way through."""

    def __init__(self, scope: Message, receive: Receive, send: Send, request_id: str) -> None:
        self._receive, self._send = receive, send
        self._head = scope["method"] == "HEAD"
        self.id = request_id
        # a HEAD is answered as its GET, without the body
        self.scope: Message = {**scope, "method": "GET"} if self._head else scope
        self.scope.setdefault("state", {})["request_id"] = request_id
        self._unread = has_body(scope)
        self._ended = False
        self.started = False
        self.last = False
        """Whether the connection ends with this answer."""

    async def receive(self) -> Message:
        """Pass on a part of the body."""
        if self._ended:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """Pass on a part of the answer."""
        if self._ended:
            return
        if message["type"] == "http.response.start":
            await self._dress(message)
            self.started = True
        elif self._head:
            self._ended = True
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _dress(self, message: Message) -> None:
        headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
        known = {name.lower() for name, _ in headers}
        headers += [one for one in HEADERS if one[0] not in known]
        headers.append((REQUEST_ID.lower().encode(), self.id.encode()))
        if b"cache-control" not in known:
            headers.append((b"cache-control", b"no-store"))
        if self._unread and message["status"] >= HTTPStatus.BAD_REQUEST:
            await self._drain()
        if self._unread or self.last:
            # whoever goes on sending what nobody reads keeps no connection by it
            headers.append((b"connection", b"close"))
        message["headers"] = headers

    async def _drain(self) -> None:
        if header(self.scope, b"expect"):
            return  # it waits for our word before it sends
        left = DRAINED_BYTES
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._unread and left > 0:
                    message: dict[str, Any] = dict(await self.receive())
                    if message["type"] == "http.disconnect":
                        return
                    left -= len(message.get("body", b""))
        except TimeoutError:
            return
