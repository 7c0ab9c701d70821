"""The console's application."""

from __future__ import annotations

from fastapi import FastAPI

from dashboards.operator.deps import ConsoleDeps


def create_console(deps: ConsoleDeps) -> FastAPI:
    """Return the operator console, an ASGI application."""
    app = FastAPI(title="BTCFi operator console", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.deps = deps
    return app
