"""The operator console's own tables: who may sign in, who is signed in, who did what, which feeds are paused."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, Column, Index, Text
from sqlmodel import Field, Session, SQLModel, col

from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.units import UnixSeconds


def _time(*, nullable: bool = False) -> Column[int]:
    return Column(BigInteger, nullable=nullable)


class ConsoleAccountRow(SQLModel, table=True):
    """A person who may sign in to the console."""

    __tablename__: ClassVar[str] = "console_account"

    name: str = Field(primary_key=True)
    password_hash: str
    """Argon2id, in its own encoded form with salt and cost."""
    roles: str
    """Space separated: read, trade, operate."""
    created_at_unix: int = Field(sa_column=_time())
    password_set_at_unix: int = Field(sa_column=_time())
    disabled_at_unix: int | None = Field(default=None, sa_column=_time(nullable=True))


class ConsoleSessionRow(SQLModel, table=True):
    """One sign-in. The cookie's token is not here, only its hash."""

    __tablename__: ClassVar[str] = "console_session"
    __table_args__ = (Index("ix_console_session_account", "account"),)

    token_sha256: str = Field(primary_key=True)
    account: str = Field(foreign_key="console_account.name")
    created_at_unix: int = Field(sa_column=_time())
    expires_at_unix: int = Field(sa_column=_time())
    seen_at_unix: int = Field(sa_column=_time())
    """The last request, to the minute: an idle session ends before its expiry."""


class AuditRow(SQLModel, table=True):
    """What somebody did or tried to do, kept for good."""

    __tablename__: ClassVar[str] = "console_audit"
    __table_args__ = (Index("ix_console_audit_action", "action", "at_unix"),)

    id: int | None = Field(default=None, primary_key=True)
    at_unix: int = Field(sa_column=_time())
    account: str
    """Who, as far as known: for a refused sign-in the name that was tried."""
    address: str
    action: str
    target: str = Field(default="", sa_column=Column(Text, nullable=False))
    outcome: str
    """``done``, ``refused`` or ``failed``."""
    detail: str = Field(default="", sa_column=Column(Text, nullable=False))


class PausedFeedRow(SQLModel, table=True):
    """A feed's last pause: no new round is opened until somebody resumes it, nor one for a minute of the pause."""

    __tablename__: ClassVar[str] = "paused_feed"

    feed: str = Field(primary_key=True)
    paused_by: str
    paused_at_unix: int = Field(sa_column=_time())
    resumed_at_unix: int | None = Field(default=None, sa_column=_time(nullable=True))


# newest first is how people read lists; without these a page of a large book is a scan and a sort
Index("ix_option_newest", col(OptionRow.created_at_unix), col(OptionRow.id))
Index("ix_option_state_newest", col(OptionRow.state), col(OptionRow.created_at_unix), col(OptionRow.id))
Index("ix_settlement_newest", col(SettlementRow.created_at_unix), col(SettlementRow.id))
Index("ix_settlement_state_newest", col(SettlementRow.state), col(SettlementRow.created_at_unix), col(SettlementRow.id))


def pause_of(session: Session, feed: str) -> PausedFeedRow | None:
    """Return the pause that an operator has laid on ``feed``: its open rounds are closed, new ones are not opened."""
    row = session.get(PausedFeedRow, feed)
    return row if row is not None and row.resumed_at_unix is None else None


def resumed_at(session: Session, feed: str) -> UnixSeconds:
    """Return when ``feed`` was last resumed; 0 for never."""
    row = session.get(PausedFeedRow, feed)
    return UnixSeconds(0 if row is None else row.resumed_at_unix or 0)


def pause(session: Session, feed: str, *, by: str, now: UnixSeconds) -> None:
    """Lay a pause on ``feed``; one that is laid already stays whose it is."""
    if pause_of(session, feed) is None:
        session.merge(PausedFeedRow(feed=feed, paused_by=by, paused_at_unix=now, resumed_at_unix=None))


def resume(session: Session, feed: str, *, now: UnixSeconds) -> None:
    """Take the pause of ``feed`` away, if there is one."""
    if (paused := pause_of(session, feed)) is not None:
        paused.resumed_at_unix = now


def audit(
    session: Session, *, now: UnixSeconds, account: str, address: str, action: str, target: str = "",
    outcome: str = "done", detail: str = "",
) -> AuditRow:  # fmt: skip
    """Write down who did what, in the transaction that does it, and return the entry: numbered at its end."""
    entry = AuditRow(
        at_unix=now, account=account[:100], address=address[:100], action=action, target=target[:500],
        outcome=outcome, detail=detail[:2000],
    )  # fmt: skip
    session.add(entry)
    return entry
