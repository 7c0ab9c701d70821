"""Shares: how much of one thing a caller may have at once, and how much all of them together."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from btcfi.surfaces.rest.errors import BusyError, NoRoomError, RateLimitedError, TooManyStreamsError

STRANGERS: Final = (3, 4)
"""Of a thing that all share, what callers without a key may have together: many addresses cost little, and whoever has
a key still finds the rest."""


def for_strangers(most: int) -> int:
    """Return their part of ``most``, rounded up."""
    part, whole = STRANGERS
    return -(-most * part // whole)


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


class Rates:
    """Requests a minute: a bucket a caller, which holds a tenth of a minute's and refills evenly."""

    REMEMBERED: Final = 10_000
    """Buckets kept; beyond that the longest silent caller starts anew, with a full one."""

    def __init__(self, monotonic: Callable[[], float], *, each_per_minute: int) -> None:
        """monotonic: seconds that never go back."""
        self._monotonic, self._limit = monotonic, each_per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one request. Raises RateLimitedError."""
        now, per_second, full = self._monotonic(), self._limit / 60.0, max(self._limit / 10.0, 1.0)
        tokens, since = self._buckets.get(caller, (full, now))
        tokens = min(full, tokens + (now - since) * per_second)
        self._buckets[caller] = (max(tokens - 1.0, 0.0) if tokens >= 1.0 else tokens, now)
        self._buckets.move_to_end(caller)
        while len(self._buckets) > self.REMEMBERED:
            self._buckets.popitem(last=False)
        if tokens < 1.0:
            wait = math.ceil((1.0 - tokens) / per_second)
            raise RateLimitedError(requests_per_minute=self._limit, retry_after_seconds=wait)


class Room:
    """Bytes in hand: at most ``each`` of a caller and ``most`` of all. What has come counts, not what was told.

    Strangers, callers without a key, fill no more than their part of it.
    """

    def __init__(self, *, each: int, most: int) -> None:
        """In bytes."""
        self._each, self._most = each, most
        self._held: Counter[str] = Counter()
        self._all = 0

    @contextmanager
    def share(self, caller: str, *, stranger: bool = False) -> Iterator[Share]:
        """Give a share that grows as it is filled, and is empty again afterwards."""
        share = Share(self, caller, stranger=stranger)
        try:
            yield share
        finally:
            self._all -= share.size
            self._held[caller] -= share.size
            if not self._held[caller]:
                self._held.pop(caller, None)

    def grow(self, caller: str, size: int, *, stranger: bool = False) -> None:
        """Note that a caller holds ``size`` bytes more. Raises NoRoomError."""
        self.check(caller, size, stranger=stranger)
        self._held[caller] += size
        self._all += size

    def check(self, caller: str, size: int, *, stranger: bool = False) -> None:
        """Raise NoRoomError unless a caller could hold ``size`` bytes more; nothing is kept for it."""
        if self._held.get(caller, 0) + size > self._each:
            raise NoRoomError(self._each, of_caller=True)
        most = for_strangers(self._most) if stranger else self._most
        if self._all + size > most:
            raise NoRoomError(most)


class Share:
    """What one request holds of the room."""

    def __init__(self, room: Room, caller: str, *, stranger: bool = False) -> None:
        """Empty."""
        self._room, self._caller, self._stranger, self.size = room, caller, stranger, 0

    def grow(self, size: int) -> None:
        """Hold ``size`` bytes more. Raises NoRoomError."""
        self._room.grow(self._caller, size, stranger=self._stranger)
        self.size += size


class Places:
    """Open streams: at most ``each`` of one caller and ``most`` of all; strangers take no more than their part."""

    def __init__(self, *, each: int, most: int) -> None:
        """Take a place when a stream begins; it is free when it ends, whatever ended it."""
        self.each, self.most = each, most
        self._held: Counter[str] = Counter()
        self._all = 0

    def free(self, caller: str, *, stranger: bool = False) -> bool:
        """Return whether the caller may open one more."""
        return self.refusal(caller, stranger=stranger) is None

    def held(self, caller: str) -> int:
        """Return how many places the caller has."""
        return self._held.get(caller, 0)

    def refusal(self, caller: str, *, stranger: bool = False) -> TooManyStreamsError | None:
        """Return why the caller may open no more, None while it may: its own limit, or everybody's."""
        if self.held(caller) >= self.each:
            return TooManyStreamsError(self.each, of_caller=True)
        most = for_strangers(self.most) if stranger else self.most
        return TooManyStreamsError(most) if self._all >= most else None

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
