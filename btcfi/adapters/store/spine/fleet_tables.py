"""A fleet's own tables: who may act alone for a while, what ran by the clock, what was refused at the broker's door."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, Column, Index, Text
from sqlmodel import Field, SQLModel


class LeaseRow(SQLModel, table=True):
    """One thing that only one process may do at a time, such as signing for a wallet."""

    __tablename__: ClassVar[str] = "lease"

    name: str = Field(primary_key=True)
    holder: str
    """Host, process id and a random word: never the same twice."""
    fence: int = Field(default=1, sa_column=Column(BigInteger, nullable=False))
    """Grows with every change of the holder."""
    until_unix: int = Field(sa_column=Column(BigInteger, nullable=False))


class TakenOrderRow(SQLModel, table=True):
    """A message by which a person ordered something, so that a recording of it orders nothing again."""

    __tablename__: ClassVar[str] = "taken_order"

    id: str = Field(primary_key=True)
    """Of the message."""
    at_unix: int = Field(sa_column=Column(BigInteger, nullable=False))


class TickRow(SQLModel, table=True):
    """What happens by the clock: when it last ended by the database's clock, and what the worker's own clock said."""

    __tablename__: ClassVar[str] = "tick"

    name: str = Field(primary_key=True)
    """The task, with its arguments where it has some: ``chain.watch``, ``control.canary chain``."""
    ended_ms: int = Field(sa_column=Column(BigInteger, nullable=False))
    ahead_ms: int = Field(sa_column=Column(BigInteger, nullable=False))
    """The worker's clock minus the database's."""
    worker: str
    """Its name on the broker."""


class RefusedMessageRow(SQLModel, table=True):
    """A message that was not ours, once for each content: it was never executed and is kept to be looked at."""

    __tablename__: ClassVar[str] = "refused_message"
    __table_args__ = (Index("ix_refused_message_seen", "last_seen_unix"),)

    sha256: str = Field(primary_key=True)
    """Of the body."""
    queue: str
    reason: str
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    excerpt: str = Field(sa_column=Column(Text, nullable=False))
    """The first bytes, printable ones as they are."""
    times: int = 1
    first_seen_unix: int = Field(sa_column=Column(BigInteger, nullable=False))
    last_seen_unix: int = Field(sa_column=Column(BigInteger, nullable=False))
