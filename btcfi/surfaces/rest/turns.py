"""Shares: how much of one thing a caller may have at once, and how much all of them together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

from btcfi.surfaces.rest.errors import BusyError, NoRoomError


@dataclass(slots=True)
class _Line:
    places: asyncio.Semaphore
    users: int = 0


class Turns:
    """Work under way: at most ``each`` of a caller and ``most`` of all. Who comes later waits in its caller's line."""

    def __init__(self, *, each: int, most: int | None = None) -> None:
        """``most``: None: as many as the callers bring."""
        self._each = each
        self._all = asyncio.Semaphore(most) if most is not None else None
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def of(self, caller: str, *, seconds: float) -> AsyncIterator[None]:
        """Wait for a turn of the caller's and hold it. Raises BusyError after ``seconds`` without one."""
        line = self._lines.setdefault(caller, _Line(asyncio.Semaphore(self._each)))
        line.users += 1
        try:
            async with AsyncExitStack() as held:
                try:
                    async with asyncio.timeout(seconds):
                        # its own line first: who has many waiting stands in nobody else's way
                        await held.enter_async_context(line.places)
                        if self._all is not None:
                            await held.enter_async_context(self._all)
                except TimeoutError as e:
                    raise BusyError(self._each) from e
                yield
        finally:
            line.users -= 1
            if line.users == 0:
                self._lines.pop(caller, None)


class Room:
    """Bytes in hand: at most ``each`` of a caller and ``most`` of all. What has come counts, not what was told."""

    def __init__(self, *, each: int, most: int) -> None:
        """In bytes."""
        self._each, self._most = each, most
        self._held: Counter[str] = Counter()
        self._all = 0

    @contextmanager
    def share(self, caller: str) -> Iterator[Share]:
        """Give a share that grows as it is filled, and is empty again afterwards."""
        share = Share(self, caller)
        try:
            yield share
        finally:
            self._all -= share.size
            self._held[caller] -= share.size
            if not self._held[caller]:
                self._held.pop(caller, None)

    def grow(self, caller: str, size: int) -> None:
        """Note that a caller holds ``size`` bytes more. Raises NoRoomError."""
        self.check(caller, size)
        self._held[caller] += size
        self._all += size

    def check(self, caller: str, size: int) -> None:
        """Raise NoRoomError unless a caller could hold ``size`` bytes more; nothing is kept for it."""
        if self._held.get(caller, 0) + size > self._each or self._all + size > self._most:
            raise NoRoomError(self._each)


class Share:
    """What one request holds of the room."""

    def __init__(self, room: Room, caller: str) -> None:
        """Empty."""
        self._room, self._caller, self.size = room, caller, 0

    def grow(self, size: int) -> None:
        """Hold ``size`` bytes more. Raises NoRoomError."""
        self._room.grow(self._caller, size)
        self.size += size


class Places:
    """Open streams: at most ``each`` of one caller and ``most`` of all."""

    def __init__(self, *, each: int, most: int) -> None:
        """Take a place when a stream begins; it is free when it ends, whatever ended it."""
        self.each, self.most = each, most
        self._held: Counter[str] = Counter()
        self._all = 0

    def free(self, caller: str) -> bool:
        """Return whether the caller may open one more."""
        return self._all < self.most and self._held[caller] < self.each

    @contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Hold a place; ask first whether one is free."""
        self._held[caller] += 1
        self._all += 1
        try:
            yield
        finally:
            self._all -= 1
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]
