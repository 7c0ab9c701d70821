"""Browsers at the trader's desk: those that have asked to be let in, and those that an account has let in."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.tables import big_integer


class DeskSignInRow(SQLModel, table=True):
    """A code on a browser's screen, for some minutes: an account may answer it, and the browser then has a session."""

    __tablename__: ClassVar[str] = "desk_sign_in"
    __table_args__ = (Index("ix_desk_sign_in_expires", "expires_at_unix"),)

    code: str = Field(primary_key=True)
    browser_sha256: str
    """Of the word that this browser's cookie has: the code alone opens nothing anywhere else."""
    browser: str
    """What it says it is, in a few words; its owner is shown them."""
    address: str
    created_at_unix: int = Field(sa_column=big_integer())
    expires_at_unix: int = Field(sa_column=big_integer())
    account_id: str | None = Field(default=None, foreign_key="account.id")
    """Whose process has answered; NULL: nobody's yet, as the next two."""
    request_key: str | None = None
    """By which it did."""
    answer_sha256: str | None = None
    """Of the digits that the account's owner was given, and types into the browser."""
    tries: int = 0
    """Digits that were typed."""


class DeskSessionRow(SQLModel, table=True):
    """One browser that looks as an account. The cookie's token is not here, only its hash."""

    __tablename__: ClassVar[str] = "desk_session"
    __table_args__ = (
        Index("ix_desk_session_account", "account_id", "created_at_unix"),
        Index("ix_desk_session_expires", "expires_at_unix"),
    )

    token_sha256: str = Field(primary_key=True)
    id: str
    """What its owner ends it by: 16 hex digits that open nothing."""
    account_id: str = Field(foreign_key="account.id")
    request_key: str
    """By which it was let in: with another key of the account it has ended."""
    browser: str
    address: str
    created_at_unix: int = Field(sa_column=big_integer())
    expires_at_unix: int = Field(sa_column=big_integer())
    seen_at_unix: int = Field(sa_column=big_integer())
    """The last request, to the minute: an idle session ends before its expiry."""
