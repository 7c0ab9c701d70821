"""The application: pages, static files, the shell around them, and a page for everything that goes wrong."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from btcfi.adapters.store.spine.database import StoreUnreachableError
from btcfi.errors import BtcfiError
from btcfi.surfaces.rest.errors import RateLimitedError
from btcfi.surfaces.rest.frame import Frame
from btcfi.surfaces.status import status_of
from dashboards.operator import pages_now, pages_operate, pages_sign_in
from dashboards.operator.console import Console, base_of
from dashboards.operator.deps import ConsoleDeps
from dashboards.operator.errors import ForgedFormError, SignInNeededError
from dashboards.operator.render import HERE
from dashboards.shared.shell import FORM, Shell, refuse
from dashboards.shared.static_files import Static

TITLES: Final = {
    401: "Sign in first", 403: "Not allowed", 404: "Not here", 405: "Not like this", 408: "Too slow",
    409: "Not possible now",
    413: "Too large", 415: "Not a form", 422: "Something is wrong with the input", 429: "Too many attempts",
    503: "Not available right now",
}  # fmt: skip
INSIDE: Final = "It failed inside. The log of the console says why; nothing of it is shown here."


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
    _Refusals(console).install(app)
    app.add_middleware(Shell, limits=deps.limits, monotonic=deps.api.monotonic, kinds={FORM: deps.limits.body_bytes})
    app.add_middleware(Frame, hosts=deps.hosts, new_id=deps.api.new_id, refuse=refuse)
    return app


class _Refusals:
    """Every failure as a page, or as a fragment where htmx asks for one."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def install(self, app: FastAPI) -> None:
        """Make ``app`` answer with these."""
        app.add_exception_handler(SignInNeededError, self.signed_out)
        app.add_exception_handler(BtcfiError, self.ours)
        app.add_exception_handler(RequestValidationError, self.invalid)
        app.add_exception_handler(HTTPException, self.http)
        app.add_exception_handler(Exception, self.unforeseen)

    def show(self, request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
        """Return the page of a status."""
        fragment = request.headers.get("hx-request") == "true"
        answer = self._console.page(
            request, None, "parts/refused.html" if fragment else "error.html", status=status, code=status,
            title=TITLES.get(status) or HTTPStatus(status).phrase, detail=detail,
            again=status == HTTPStatus.SERVICE_UNAVAILABLE and request.method == "GET",
        )  # fmt: skip
        answer.headers.update(headers or {})
        return answer

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

    async def ours(self, request: Request, error: Exception) -> Response:
        """Answer one of our errors by the table of statuses; what an internal one says stays inside."""
        status = 403 if isinstance(error, ForgedFormError) else status_of(error).http
        headers = {}
        if isinstance(error, RateLimitedError):
            headers["Retry-After"] = str(error.retry_after_seconds)
        elif status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = "3"
        if isinstance(error, StoreUnreachableError):
            return self.show(request, status, "The database does not answer. This page tries again by itself.", headers)
        internal = status == HTTPStatus.INTERNAL_SERVER_ERROR
        return self.show(request, status, INSIDE if internal else f"{str(error)[:500]}.", headers)

    async def invalid(self, request: Request, error: Exception) -> Response:
        """Name the first field that is wrong."""
        first = error.errors()[0] if isinstance(error, RequestValidationError) and error.errors() else {}
        place = ".".join(str(part) for part in first.get("loc", ("request",))[1:]) or "request"
        return self.show(request, 422, f"{place}: {first.get('msg', 'cannot be read')}.")

    async def http(self, request: Request, error: Exception) -> Response:
        """Answer what the router refuses."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        detail = "There is no such page." if status == HTTPStatus.NOT_FOUND else HTTPStatus(status).description
        return self.show(request, status, detail, headers)

    async def unforeseen(self, request: Request, _error: Exception) -> Response:
        """Say no more than that it failed."""
        return self.show(request, 500, INSIDE)
