"""Accounts of the console and the sessions of who is signed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, func, update
from sqlmodel import Session, col, select

from btcfi.adapters.store.access.console_tables import AuditRow, ConsoleAccountRow, ConsoleSessionRow, audit
from btcfi.units import UnixSeconds

SIGN_IN: Final = "sign-in"
"""The action under which the audit has sign-ins, and counts the refused ones."""

REFUSED: Final = "refused"
DONE: Final = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Refused sign-ins of late, from one address."""

    by_address: int
    by_name: int
    """Of them, those that tried one name."""


def find_account(session: Session, name: str) -> ConsoleAccountRow | None:
    """Return an account."""
    return session.get(ConsoleAccountRow, name)


def add_account(session: Session, name: str, *, password_hash: str, roles: str, now: UnixSeconds) -> None:
    """Store an account."""
    session.add(
        ConsoleAccountRow(
            name=name, password_hash=password_hash, roles=roles, created_at_unix=now, password_set_at_unix=now
        )
    )


def add_session(
    session: Session, token_sha256: str, account: str, *, now: UnixSeconds, expires_at: UnixSeconds
) -> None:  # fmt: skip
    """Store a sign-in, and forget those that have ended by themselves."""
    session.add(
        ConsoleSessionRow(
            token_sha256=token_sha256, account=account, created_at_unix=now, seen_at_unix=now,
            expires_at_unix=expires_at,
        )
    )  # fmt: skip
    session.execute(delete(ConsoleSessionRow).where(col(ConsoleSessionRow.expires_at_unix) <= now))


def find_session(session: Session, token_sha256: str) -> tuple[ConsoleSessionRow, ConsoleAccountRow] | None:
    """Return a sign-in and its account."""
    row = session.get(ConsoleSessionRow, token_sha256)
    account = session.get(ConsoleAccountRow, row.account) if row is not None else None
    return None if row is None or account is None else (row, account)


def note_seen(session: Session, token_sha256: str, *, now: UnixSeconds) -> None:
    """Note that a sign-in was used, if it is still there."""
    row = session.get(ConsoleSessionRow, token_sha256)
    if row is not None:
        row.seen_at_unix = now


def end_session(session: Session, token_sha256: str) -> None:
    """End one sign-in."""
    session.execute(delete(ConsoleSessionRow).where(col(ConsoleSessionRow.token_sha256) == token_sha256))


def end_sessions(session: Session, account: str) -> None:
    """End every sign-in of an account."""
    session.execute(delete(ConsoleSessionRow).where(col(ConsoleSessionRow.account) == account))


def begin_attempt(session: Session, *, name: str, address: str, now: UnixSeconds) -> int:
    """Write down a sign-in before its password is looked at, as refused: so it counts, whatever becomes of it."""
    entry = audit(session, now=now, account=name, address=address, action=SIGN_IN, outcome=REFUSED)
    session.flush()
    if entry.id is None:
        raise AssertionError  # pragma: no cover - a stored row has its number
    return entry.id


def attempt_succeeded(session: Session, number: int) -> None:
    """Note that the password of an attempt was right."""
    session.execute(update(AuditRow).where(col(AuditRow.id) == number).values(outcome=DONE))


def withdraw_attempt(session: Session, number: int) -> None:
    """Forget an attempt whose password nobody looked at, because there were too many: it does not count as one."""
    session.execute(delete(AuditRow).where(col(AuditRow.id) == number))


def failures(session: Session, *, name: str, address: str, since: UnixSeconds) -> Failures:
    """Return how many sign-ins from an address were refused after ``since``."""
    refused = (
        select(func.count())
        .select_from(AuditRow)
        .where(
            AuditRow.action == SIGN_IN, AuditRow.outcome == REFUSED, AuditRow.address == address,
            col(AuditRow.at_unix) > since,
        )
    )  # fmt: skip
    return Failures(
        by_address=session.exec(refused).one(), by_name=session.exec(refused.where(AuditRow.account == name)).one()
    )
