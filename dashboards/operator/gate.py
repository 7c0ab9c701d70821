"""Who may come in, and with which form: sessions, roles, CSRF tokens; and the bounds that hold for every request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from btcfi.adapters.store.access.console_tables import audit
from btcfi.surfaces.rest.deps import OPERATE, READ, TRADE
from btcfi.surfaces.rest.errors import (
    RoleMissingError,
)
from dashboards.operator.accounts import Visitor, visitor_of
from dashboards.operator.deps import ConsoleDeps
from dashboards.operator.errors import SignInNeededError
from dashboards.shared.errors import ForgedFormError
from dashboards.shared.forms import fields_of, raise_if_forged
from dashboards.shared.shell import address_of

COOKIE: Final = "btcfi_session"
SIGN_IN_COOKIE: Final = "btcfi_sign_in"
"""Ties the sign-in form to the browser that loaded it, before there is a session to tie it to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form that its visitor really sent."""

    visitor: Visitor
    fields: dict[str, str]
    """The first value of each name."""
    chosen: tuple[str, ...]
    """Every value of the name ``id``, in order, each once."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How often each other name came."""

    def __getitem__(self, name: str) -> str:
        """Return a field, stripped; empty when it is missing."""
        return self.fields.get(name, "").strip()


def sign_in_token(cookie: str) -> str:
    """Return what the sign-in form carries for this cookie."""
    return sha256(f"btcfi sign-in {cookie}".encode()).hexdigest()


async def visitor(request: Request) -> Visitor:
    """Return who is signed in, and note it as ``state.visitor``. Raises SignInNeededError."""
    deps: ConsoleDeps = request.app.state.deps
    token = request.cookies.get(COOKIE)
    if token is None:
        raise SignInNeededError("nobody is signed in here")
    who = await run_in_threadpool(
        visitor_of, deps.api.store, token, address=address_of(request), limits=deps.limits, now=deps.api.clock()
    )
    request.state.visitor = who
    return who


def needs(role: str) -> Callable[..., Awaitable[Visitor]]:
    """Return the dependency that admits who has ``role``."""

    async def permitted(request: Request, who: Annotated[Visitor, Depends(visitor)]) -> Visitor:
        await _raise_without(request, who, role)
        return who

    return permitted


def posts(role: str) -> Callable[..., Awaitable[Form]]:
    """Return the dependency that gives the form of who has ``role``, if the form is theirs."""

    async def sent(request: Request, who: Annotated[Visitor, Depends(visitor)]) -> Form:
        pairs = fields_of(request)
        fields = dict(reversed(pairs))
        try:
            raise_if_forged(request, fields.pop("csrf", ""), who.csrf)
        except ForgedFormError as e:
            await _note(request, who, "forged form", str(e))
            raise
        await _raise_without(request, who, role)
        chosen = tuple(dict.fromkeys(value for name, value in pairs if name == "id"))
        counts = Counter(name for name, _ in pairs if name != "id")
        return Form(visitor=who, fields=fields, chosen=chosen, counts=counts)

    return sent


async def _raise_without(request: Request, who: Visitor, role: str) -> None:
    if role not in who.roles:
        await _note(request, who, "role missing", f"needs {role}")
        raise RoleMissingError(needed=role, held=tuple(sorted(who.roles)))


async def _note(request: Request, who: Visitor, action: str, detail: str) -> None:
    deps: ConsoleDeps = request.app.state.deps

    def write() -> None:
        with deps.api.store.transaction() as session:
            audit(
                session, now=deps.api.clock(), account=who.name, address=who.address, action=action,
                target=f"{request.method} {request.url.path}", outcome="refused", detail=detail,
            )  # fmt: skip

    await run_in_threadpool(write)


Reader = Annotated[Visitor, Depends(needs(READ))]
Trader = Annotated[Visitor, Depends(needs(TRADE))]
Operator = Annotated[Visitor, Depends(needs(OPERATE))]
ReaderForm = Annotated[Form, Depends(posts(READ))]
TraderForm = Annotated[Form, Depends(posts(TRADE))]
OperatorForm = Annotated[Form, Depends(posts(OPERATE))]
