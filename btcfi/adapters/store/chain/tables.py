"""Our transactions, the service's coins, and the blocks that were walked."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import Column, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.tables import big_integer


class TransactionRow(SQLModel, table=True):
    """A transaction of ours, stored before it is sent: ``built -> broadcast -> confirmed -> final``.

    Besides, ``conflicted``: somebody else spent its input; ``replaced``: ours that pays more stands for it.
    """

    __tablename__: ClassVar[str] = "chain_transaction"
    __table_args__ = (UniqueConstraint("purpose", "option_id"), Index("ix_transaction_state", "state"))

    txid: str = Field(primary_key=True)
    """Display order."""
    purpose: str
    """``funding``, ``settlement`` (a CET or a close), ``child`` (its fee), ``outside``, ``split`` or ``anchor``."""
    option_id: str
    """For a split or an anchor, its own txid."""
    state: str = "built"
    raw_hex: str = Field(sa_column=Column(Text, nullable=False))
    spends: str
    """The watched outpoint, ``txid:vout`` in display order."""
    fee_sats: int = Field(sa_column=big_integer())
    built_height: int | None = None
    """The newest block that was walked when its first version was built: how long it has waited."""
    height: int | None = None
    """Of its block; of its rival's while it is conflicted."""
    block_hash: str | None = None
    last_error: str | None = Field(default=None, sa_column=Column(Text))
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())


class WalletOutpointRow(SQLModel, table=True):
    """An output that the service's own wallet can spend: ``available -> reserved -> spent``."""

    __tablename__: ClassVar[str] = "wallet_outpoint"
    __table_args__ = (Index("ix_wallet_outpoint_pick", "party", "state", "value_sats"),)

    outpoint: str = Field(primary_key=True)
    party: str
    value_sats: int = Field(sa_column=big_integer())
    mature_height: int
    """First block height that may hold a spend of it: a coinbase needs 100 confirmations."""
    height: int | None = None
    """Of its block; None for what was walked before this was kept."""
    state: str = "available"
    reserved_by: str | None = None


class BlockRow(SQLModel, table=True):
    """The chain as we have walked it, so that a reorganisation is unwound block by block."""

    __tablename__: ClassVar[str] = "block"

    height: int = Field(primary_key=True)
    hash: str
