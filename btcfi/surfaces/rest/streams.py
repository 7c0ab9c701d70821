"""Server-sent events: new prices, and settlements on their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from threading import Event
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from btcfi.adapters.store.options import views as options_views
from btcfi.adapters.store.prices import views as prices_views
from btcfi.adapters.store.spine import views as spine_views
from btcfi.surfaces.rest import reads
from btcfi.surfaces.rest.auth import ROLE, Reader
from btcfi.surfaces.rest.deps import READ, Deps
from btcfi.surfaces.rest.errors import TooManyStreamsError
from btcfi.surfaces.rest.problems import documented

POLL_SECONDS: Final = 0.5
"""Between two looks into the store: a price comes once a minute, a settlement takes seconds."""

HEARTBEAT_SECONDS: Final = 15.0
"""Comments that keep proxies from closing a silent stream."""

MEDIA_TYPE: Final = "text/event-stream"

BOOK_POLL_SECONDS: Final = 2.0
"""For the whole book's premiums, which change every half minute and are many."""

Item = tuple[str, str, str]
"""Event id, event name, JSON."""

Id = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[!-~]+$")]

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


def router(deps: Deps) -> APIRouter:
    """Return the stream endpoints, without a prefix."""
    routes = APIRouter(tags=["streams"])
    places = Places(deps.limits.streams)
    refusals = documented(401, 403, 422, 429, 503)

    @routes.get(
        "/prices/stream", response_class=StreamingResponse, responses=STREAMED | refusals, openapi_extra={ROLE: READ}
    )
    async def stream_prices(
        _caller: Reader, request: Request, last_event_id: LastEventId = None, count: Count = None
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
        return places.stream(request, after, start, count)

    @routes.get(
        "/settlements/stream",
        response_class=StreamingResponse,
        responses=STREAMED | refusals,
        openapi_extra={ROLE: READ},
    )
    async def stream_settlements(
        _caller: Reader, request: Request, last_event_id: LastEventId = None, count: Count = None
    ) -> StreamingResponse:
        """Stream every edge that a settlement crosses, from now on or after Last-Event-ID."""

        def newest() -> int:
            with deps.store.reading() as session:
                return spine_views.newest_event_id(session)

        def after(last: str) -> Sequence[Item]:
            with deps.store.reading() as session:
                rows = spine_views.events_after(session, entity="settlement", after=int(last), limit=100)
                found = reads.settlement_events_of(session, rows)
            return [(str(one.id), "settlement", one.model_dump_json()) for one in found]

        start = last_event_id or str(await run_in_threadpool(newest))
        return places.stream(request, after, start, count)

    _premium(routes, deps, places)
    return routes


def _premium(routes: APIRouter, deps: Deps, places: Places) -> None:
    refusals = documented(401, 403, 422, 429, 503)

    @routes.get(
        "/options/{option_id}/premium/stream",
        response_class=StreamingResponse,
        responses=STREAMED | documented(401, 403, 404, 422, 429, 503),
        openapi_extra={ROLE: READ},
    )
    async def stream_premium(
        _caller: Reader, request: Request, option_id: Id, last_event_id: LastEventId = None, count: Count = None
    ) -> StreamingResponse:
        """Stream an open option's premium each time that the premium service stores it; the id is its time."""

        def exists() -> None:
            with deps.store.reading() as session:
                reads.option(session, option_id)

        def after(last: str) -> Sequence[Item]:
            with deps.store.reading() as session:
                row = options_views.premium(session, option_id)
            if row is None or row.priced_at_unix <= int(last):
                return []
            return [(str(row.priced_at_unix), "premium", reads.premium_of(row).model_dump_json())]

        await run_in_threadpool(exists)
        return places.stream(request, after, last_event_id or "0", count)

    @routes.get(
        "/premiums/stream", response_class=StreamingResponse, responses=STREAMED | refusals, openapi_extra={ROLE: READ}
    )
    async def stream_premiums(
        _caller: Reader, request: Request, last_event_id: LastPremiumId = None, count: Count = None
    ) -> StreamingResponse:
        """Stream the premium of every open option, each time that the premium service stores them anew."""

        def after(last: str) -> Sequence[Item]:
            at, _, option_id = last.partition("-")
            with deps.store.reading() as session:
                rows = options_views.premiums_after(session, feed=deps.feed, at=int(at), option_id=option_id)
            return [
                (f"{row.priced_at_unix}-{row.option_id}", "premium", reads.premium_of(row).model_dump_json())
                for row in rows
            ]

        return places.stream(request, after, last_event_id or "0", count, poll_seconds=BOOK_POLL_SECONDS)


class Places:
    """The open streams of one process, at most ``limit``."""

    def __init__(self, limit: int) -> None:
        """``limit``: streams at once."""
        self._limit = limit
        self._taken = 0

    def stream(
        self, request: Request, after: Callable[[str], Sequence[Item]], start: str, count: int | None,
        *, poll_seconds: float = POLL_SECONDS,
    ) -> StreamingResponse:  # fmt: skip
        """Return the response that sends what ``after`` finds. Raises TooManyStreamsError."""
        if self._taken >= self._limit:
            raise TooManyStreamsError(self._limit)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        events = self._events(request, after, start, count, poll_seconds)
        return StreamingResponse(events, media_type=MEDIA_TYPE, headers=headers)

    async def _events(
        self, request: Request, after: Callable[[str], Sequence[Item]], start: str, count: int | None,
        poll_seconds: float,
    ) -> AsyncIterator[str]:  # fmt: skip
        self._taken += 1
        try:
            yield ": connected\n\n"
            last = start
            left = count if count is not None else -1
            silent = 0.0
            closing: Event = request.app.state.closing
            while left and not closing.is_set() and not await request.is_disconnected():
                found = await run_in_threadpool(after, last)
                for last, name, body in found[: left if left > 0 else None]:
                    yield f"id: {last}\nevent: {name}\ndata: {body}\n\n"
                    left -= 1
                silent = 0.0 if found else silent + poll_seconds
                if silent >= HEARTBEAT_SECONDS:
                    silent = 0.0
                    yield ": still here\n\n"
                if left and not found:
                    await asyncio.sleep(poll_seconds)
        finally:
            self._taken -= 1
