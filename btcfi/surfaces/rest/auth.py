"""API keys, signed requests, roles and rate limits."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from btcfi.adapters.store.access import keys
from btcfi.adapters.store.access.api_tables import ApiKeyRow
from btcfi.adapters.store.market import accounts
from btcfi.adapters.store.market.tables import AccountRow
from btcfi.adapters.store.options.views import Sight
from btcfi.adapters.store.spine.database import Session, Store
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.surfaces.addresses import who_counts
from btcfi.surfaces.api_keys import SIGNED_HEADER, KeyText, holds_secret, raise_without, read_key, roles_of
from btcfi.surfaces.rest.deps import ACCOUNT, OPERATE, READ, ROLES, SIGNED, TRADE, Deps
from btcfi.surfaces.rest.errors import RateLimitedError, RequestRefusedError, UnauthenticatedError
from btcfi.surfaces.rest.signed import SCHEME, Shown, holds, read_signature
from btcfi.units import UnixSeconds

KEY_CACHE_SECONDS: Final = 5.0
"""How long a key, or an account's, is believed without asking the database: a revocation takes at most this long.

An account's for what reads alone: a session that old keys opened would be the new ones', and outlive them.
"""

SIGNERS: Final = frozenset({READ, ACCOUNT, SIGNED})
"""What an account's own process may do: nothing of the embedded parties'."""

READS: Final = frozenset({"GET", "HEAD"})
"""Methods by which nothing is done."""

REMEMBERED_CALLERS: Final = 10_000
"""Token buckets kept; beyond that the longest silent caller starts anew, with a full bucket."""

OPEN: Final = "open"
"""The state of an account that may begin new things."""

ROLE: Final = "x-role"
"""The document's own field: which role an operation needs."""

bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", bearerFormat="btcfi_ID_SECRET")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks."""

    id: str
    """The key's id, ``account`` with an identity, or ``anonymous`` with the address."""
    roles: frozenset[str]
    requests_per_minute: int
    counted: str
    """By what limits know the caller: the key's id, the account, or without either the address, IPv6 by its /64."""
    anonymous: bool = False
    account: str | None = None
    """The market's account whose things it sees: identity, hex."""
    request_key: str = ""
    """By which that account signed this request; empty: a key was shown, or nothing."""
    suspended: bool = False
    """Whether the operator lets that account begin nothing new."""
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
    account_id: str | None = None,
    most: int | None = None,
) -> str:
    """Store a new key and return its text, which is shown once and never stored.

    entropy: 40 bytes from the system's generator. account_id: whose things in the market it reads. most: keys that such
    an account may have at once. Raises TooManyKeysError, InvalidInputError for an unknown role, another length of
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
        if account_id is not None and most is not None:
            accounts.make_room_for_key(session, account_id, most=most, now=now)
        keys.add_key(
            session, key_id, secret_sha256=sha256(secret.encode()).hexdigest(), name=name, roles=chosen,
            requests_per_minute=requests_per_minute, now=now, expires_at=expires_at, account_id=account_id,
        )  # fmt: skip
    return f"btcfi_{key_id}_{secret}"


def revoke_key(store: Store, key_id: str, *, now: UnixSeconds) -> None:
    """End a key. Raises NotFoundError."""
    with store.transaction() as session:
        if not keys.end_key(session, key_id, now=now):
            raise NotFoundError("API key", key_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproven:
    """A signed request whose body has not come yet: until it has, it is its address's."""

    shown: Shown
    stranger: Caller


