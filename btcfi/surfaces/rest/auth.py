"""API keys, roles and rate limits."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from btcfi.adapters.store.access import keys
from btcfi.adapters.store.access.api_tables import ApiKeyRow
from btcfi.adapters.store.spine.database import Store
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.surfaces.addresses import who_counts
from btcfi.surfaces.api_keys import KeyText, holds_secret, raise_without, read_key, roles_of
from btcfi.surfaces.rest.deps import OPERATE, READ, ROLES, TRADE, Deps
from btcfi.surfaces.rest.errors import RateLimitedError, RequestRefusedError, UnauthenticatedError
from btcfi.units import UnixSeconds

KEY_CACHE_SECONDS: Final = 5.0
"""How long a key is believed without asking the database: a revocation takes at most this long."""

REMEMBERED_CALLERS: Final = 10_000
"""Token buckets kept; beyond that the longest silent caller starts anew, with a full bucket."""

ROLE: Final = "x-role"
"""The document's own field: which role an operation needs."""

bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", bearerFormat="btcfi_ID_SECRET")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks."""

    id: str
    """The key's id, or ``anonymous`` with the address."""
    roles: frozenset[str]
    requests_per_minute: int
    counted: str
    """By what limits know the caller: the key's id, or the address without a key, an IPv6 one by its /64."""
    anonymous: bool = False
    shown: KeyText | None = field(default=None, repr=False)
    """The key that was shown, to be asked for again while a stream is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What is left of a caller's rate."""

    limit: int
    """Requests a minute."""
    remaining: int
    """Requests that would be let in now, one after another."""
    reset_seconds: int
    """Until ``remaining`` is at its most."""

    def headers(self) -> dict[str, str]:
        """Return the answer's headers."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
        }


def create_key(
    store: Store,
    *,
    name: str,
    roles: Iterable[str],
    entropy: bytes,
    now: UnixSeconds,
    expires_at: UnixSeconds | None = None,
    requests_per_minute: int = 6_000,
) -> str:
    """Store a new key and return its text, which is shown once and never stored.

    entropy: 40 bytes from the system's generator. Raises InvalidInputError for an unknown role, another length of
    entropy, or an expiry in the past.
    """
    chosen = sorted(set(roles), key=lambda role: ROLES.index(role) if role in ROLES else -1)
    unknown = [role for role in chosen if role not in ROLES]
    if unknown or not chosen:
        raise InvalidInputError("roles", repr(unknown[0]) if unknown else "none", "one or more of " + ", ".join(ROLES))
    if len(entropy) != 40:  # noqa: PLR2004 - 8 bytes of id, 32 of secret
        raise InvalidInputError("entropy", f"{len(entropy)} bytes", "40 random bytes")
    if expires_at is not None and expires_at <= now:
        raise InvalidInputError("expires_at", str(expires_at), f"a time after {now}")
    key_id, secret = entropy[:8].hex(), entropy[8:].hex()
    with store.transaction() as session:
        keys.add_key(
            session, key_id, secret_sha256=sha256(secret.encode()).hexdigest(), name=name, roles=chosen,
            requests_per_minute=requests_per_minute, now=now, expires_at=expires_at,
        )  # fmt: skip
    return f"btcfi_{key_id}_{secret}"


def revoke_key(store: Store, key_id: str, *, now: UnixSeconds) -> None:
    """End a key. Raises NotFoundError."""
    with store.transaction() as session:
        if not keys.end_key(session, key_id, now=now):
            raise NotFoundError("API key", key_id)


class Gate:
    """Lets callers in: one per application."""

    def __init__(self, deps: Deps) -> None:
        """``deps``: the application's."""
        self._deps = deps
        self._keys: OrderedDict[str, tuple[float, ApiKeyRow | None]] = OrderedDict()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def admit(self, request: Request) -> Caller:
        """Return who calls, and take one request from its allowance.

        Raises UnauthenticatedError, RateLimitedError. A key that was not seen before costs its address a guess before
        the store is asked, and has it back when it is a good one: many guesses at once are no more than one by one.
        """
        host = request.client.host if request.client else "unknown"
        stranger = Caller(
            id=f"anonymous {host}",
            roles=self._deps.anonymous_roles,
            requests_per_minute=self._deps.limits.anonymous_requests_per_minute,
            counted=f"anonymous {who_counts(host)}",
            anonymous=True,
        )
        header = request.headers.get("authorization", "")
        caller = (
            stranger
            if not header
            else await self._keyed(header, replace(stranger, counted=f"guess {who_counts(host)}"))
        )
        self._take(caller)
        return caller

    async def _keyed(self, header: str, guesser: Caller) -> Caller:
        scheme, text = get_authorization_scheme_param(header)
        try:
            if scheme.lower() != "bearer":
                raise UnauthenticatedError("the Authorization header holds no key")  # noqa: TRY301 - costs a guess
            shown = read_key(text)
        except UnauthenticatedError:
            self._take(guesser)
            raise
        known = self._keys.get(shown.id)
        proven = known is not None and holds_secret(shown, known[1], now=self._deps.clock())
        if not proven:
            self._take(guesser)
        row = await self._row(shown.id)
        roles = roles_of(shown, row, now=self._deps.clock()) | self._deps.anonymous_roles
        if not proven:
            self._give_back(guesser)
        limit = row.requests_per_minute if row is not None else 0
        return Caller(id=shown.id, roles=roles, requests_per_minute=limit, counted=shown.id, shown=shown)

    async def still_holds(self, caller: Caller, role: str) -> bool:
        """Return whether the caller, let in before, would be let in now: its key may have ended meanwhile."""
        if caller.shown is None:
            return role in self._deps.anonymous_roles
        try:
            held = roles_of(caller.shown, await self._row(caller.shown.id), now=self._deps.clock())
        except RequestRefusedError:
            return False
        return role in held | self._deps.anonymous_roles

    def allowance(self, caller: Caller) -> Allowance:
        """Return what is left to a caller."""
        tokens, full, per_second = self._level(caller)
        reset = math.ceil((full - tokens) / per_second) if per_second else 60
        return Allowance(limit=caller.requests_per_minute, remaining=int(tokens), reset_seconds=reset)

    async def _row(self, key_id: str) -> ApiKeyRow | None:
        known = self._keys.get(key_id)
        if known is not None and self._deps.monotonic() - known[0] < KEY_CACHE_SECONDS:
            return known[1]
        row = await run_in_threadpool(self._read, key_id)
        self._keys[key_id] = (self._deps.monotonic(), row)
        self._keys.move_to_end(key_id)
        while len(self._keys) > REMEMBERED_CALLERS:
            self._keys.popitem(last=False)
        return row

    def _read(self, key_id: str) -> ApiKeyRow | None:
        with self._deps.store.reading() as session:
            return keys.find_key(session, key_id)

    def _take(self, caller: Caller) -> None:
        """Take a token from the caller's bucket, which holds a tenth of a minute's and refills evenly."""
        tokens, _, per_second = self._level(caller)
        if tokens < 1.0:
            self._put(caller, tokens)
            wait = math.ceil((1.0 - tokens) / per_second) if per_second else 60
            raise RateLimitedError(requests_per_minute=caller.requests_per_minute, retry_after_seconds=wait)
        self._put(caller, tokens - 1.0)

    def _give_back(self, caller: Caller) -> None:
        tokens, full, _ = self._level(caller)
        self._put(caller, min(tokens + 1.0, full))

    def _level(self, caller: Caller) -> tuple[float, float, float]:
        """Return a bucket's tokens now, its size, and what it gains a second."""
        now = self._deps.monotonic()
        per_second = caller.requests_per_minute / 60.0
        full = max(caller.requests_per_minute / 10.0, 1.0)
        tokens, since = self._buckets.get(caller.counted, (full, now))
        return min(full, tokens + (now - since) * per_second), full, per_second

    def _put(self, caller: Caller, tokens: float) -> None:
        self._buckets[caller.counted] = (tokens, self._deps.monotonic())
        self._buckets.move_to_end(caller.counted)
        while len(self._buckets) > REMEMBERED_CALLERS:
            self._buckets.popitem(last=False)


async def _caller(
    request: Request,
    _credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],  # for the document
) -> Caller:
    admitted: Caller | None = getattr(request.state, "caller", None)
    if admitted is not None:
        return admitted
    gate: Gate = request.app.state.gate
    return await gate.admit(request)


def needs(role: str) -> Callable[[Caller], Caller]:
    """Return the dependency that admits callers with ``role``."""

    def permitted(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        raise_without(role, caller.roles, anonymous=caller.anonymous)
        return caller

    return permitted


Reader = Annotated[Caller, Depends(needs(READ))]
Trader = Annotated[Caller, Depends(needs(TRADE))]
Operator = Annotated[Caller, Depends(needs(OPERATE))]
