"""Errors as application/problem+json (RFC 9457), through the one status table."""

from __future__ import annotations

import re
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.options.order import PriceMovedError
from btcfi.surfaces.rest.errors import RateLimitedError
from btcfi.surfaces.rest.schemas import Problem
from btcfi.surfaces.status import status_of

MEDIA_TYPE: Final = "application/problem+json"

WRONG_FIELD: Final = "A field of the request is wrong."

_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def problem(
    request: Request, *, status: int, kind: str, title: str, detail: str, headers: dict[str, str] | None = None,
    **more: object,
) -> JSONResponse:  # fmt: skip
    """Return the response of one problem; ``more`` adds fields, None ones are left out."""
    body = {"type": f"urn:btcfi:error:{kind}", "title": title, "status": status, "detail": detail}
    body |= {"instance": request.url.path} | {k: v for k, v in more.items() if v is not None}
    if request_id := getattr(request.state, "request_id", None):
        body["request_id"] = request_id
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def of_error(request: Request, error: BtcfiError) -> JSONResponse:
    """Return the problem of one of our errors. What an internal one says stays inside."""
    status = status_of(error).http
    name = _WORD_START.sub("-", type(error).__name__.removesuffix("Error")).lower()
    title = WRONG_FIELD
    if type(error) is not InvalidInputError:
        # of the class's docstring the first sentence: the rest is for who reads the code
        title = (type(error).__doc__ or "An error.").splitlines()[0].split(". ")[0].rstrip(".") + "."
    headers = {}
    if isinstance(error, RateLimitedError):
        headers["Retry-After"] = headers["RateLimit-Reset"] = str(error.retry_after_seconds)
        headers |= {"RateLimit-Limit": str(error.requests_per_minute), "RateLimit-Remaining": "0"}
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "5"
    elif status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    internal = status == HTTPStatus.INTERNAL_SERVER_ERROR
    more: dict[str, Any] = {}
    if isinstance(error, InvalidInputError):
        more = {"field": error.field, "expected": error.expected}
    elif isinstance(error, PriceMovedError):
        more = {"premium_cents": error.premium, "max_premium_cents": error.limit}
    detail = "the request failed inside; nothing about it is for outside" if internal else str(error)
    return problem(request, status=status, kind=name, title=title, detail=detail, headers=headers, **more)


def unreadable(request: Request, error: InvalidInputError) -> JSONResponse:
    """Return the problem of a body that is no JSON of one meaning: the kind that a wrong field has."""
    return problem(
        request, status=422, kind="invalid-request", title=WRONG_FIELD, detail=str(error), field=error.field,
        expected=error.expected,
    )  # fmt: skip


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
        for one in found:
            if expected := expected_of(request, one["in"], one["field"]):
                one["expected"] = expected
        first = found[0] if found else {"field": "request", "in": "body", "problem": "cannot be read"}
        return problem(
            request, status=422, kind="invalid-request", title=WRONG_FIELD,
            detail=f"{first['field']}: {first['problem']}", field=first["field"], expected=first.get("expected"),
            errors=found,
        )  # fmt: skip

    async def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        phrase = HTTPStatus(status).phrase
        detail = str(error.detail) if isinstance(error, HTTPException) else phrase
        if status == HTTPStatus.BAD_REQUEST:
            # the framework's answer to a body that is no JSON at all
            return problem(request, status=422, kind="invalid-request", title=WRONG_FIELD, detail=detail, field="body")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            # the router knows the methods of the first route of the path alone
            headers["Allow"] = ", ".join(allowed(request)) or headers.get("Allow", "")
        kind = phrase.lower().replace(" ", "-")
        return problem(request, status=status, kind=kind, title=f"{phrase}.", detail=detail, headers=headers)

    async def unforeseen(request: Request, _error: Exception) -> Response:
        # not written down here: the frame lets it through to whoever serves, who does
        return problem(
            request, status=500, kind="internal", title="The request failed inside.",
            detail="the request failed inside; nothing about it is for outside",
        )  # fmt: skip

    app.add_exception_handler(BtcfiError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unforeseen)


def allowed(request: Request) -> list[str]:
    """Return the methods that a path has, by the document."""
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    methods = {
        method.upper()
        for template, operations in request.app.openapi()["paths"].items()
        if path_pattern(template).fullmatch(path)
        for method in operations
    }
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


@cache
def path_pattern(template: str) -> re.Pattern[str]:
    """Return what matches the paths of a template: a parameter is anything without a slash, as for the router."""
    return re.compile("[^/]+".join(re.escape(part) for part in re.split(r"\{[^}]*\}", template)))


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


def expected_of(request: Request, place: str, field: str) -> str | None:
    """Return what the OpenAPI document allows for a field of the operation that was asked, in words."""
    document = request.app.openapi()
    # the route knows its path only from its router on
    template = getattr(request.scope.get("route"), "path_format", "/")
    known = [path for path in document["paths"] if path.endswith(template)]
    known = [path for path in known if request.url.path.startswith(path.removesuffix(template))]
    operation = document["paths"].get(max(known, key=len, default=""), {}).get(request.method.lower(), {})
    if place == "body":
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        schema = _resolved(content.get("schema", {}), document).get("properties", {}).get(field)
    else:
        named = (one for one in operation.get("parameters", ()) if (one["in"], one["name"]) == (place, field))
        schema = next((one["schema"] for one in named), None)
    return None if schema is None else _in_words(_resolved(schema, document))


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return the schema behind a reference, or the first that is not null of several."""
    for one in schema.get("anyOf", ()):
        if one.get("type") != "null":
            found = _resolved(one, document)
            return found | {"description": schema.get("description", found.get("description", ""))}
    if name := schema.get("$ref", "").rpartition("/")[2]:
        return dict(document["components"]["schemas"][name])
    return schema


def _in_words(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(str(one) for one in schema["enum"])
    words = [str(schema.get("type", "number"))]
    for key, phrase in _BOUNDS.items():
        if key in schema:
            words.append(phrase.format(f"{schema[key]:.10g}"))
    about = str(schema.get("description", "")).rstrip(".")
    return ", ".join(words) + (f": {about}" if about else "")


_BOUNDS: Final = {
    "exclusiveMinimum": "above {}",
    "minimum": "from {}",
    "maximum": "to {}",
    "multipleOf": "a multiple of {}",
    "minLength": "of at least {} characters",
    "maxLength": "at most {}",
}
"""JSON Schema's words for a range, and ours."""
