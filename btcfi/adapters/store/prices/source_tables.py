"""Where a feed's prices come from."""

from __future__ import annotations

from typing import ClassVar

from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.tables import big_integer


class MarketSourceRow(SQLModel, table=True):
    """The one market that prices a feed: another's minutes would settle what was sold at this one's."""

    __tablename__: ClassVar[str] = "market_source"

    feed: str = Field(primary_key=True)
    source: str
    """``live``, ``recorded`` or ``simulated seed N``."""
    since_unix: int = Field(sa_column=big_integer())
    """When it was first noted, by the wall clock."""
