"""What people read of access: accounts, API keys, and who did what."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from btcfi.adapters.store.access.api_tables import ApiKeyRow
from btcfi.adapters.store.access.console_tables import AuditRow, ConsoleAccountRow
from btcfi.adapters.store.spine.paging import stretch


def accounts(session: Session) -> Sequence[ConsoleAccountRow]:
    """Return every account, by name."""
    return session.exec(select(ConsoleAccountRow).order_by(col(ConsoleAccountRow.name))).all()


def api_keys(session: Session) -> Sequence[ApiKeyRow]:
    """Return every key to the API, the oldest first."""
    return session.exec(select(ApiKeyRow).order_by(col(ApiKeyRow.created_at_unix))).all()


def audit_page(
    session: Session, *, limit: int, before: int | None = None
) -> tuple[Sequence[AuditRow], int | None]:  # fmt: skip
    """Return one page of the audit, newest first, and the entry before which the next begins."""
    beyond = None if before is None else (before,)
    rows = stretch(session, select(AuditRow), col(AuditRow.id), beyond=beyond, limit=limit + 1, newest_first=True)
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None


def audit_entry(session: Session, number: int) -> AuditRow | None:
    """Return one entry of the audit."""
    return session.get(AuditRow, number)
