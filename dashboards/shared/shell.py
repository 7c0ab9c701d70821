"""The bounds that hold for every request of pages: a share of each address, and of every body its size and time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Final

from fastapi import Request
from starlette.responses import PlainTextResponse, Response

from btcfi.errors import BtcfiError
from btcfi.surfaces.addresses import who_counts
from btcfi.surfaces.rest.bodies import Bodies, GoneError, Message, Receive, Send, bodiless, has_body, header
from btcfi.surfaces.rest.errors import (
    BodyTooLargeError,
    BusyError,
    NoRoomError,
    RateLimitedError,
    SlowBodyError,
    WrongHostError,
)
from btcfi.surfaces.rest.turns import Rates, Room, Turns
from btcfi.surfaces.status import status_of
from dashboards.shared.errors import NotAFormError
from dashboards.shared.limits import PageLimits

FORM: Final = "application/x-www-form-urlencoded"

LIVE: Final = "/live/"
"""Streams: once their visitor is known they have places of their own."""


def refuse(_request: Request, error: BtcfiError) -> Response:
    """Answer what is turned away before there is a page to answer with."""
    if isinstance(error, WrongHostError):
        return PlainTextResponse("this host name is not served here\n", status_code=421)
    headers = {"Retry-After": str(error.retry_after_seconds)} if isinstance(error, RateLimitedError) else {}
    return PlainTextResponse(f"{error}\n", status_code=status_of(error).http, headers=headers)


class Shell:
    """Around the pages: a share of each address, and a bound on every body, in size, time and number."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        *,
        limits: PageLimits,
        monotonic: Callable[[], float],
        kinds: Mapping[str, int],
    ) -> None:
        """``app``: what comes after. ``kinds``: the content types that are taken, each with the most bytes of it."""
        self._app, self._limits, self._kinds = app, limits, kinds
        room = Room(each=limits.room_bytes_per_address, most=limits.room_bytes)
        self._bodies = Bodies(room, seconds=limits.body_seconds)
        self._turns = Turns(each=limits.requests_at_once)
        self._rates = Rates(monotonic, each_per_minute=limits.requests_per_minute)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        address = who_counts(address_of(request))
        async with AsyncExitStack() as held:
            try:
                self._rates.take(address)
                await held.enter_async_context(self._turns.of(address, seconds=self._limits.wait_seconds))
            except (BusyError, RateLimitedError) as e:
                await refuse(request, e)(scope, receive, send)
                return
            if scope["method"] == "POST":
                try:
                    await self._take_body(held, scope, receive, address)
                except (BodyTooLargeError, NotAFormError, SlowBodyError, NoRoomError) as e:
                    # known to the exception handler, which gives the page that belongs to it
                    scope["state"]["refused"] = e
                except GoneError:
                    return
                else:
                    receive = _nothing
            else:
                try:
                    receive = await bodiless(scope, receive)
                except GoneError:
                    return
                if scope["path"].removeprefix(scope.get("root_path", "")).startswith(LIVE):
                    send = _leaving(held, send)
            await self._app(scope, receive, send)

    async def _take_body(self, held: AsyncExitStack, scope: Message, receive: Receive, address: str) -> None:
        state = scope.setdefault("state", {})
        kind = header(scope, b"content-type").split(b";")[0].strip().lower().decode("latin-1")
        if has_body(scope) and kind not in self._kinds:
            raise NotAFormError(kind, tuple(self._kinds))
        state["kind"] = kind
        limit = self._kinds.get(kind, 0)
        state["body"] = await held.enter_async_context(self._bodies.of(scope, receive, caller=address, limit=limit))


def _leaving(turn: AsyncExitStack, send: Send) -> Send:
    """Return a ``send`` that gives the turn back when the answer begins: an open stream has its place by then."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            await turn.aclose()
        await send(message)

    return sent


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def address_of(request: Request) -> str:
    """Return the address of the other side."""
    return request.client.host if request.client else "unknown"
