"""The operator console's own tables: who may sign in, who is signed in, who did what, which feeds are paused."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import Column, Index, Text
from sqlmodel import Field, Session, SQLModel

from btcfi.adapters.store.spine.tables import big_integer
from btcfi.units import UnixSeconds


class ConsoleAccountRow(SQLModel, table=True):
    """A person who may sign in to the console."""

    __tablename__: ClassVar[str] = "console_account"

    name: str = Field(primary_key=True)
    password_hash: str
    """Argon2id, in its own encoded form with salt and cost."""
    roles: str
    """Space separated: read, trade, operate."""
    created_at_unix: int = Field(sa_column=big_integer())
    password_set_at_unix: int = Field(sa_column=big_integer())
    disabled_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))


class ConsoleSessionRow(SQLModel, table=True):
    """One sign-in. The cookie's token is not here, only its hash."""

    __tablename__: ClassVar[str] = "console_session"
    __table_args__ = (Index("ix_console_session_account", "account"),)

    token_sha256: str = Field(primary_key=True)
    account: str = Field(foreign_key="console_account.name")
    created_at_unix: int = Field(sa_column=big_integer())
    expires_at_unix: int = Field(sa_column=big_integer())
    seen_at_unix: int = Field(sa_column=big_integer())
    """The last request, to the minute: an idle session ends before its expiry."""


class AuditRow(SQLModel, table=True):
    """What somebody did or tried to do, kept for good."""

    __tablename__: ClassVar[str] = "console_audit"
    __table_args__ = (Index("ix_console_audit_action", "action", "at_unix"),)

    id: int | None = Field(default=None, primary_key=True)
    at_unix: int = Field(sa_column=big_integer())
    account: str
    """Who, as far as known: for a refused sign-in the name that was tried."""
    address: str
    action: str
    target: str = Field(default="", sa_column=Column(Text, nullable=False))
    outcome: str
    """``done``, ``refused`` or ``failed``."""
    detail: str = Field(default="", sa_column=Column(Text, nullable=False))


def audit(
    session: Session, *, now: UnixSeconds, account: str, address: str, action: str, target: str = "",
    outcome: str = "done", detail: str = "",
) -> AuditRow:  # fmt: skip
    """Write down who did what, in the transaction that does it, and return the entry: numbered at its end."""
    entry = AuditRow(
        at_unix=now, account=account[:100], address=address[:100], action=action, target=target[:500],
        outcome=outcome, detail=detail[:2000],
    )  # fmt: skip
    session.add(entry)
    return entry
