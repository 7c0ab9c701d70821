"""Every failure as a page, or as a fragment where htmx asks for one."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from btcfi.adapters.store.spine.database import StoreUnreachableError
from btcfi.errors import BtcfiError
from btcfi.surfaces.rest.errors import RateLimitedError
from btcfi.surfaces.status import status_of

TITLES: Final = {
    401: "Sign in first", 403: "Not allowed", 404: "Not here", 405: "Not like this", 408: "Too slow",
    409: "Not possible now",
    413: "Too large", 415: "Not a form", 422: "Something is wrong with the input", 429: "Too many attempts",
    503: "Not available right now",
}  # fmt: skip
INSIDE: Final = "It failed inside. The log of the service says why; nothing of it is shown here."


class Refusals:
    """What an application answers when something goes wrong."""

    def __init__(self, draw: Callable[[Request, str, int, dict[str, Any]], Response]) -> None:
        """``draw``: makes a page of a template, its status and what it shows."""
        self._draw = draw

    def install(self, app: FastAPI) -> None:
        """Make ``app`` answer with these."""
        app.add_exception_handler(BtcfiError, self.ours)
        app.add_exception_handler(RequestValidationError, self.invalid)
        app.add_exception_handler(HTTPException, self.http)
        app.add_exception_handler(Exception, self.unforeseen)

    def show(self, request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
        """Return the page of a status."""
        fragment = request.headers.get("hx-request") == "true"
        again = status == HTTPStatus.SERVICE_UNAVAILABLE and request.method == "GET"
        title = TITLES.get(status) or HTTPStatus(status).phrase
        shown = {"code": status, "title": title, "detail": detail, "again": again}
        answer = self._draw(request, "parts/refused.html" if fragment else "error.html", status, shown)
        answer.headers.update(headers or {})
        return answer

    def status(self, error: Exception) -> int:
        """Return the status of one of our errors."""
        return status_of(error).http

    async def ours(self, request: Request, error: Exception) -> Response:
        """Answer one of our errors by the table of statuses; what an internal one says stays inside."""
        status = self.status(error)
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
