"""Feeds that an operator has stopped."""

from __future__ import annotations

from typing import ClassVar

from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.tables import big_integer


class PausedFeedRow(SQLModel, table=True):
    """A feed's last pause: no new round is opened until somebody resumes it, nor one for a minute of the pause."""

    __tablename__: ClassVar[str] = "paused_feed"

    feed: str = Field(primary_key=True)
    paused_by: str
    paused_at_unix: int = Field(sa_column=big_integer())
    resumed_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))
