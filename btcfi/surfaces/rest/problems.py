"""Errors as application/problem+json (RFC 9457), through the one status table."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.surfaces.rest.errors import RateLimitedError
from btcfi.surfaces.rest.schemas import Problem
from btcfi.surfaces.status import status_of

MEDIA_TYPE: Final = "application/problem+json"

_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def problem(
    request: Request, *, status: int, kind: str, title: str, detail: str, headers: dict[str, str] | None = None,
    **more: object,
) -> JSONResponse:  # fmt: skip
    """Return the response of one problem; ``more`` adds fields, None ones are left out."""
    body = {"type": f"urn:btcfi:error:{kind}", "title": title, "status": status, "detail": detail}
    body |= {"instance": request.url.path} | {k: v for k, v in more.items() if v is not None}
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def of_error(request: Request, error: BtcfiError) -> JSONResponse:
    """Return the problem of one of our errors. What an internal one says stays inside."""
    status = status_of(error).http
    name = _WORD_START.sub("-", type(error).__name__.removesuffix("Error")).lower()
    title = (type(error).__doc__ or "An error.").splitlines()[0]
    headers = {}
    if isinstance(error, RateLimitedError):
        headers["Retry-After"] = str(error.retry_after_seconds)
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "5"
    elif status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    internal = status == HTTPStatus.INTERNAL_SERVER_ERROR
    more: dict[str, Any] = {}
    if isinstance(error, InvalidInputError):
        more = {"field": error.field, "expected": error.expected}
    detail = "the request failed inside; nothing about it is for outside" if internal else str(error)
    return problem(request, status=status, kind=name, title=title, detail=detail, headers=headers, **more)


def install(app: FastAPI) -> None:
    """Make ``app`` answer every failure as a problem."""

    async def ours(request: Request, error: Exception) -> Response:
        return of_error(request, error) if isinstance(error, BtcfiError) else await unforeseen(request, error)

    async def invalid(request: Request, error: Exception) -> Response:
        many = error.errors() if isinstance(error, RequestValidationError) else []
        found = [
            {
                # the first place says query, body, path or header; the field is what follows it
                "field": ".".join(str(place) for place in one["loc"][1:]) or str(one["loc"][0]),
                "in": str(one["loc"][0]),
                "problem": str(one["msg"]),
            }
            for one in many[:20]
        ]
        first = found[0] if found else {"field": "request", "in": "body", "problem": "cannot be read"}
        return problem(
            request, status=422, kind="invalid-request", title="A field of the request is wrong.",
            detail=f"{first['field']}: {first['problem']}", field=first["field"], errors=found,
        )  # fmt: skip

    async def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        phrase = HTTPStatus(status).phrase
        detail = str(error.detail) if isinstance(error, HTTPException) else phrase
        if status == HTTPStatus.BAD_REQUEST:
            # the framework's answer to a body that is no JSON at all
            status, phrase = 422, "A field of the request is wrong."
            return problem(request, status=422, kind="invalid-request", title=phrase, detail=detail, field="body")
        kind = phrase.lower().replace(" ", "-")
        return problem(request, status=status, kind=kind, title=f"{phrase}.", detail=detail, headers=headers)

    async def unforeseen(request: Request, _error: Exception) -> Response:
        return problem(
            request, status=500, kind="internal", title="The request failed inside.",
            detail="the request failed inside; nothing about it is for outside",
        )  # fmt: skip

    app.add_exception_handler(BtcfiError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unforeseen)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of these failures."""
    return {
        status: {
            "model": Problem,
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }
