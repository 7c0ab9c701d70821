"""Where accounts want to be told of their events, how far each was told, and how far anybody has looked."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

from sqlalchemy import Column, Index, LargeBinary, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from btcfi.adapters.store.spine.machines import Machine, edges
from btcfi.adapters.store.spine.tables import big_integer


class HookState(StrEnum):
    """Whether anything is sent to a hook."""

    ACTIVE = "active"
    DISABLED = "disabled"
    """Given up: its receiver took nothing for days, or said that it is gone."""


WAITING: Final = "state = 'active' AND told_event < newest_event"


class WebhookRow(SQLModel, table=True):
    """A hook of an account: ``active -> disabled``, and active again when its owner tests it."""

    __tablename__: ClassVar[str] = "webhook"
    __machine__: ClassVar[Machine[HookState]] = Machine(
        states=HookState,
        edges=edges(
            (HookState.ACTIVE, HookState.ACTIVE),  # a test, which is an event of its own
            (HookState.ACTIVE, HookState.DISABLED),
            (HookState.DISABLED, HookState.ACTIVE),
        ),
        ends=frozenset({HookState.ACTIVE, HookState.DISABLED}),
    )
    __table_args__ = (
        UniqueConstraint("account_id", "url"),
        Index("ix_webhook_of", "account_id", "created_at_unix", "id"),
        Index("ix_webhook_waiting", "tried_at_unix", "id", sqlite_where=text(WAITING), postgresql_where=text(WAITING)),
        Index("ix_webhook_state", "state"),
    )

    id: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="account.id")
    url: str
    kinds: str
    """Entities whose events it is for, with commas between."""
    secret_sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """By which its messages are signed: sealed to the desk's box key, so that what serves the API cannot open it."""
    state: str = HookState.ACTIVE.value
    told_event: int = Field(sa_column=big_integer())
    """The event up to which its receiver has taken what is its account's."""
    newest_event: int = Field(sa_column=big_integer())
    """The newest event of its account that was seen: above ``told_event`` something waits."""
    tries: int = 0
    """Attempts at what waits, also those that died; 0 once it is taken."""
    tried_at_unix: int = Field(default=0, sa_column=big_integer())
    """When the last one began."""
    rest_seconds: int = 0
    """From then on, in which nobody tries."""
    fence: int = 0
    """Which attempt it is, of all that ever were: one that comes late writes nothing."""
    slow: bool = True
    """Whether its last answer took long, or none ever came: it waits among its like."""
    last_status: int | None = None
    problem: str | None = None
    """Why the last attempt was none; None: it was taken."""
    told_at_unix: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """When something was taken last."""
    created_at_unix: int = Field(sa_column=big_integer())
    updated_at_unix: int = Field(sa_column=big_integer())


class WebhookLookRow(SQLModel, table=True):
    """How far the events were looked through, for all hooks together: one row."""

    __tablename__: ClassVar[str] = "webhook_look"

    name: str = Field(primary_key=True)
    event_id: int = Field(sa_column=big_integer())
    gap_upto: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """The newest event that was there when numbers before it were missing: their transactions may not have committed
    yet. NULL: none ever were."""
    gap_since_ms: int | None = Field(default=None, sa_column=big_integer(nullable=True))
    """When that was, milliseconds by the database's clock."""
