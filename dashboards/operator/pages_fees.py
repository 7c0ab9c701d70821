"""Fees: what the next blocks would hold, and what of ours waits for them, deadline first."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from btcfi.surfaces.fee_view import fee_view
from dashboards.operator.console import Console
from dashboards.operator.gate import Operator


def router(console: Console) -> APIRouter:
    """Return the page, and the part of it that is drawn again."""
    routes = APIRouter()

    def drawn(request: Request, who: Operator, template: str) -> HTMLResponse:
        api = console.deps.api
        return console.page(request, who, template, seen=fee_view(api.store, api.pool, api.fee_rule))

    @routes.get("/fees")
    def fees(request: Request, who: Operator) -> HTMLResponse:
        return drawn(request, who, "fees.html")

    @routes.get("/fees/body")
    def body(request: Request, who: Operator) -> HTMLResponse:
        return drawn(request, who, "parts/fees.html")

    return routes
