"""The application: routers, what stands before them, problems, the OpenAPI document and its page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from threading import Event
from typing import Any, Final

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute

from btcfi.pricing.premium import warm_up
from btcfi.surfaces.rest import published, reference, streams, v1
from btcfi.surfaces.rest.admission import Admission, Operations
from btcfi.surfaces.rest.auth import ROLE, SIGNERS, Gate, widened
from btcfi.surfaces.rest.deps import SIGNED, Deps
from btcfi.surfaces.rest.examples import illustrate
from btcfi.surfaces.rest.frame import REQUEST_ID, Frame
from btcfi.surfaces.rest.market import MarketReader
from btcfi.surfaces.rest.market_desk import events
from btcfi.surfaces.rest.market_desk import routes as market_desk
from btcfi.surfaces.rest.problems import documented, install, of_error

COMMON: Final = documented(400, 408, 421)
"""What any operation may answer: a length in two ways, a body that stops, another host's name."""

ANSWERED: Final = {
    REQUEST_ID: "The request's id: the caller's own, where it sent one of up to 64 letters, digits, . _ ~ -.",
}
COUNTED: Final = {
    "RateLimit-Limit": "Requests a minute.",
    "RateLimit-Remaining": "Requests that would be let in now.",
    "RateLimit-Reset": "Seconds until that is at its most.",
}
"""Headers of every answer, and of those that know their caller."""

SIGNATURE: Final = {
    "type": "apiKey", "in": "header", "name": "Authorization",
    "description": "BTCFi-Signature account=IDENTITY,at=UNIX,signature=HEX: an account's request key over the request.",
}  # fmt: skip

ABOUT: Final = (
    "Options on Bitcoin whose settlement anybody can check. Errors are application/problem+json; every POST that "
    "creates takes an Idempotency-Key, or is signed. A key goes into Authorization: Bearer; an account signs requests."
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
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        responses=COMMON,
        lifespan=_ready,
    )
    gate = app.state.gate = Gate(deps)
    app.state.closing = Event()
    market = MarketReader(deps)
    app.include_router(published.router(deps, market), prefix="/api")
    app.include_router(published.router(deps, market), prefix="/api/v1")
    places = streams.Streams(deps, gate)
    app.include_router(streams.router(deps, places), prefix="/api/v1")
    app.include_router(events.router(deps, places), prefix="/api/v1")
    app.include_router(v1.router(deps, market), prefix="/api/v1")
    app.state.bell = market_desk.bell(deps, app.state.closing)
    app.include_router(market_desk.router(deps, market, gate, app.state.bell), prefix="/api/v1")
    app.include_router(reference.router(partial(_document_of, app)), prefix="/api")
    install(app)
    _complete_document(app, deps.anonymous_roles)
    # the last one added is the first that a request meets
    app.add_middleware(Admission, gate=gate, limits=deps.limits, operations=Operations(partial(_document_of, app)))
    if deps.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(deps.cors_origins),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", REQUEST_ID],
            expose_headers=[*ANSWERED, *COUNTED, "Retry-After", "Location"],
        )
    app.add_middleware(Frame, hosts=deps.hosts, new_id=deps.new_id, refuse=of_error)
    return app


@asynccontextmanager
async def _ready(_app: FastAPI) -> AsyncIterator[None]:
    await run_in_threadpool(warm_up)
    _app.openapi()  # what the first request would wait for
    yield


def _document_of(app: FastAPI) -> dict[str, Any]:
    """Return the finished document; asked late, for it is completed after the routes have been added."""
    return app.openapi()


def _complete_document(app: FastAPI, anonymous_roles: frozenset[str]) -> None:
    """Make the document say which operations a caller without a key may use, and which headers an answer has."""
    plain = app.openapi
    finished: list[dict[str, Any]] = []

    def document() -> dict[str, Any]:
        if finished:
            return finished[0]
        written = plain()
        for path in written["paths"].values():
            for operation in path.values():
                role = operation.get(ROLE)
                if role in SIGNERS:
                    # no key is a signature, and what everybody may ask an account may
                    keys = [] if role == SIGNED else operation["security"]
                    operation["security"] = [*keys, {"Signature": []}]
                if role in widened(anonymous_roles):
                    operation["security"].append({})
                said = ANSWERED | (COUNTED if role is not None else {})
                for status, response in operation["responses"].items():
                    if status[0] == "2":
                        response["headers"] = {
                            name: {"description": about, "schema": {"type": "string"}} for name, about in said.items()
                        } | response.get("headers", {})
        written["components"]["securitySchemes"]["Signature"] = SIGNATURE
        illustrate(written)
        finished.append(written)
        return written

    app.openapi = document  # type: ignore[method-assign]


def _operation_id(route: APIRoute) -> str:
    """Return the name that generated clients use; the published path has the plain one."""
    versioned = route.path_format.startswith("/api/v1/") and "published" in route.tags
    return f"{route.name}_v1" if versioned else route.name