class Gate:
    """Lets callers in: one per application."""

    def __init__(self, deps: Deps) -> None:
        """``deps``: the application's."""
        self._deps = deps
        self._keys: OrderedDict[str, tuple[float, ApiKeyRow | None]] = OrderedDict()
        self._accounts: OrderedDict[str, tuple[float, AccountRow | None]] = OrderedDict()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def admit(self, request: Request) -> Caller | Unproven:
        """Return who calls, and take one request from its allowance; of a signed request what is left to ``prove``.

        Raises UnauthenticatedError, RateLimitedError. A key that was not seen before costs its address a guess before
        the store is asked, and has it back when it is a good one: many guesses at once are no more than one by one.
        """
        host = request.client.host if request.client else "unknown"
        stranger = Caller(
            id=f"anonymous {host}",
            roles=widened(self._deps.anonymous_roles),
            requests_per_minute=self._deps.limits.anonymous_requests_per_minute,
            counted=f"anonymous {who_counts(host)}",
            anonymous=True,
        )
        header = request.headers.get("authorization", "")
        guesser = replace(stranger, counted=f"guess {who_counts(host)}")
        if get_authorization_scheme_param(header)[0].lower() == SCHEME:
            return self._signed(header, guesser)
        caller = await self._keyed(header, guesser) if header else stranger
        self._take(caller)
        return caller

    def _signed(self, header: str, guesser: Caller) -> Unproven:
        try:
            if self._deps.desk is None:
                raise UnauthenticatedError("this service has no desk, and no accounts", SIGNED_HEADER)  # noqa: TRY301 - as below
            return Unproven(shown=read_signature(header, now=self._deps.clock()), stranger=guesser)
        except UnauthenticatedError:
            self._take(guesser)
            raise

    async def prove(self, unproven: Unproven, request: Request, body: bytes) -> Caller:
        """Return the account that has signed this request, and take one request from its allowance.

        Raises UnauthenticatedError, RateLimitedError. A signature that no known key has made costs its address a guess
        before the store is asked, and has it back when it is good: whose identity was misused pays nothing.
        """
        shown, guesser = unproven.shown, unproven.stranger

        def signed_by(row: AccountRow | None) -> bool:
            return row is not None and self._holds(shown, row.request_key, request, body)

        known = self._accounts.get(shown.account, (0.0, None))[1]
        proven = signed_by(known)
        if not proven:
            self._take(guesser)
        # what an account does is done by the keys that it has now; a read may be a cache's age late
        row = await self._account(shown.account, anew=not proven or request.method not in READS)
        if row is None or not (
            (proven and known is not None and row.request_key == known.request_key) or signed_by(row)
        ):
            raise UnauthenticatedError("the request is not signed by the key that its account has now", SIGNED_HEADER)
        if not proven:
            self._give_back(guesser)
        caller = Caller(
            id=f"account {row.id}", roles=SIGNERS | self._deps.anonymous_roles, account=row.id,
            requests_per_minute=row.requests_per_minute, counted=f"account {row.id}", request_key=row.request_key,
            suspended=row.state != OPEN,
        )  # fmt: skip
        self._take(caller)
        return caller

    def _holds(self, shown: Shown, request_key: str, request: Request, body: bytes) -> bool:
        desk = self._deps.desk
        return desk is not None and holds(
            shown, request_key, desk=desk.public.desk_key, method=request.method, at=request.scope, body=body
        )

    @property
    def anonymous_roles(self) -> frozenset[str]:
        """What a caller without a key may do."""
        return self._deps.anonymous_roles

    def forget_account(self, identity: str) -> None:
        """Ask the store for an account's keys the next time: they may have been replaced."""
        self._accounts.pop(identity, None)

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
        limit, account = (row.requests_per_minute, row.account_id) if row is not None else (0, None)
        return Caller(
            id=shown.id, roles=widened(roles, account), requests_per_minute=limit, counted=shown.id, shown=shown,
            account=account,
        )  # fmt: skip

    async def still_holds(self, caller: Caller, role: str) -> bool:
        """Return whether the caller, let in before, would be let in now: its key may have ended meanwhile."""
        if caller.request_key:
            row = await self._account(caller.account or "")
            return row is not None and row.request_key == caller.request_key and role in caller.roles
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
        _remember(self._keys, key_id, (self._deps.monotonic(), row))
        return row

    async def _account(self, identity: str, *, anew: bool = False) -> AccountRow | None:
        known = self._accounts.get(identity)
        if known is not None and not anew and self._deps.monotonic() - known[0] < KEY_CACHE_SECONDS:
            return known[1]
        row = await run_in_threadpool(self._read_account, identity)
        if row is not None:  # of identities that nobody has there are many
            _remember(self._accounts, identity, (self._deps.monotonic(), row))
        return row

    def _read_account(self, identity: str) -> AccountRow | None:
        with self._deps.store.reading() as session:
            try:
                return accounts.account(session, identity)
            except NotFoundError:
                return None

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
        _remember(self._buckets, caller.counted, (tokens, self._deps.monotonic()))


def signing(session: Session, caller: Caller, *, alone: bool = False) -> AccountRow:
    """Return the account that has signed a request, whose keys stay as they are until this transaction ends.

    alone: that no other request of the account goes on meanwhile. Raises UnauthenticatedError where it has registered
    others since the request came in.
    """
    row = accounts.held_account(session, caller.account or "", alone=alone)
    if row.request_key != caller.request_key:
        raise UnauthenticatedError("the request is not signed by the key that its account has now", SIGNED_HEADER)
    return row


T = TypeVar("T")


def _remember(known: OrderedDict[str, T], name: str, value: T) -> None:
    """Keep what was last heard of somebody, and forget who was silent longest."""
    known[name] = value
    known.move_to_end(name)
    while len(known) > REMEMBERED_CALLERS:
        known.popitem(last=False)


def widened(roles: frozenset[str], account: str | None = None) -> frozenset[str]:
    """Return a caller's roles with what they bring: an operator, and who reads for an account, sees its things."""
    return roles | {ACCOUNT} if OPERATE in roles or (account is not None and READ in roles) else roles


async def _caller(
    request: Request,
    _credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],  # for the document
) -> Caller:
    admitted: Caller | None = getattr(request.state, "caller", None)
    if admitted is not None:
        return admitted
    gate: Gate = request.app.state.gate
    found = await gate.admit(request)
    return found if isinstance(found, Caller) else await gate.prove(found, request, await request.body())


def needs(role: str) -> Callable[[Caller], Caller]:
    """Return the dependency that admits callers with ``role``."""

    def permitted(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        raise_without(role, caller.roles, anonymous=caller.anonymous)
        return caller

    return permitted


Reader = Annotated[Caller, Depends(needs(READ))]
Trader = Annotated[Caller, Depends(needs(TRADE))]
Operator = Annotated[Caller, Depends(needs(OPERATE))]


def sight_of(caller: Caller) -> Sight:
    """Return what a caller may see of options and settlements."""
    return Sight(everything=OPERATE in caller.roles, account=caller.account)


Owner = Annotated[Caller, Depends(needs(ACCOUNT))]
"""Who sees an account's things: itself, a key that is bound to it, or an operator."""
Signer = Annotated[Caller, Depends(needs(SIGNED))]
"""An account's own process, by its signature on this request."""
