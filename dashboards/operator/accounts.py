"""Accounts and sign-ins: Argon2id for passwords, 256 random bits for sessions, and both only as hashes in the store."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from btcfi.adapters.store.access import accounts, views
from btcfi.adapters.store.access.console_tables import ConsoleAccountRow, audit
from btcfi.adapters.store.spine.database import Session, Store
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.surfaces.rest.deps import ROLES
from btcfi.units import UnixSeconds
from dashboards.operator.deps import ConsoleLimits
from dashboards.operator.errors import SignInNeededError, TooManySignInsError

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
LEAST_PASSWORD: Final = 12
"""Characters. Length is what makes a password; there are no rules about its letters."""

LONGEST_PASSWORD: Final = 1_000
TOKEN_BYTES: Final = 32
SEEN_SECONDS: Final = 60
"""A session's last request is written down at most so often: a page is a read, not a write."""

_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=64 << 10, parallelism=1)
"""RFC 9106, section 4, second choice, with one lane: 64 MiB and three passes."""

_NOBODY: Final = "$argon2id$v=19$m=65536,t=3,p=1$bm9ib2R5LCBhbnl3aGVyZQ$wqyPCCQImXVMyQRaKeGRgZuKkM2Ucwq+Gby+4FEKgXY"
"""What an unknown name's password is held against, so that the answer takes as long: random bytes, not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who is signed in."""

    name: str
    roles: frozenset[str]
    token: str
    """The session's, as the cookie has it."""
    address: str

    @property
    def csrf(self) -> str:
        """The word that every form of this session carries; who has not the cookie cannot know it."""
        return hmac.new(self.token.encode(), b"btcfi console form", sha256).hexdigest()


def check_name(name: str) -> str:
    """Return ``name``. Raises InvalidInputError."""
    if not NAME.fullmatch(name):
        raise InvalidInputError(
            "name", repr(name[:80]), "1 to 64 of a-z, 0-9, dot, dash, underscore, the first a letter or digit"
        )
    return name


def check_password(password: str) -> str:
    """Return ``password``. Raises InvalidInputError, without repeating it."""
    if not LEAST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise InvalidInputError(
            "password", f"{len(password)} characters", f"{LEAST_PASSWORD} to {LONGEST_PASSWORD} characters"
        )
    return password


def check_roles(roles: Iterable[str]) -> str:
    """Return the roles as the table keeps them. Raises InvalidInputError."""
    chosen = set(roles)
    unknown = sorted(chosen - set(ROLES))
    if unknown or not chosen:
        raise InvalidInputError("role", repr(unknown[0]) if unknown else "none", "one or more of " + ", ".join(ROLES))
    return " ".join(role for role in ROLES if role in chosen)


def add_account(store: Store, name: str, password: str, roles: Iterable[str], *, now: UnixSeconds, by: str) -> None:
    """Make an account. Raises InvalidInputError for a name that is taken or cannot be one."""
    check_name(name)
    hashed, chosen = _HASHER.hash(check_password(password)), check_roles(roles)
    with store.transaction() as session:
        if accounts.find_account(session, name) is not None:
            raise InvalidInputError("name", f"{name!r} is taken", "another one, or `btcfi users password`")
        accounts.add_account(session, name, password_hash=hashed, roles=chosen, now=now)
        audit(session, now=now, account=by, address="local", action="account.add", target=name, detail=chosen)


def set_password(store: Store, name: str, password: str, *, now: UnixSeconds, by: str) -> None:
    """Give an account a new password and end its sessions. Raises NotFoundError, InvalidInputError."""
    hashed = _HASHER.hash(check_password(password))
    with store.transaction() as session:
        row = _account(session, name)
        row.password_hash, row.password_set_at_unix, row.disabled_at_unix = hashed, now, None
        accounts.end_sessions(session, name)
        audit(session, now=now, account=by, address="local", action="account.password", target=name)


def disable_account(store: Store, name: str, *, now: UnixSeconds, by: str) -> None:
    """Close an account and end its sessions; a new password opens it again. Raises NotFoundError."""
    with store.transaction() as session:
        row = _account(session, name)
        row.disabled_at_unix = row.disabled_at_unix or now
        accounts.end_sessions(session, name)
        audit(session, now=now, account=by, address="local", action="account.disable", target=name)


def list_accounts(store: Store) -> Sequence[ConsoleAccountRow]:
    """Return every account, by name."""
    with store.reading() as session:
        return views.accounts(session)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A sign-in that is written down and counted, its password not yet looked at."""

    number: int
    """Of its row in the audit."""
    name: str
    stored: str | None = field(repr=False)
    """The hash of the account's password; None when there is no such account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What hashing a password said."""

    right: bool
    renewed: str | None = field(default=None, repr=False)
    """The hash at today's cost, where the stored one was made at another."""


