"""Who comes in with what: the gate before the body, the body before the work, and each within its caller's share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from btcfi.documents import printable
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.options.order import refuse_twice
from btcfi.surfaces.addresses import who_counts
from btcfi.surfaces.api_keys import raise_without
from btcfi.surfaces.rest.auth import ROLE, SIGNERS, Caller, Gate, Unproven
from btcfi.surfaces.rest.bodies import Bodies, GoneError, Message, Receive, Send, bodiless, given, has_body, header
from btcfi.surfaces.rest.deps import Limits
from btcfi.surfaces.rest.errors import WrongContentTypeError
from btcfi.surfaces.rest.problems import of_error, path_pattern, unreadable
from btcfi.surfaces.rest.turns import Room, Turns

PROOFS: Final = "/api/v1/proofs/verify"
OFFERS: Final = "/api/v1/offers"
LETTERS: Final = "/api/v1/letters"
DISPUTES: Final = "/api/v1/disputes"
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What admission knows of an operation."""

    role: str | None
    """None: everybody's."""
    body: bool
    stream: bool
    query: frozenset[str]
    """Parameters that it has."""

    def raise_unless_asked_well(self, request: Request) -> None:
        """Raise InvalidInputError for a parameter that it has not, or that stands twice.

        Which of two counts is nobody's to guess, and who is not told that a filter is none acts on everything.
        """
        many = Counter(name for name, _ in request.query_params.multi_items())
        refuse_twice(many)
        for name in many:
            if name not in self.query:
                words = ", ".join(sorted(self.query))
                raise InvalidInputError(
                    printable(name, 40), "no parameter here", f"one of {words}" if words else "none"
                )


class Operations:
    """The operations of a document, found by method and path as the router finds them."""

    def __init__(self, document: Callable[[], dict[str, Any]]) -> None:
        """``document``: gives the OpenAPI document; asked once, when the first request comes."""
        self._document = document
        self._plain: dict[tuple[str, str], Operation] = {}
        self._patterns: list[tuple[str, str, Operation]] = []
        self._read = False

    def find(self, method: str, path: str) -> Operation | None:
        """Return the operation of a request, or None when there is none."""
        if not self._read:
            self._read_all()
        plain = self._plain.get((method, path))
        if plain is not None:
            return plain
        return next((o for m, t, o in self._patterns if m == method and path_pattern(t).fullmatch(path)), None)

    def _read_all(self) -> None:
        for template, methods in self._document()["paths"].items():
            for method, said in methods.items():
                content = said["responses"].get("200", {}).get("content", {})
                query = frozenset(one["name"] for one in said.get("parameters", ()) if one["in"] == "query")
                known = Operation(
                    role=said.get(ROLE), body=method in {"post", "put", "patch"}, stream=EVENTS in content, query=query
                )
                if "{" in template:
                    self._patterns.append((method.upper(), template, known))
                else:
                    self._plain[method.upper(), template] = known
        self._read = True


