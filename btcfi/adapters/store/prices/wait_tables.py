"""Exchanges that have told a machine to wait."""

from __future__ import annotations

from typing import ClassVar

from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.tables import big_integer


class VenueWaitRow(SQLModel, table=True):
    """Before when an exchange wants to hear nothing from a machine: exchanges count by address, so another may ask."""

    __tablename__: ClassVar[str] = "venue_wait"

    exchange: str = Field(primary_key=True)
    host: str = Field(primary_key=True)
    until_unix: int = Field(sa_column=big_integer())
