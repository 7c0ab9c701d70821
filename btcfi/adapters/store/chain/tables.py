"""Our transactions, the service's coins, and the blocks that were walked."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

from sqlalchemy import Column, Index, Text, text
from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.machines import Machine, edges
from btcfi.adapters.store.spine.tables import big_integer


class TransactionState(StrEnum):
    """Of a transaction of ours."""

    BUILT = "built"
    BROADCAST = "broadcast"
    CONFIRMED = "confirmed"
    FINAL = "final"
    REPLACED = "replaced"
    """Ours that pays more stands for it; a block may still take the older one."""
    CONFLICTED = "conflicted"
    """Somebody else has spent its input."""


UNMINED: Final = (TransactionState.BUILT, TransactionState.BROADCAST)
"""What no block holds, and one may."""


class TransactionRow(SQLModel, table=True):
    """A transaction of ours, stored before it is sent: ``built -> broadcast -> confirmed -> final``.

    Of a subject and a purpose one version stands; what took another's place is named by ``replaced_by``.
    """

    __tablename__: ClassVar[str] = "chain_transaction"
    __table_args__ = (
        Index(
            "ux_transaction_standing", "purpose", "subject", unique=True,
            sqlite_where=text("replaced_by IS NULL"), postgresql_where=text("replaced_by IS NULL"),
        ),
        Index("ix_transaction_subject", "subject"),
        Index("ix_transaction_state", "state"),
    )  # fmt: skip
    __machine__: ClassVar[Machine[TransactionState]] = Machine(
        states=TransactionState,
        key="txid",
        edges=edges(
            (TransactionState.BUILT, TransactionState.BROADCAST),
            ((*UNMINED, TransactionState.REPLACED), TransactionState.CONFIRMED),
            (TransactionState.CONFIRMED, TransactionState.FINAL),
            # reorganised away, or its rival was
            (
                (TransactionState.CONFIRMED, TransactionState.FINAL, TransactionState.CONFLICTED),
                TransactionState.BROADCAST,
            ),
            ((*UNMINED, TransactionState.CONFIRMED), TransactionState.CONFLICTED),
            (UNMINED, TransactionState.REPLACED),
        ),
        ends=frozenset({TransactionState.FINAL}),
    )

    txid: str = Field(primary_key=True)
    """Display order."""
    purpose: str
    """What it is for, one word of its system's ``Purpose``s (``handlers.py``)."""
    subject: str | None = None
    """The row of its system that it is for, an option's id for instance; None where the purpose says all."""
    replaced_by: str | None = None
    """Txid, display order, of the transaction that took its place; it may be somebody else's."""
    state: str = TransactionState.BUILT.value
    raw_hex: str = Field(sa_column=Column(Text, nullable=False))
    spends: str
    """The watched outpoint, ``txid:vout`` in display order."""
    fee_sats: int = Field(sa_column=big_integer())
    """Its own, inputs less outputs; 0 for a stranger's, whose coins are unknown."""
    built_height: int | None = None
    """The newest block that was walked when its first version was built: how long it has waited."""
    height: int | None = None
    """Of its block; of its rival's while it is conflicted."""
    block_hash: str | None = None
    last_error: str | None = Field(default=None, sa_column=Column(Text))
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())


class CoinState(StrEnum):
    """Of an output of the service's wallet."""

    AVAILABLE = "available"
    RESERVED = "reserved"
    SPENT = "spent"


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
    state: str = CoinState.AVAILABLE.value
    reserved_by: str | None = None
    """Txid, display order, of the transaction that it is kept for."""


class BlockRow(SQLModel, table=True):
    """The chain as we have walked it, so that a reorganisation is unwound block by block."""

    __tablename__: ClassVar[str] = "block"

    height: int = Field(primary_key=True)
    hash: str
