"""Disputed contracts under watch, and the transactions that brought each where it stands."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import Column, Index, Text
from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.machines import Machine
from btcfi.adapters.store.spine.tables import big_integer
from btcfi.disputes.stages import Stage
from btcfi.disputes.states import EDGES

_WAYS = frozenset((one.source, one.target) for one in EDGES)


class DisputeRow(SQLModel, table=True):
    """A contract under watch: its state is what the chain shows, and a reorganisation takes it back edge by edge."""

    __tablename__: ClassVar[str] = "dispute"
    __machine__: ClassVar[Machine[Stage]] = Machine(
        states=Stage,
        edges=_WAYS | {(target, source) for source, target in _WAYS},
        ends=frozenset(stage for stage in Stage if stage.ended),
    )
    __table_args__ = (
        Index("ix_dispute_state", "state"),
        Index("ix_dispute_created", "created_at_unix", "id"),
        Index("ix_dispute_final", "final_height"),
    )

    id: str = Field(primary_key=True)
    """Of its public part, hex: the contract with its fault point (``btcfi.disputes.public``)."""
    state: str = Stage.UNOPENED.value
    contract_id: str
    """As both sides call it, hex."""
    body_sha256: str
    """Blob: the public part."""
    registered_by: str
    opening_txid: str
    """Display order."""
    coin: str | None = None
    """``txid:vout`` in display order, whose spend is waited for; NULL: the opening is, or nothing any more."""
    walked_height: int
    """The last block that was looked at for it."""
    walked_hash: str
    """Internal byte order, hex, as of walked blocks."""
    final_height: int | None = None
    """Of the block that ended it, once it is looked at no more, or by which nothing had opened it; NULL before that."""
    moved_height: int | None = None
    """Of the block that brought it where it stands."""
    deadline_height: int | None = None
    """The last block that is safe for who is to move; NULL: nobody is."""
    overdue_height: int | None = None
    """By then somebody could have ended it; NULL at an end. Before the opening: none is waited for long after it."""
    claimed_range: int | None = None
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())


class DisputeStepRow(SQLModel, table=True):
    """One transaction of a contract in a block: the opening, then what spent each coin; gone with its block."""

    __tablename__: ClassVar[str] = "dispute_step"

    dispute_id: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    """0: the opening."""
    state: str
    """Where it brought the contract."""
    txid: str
    """Display order."""
    raw_hex: str = Field(sa_column=Column(Text, nullable=False))
    height: int
    block_hash: str
    """Internal byte order, hex."""
