"""The oracle network's own tables: what nodes signed, what contradicted itself, what the aggregator concluded.

Rounds and quotes that options settle on live in ``tables.py``; the aggregator also writes its quotes there, so that the
same reconciler closes a round whoever fetched.
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, Column, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field, SQLModel


class OracleSubmissionRow(SQLModel, table=True):
    """One accepted submission, with everything needed to check its signature again."""

    __tablename__: ClassVar[str] = "oracle_submission"
    __table_args__ = (UniqueConstraint("feed", "slot", "node_id"),)

    id: int | None = Field(default=None, primary_key=True)
    feed: str
    slot: int = Field(sa_column=Column(BigInteger, nullable=False))
    node_id: str
    message: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """The PriceSubmission as it came, without its raw response (that is a blob)."""
    received_at_unix: int = Field(sa_column=Column(BigInteger, nullable=False))


class OracleEquivocationRow(SQLModel, table=True):
    """Two signed submissions of one node for one slot that contradict each other: proof against its key."""

    __tablename__: ClassVar[str] = "oracle_equivocation"
    __table_args__ = (UniqueConstraint("feed", "slot", "node_id"),)

    id: int | None = Field(default=None, primary_key=True)
    feed: str
    slot: int = Field(sa_column=Column(BigInteger, nullable=False))
    node_id: str
    first: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    second: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    seen_at_unix: int = Field(sa_column=Column(BigInteger, nullable=False))


class OracleCommitmentRow(SQLModel, table=True):
    """One node's signed promise of a price: without it a reveal after a restart would be refused."""

    __tablename__: ClassVar[str] = "oracle_commitment"
    __table_args__ = (UniqueConstraint("feed", "slot", "node_id"),)

    id: int | None = Field(default=None, primary_key=True)
    feed: str
    slot: int = Field(sa_column=Column(BigInteger, nullable=False))
    node_id: str
    message: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """The CommitRequest as it came."""
    received_at_unix: int = Field(sa_column=Column(BigInteger, nullable=False))


class OracleRoundRow(SQLModel, table=True):
    """What the aggregator concluded for one minute, and who signed it."""

    __tablename__: ClassVar[str] = "oracle_round"
    __table_args__ = (UniqueConstraint("feed", "slot"),)

    id: int | None = Field(default=None, primary_key=True)
    feed: str
    slot: int = Field(sa_column=Column(BigInteger, nullable=False))
    report: str = Field(sa_column=Column(Text, nullable=False))
    """Canonical JSON; its tagged hash is ``report_hash``."""
    report_hash: str
    rule: str = Field(sa_column=Column(Text, nullable=False))
    """JSON of the rule, the registered venues and the legs."""
    signatures: str = Field(default="{}", sa_column=Column(Text, nullable=False))
    """JSON: node id to hex signature of the report."""
    closed_at_unix: int = Field(sa_column=Column(BigInteger, nullable=False))
