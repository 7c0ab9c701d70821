"""One reader of a request's JSON: what ``BoundedBody`` has read strictly is what an endpoint gets."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response


class ReadOnce(Request):
    """A request whose body is what ``BoundedBody`` has read: no second parser takes another of two equal keys."""

    async def json(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the body's value."""
        return self.state.value if "value" in self.scope.get("state", {}) else await super().json()


class ReadOnceRoute(APIRoute):
    """A route that gives its endpoint such a request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the framework's handler behind it."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(ReadOnce(request.scope, request.receive))

        return handler
