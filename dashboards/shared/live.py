"""Live pages: one look into the store a quarter second for all visitors together, fragments sent when they change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, Self

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from btcfi.adapters.store.reading import fingerprint
from btcfi.adapters.store.spine.database import Store, StoreUnreachableError
from btcfi.errors import BtcfiError
from btcfi.surfaces.rest.streams import Placed
from btcfi.surfaces.rest.turns import Places
from dashboards.shared.limits import PageLimits

LOOK_SECONDS: Final = 0.25
"""Between two looks into the store; with the drawing a change is on the page well within a second."""

REDRAW_SECONDS: Final = 2.0
"""Ages grow although nothing happens."""

SESSION_CHECK_SECONDS: Final = 15.0
"""A stream of somebody who has signed out, or was closed out, ends within this."""

RETRY_MS: Final = 1_000
"""After which a browser opens a lost stream again."""

Fragments = Mapping[str, str]
"""Event name -> HTML."""


class Pulse:
    """Notices that the store has changed. Looks only while somebody listens."""

    def __init__(self, store: Store) -> None:
        """``store``: what is looked into."""
        self._store = store
        self._listeners = 0
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self.number = 0
        """Grows with every change."""
        self.problem: str | None = None
        """Why the store cannot be looked into, while it cannot."""

    async def __aenter__(self) -> Self:
        """Listen."""
        self._listeners += 1
        if self._task is None:
            self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop listening."""
        self._listeners -= 1
        if self._listeners == 0 and self._task is not None:
            self._task.cancel()
            self._task = None

    async def wait(self, seen: int, seconds: float) -> None:
        """Return when there is something newer than ``seen``, or after ``seconds``."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self.number != seen)
        except TimeoutError:
            return

    async def _look(self) -> None:
        last: object = None
        while True:
            try:
                found: object = await run_in_threadpool(self._fingerprint)
                self.problem = None
            except StoreUnreachableError as e:
                found = self.problem = str(e)
            if found != last:
                last = found
                self.number += 1
                async with self._changed:
                    self._changed.notify_all()
            await asyncio.sleep(LOOK_SECONDS)

    def _fingerprint(self) -> tuple[object, ...]:
        with self._store.reading() as session:
            return fingerprint(session)


class Live:
    """The open streams of one process."""

    def __init__(
        self,
        store: Store,
        *,
        limits: PageLimits,
        problem_html: Callable[[str], str],
        caller_of: Callable[[Request], str],
        may_stay: Callable[[Request], Awaitable[bool]],
    ) -> None:
        """problem_html: what a page shows while the store is away.

        caller_of: whose place a stream takes. may_stay: whether who opened a stream would still be let in.
        """
        self._limits = limits
        self._pulse = Pulse(store)
        self._problem_html, self._caller_of, self._may_stay = problem_html, caller_of, may_stay
        self._places = Places(each=limits.streams_per_visitor, most=limits.streams)
        self._drawn: dict[str, tuple[int, float, Fragments]] = {}

    def stream(self, request: Request, topic: str, draw: Callable[[], Fragments]) -> StreamingResponse:
        """Return the response that sends what ``draw`` gives, whenever it differs from what was sent.

        topic: pages of one topic share their drawing. Sent, it raises TooManyStreamsError without a place.
        """
        events = self._events(request, topic, draw)
        seconds = self._limits.stream_seconds
        return Placed(events, places=self._places, caller=self._caller_of(request), seconds=seconds)

    async def _events(self, request: Request, topic: str, draw: Callable[[], Fragments]) -> AsyncIterator[str]:
        async with self._pulse as pulse:
            yield f"retry: {RETRY_MS}\n\n"
            async for part in self._changes(request, pulse, topic, draw):
                yield part

    async def _changes(
        self, request: Request, pulse: Pulse, topic: str, draw: Callable[[], Fragments]
    ) -> AsyncIterator[str]:
        sent: dict[str, str] = {}
        begun = checked = time.monotonic()
        while time.monotonic() - begun < self._limits.stream_seconds and not await request.is_disconnected():
            seen = pulse.number
            try:
                if time.monotonic() - checked > SESSION_CHECK_SECONDS:
                    checked = time.monotonic()
                    if not await self._may_stay(request):
                        return
                fragments = dict(await self._draw(topic, seen, draw))
                fragments["problem"] = ""
            except StoreUnreachableError as e:
                fragments = {"problem": self._problem_html(str(e))}
            except BtcfiError:  # what the page is of is no more, as an expiry that has passed: asked again, it says so
                return
            for name, html in fragments.items():
                if sent.get(name) != html:
                    sent[name] = html
                    data = "\ndata: ".join(html.splitlines()) or " "
                    yield f"event: {name}\ndata: {data}\n\n"
            await pulse.wait(seen, REDRAW_SECONDS)

    async def _draw(self, topic: str, number: int, draw: Callable[[], Fragments]) -> Fragments:
        known = self._drawn.get(topic)
        if known is not None and known[0] == number and time.monotonic() - known[1] < REDRAW_SECONDS / 2:
            return known[2]
        drawn = await run_in_threadpool(draw)
        if len(self._drawn) > self._limits.streams:
            self._drawn.clear()
        self._drawn[topic] = (number, time.monotonic(), drawn)
        return drawn
