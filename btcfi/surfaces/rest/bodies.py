"""Reading a request's body: up to a size, within a time, and no more of them at once than there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final

from btcfi.surfaces.rest.errors import BodyTooLargeError, SlowBodyError
from btcfi.surfaces.rest.turns import Room

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BYTES_PER_SECOND: Final = 64 << 10
"""What a body must come with after its first seconds: a proof of 4 MiB has a minute, over half a megabit."""


class GoneError(Exception):
    """The caller hung up while it sent or waited: nobody is there to be answered."""


def header(scope: Message, name: bytes) -> bytes:
    """Return the first header of this lower-case name, empty when there is none."""
    return next((value for key, value in scope["headers"] if key == name), b"")


def has_body(scope: Message) -> bool:
    """Return whether the head announces a body."""
    return bool(header(scope, b"transfer-encoding")) or header(scope, b"content-length") not in {b"", b"0"}


async def bodiless(scope: Message, receive: Receive) -> Receive:
    """Return what gives an empty body, where none is taken. Raises GoneError when the caller has hung up already.

    What it announced is not read, and nothing behind this can read it past the bounds.
    """
    if not has_body(scope) and (await receive())["type"] == "http.disconnect":
        raise GoneError
    return given(b"", receive)


def given(body: bytes, receive: Receive) -> Receive:
    """Return what gives the body that was read, once, and then what comes after it."""
    done = False

    async def replay() -> Message:
        nonlocal done
        if done:
            return await receive()
        done = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


class Bodies:
    """Reads bodies for one application."""

    def __init__(self, room: Room, *, seconds: float) -> None:
        """``seconds``: a body's first ones, in which it may be slow."""
        self._room, self._seconds = room, seconds

    @asynccontextmanager
    async def of(
        self, scope: Message, receive: Receive, *, caller: str, limit: int, stranger: bool = False
    ) -> AsyncIterator[bytes]:
        """Give a request's body, which counts as its caller's until the block ends.

        stranger: a caller without a key, who fills no more than the strangers' part of the room. Raises
        BodyTooLargeError, SlowBodyError, NoRoomError, and GoneError when the caller hangs up.
        """
        declared = header(scope, b"content-length")
        if declared.isdigit() and int(declared[:20]) > limit:
            raise BodyTooLargeError(limit_bytes=limit)
        # what could not be held is refused before it comes
        self._room.check(caller, int(declared[:20]) if declared.isdigit() else 0, stranger=stranger)
        with self._room.share(caller, stranger=stranger) as share:
            yield await self._read(receive, share.grow, limit)

    async def _read(self, receive: Receive, grow: Callable[[int], None], limit: int) -> bytes:
        # not a list of parts: of single bytes it would take fifty times their size
        body, more = bytearray(), True
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while more:
            try:
                async with asyncio.timeout_at(begun + self._seconds + len(body) / BYTES_PER_SECOND):
                    message = await receive()
            except TimeoutError as e:
                raise SlowBodyError(seconds=self._seconds, bytes_per_second=BYTES_PER_SECOND) from e
            if message["type"] == "http.disconnect":
                raise GoneError
            part = message.get("body", b"")
            if len(body) + len(part) > limit:
                raise BodyTooLargeError(limit_bytes=limit)
            grow(len(part))
            body += part
            more = message.get("more_body", False)
        return bytes(body)
