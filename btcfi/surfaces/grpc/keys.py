"""The keys and roles of the REST API at the gRPC door: who may call what, and for how long a stream is theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from btcfi.adapters.store.access.keys import find_key
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.views import has_table
from btcfi.errors import BtcfiError
from btcfi.surfaces.api_keys import raise_without, read_key, roles_of
from btcfi.surfaces.rest.deps import READ
from btcfi.surfaces.rest.errors import UnauthenticatedError
from btcfi.surfaces.status import status_of
from btcfi.units import UnixSeconds

AUTHORIZATION: Final = "authorization"
BEARER: Final = "Bearer "
"""The metadata of a call that shows a key, as the header of the REST API: ``Bearer btcfi_ID_SECRET``."""

OPEN: Final = frozenset({"SubmitPrice", "CommitPrice", "SignReport", "HealthCheck"})
"""What needs no key: what registered nodes sign is its own proof, and health is everybody's, as at the REST API."""

SERVICES: Final = frozenset({"btcfi.OracleAggregator", "btcfi.OracleService"})
"""What is guarded here; ``SettlementEngine`` asks for its roles itself."""


class Keys:
    """Tells what a caller may do, by the key in its metadata."""

    def __init__(
        self, store: Store | None, *, clock: Callable[[], float], anonymous_roles: frozenset[str] = frozenset({READ})
    ) -> None:
        """store: where keys are kept; None: no key is known. anonymous_roles: what a caller without one may do."""
        self._store, self._clock, self._anonymous = store, clock, anonymous_roles

    def admit(self, header: str | bytes | None, role: str) -> str:
        """Return the id of a caller's key. Raises UnauthenticatedError, RoleMissingError, as the REST API does."""
        if header is None:
            raise_without(role, self._anonymous, anonymous=True)
            return "anonymous"
        if not isinstance(header, str) or not header.startswith(BEARER):
            raise UnauthenticatedError("the authorization metadata holds no key")
        shown = read_key(header.removeprefix(BEARER))
        row = None
        if self._store is not None:
            with self._store.reading() as session:
                row = find_key(session, shown.id) if has_table(session, "api_key") else None
        held = roles_of(shown, row, now=UnixSeconds(int(self._clock())))
        raise_without(role, held | self._anonymous, anonymous=False)
        return shown.id

    async def admitted(self, header: str | bytes | None, role: str) -> str:
        """Return what ``admit`` does, without holding up the event loop: only a key that is shown asks the store."""
        if header is None:
            return self.admit(header, role)
        return await asyncio.to_thread(self.admit, header, role)


class KeysNeeded(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Refuses a call whose caller may not make it, before its message is read."""

    def __init__(self, keys: Keys) -> None:
        """``keys``: who tells."""
        self._keys = keys

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:  # noqa: ANN401 - as above
        """Return the handler of a call, or one that refuses it."""
        handler = await continuation(details)
        service, _, method = details.method.lstrip("/").partition("/")
        if handler is None or service not in SERVICES or method in OPEN:
            return handler
        try:
            await self._keys.admitted(dict(details.invocation_metadata).get(AUTHORIZATION), READ)
        except BtcfiError as e:
            return _refusing(handler, e)
        return handler


def _refusing(handler: Any, error: BtcfiError) -> Any:  # noqa: ANN401
    status = getattr(grpc.StatusCode, status_of(error).grpc)

    async def refuse(_request: Any, context: Any) -> None:  # noqa: ANN401
        await context.abort(status, str(error))

    async def refuse_stream(_request: Any, context: Any) -> Any:  # noqa: ANN401
        await context.abort(status, str(error))
        yield  # pragma: no cover - makes it a stream; abort raises

    make = grpc.unary_unary_rpc_method_handler
    if handler.response_streaming:
        make, refuse = grpc.unary_stream_rpc_method_handler, refuse_stream
    return make(refuse, handler.request_deserializer, handler.response_serializer)