def begin_sign_in(store: Store, name: str, *, address: str, limits: ConsoleLimits, now: UnixSeconds) -> Attempt:
    """Write down that somebody tries to sign in, before any hashing. Raises TooManySignInsError.

    Each attempt is committed before it counts itself and those before it, so that many at once, in many processes, are
    no more than as many one after another.
    """
    name = name.strip().lower()[:64]
    with store.reading() as session:
        _raise_if_guessing(session, name, address, limits, now, mine=0)
    with store.transaction() as session:
        number = accounts.begin_attempt(session, name=name, address=address, now=now)
    try:
        with store.reading() as session:
            _raise_if_guessing(session, name, address, limits, now, mine=1)
            row = accounts.find_account(session, name)
            stored = row.password_hash if row is not None and row.disabled_at_unix is None else None
    except TooManySignInsError:
        with store.transaction() as session:
            accounts.withdraw_attempt(session, number)
        raise
    return Attempt(number=number, name=name, stored=stored)


def weigh(attempt: Attempt, password: str) -> Verdict:
    """Hold a password against an attempt's account: a tenth of a second and 64 MiB, the same for an unknown name."""
    right = _matches(attempt.stored or _NOBODY, password[: LONGEST_PASSWORD + 1])
    if right and attempt.stored is not None and _HASHER.check_needs_rehash(attempt.stored):
        return Verdict(right=True, renewed=_HASHER.hash(password))
    return Verdict(right=right)


def finish_sign_in(
    store: Store, attempt: Attempt, verdict: Verdict, *, entropy: bytes, limits: ConsoleLimits, now: UnixSeconds
) -> str:
    """Open a session and return its token. Raises SignInNeededError, the same for a name and a password."""
    token = None
    with store.transaction() as session:
        account = accounts.find_account(session, attempt.name)
        open_ = account is not None and account.disabled_at_unix is None and account.password_hash == attempt.stored
        if verdict.right and account is not None and open_:
            token = entropy.hex()
            if verdict.renewed is not None:
                account.password_hash = verdict.renewed
            expires_at = UnixSeconds(now + limits.session_seconds)
            accounts.add_session(session, _digest(token), attempt.name, now=now, expires_at=expires_at)
            accounts.attempt_succeeded(session, attempt.number)
    if token is None:
        raise SignInNeededError("name or password is wrong")
    return token


def sign_in(
    store: Store, name: str, password: str, *, address: str, entropy: bytes, limits: ConsoleLimits, now: UnixSeconds
) -> str:
    """Open a session and return its token, all three steps at once.

    Raises SignInNeededError, the same for an unknown name and a wrong password, and TooManySignInsError.
    """
    attempt = begin_sign_in(store, name, address=address, limits=limits, now=now)
    return finish_sign_in(store, attempt, weigh(attempt, password), entropy=entropy, limits=limits, now=now)


def visitor_of(store: Store, token: str, *, address: str, limits: ConsoleLimits, now: UnixSeconds) -> Visitor:
    """Return who holds the session. Raises SignInNeededError when it is none, or has ended."""
    with store.reading() as session:
        found = accounts.find_session(session, _digest(token)) if _is_token(token) else None
    if found is None or found[1].disabled_at_unix is not None:
        raise SignInNeededError("nobody is signed in here")
    row, account = found
    if row.expires_at_unix <= now or row.seen_at_unix + limits.idle_seconds <= now:
        raise SignInNeededError("the session has ended")
    if row.seen_at_unix + SEEN_SECONDS <= now:
        with store.transaction() as session:
            accounts.note_seen(session, row.token_sha256, now=now)
    return Visitor(name=account.name, roles=frozenset(account.roles.split()), token=token, address=address)


def sign_out(store: Store, visitor: Visitor, *, now: UnixSeconds) -> None:
    """End a session."""
    with store.transaction() as session:
        accounts.end_session(session, _digest(visitor.token))
        audit(session, now=now, account=visitor.name, address=visitor.address, action="sign-out")


def _raise_if_guessing(
    session: Session, name: str, address: str, limits: ConsoleLimits, now: UnixSeconds, *, mine: int
) -> None:
    """Raise TooManySignInsError when the limit is reached by others than ``mine``, which are written down already."""
    since = UnixSeconds(now - limits.failure_seconds)
    failed = accounts.failures(session, name=name, address=address, since=since)
    by_name, by_address = failed.by_name - mine, failed.by_address - mine
    if by_name >= limits.failures_per_name or by_address >= limits.failures_per_address:
        raise TooManySignInsError(failures=max(by_name, by_address), seconds=limits.failure_seconds)


def _matches(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def _account(session: Session, name: str) -> ConsoleAccountRow:
    row = accounts.find_account(session, name)
    if row is None:
        raise NotFoundError("account", name, "`btcfi users list` shows them")
    return row


def _is_token(text: str) -> bool:
    return len(text) == 2 * TOKEN_BYTES and text.isascii()


def _digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()
