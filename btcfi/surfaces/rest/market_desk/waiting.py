"""Waiting for a letter: no thread is held, and one look into the store wakes whoever waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import Final

from fastapi.concurrency import run_in_threadpool

from btcfi.errors import BtcfiError

LOOK_SECONDS: Final = 0.05
"""Between two looks, while somebody waits: a take has to be signed by two in three seconds."""

AGAIN_SECONDS: Final = 1.0
"""Who waits looks for itself that often: PostgreSQL commits out of the order of numbers, and a caller may be gone."""


class Bell:
    """Rings when the newest letter is another. One poller for a process, and none while nobody waits."""

    def __init__(self, newest: Callable[[], int], closing: Event) -> None:
        """``newest``: the number of the newest letter; asked in a thread. ``closing``: set when the server stops."""
        self._newest, self._closing = newest, closing
        self._waiting = 0
        self._poller: asyncio.Task[None] | None = None
        self._rung: asyncio.Event | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting

    @property
    def asleep(self) -> bool:
        """Whether no poller looks."""
        return self._poller is None or self._poller.done()

    @property
    def closing(self) -> bool:
        """Whether the server stops."""
        return self._closing.is_set()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Keep the poller looking until the block ends."""
        self._waiting += 1
        loop = asyncio.get_running_loop()
        if self._poller is None or self._poller.done() or self._poller.get_loop() is not loop:
            self._rung = asyncio.Event()
            self._poller = loop.create_task(self._look())
        try:
            yield
        finally:
            self._waiting -= 1

    def next(self) -> asyncio.Event:
        """Return what is set when it rings the next time; ask before looking, so that nothing comes between."""
        if self._rung is None:
            self._rung = asyncio.Event()
        return self._rung

    @staticmethod
    async def wait(rung: asyncio.Event, seconds: float) -> None:
        """Wait for a ring, at most so long, and no longer than until one should look for oneself."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, AGAIN_SECONDS)):
                await rung.wait()

    async def _look(self) -> None:
        last: int | None = None  # the first look rings: what came before it may have come after a caller's own
        while self._waiting and not self._closing.is_set():
            try:
                newest = await run_in_threadpool(self._newest)
            except BtcfiError:
                newest = None  # each caller looks for itself, and its answer says what is wrong
            if newest is None or newest != last:
                last = newest
                self._ring()
            await asyncio.sleep(LOOK_SECONDS)
        self._ring()

    def _ring(self) -> None:
        rung, self._rung = self._rung, asyncio.Event()
        if rung is not None:
            rung.set()
