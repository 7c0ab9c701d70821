"""The application: routers, the gate, limits on bodies, problems, the OpenAPI document."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from threading import Event
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute

from btcfi.pricing.premium import warm_up
from btcfi.surfaces.rest import published, streams, v1
from btcfi.surfaces.rest.auth import ROLE, Gate
from btcfi.surfaces.rest.deps import Deps
from btcfi.surfaces.rest.errors import BodyTooLargeError, WrongContentTypeError
from btcfi.surfaces.rest.market import MarketReader
from btcfi.surfaces.rest.problems import install, of_error

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PROOFS: Final = "/api/v1/proofs/verify"
WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})

ABOUT: Final = (
    "Options on Bitcoin whose settlement anybody can check. Errors are application/problem+json; every POST that "
    "creates takes an Idempotency-Key; a key goes into Authorization: Bearer."
)


def create_app(deps: Deps) -> FastAPI:
    """Return the REST application. Started by a server it first compiles the pricing kernels; it reads when asked.

    A server that stops sets ``state.closing``: open event streams end then, instead of being cut.
    """
    app = FastAPI(
        title="BTCFi Oracle VM",
        version="1.0.0",
        description=ABOUT,
        openapi_url="/api/v1/openapi.json",
        docs_url="/api/docs",
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        lifespan=_ready,
    )
    app.state.gate = Gate(deps)
    app.state.closing = Event()
    market = MarketReader(deps)
    app.include_router(published.router(deps, market), prefix="/api")
    app.include_router(published.router(deps, market), prefix="/api/v1")
    app.include_router(streams.router(deps), prefix="/api/v1")
    app.include_router(v1.router(deps, market), prefix="/api/v1")
    install(app)
    _say_where_a_key_is_optional(app, deps.anonymous_roles)
    app.add_middleware(BoundedBody, body_bytes=deps.limits.body_bytes, proof_bytes=deps.limits.proof_bytes)
    if deps.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(deps.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
        )
    return app


@asynccontextmanager
async def _ready(_app: FastAPI) -> AsyncIterator[None]:
    await run_in_threadpool(warm_up)
    yield


def _say_where_a_key_is_optional(app: FastAPI, anonymous_roles: frozenset[str]) -> None:
    """Make the document say which operations a caller without a key may use."""
    plain = app.openapi

    def document() -> dict[str, Any]:
        written = plain()
        for path in written["paths"].values():
            for operation in path.values():
                role = operation.get(ROLE)
                if role in anonymous_roles and {} not in operation["security"]:
                    operation["security"].append({})
        return written

    app.openapi = document  # type: ignore[method-assign]


def _operation_id(route: APIRoute) -> str:
    """Return the name that generated clients use; the published path has the plain one."""
    versioned = route.path_format.startswith("/api/v1/") and "published" in route.tags
    return f"{route.name}_v1" if versioned else route.name


class BoundedBody:
    """Reads a request's body before anything else, up to its path's limit, and insists that it is JSON."""

    def __init__(self, app: Callable[..., Awaitable[None]], *, body_bytes: int, proof_bytes: int) -> None:
        """``app``: what comes after."""
        self._app, self._body_bytes, self._proof_bytes = app, body_bytes, proof_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["method"] not in WITH_BODY:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        limit = self._proof_bytes if scope["path"] == PROOFS else self._body_bytes
        declared = request.headers.get("content-length", "0")
        body = bytearray()
        more = True
        too_large = declared.isdigit() and int(declared[:20]) > limit
        while more and not too_large:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            too_large = len(body) > limit
        if too_large:
            await of_error(request, BodyTooLargeError(limit_bytes=limit))(scope, receive, send)
            return
        content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if body and content_type != "application/json":
            await of_error(request, WrongContentTypeError(content_type))(scope, receive, send)
            return
        scope.setdefault("state", {})["body"] = bytes(body)
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self._app(scope, replay, send)
