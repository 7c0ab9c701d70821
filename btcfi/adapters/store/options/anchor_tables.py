"""What was anchored: the items of each batch in order, and every transaction that committed to a beginning of it."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, Column, Index
from sqlmodel import Field, SQLModel


class AnchorRow(SQLModel, table=True):
    """One version of a batch's transaction. All versions of a batch spend the same coin, so one of them confirms."""

    __tablename__: ClassVar[str] = "anchor"
    __table_args__ = (Index("ix_anchor_batch", "batch"),)

    txid: str = Field(primary_key=True)
    """Display order; the transaction stands in ``chain_transaction``."""
    batch: int
    count: int
    """It commits to so many items, from the batch's first on."""
    root: str
    created_at_unix: int = Field(sa_column=Column(BigInteger, nullable=False))


class AnchorItemRow(SQLModel, table=True):
    """One thing that a batch commits to, at its place; places are never changed."""

    __tablename__: ClassVar[str] = "anchor_item"
    __table_args__ = (Index("ix_anchor_item_subject", "kind", "subject"),)

    batch: int = Field(primary_key=True)
    position: int = Field(primary_key=True)
    kind: int
    """Of ``AnchorKind``."""
    subject: str
    """``FEED@SLOT`` of a price, the event's id of an announcement, the settlement's id of a proof root."""
    part: str = ""
    """The oracle's key of an announcement."""
    digest: str
    context: str = ""
    """Hash of the rule of a price, so that its report can be made again."""
