"""Events that a restored service does not attest before an operator has decided."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from sqlalchemy import BigInteger, Column
from sqlmodel import Field, SQLModel


class HoldState(StrEnum):
    """Of a held event."""

    HELD = "held"
    IMPORTED = "imported"
    RELEASED = "released"


class HeldEventRow(SQLModel, table=True):
    """One event that may have been attested after the backup: ``held -> imported | released``."""

    __tablename__: ClassVar[str] = "held_event"

    event_id: str = Field(primary_key=True)
    state: str = HoldState.HELD.value
    outcome: int | None = Field(default=None, sa_column=Column(BigInteger))
    """Of the imported attestation: the only one that may be attested."""
    taken_at_unix: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    """When the backup was taken."""
    held_at_unix: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    """When it was restored."""
    decided_at_unix: int | None = Field(default=None, sa_column=Column(BigInteger))
