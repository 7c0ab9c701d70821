"""The application: the desk's pages, static files, and a page for everything that goes wrong."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Depends, FastAPI, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from btcfi.surfaces.rest.frame import Frame
from dashboards.shared.errors import ForgedFormError
from dashboards.shared.refusals import Refusals
from dashboards.shared.shell import FORM, Shell, refuse
from dashboards.shared.static_files import Static
from dashboards.trader import (
    pages_account,
    pages_close,
    pages_market,
    pages_positions,
    pages_quotes,
    pages_sales,
    pages_sign_in,
    pages_verify,
)
from dashboards.trader.deps import DeskDeps
from dashboards.trader.desk import HERE, Desk, base_of
from dashboards.trader.gate import SignInNeededError

JSON: Final = "application/json"


class _Refusals(Refusals):
    """Where a form of another site is forbidden, and who is not signed in is shown the way."""

    def install(self, app: FastAPI) -> None:
        """Make ``app`` answer with these."""
        app.add_exception_handler(SignInNeededError, self.signed_out)
        super().install(app)

    def status(self, error: Exception) -> int:
        """Return the status of one of our errors."""
        forged = isinstance(error, (pages_verify.ForeignFormError, ForgedFormError))
        return 403 if forged else super().status(error)

    async def signed_out(self, request: Request, error: Exception) -> Response:
        """Send a reader to the sign-in page; what is no page is refused."""
        base = base_of(request)
        if request.headers.get("hx-request") == "true":
            return self.show(request, 401, f"{error}.", {"HX-Redirect": f"{base}/sign-in"})
        if request.method != "GET":
            return self.show(request, 401, f"{error}. Nothing was done.")
        path = request.url.path
        own = path in {f"{base}/positions", f"{base}/account"} or path.startswith((f"{base}/close/", f"{base}/sell/"))
        if not own:
            # nobody reads a page here, and drawing one is dearer than asking
            return PlainTextResponse(f"{error}\n", status_code=401)
        return RedirectResponse(f"{base}/sign-in", status_code=303)


def create_desk(deps: DeskDeps) -> FastAPI:
    """Return the trader's desk, an ASGI application. Nothing is read before the first request.

    Serve it behind a dispatcher by path, with that path as its ``root_path``; a caller is a stranger, or a browser that
    an account's own process has let in.
    """
    app = FastAPI(title="BTCFi desk", openapi_url=None, docs_url=None, redoc_url=None)
    desk = Desk(deps)
    app.state.desk = desk
    pages = (
        pages_market, pages_quotes, pages_verify, pages_sign_in, pages_positions, pages_close, pages_sales,
        pages_account,
    )  # fmt: skip
    for page in pages:
        app.include_router(page.router(desk), dependencies=[Depends(desk.look)])
    app.mount("/static", Static(HERE), name="static")

    def draw(request: Request, template: str, status: int, shown: dict[str, Any]) -> Response:
        return desk.page(request, template, status=status, **shown)

    _Refusals(draw).install(app)
    # without scripts a contract's files are pasted: hundreds of signatures are above what other forms hold
    taken = {FORM: deps.limits.documents_bytes, JSON: deps.limits.documents_bytes}
    app.add_middleware(Shell, limits=deps.limits, monotonic=deps.api.monotonic, kinds=taken)
    app.add_middleware(Frame, hosts=deps.hosts, new_id=deps.api.new_id, refuse=refuse)
    return app
