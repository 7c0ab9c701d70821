"""Accounts and sign-ins: Argon2id for passwords, 256 random bits for sessions, and both only as hashes in the store."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func
from sqlmodel import Session, col, select

from btcfi.adapters.store.access.console_tables import AuditRow, ConsoleAccountRow, ConsoleSessionRow, audit
from btcfi.adapters.store.spine.database import Store
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
    row = ConsoleAccountRow(
        name=check_name(name), password_hash=_HASHER.hash(check_password(password)), roles=check_roles(roles),
        created_at_unix=now, password_set_at_unix=now,
    )  # fmt: skip
    with store.transaction() as session:
        if session.get(ConsoleAccountRow, name) is not None:
            raise InvalidInputError("name", f"{name!r} is taken", "another one, or `btcfi users password`")
        session.add(row)
        audit(session, now=now, account=by, address="local", action="account.add", target=name, detail=row.roles)


def set_password(store: Store, name: str, password: str, *, now: UnixSeconds, by: str) -> None:
    """Give an account a new password and end its sessions. Raises NotFoundError, InvalidInputError."""
    hashed = _HASHER.hash(check_password(password))
    with store.transaction() as session:
        row = _account(session, name)
        row.password_hash, row.password_set_at_unix, row.disabled_at_unix = hashed, now, None
        _end_sessions(session, name)
        audit(session, now=now, account=by, address="local", action="account.password", target=name)


def disable_account(store: Store, name: str, *, now: UnixSeconds, by: str) -> None:
    """Close an account and end its sessions; a new password opens it again. Raises NotFoundError."""
    with store.transaction() as session:
        row = _account(session, name)
        row.disabled_at_unix = row.disabled_at_unix or now
        _end_sessions(session, name)
        audit(session, now=now, account=by, address="local", action="account.disable", target=name)


def list_accounts(store: Store) -> list[ConsoleAccountRow]:
    """Return every account, by name."""
    with store.reading() as session:
        return list(session.exec(select(ConsoleAccountRow).order_by(col(ConsoleAccountRow.name))).all())


def sign_in(
    store: Store, name: str, password: str, *, address: str, entropy: bytes, limits: ConsoleLimits, now: UnixSeconds
) -> str:
    """Open a session and return its token. Takes a tenth of a second of hashing.

    Raises SignInNeededError, the same for an unknown name and a wrong password, and TooManySignInsError.
    """
    name = name.strip().lower()[:64]
    with store.reading() as session:
        _raise_if_guessing(session, name, address, limits, now)
        row = session.get(ConsoleAccountRow, name)
        stored = row.password_hash if row is not None and row.disabled_at_unix is None else None
    right = _matches(stored or _NOBODY, password[: LONGEST_PASSWORD + 1])
    with store.transaction() as session:
        account = session.get(ConsoleAccountRow, name)
        if account is not None and account.disabled_at_unix is not None:
            account = None
        if not right or account is None or account.password_hash != stored:
            audit(session, now=now, account=name, address=address, action="sign-in", outcome="refused")
            token = None
        else:
            token = entropy.hex()
            if _HASHER.check_needs_rehash(account.password_hash):
                account.password_hash = _HASHER.hash(password)
            session.add(
                ConsoleSessionRow(
                    token_sha256=_digest(token), account=name, created_at_unix=now, seen_at_unix=now,
                    expires_at_unix=now + limits.session_seconds,
                )
            )  # fmt: skip
            session.execute(delete(ConsoleSessionRow).where(col(ConsoleSessionRow.expires_at_unix) <= now))
            audit(session, now=now, account=name, address=address, action="sign-in")
    if token is None:
        raise SignInNeededError("name or password is wrong")
    return token


def visitor_of(store: Store, token: str, *, address: str, limits: ConsoleLimits, now: UnixSeconds) -> Visitor:
    """Return who holds the session. Raises SignInNeededError when it is none, or has ended."""
    with store.reading() as session:
        row = session.get(ConsoleSessionRow, _digest(token)) if _is_token(token) else None
        account = session.get(ConsoleAccountRow, row.account) if row is not None else None
    if row is None or account is None or account.disabled_at_unix is not None:
        raise SignInNeededError("nobody is signed in here")
    if row.expires_at_unix <= now or row.seen_at_unix + limits.idle_seconds <= now:
        raise SignInNeededError("the session has ended")
    if row.seen_at_unix + SEEN_SECONDS <= now:
        with store.transaction() as session:
            fresh = session.get(ConsoleSessionRow, row.token_sha256)
            if fresh is not None:
                fresh.seen_at_unix = now
    return Visitor(name=account.name, roles=frozenset(account.roles.split()), token=token, address=address)


def sign_out(store: Store, visitor: Visitor, *, now: UnixSeconds) -> None:
    """End a session."""
    with store.transaction() as session:
        session.execute(delete(ConsoleSessionRow).where(col(ConsoleSessionRow.token_sha256) == _digest(visitor.token)))
        audit(session, now=now, account=visitor.name, address=visitor.address, action="sign-out")


def _raise_if_guessing(session: Session, name: str, address: str, limits: ConsoleLimits, now: UnixSeconds) -> None:
    failed = (
        select(func.count())
        .select_from(AuditRow)
        .where(
            AuditRow.action == "sign-in", AuditRow.outcome == "refused", AuditRow.address == address,
            col(AuditRow.at_unix) > now - limits.failure_seconds,
        )
    )  # fmt: skip
    by_address = session.exec(failed).one()
    by_name = session.exec(failed.where(AuditRow.account == name)).one()
    if by_name >= limits.failures_per_name or by_address >= limits.failures_per_address:
        raise TooManySignInsError(failures=max(by_name, by_address), seconds=limits.failure_seconds)


def _matches(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def _account(session: Session, name: str) -> ConsoleAccountRow:
    row = session.get(ConsoleAccountRow, name)
    if row is None:
        raise NotFoundError("account", name, "`btcfi users list` shows them")
    return row


def _end_sessions(session: Session, name: str) -> None:
    session.execute(delete(ConsoleSessionRow).where(col(ConsoleSessionRow.account) == name))


def _is_token(text: str) -> bool:
    return len(text) == 2 * TOKEN_BYTES and text.isascii()


def _digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()
