"""Contracts that end together: who agrees to it, the batches on their way, and what each signed one pays."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from sqlalchemy import Column, Index, Text
from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.machines import Machine, edges
from btcfi.adapters.store.spine.tables import big_integer


class BatchState(StrEnum):
    """How far a batch is."""

    ASKING = "asking"
    """Its owners are asked for nonces, or for signatures."""
    SIGNED = "signed"
    DONE = "done"
    """Its transaction is final."""
    OVER = "over"
    """What is left of it ends by twos, or by CETs."""


class BatchRow(SQLModel, table=True):
    """Contracts that are to end in one transaction: ``asking -> signed -> done | over``."""

    __tablename__: ClassVar[str] = "batch"
    __machine__: ClassVar[Machine[BatchState]] = Machine(
        states=BatchState,
        edges=edges(
            (BatchState.ASKING, BatchState.SIGNED),
            (BatchState.SIGNED, BatchState.ASKING),  # a collateral was spent otherwise: the rest is asked anew
            (BatchState.SIGNED, BatchState.DONE),
            (BatchState.DONE, BatchState.SIGNED),  # reorganised away
            ((BatchState.ASKING, BatchState.SIGNED), BatchState.OVER),
            (BatchState.OVER, BatchState.DONE),  # a block has held what was given up
        ),
        ends=frozenset({BatchState.DONE, BatchState.OVER}),
    )
    __table_args__ = (Index("ix_batch_state", "state"),)

    id: str = Field(primary_key=True)
    state: str = BatchState.ASKING.value
    body: str = Field(sa_column=Column(Text, nullable=False))
    """JSON of the rounds (``batch_state``): what was asked, what was said, who dropped out and why. Nothing secret."""
    txid: str | None = None
    """Of the transaction that was signed last, display order."""
    until_unix: int = Field(sa_column=big_integer())
    """Until then its settlements are not sent by CETs while it asks."""
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())


class BatchPartRow(SQLModel, table=True):
    """One option's part in batches: whether both its sides agree to one, and in which it is or was."""

    __tablename__: ClassVar[str] = "batch_part"
    __table_args__ = (Index("ix_batch_part_batch", "batch_id"),)

    option_id: str = Field(primary_key=True)
    buyer_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """When its buyer said yes to ending it together with others; NULL: it has not."""
    seller_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    batch_id: str | None = None
    why: str | None = Field(default=None, sa_column=Column(Text))
    """Why it is in none, or no more."""


class BatchEndRow(SQLModel, table=True):
    """What a signed batch pays of one contract. Rows of one that was given up stay: a block may still hold it."""

    __tablename__: ClassVar[str] = "batch_end"
    __table_args__ = (Index("ix_batch_end_option", "option_id"),)

    txid: str = Field(primary_key=True)
    """Display order."""
    position: int = Field(primary_key=True)
    """Of its input, and of its proof root under the Merkle root."""
    batch_id: str
    option_id: str
    proof_root: str
    paid_sats: int = Field(sa_column=big_integer())
    returned_sats: int = Field(sa_column=big_integer())
    fee_sats: int = Field(sa_column=big_integer())
    """Collateral less both: its share of the fee, and what is dust of an owner."""
    share_sats: int = Field(sa_column=big_integer())
    """What every contract of the batch bears of the fee."""