class Admission:
    """The layer that knows callers. What it lets through has ``state.caller``, and ``state.body`` where one came."""

    def __init__(
        self, app: Callable[..., Awaitable[None]], *, gate: Gate, limits: Limits, operations: Operations
    ) -> None:
        """``app``: what comes after."""
        self._app, self._gate, self._limits, self._operations = app, gate, limits, operations
        room = Room(each=limits.room_bytes_per_caller, most=limits.room_bytes)
        self._bodies = Bodies(room, seconds=limits.body_seconds)
        self._turns = Turns(each=limits.requests_at_once)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        operation, request = self._operation(scope), Request(scope)
        if operation is None or operation.role is None:
            await self._everybodys(request, receive, send)
            return
        try:
            found = await self._gate.admit(request)
            if isinstance(found, Unproven) and operation.body:
                await self._signed(operation, found, request, receive, send)
                return
            caller = await self._gate.prove(found, request, b"") if isinstance(found, Unproven) else found
            scope.setdefault("state", {})["caller"] = caller
            raise_without(operation.role, caller.roles, anonymous=caller.anonymous)
        except BtcfiError as e:
            await of_error(request, e)(scope, receive, send)
            return
        try:
            operation.raise_unless_asked_well(request)
        except InvalidInputError as e:
            await unreadable(request, e)(scope, receive, self._counted(caller, send))
        else:
            await self._known(operation, caller, request, receive, self._counted(caller, send))

    async def _known(
        self, operation: Operation, caller: Caller, request: Request, receive: Receive, send: Send
    ) -> None:  # fmt: skip
        """Serve a caller who may ask this: a turn of its own, then its body, then the work."""
        scope = request.scope
        if operation.stream:
            await self._app(scope, receive, send)
            return
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(self._turns.of(caller.counted, seconds=self._limits.wait_seconds))
                if operation.body:
                    body = await held.enter_async_context(self._body(scope, receive, caller))
                    scope["state"]["body"] = body
                    receive = given(body, receive)
                else:
                    receive = await bodiless(scope, receive)
            except BtcfiError as e:
                await of_error(request, e)(scope, receive, send)
                return
            except GoneError:
                return
            await self._app(scope, receive, send)

    async def _signed(
        self, operation: Operation, found: Unproven, request: Request, receive: Receive, send: Send
    ) -> None:
        """Read the body that a signature is of, as its address's; then it is its account's. Raises BtcfiError."""
        scope, stranger = request.scope, found.stranger
        role, would_have = operation.role or "", SIGNERS | self._gate.anonymous_roles
        raise_without(role, would_have, anonymous=False)
        async with AsyncExitStack() as held:
            try:
                async with self._turns.of(stranger.counted, seconds=self._limits.wait_seconds):
                    body = await held.enter_async_context(self._body(scope, receive, stranger))
                    caller = await self._gate.prove(found, request, body)
                await held.enter_async_context(self._turns.of(caller.counted, seconds=self._limits.wait_seconds))
            except GoneError:
                return
            try:
                operation.raise_unless_asked_well(request)
            except InvalidInputError as e:
                await unreadable(request, e)(scope, receive, self._counted(caller, send))
                return
            scope.setdefault("state", {}).update(caller=caller, body=body)
            await self._app(scope, given(body, receive), self._counted(caller, send))

    async def _everybodys(self, request: Request, receive: Receive, send: Send) -> None:
        """Answer what needs no role, or is not here: no body is read, and an address has its share of the work."""
        address = who_counts(request.client.host if request.client else "unknown")
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(
                    self._turns.of(f"anonymous {address}", seconds=self._limits.wait_seconds)
                )
            except BtcfiError as e:
                await of_error(request, e)(request.scope, receive, send)
                return
            try:
                receive = await bodiless(request.scope, receive)
            except GoneError:
                return
            await self._app(request.scope, receive, send)

    def _operation(self, scope: Message) -> Operation | None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        return self._operations.find(scope["method"], path)

    def _body(self, scope: Message, receive: Receive, caller: Caller) -> Any:  # noqa: ANN401 - a context manager of bytes
        kind = header(scope, b"content-type").split(b";")[0].strip().lower().decode("latin-1")
        if has_body(scope) and kind != JSON:
            raise WrongContentTypeError(kind)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        larger = {
            PROOFS: self._limits.proof_bytes, OFFERS: self._limits.offers_bytes, LETTERS: self._limits.letter_bytes,
            DISPUTES: self._limits.dispute_bytes,
        }  # fmt: skip
        limit = larger.get(path, self._limits.body_bytes)
        return self._bodies.of(scope, receive, caller=caller.counted, limit=limit, stranger=caller.anonymous)

    def _counted(self, caller: Caller, send: Send) -> Send:
        allowance = self._gate.allowance(caller)

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] != HTTPStatus.TOO_MANY_REQUESTS:
                message.setdefault("headers", [])
                MutableHeaders(raw=message["headers"]).update(allowance.headers())
            await send(message)

        return counted
