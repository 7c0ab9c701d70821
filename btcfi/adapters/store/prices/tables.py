"""What venues said, and the price of each minute."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from sqlalchemy import Column, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.machines import Machine, edges
from btcfi.adapters.store.spine.tables import big_integer


class RoundState(StrEnum):
    """Of a minute."""

    OPEN = "open"
    PRICED = "priced"
    VOID = "void"


class RoundRow(SQLModel, table=True):
    """One feed's minute: ``open -> priced | void``."""

    __tablename__: ClassVar[str] = "round"
    __machine__: ClassVar[Machine[RoundState]] = Machine(
        states=RoundState,
        edges=edges((RoundState.OPEN, RoundState.PRICED), (RoundState.OPEN, RoundState.VOID)),
        ends=frozenset({RoundState.PRICED, RoundState.VOID}),
    )
    __table_args__ = (UniqueConstraint("feed", "slot"), Index("ix_round_state", "state", "slot"))

    id: int | None = Field(default=None, primary_key=True)
    feed: str
    slot: int = Field(sa_column=big_integer())
    state: str = RoundState.OPEN.value
    price_cents: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    low_cents: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    high_cents: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    report: str | None = Field(default=None, sa_column=Column(Text))
    """JSON: who was used, who was dropped and why, or why the round is void."""
    rule_sha256: str | None = None
    """Of the blob that says by which rule, from which venues and legs it was agreed; NULL: by an earlier release."""
    attempts: int = 1
    deadline_unix: int = Field(sa_column=big_integer())
    """When the reconciler looks whether the round can be closed without its chord."""
    opened_at_unix: int = Field(sa_column=big_integer())
    closed_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))


class QuoteRow(SQLModel, table=True):
    """What one venue said for one slot: a quote, or a reason why there is none."""

    __tablename__: ClassVar[str] = "quote"
    __table_args__ = (UniqueConstraint("feed", "slot", "venue"),)

    id: int | None = Field(default=None, primary_key=True)
    feed: str
    slot: int = Field(sa_column=big_integer())
    venue: str
    ok: bool
    body: str = Field(sa_column=Column(Text, nullable=False))
    """JSON of the Quote or the Missing record."""
    evidence_sha256: str | None = None
    fetched_at_unix: int = Field(sa_column=big_integer())
