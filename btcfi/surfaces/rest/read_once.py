"""One reader of a request's JSON: strict, before the framework's own, which takes the last of two equal keys."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from btcfi.errors import InvalidInputError
from btcfi.options.order import read_body
from btcfi.surfaces.rest.problems import unreadable

OWN_READER: Final = ("/proofs/verify", "/offers", "/letters", "/disputes")
"""What has a reader of its own, in a thread: it may be of megabytes, and a proof's refusal is the answer."""


BODILESS: Final = frozenset({"GET", "HEAD"})
"""What takes no body waits for none, and does not fail where its caller is gone before it began."""


class _Read(Request):
    """A request whose body has been read."""

    value: Any = None

    async def json(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the body's value."""
        return self.value


class ReadOnceRoute(APIRoute):
    """A route whose endpoint gets JSON of one meaning: each key once, no NaN, fractions as they were written."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the framework's handler behind the reader."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            if request.method in BODILESS:
                return await handle(request)
            raw = await request.body()
            if not raw or self.path_format.endswith(OWN_READER):
                return await handle(request)
            read = _Read(request.scope, request.receive)
            read._body = raw  # noqa: SLF001 - as the framework's own request keeps it
            try:
                read.value = read_body(raw)
            except InvalidInputError as e:
                return unreadable(request, e)
            return await handle(read)

        return handler
