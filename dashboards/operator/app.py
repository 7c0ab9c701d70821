"""The application: pages, static files, the shell around them, and a page for everything that goes wrong."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from btcfi.surfaces.rest.frame import Frame
from dashboards.operator import pages_now, pages_operate, pages_sign_in
from dashboards.operator.console import Console, base_of
from dashboards.operator.deps import ConsoleDeps
from dashboards.operator.errors import SignInNeededError
from dashboards.operator.render import HERE
from dashboards.shared.errors import ForgedFormError
from dashboards.shared.refusals import Refusals
from dashboards.shared.shell import FORM, Shell, refuse
from dashboards.shared.static_files import Static


def create_console(deps: ConsoleDeps) -> FastAPI:
    """Return the operator console, an ASGI application. Nothing is read before the first request."""
    app = FastAPI(title="BTCFi operator console", openapi_url=None, docs_url=None, redoc_url=None)
    console = Console(deps)
    app.state.deps = deps
    app.state.console = console
    own = (pages_sign_in.router, pages_now.router, pages_operate.router)
    for router in (*own, *(page.router for page in deps.pages)):
        app.include_router(router(console))
    app.mount("/static", Static(HERE), name="static")

    def draw(request: Request, template: str, status: int, shown: dict[str, Any]) -> Response:
        return console.page(request, None, template, status=status, **shown)

    _Refusals(draw).install(app)
    app.add_middleware(Shell, limits=deps.limits, monotonic=deps.api.monotonic, kinds={FORM: deps.limits.body_bytes})
    app.add_middleware(Frame, hosts=deps.hosts, new_id=deps.api.new_id, refuse=refuse)
    return app


class _Refusals(Refusals):
    """With a way to the sign-in page for who is not signed in."""

    def install(self, app: FastAPI) -> None:
        """Make ``app`` answer with these."""
        app.add_exception_handler(SignInNeededError, self.signed_out)
        super().install(app)

    def status(self, error: Exception) -> int:
        """Return the status of one of our errors."""
        return 403 if isinstance(error, ForgedFormError) else super().status(error)

    async def signed_out(self, request: Request, error: Exception) -> Response:
        """Send a reader to the sign-in page and back; a form is refused, for it would be lost on the way."""
        why, base = getattr(error, "why", "nobody is signed in here"), base_of(request)
        if request.headers.get("hx-request") == "true":
            return self.show(request, 401, f"{why}", {"HX-Redirect": f"{base}/sign-in"})
        if request.url.path.startswith(f"{base}/live/"):
            # nobody reads a page here, and drawing one is dearer than asking
            return PlainTextResponse(f"{why}\n", status_code=401)
        if request.method != "GET":
            return self.show(request, 401, f"{why}. Nothing was done.")
        to = request.url.path.removeprefix(base) + (f"?{request.url.query}" if request.url.query else "")
        back = f"?{urlencode({'to': to})}" if to != "/" else ""
        return RedirectResponse(f"{base}/sign-in{back}", status_code=303)
