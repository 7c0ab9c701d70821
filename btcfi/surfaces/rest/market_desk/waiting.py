"""Waiting for a letter: no thread is held, and one look into the store wakes those to whom one came."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import Final, Protocol

from fastapi.concurrency import run_in_threadpool

from btcfi.errors import BtcfiError

LOOK_SECONDS: Final = 0.05
"""Between two looks, while somebody waits: a take has to be signed by two in three seconds."""

AGAIN_SECONDS: Final = 1.0
"""Who waits looks for itself that often: PostgreSQL commits out of the order of numbers, and a caller may be gone."""


class Look(Protocol):
    """How a bell looks into the store."""

    def __call__(self, after: int | None) -> tuple[int, Collection[str]]:
        """Return the number of the newest letter, and to whom those above ``after`` go; in a thread."""


class Bell:
    """Rings for whom a letter has come. One poller for a process, and none while nobody waits."""

    def __init__(self, look: Look, closing: Event) -> None:
        """``look``: asked in a thread. ``closing``: set when the server stops."""
        self._look_after, self._closing = look, closing
        self._waiting = 0
        self._poller: asyncio.Task[None] | None = None
        self._rung: dict[str, asyncio.Event] = {}

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
            self._rung = {}
            self._poller = loop.create_task(self._look())
        try:
            yield
        finally:
            self._waiting -= 1

    def next(self, account: str) -> asyncio.Event:
        """Return what is set when it rings for an account; ask before looking, so that nothing comes between."""
        return self._rung.setdefault(account, asyncio.Event())

    @staticmethod
    async def wait(rung: asyncio.Event, seconds: float) -> None:
        """Wait for a ring, at most so long, and no longer than until one should look for oneself."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, AGAIN_SECONDS)):
                await rung.wait()

    async def _look(self) -> None:
        last: int | None = None  # the first look rings for all: what came before may have come after a caller's own
        while self._waiting and not self._closing.is_set():
            try:
                newest, to = await run_in_threadpool(self._look_after, last)
            except BtcfiError:
                self._ring(None)  # each caller looks for itself, and its answer says what is wrong
            else:
                self._ring(None if last is None else to)
                last = newest
            await asyncio.sleep(LOOK_SECONDS)
        self._ring(None)

    def _ring(self, accounts: Collection[str] | None) -> None:
        """Wake who waits for letters to these accounts. None: everybody."""
        for one in list(self._rung) if accounts is None else accounts:
            if (rung := self._rung.pop(one, None)) is not None:
                rung.set()
