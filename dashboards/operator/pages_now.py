"""Now: the pipeline at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, StreamingResponse

from btcfi.adapters.store.prices import views as prices
from btcfi.adapters.store.spine import views as spine
from dashboards.operator import queries
from dashboards.operator.console import Console, base_of
from dashboards.operator.gate import Reader

EVENTS = 12
"""Newest ones that the page lists."""


def router(console: Console) -> APIRouter:
    """Return the page and its stream."""
    routes = APIRouter()

    @routes.get("/")
    def now(request: Request, who: Reader) -> HTMLResponse:
        return console.page(request, who, "now.html", **snapshot(console))

    @routes.get("/live/now")
    def live(request: Request, _who: Reader) -> StreamingResponse:
        base = base_of(request)

        def draw() -> Mapping[str, str]:
            seen = snapshot(console)
            return {
                "pipeline": console.draw("parts/pipeline.html", base=base, **seen),
                "health": console.draw("parts/health.html", base=base, **seen),
                "events": console.draw("parts/events.html", base=base, **seen),
            }

        return console.live.stream(request, "now", draw)

    return routes


def snapshot(console: Console) -> dict[str, Any]:
    """Return what the page shows."""
    with console.reading() as session:
        newest = prices.newest_priced(session, console.feed)
        pipeline = queries.pipeline(session, console.feed, newest)
        health = queries.health(session, console.feed, newest)
        events = spine.newest_events(session, EVENTS)
        minutes = queries.minutes_of(session, events)
    return {
        "pipeline": pipeline,
        "health": health,
        "events": events,
        "minutes": minutes,
        "now": console.now(),
        "roster": console.roster.refresh(),
        "stale_after": console.deps.api.limits.stale_price_seconds,
    }
