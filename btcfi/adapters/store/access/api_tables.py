"""The REST surface's own tables: who may call it, and what a repeated request was answered."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, Column, Index, LargeBinary
from sqlmodel import Field, SQLModel


class ApiKeyRow(SQLModel, table=True):
    """A key to the API. Its secret is not here: only the hash of it, and 256 random bits need no slower one."""

    __tablename__: ClassVar[str] = "api_key"
    __table_args__ = (Index("ix_api_key_account", "account_id"),)

    id: str = Field(primary_key=True)
    """The public part of the key, 16 hex digits."""
    secret_sha256: str
    name: str
    """Whose it is, for people."""
    roles: str
    """Space separated: read, trade, operate."""
    requests_per_minute: int
    created_at_unix: int = Field(sa_column=Column(BigInteger, nullable=False))
    expires_at_unix: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    revoked_at_unix: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    account_id: str | None = None
    """The account whose things it may read; None: it is bound to none."""


class IdempotencyRow(SQLModel, table=True):
    """A POST with an Idempotency-Key: under way (no status yet), or the answer that a repetition gets again."""

    __tablename__: ClassVar[str] = "idempotency"
    __table_args__ = (Index("ix_idempotency_created", "created_at_unix"),)

    owner: str = Field(primary_key=True)
    """The API key's id, or the anonymous caller."""
    key: str = Field(primary_key=True)
    fingerprint: str
    """SHA-256 of method, path and body: the same key with another request is a mistake, not a repetition."""
    status: int | None = None
    body: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    created_at_unix: int = Field(sa_column=Column(BigInteger, nullable=False))
