"""Asking for a settlement, from wherever somebody may ask: one row an option, however many ask at the same moment."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError

from btcfi.adapters.store.options import views
from btcfi.adapters.store.options.settlements import request_settlement
from btcfi.adapters.store.options.tables import RequestState, SettlementRequestRow
from btcfi.adapters.store.spine.database import Store
from btcfi.units import UnixSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it stands, and whether it waits since just now."""

    row: SettlementRequestRow
    opened: bool


def ask_settlement(store: Store, option_id: str, *, requested_by: str, now: UnixSeconds) -> Asked:
    """Note that somebody wants an option settled. Raises NotFoundError, BacklogFullError."""
    try:
        return _ask(store, option_id, requested_by, now)
    except IntegrityError:  # somebody asked at the same moment; the second look finds the row
        return _ask(store, option_id, requested_by, now)


def _ask(store: Store, option_id: str, requested_by: str, now: UnixSeconds) -> Asked:
    with store.transaction() as session:
        before = views.request(session, option_id)
        was_open = before is not None and before.state == RequestState.OPEN
        row = request_settlement(session, option_id, requested_by=requested_by, now=now)
        return Asked(row=row, opened=row.state == RequestState.OPEN and not was_open)
