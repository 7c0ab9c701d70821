"""Server-sent events: new prices, and settlements on their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from threading import Event
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from btcfi.adapters.store.options import views as options_views
from btcfi.adapters.store.prices import views as prices_views
from btcfi.adapters.store.spine import views as spine_views
from btcfi.adapters.store.spine.database import Session, Store
from btcfi.surfaces.rest import reads
from btcfi.surfaces.rest.auth import ROLE, Caller, Gate, Reader, sight_of
from btcfi.surfaces.rest.deps import READ, Deps
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.turns import Places

POLL_SECONDS: Final = 0.5
"""Between two looks into the store: a price comes once a minute, a settlement takes seconds."""

HEARTBEAT_SECONDS: Final = 15.0
"""Comments that keep proxies from closing a silent stream."""

RESUME: Final = ": resume"
"""Said, as a comment, where nothing but the stream's time is over: the reader opens it again after its last event."""

CUT_SECONDS: Final = 30.0
"""After its time a stream is cut that did not end by itself: its reader takes nothing."""

MEDIA_TYPE: Final = "text/event-stream"

BOOK_POLL_SECONDS: Final = 2.0
"""For the whole book's premiums, which change every half minute and are many."""

STRETCH: Final = 10_000
"""Events of everybody's that one look goes through: no thread is held for as long as the log is."""

OVERLAP: Final = 500
"""The newest events, which are looked at again: PostgreSQL commits out of the order of numbers."""

ROWS: Final = 1_000
"""Events that one look reads; above OVERLAP, so that it goes on."""

BREATH_SECONDS: Final = 0.02
"""Between two looks where there is more to look through."""

Item = tuple[str, str, str]
"""Event id, event name, JSON."""

Id = Annotated[
    str,
    Path(
        min_length=1, max_length=128, pattern=r"^[!-~]+$", description="As the lists and a creation's answer have it."
    ),
]

LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="Resume after this event.", pattern=r"^[0-9]{1,18}$")
]
LastPremiumId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID", description="Resume after this event.", pattern=r"^[0-9]{1,18}(-[!-~]{1,128})?$",
        max_length=150,
    ),
]  # fmt: skip
Count = Annotated[
    int | None, Query(alias="limit", ge=1, le=100_000, description="Close after this many events; default: never.")
]

STREAMED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Events, until the caller hangs up.", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
}


def router(deps: Deps, places: Streams) -> APIRouter:
    """Return the stream endpoints, without a prefix. ``places``: of all streams of the application."""
    routes = APIRouter(tags=["streams"])
    refusals = documented(401, 403, 422, 429, 503)

    @routes.get(
        "/prices/stream", response_class=StreamingResponse, responses=STREAMED | refusals, openapi_extra={ROLE: READ}
    )
    async def stream_prices(
        caller: Reader, request: Request, last_event_id: LastEventId = None, count: Count = None
    ) -> StreamingResponse:
        """Stream every minute that is priced, from the newest on."""

        def newest() -> int:
            with deps.store.reading() as session:
                newest = prices_views.newest_close(session, deps.feed)
            return newest.slot - 1 if newest else 0

        def after(last: str) -> Sequence[Item]:
            with deps.store.reading() as session:
                rows = prices_views.prices_after(session, deps.feed, int(last), limit=100)
            return [(str(row.slot), "price", reads.price_of(row).model_dump_json()) for row in rows]

        start = last_event_id or str(await run_in_threadpool(newest))
        return places.stream(request, caller, after, start, count)

    @routes.get(
        "/settlements/stream",
        response_class=StreamingResponse,
        responses=STREAMED | refusals,
        openapi_extra={ROLE: READ},
    )
    async def stream_settlements(
        caller: Reader, request: Request, last_event_id: LastEventId = None, count: Count = None
    ) -> StreamingResponse:
        """Stream every edge that a settlement crosses, from now on or after Last-Event-ID."""
        sight = sight_of(caller)

        def newest() -> int:
            with deps.store.reading() as session:
                return spine_views.newest_event_id(session)

        def read(session: Session, after: int, until: int) -> tuple[list[Item], int]:
            rows = spine_views.events_after(session, entity="settlement", after=after, until=until, limit=ROWS)
            found = reads.settlement_events_of(session, rows, sight)
            reached = until if len(rows) < ROWS else rows[-1].id or until
            return [(str(one.id), "settlement", one.model_dump_json()) for one in found], reached

        start = last_event_id or str(await run_in_threadpool(newest))
        return places.stream(request, caller, EventLog(deps.store, read), start, count)

    _premium(routes, deps, places)
    return routes


