"""The tables: what is true. Everything that a queue can lose or repeat is decided here.

Money and prices are integers whose unit stands in the column's name; times are unix seconds; states are text, and the
edges between them stand in ``edges.py``.
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Text
from sqlmodel import Field, SQLModel


def big_integer(*, nullable: bool = False, primary_key: bool = False, index: bool = False) -> Column[int]:
    """Return a column of 64 bits, as money, times and prices need."""
    return Column(BigInteger, nullable=nullable, primary_key=primary_key, index=index)


class BlobRow(SQLModel, table=True):
    """Bytes by content: proofs, inputs, raw responses. Messages carry the hash, never the bytes."""

    __tablename__: ClassVar[str] = "blob"

    sha256: str = Field(primary_key=True)
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at_unix: int = Field(sa_column=big_integer(index=True))


class EventRow(SQLModel, table=True):
    """Every edge that was crossed, in order; replaying them gives the states."""

    __tablename__: ClassVar[str] = "event"
    __table_args__ = (Index("ix_event_entity", "entity", "entity_id"),)

    id: int | None = Field(default=None, primary_key=True)
    entity: str
    entity_id: str
    from_state: str
    to_state: str
    fence: int = 0
    at_unix: int = Field(sa_column=big_integer())
    detail: str = Field(default="", sa_column=Column(Text, nullable=False))


class OutboxRow(SQLModel, table=True):
    """Work to publish, written in the transaction that made it necessary. Its id becomes the task id."""

    __tablename__: ClassVar[str] = "outbox"
    __table_args__ = (Index("ix_outbox_unpublished", "published_at_unix", "created_at_unix"),)

    id: str = Field(primary_key=True)
    flow: str
    """Name of a canvas in tasks/pipeline.py."""
    arguments: str
    """JSON list, ids only."""
    created_at_unix: int = Field(sa_column=big_integer())
    published_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    problem: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    """Why it could not be started; None for one that waits its turn."""
    tried_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """When that was."""


class CanaryRow(SQLModel, table=True):
    """When a queue last proved that it is consumed, not only connected."""

    __tablename__: ClassVar[str] = "canary"

    queue: str = Field(primary_key=True)
    seen_at_unix: int = Field(sa_column=big_integer())


class CounterRow(SQLModel, table=True):
    """Things worth counting that change no state: stopped duplicates, repairs."""

    __tablename__: ClassVar[str] = "counter"

    name: str = Field(primary_key=True)
    value: int = Field(default=0, sa_column=big_integer())
