"""The application: the desk's pages, static files, and a page for everything that goes wrong."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request
from starlette.responses import Response

from btcfi.surfaces.rest.frame import Frame
from dashboards.shared.refusals import Refusals
from dashboards.shared.shell import FORM, Shell, refuse
from dashboards.shared.static_files import Static
from dashboards.trader import pages_market, pages_verify
from dashboards.trader.deps import DeskDeps
from dashboards.trader.desk import HERE, Desk

JSON: Final = "application/json"


class _Refusals(Refusals):
    """Where a form of another site is forbidden."""

    def status(self, error: Exception) -> int:
        """Return the status of one of our errors."""
        return 403 if isinstance(error, pages_verify.ForeignFormError) else super().status(error)


def create_desk(deps: DeskDeps) -> FastAPI:
    """Return the trader's desk, an ASGI application. Nothing is read before the first request.

    Serve it behind a dispatcher by path, with that path as its ``root_path``; every caller is a stranger to it.
    """
    app = FastAPI(title="BTCFi desk", openapi_url=None, docs_url=None, redoc_url=None)
    desk = Desk(deps)
    app.state.desk = desk
    for page in (pages_market, pages_verify):
        app.include_router(page.router(desk))
    app.mount("/static", Static(HERE), name="static")

    def draw(request: Request, template: str, status: int, shown: dict[str, Any]) -> Response:
        return desk.page(request, template, status=status, **shown)

    _Refusals(draw).install(app)
    # without scripts a contract's files are pasted: hundreds of signatures are above what other forms hold
    taken = {FORM: deps.limits.documents_bytes, JSON: deps.limits.documents_bytes}
    app.add_middleware(Shell, limits=deps.limits, monotonic=deps.api.monotonic, kinds=taken)
    app.add_middleware(Frame, hosts=deps.hosts, new_id=deps.api.new_id, refuse=refuse)
    return app