def _premium(routes: APIRouter, deps: Deps, places: Streams) -> None:
    refusals = documented(401, 403, 422, 429, 503)

    @routes.get(
        "/options/{option_id}/premium/stream",
        response_class=StreamingResponse,
        responses=STREAMED | documented(401, 403, 404, 422, 429, 503),
        openapi_extra={ROLE: READ},
    )
    async def stream_premium(
        caller: Reader, request: Request, option_id: Id, last_event_id: LastEventId = None, count: Count = None
    ) -> StreamingResponse:
        """Stream an open option's premium each time that the premium service stores it; the id is its time."""

        def exists() -> None:
            with deps.store.reading() as session:
                reads.option(session, option_id, sight_of(caller))

        def after(last: str) -> Sequence[Item]:
            with deps.store.reading() as session:
                row = options_views.premium(session, option_id)
            if row is None or row.priced_at_unix <= int(last):
                return []
            return [(str(row.priced_at_unix), "premium", reads.premium_of(row).model_dump_json())]

        await run_in_threadpool(exists)
        return places.stream(request, caller, after, last_event_id or "0", count)

    @routes.get(
        "/premiums/stream", response_class=StreamingResponse, responses=STREAMED | refusals, openapi_extra={ROLE: READ}
    )
    async def stream_premiums(
        caller: Reader, request: Request, last_event_id: LastPremiumId = None, count: Count = None
    ) -> StreamingResponse:
        """Stream the premium of every open option, each time that the premium service stores them anew."""
        sight = sight_of(caller)

        def after(last: str) -> Sequence[Item]:
            at, _, option_id = last.partition("-")
            with deps.store.reading() as session:
                rows = options_views.premiums_after(
                    session, feed=deps.feed, at=int(at), option_id=option_id, sight=sight
                )  # fmt: skip
            return [
                (f"{row.priced_at_unix}-{row.option_id}", "premium", reads.premium_of(row).model_dump_json())
                for row in rows
            ]

        return places.stream(request, caller, after, last_event_id or "0", count, poll_seconds=BOOK_POLL_SECONDS)


class EventLog:
    """The log of everybody's events as one stream follows it: a stretch at a time, and only its end twice.

    An event that is committed late, behind one of a higher number, is sent late; each is sent with the highest number
    sent until then, after which the stream resumes.
    """

    def __init__(self, store: Store, read: Callable[[Session, int, int], tuple[list[Item], int]]) -> None:
        """``read``: what of the events after one, up to another, is the caller's; and the last one that it has read."""
        self._store, self._read = store, read
        self._begun: int | None = None
        self._looked = self._highest = 0
        self._sent: set[int] = set()

    def __call__(self, last: str) -> Sequence[Item] | None:
        """Return what came after an event; None where nothing was found yet and there is more to look through."""
        if self._begun is None:
            self._begun = self._highest = int(last)
        begin = max(self._begun, self._looked)
        with self._store.reading() as session:
            newest = spine_views.newest_event_id(session)
            if begin >= newest:
                return []
            found, reached = self._read(session, begin, min(begin + STRETCH, newest))
        new = [(int(name), entity, said) for name, entity, said in found if int(name) not in self._sent]
        self._looked = max(begin, min(reached, newest - OVERLAP))
        self._sent = {name for name in self._sent if name > self._looked} | {name for name, _, _ in new}
        items = []
        for name, entity, said in new:
            self._highest = max(self._highest, name)
            items.append((str(self._highest), entity, said))
        return None if not items and reached < newest else items


class Streams:
    """The open streams of one process: each in a place of its caller's, for a time, while its key holds."""

    def __init__(self, deps: Deps, gate: Gate) -> None:
        """``gate``: who is asked whether a caller would still be let in."""
        self._deps, self._gate = deps, gate
        limits = deps.limits
        self._places = Places(each=limits.streams_per_caller, most=limits.streams)

    def stream(
        self, request: Request, caller: Caller, after: Callable[[str], Sequence[Item] | None], start: str,
        count: int | None, *, poll_seconds: float = POLL_SECONDS,
    ) -> StreamingResponse:  # fmt: skip
        """Return the response that sends what ``after`` finds (None: it is asked again at once).

        Sent, it raises TooManyStreamsError without a place.
        """
        events = self._events(request, caller, after, start, count, poll_seconds=poll_seconds)
        seconds = self._deps.limits.stream_seconds
        return Placed(events, places=self._places, caller=caller.counted, stranger=caller.anonymous, seconds=seconds)

    async def _events(
        self, request: Request, caller: Caller, after: Callable[[str], Sequence[Item] | None], start: str,
        count: int | None, *, poll_seconds: float,
    ) -> AsyncIterator[str]:  # fmt: skip
        yield ": connected\n\n"
        last = start
        left = count if count is not None else -1
        silent = 0.0
        closing: Event = request.app.state.closing
        ends = self._deps.monotonic() + self._deps.limits.stream_seconds
        while left and self._deps.monotonic() < ends and not closing.is_set() and not await request.is_disconnected():
            if not await self._gate.still_holds(caller, READ):
                return
            found = await run_in_threadpool(after, last)
            if found is None:
                await asyncio.sleep(BREATH_SECONDS)
                continue
            for last, name, body in found[: left if left > 0 else None]:
                yield f"id: {last}\nevent: {name}\ndata: {body}\n\n"
                left -= 1
            silent = 0.0 if found else silent + poll_seconds
            if silent >= HEARTBEAT_SECONDS:
                silent = 0.0
                yield ": still here\n\n"
            if left and not found:
                await asyncio.sleep(poll_seconds)
        if left and self._deps.monotonic() >= ends:
            yield f"{RESUME}\n\n"


class Placed(StreamingResponse):
    """A stream that holds a place from its first byte to its end."""

    def __init__(
        self, events: AsyncIterator[str], *, places: Places, caller: str, seconds: float, stranger: bool = False
    ) -> None:
        """seconds: after which the stream ends by itself; where nobody reads it is cut a little later."""
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type=MEDIA_TYPE, headers=headers)
        self._places, self._caller, self._seconds, self._stranger = places, caller, seconds, stranger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream. Raises TooManyStreamsError before its first byte."""
        refusal = self._places.refusal(self._caller, stranger=self._stranger)
        if refusal is not None:
            raise refusal
        with self._places.place(self._caller), suppress(TimeoutError):
            async with asyncio.timeout(self._seconds + CUT_SECONDS):
                await super().__call__(scope, receive, send)
