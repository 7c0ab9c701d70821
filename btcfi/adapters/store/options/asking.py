"""Asking for a settlement, from wherever somebody may ask: one function, one row an option, one answer.

The command line, the console, the REST API, gRPC and Flower's task call ``ask``; what each adds is who asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlmodel import Session

from btcfi.adapters.store.options import views
from btcfi.adapters.store.options.options import find_option
from btcfi.adapters.store.options.settlements import find_request, request_settlement
from btcfi.adapters.store.options.tables import OptionRow, RequestState, SettlementRequestRow
from btcfi.adapters.store.spine.database import Store
from btcfi.units import UnixSeconds

LONGEST_NAME: Final = 128
"""Characters of who asked: one of the doors takes it from a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Where a request stands, and whether it waits since just now."""

    option_id: str
    state: RequestState
    answer: str | None
    requested_at: UnixSeconds
    opened: bool

    def __str__(self) -> str:
        """Return it as a person reads it: ``open``, ``refused (the option has ended: EXERCISED)``."""
        return str(self.state) + (f" ({self.answer})" if self.answer else "")


def ask(session: Session, option_id: str, *, requested_by: str, now: UnixSeconds) -> Asked:
    """Note that somebody wants an option settled. Raises NotFoundError, BacklogFullError.

    Asking again changes nothing, or asks a refused or held request anew. Of an option that has ended nothing is noted:
    the answer says how it ended.
    """
    if (ended := _ended(session, option_id, now=now)) is not None:
        return ended
    before = views.request(session, option_id)
    was_open = before is not None and before.state == RequestState.OPEN
    row = request_settlement(session, option_id, requested_by=requested_by[:LONGEST_NAME], now=now)
    return _stands(row, opened=row.state == RequestState.OPEN and not was_open)


def stands(session: Session, option_id: str, *, now: UnixSeconds) -> Asked:
    """Return where what was asked before stands, and ask for nothing. Raises NotFoundError."""
    return _ended(session, option_id, now=now) or _stands(find_request(session, option_id), opened=False)


def ask_each(session: Session, option_ids: Iterable[str], *, requested_by: str, now: UnixSeconds) -> list[Asked]:
    """Ask for several, each once: all of them or, when one is unknown, none. Raises as ``ask``."""
    return [ask(session, one, requested_by=requested_by, now=now) for one in dict.fromkeys(option_ids)]


def ask_settlement(store: Store, option_id: str, *, requested_by: str, now: UnixSeconds) -> Asked:
    """Ask in a transaction of its own. Raises as ``ask``."""
    with store.transaction() as session:
        return ask(session, option_id, requested_by=requested_by, now=now)


def _stands(row: SettlementRequestRow, *, opened: bool) -> Asked:
    return Asked(
        option_id=row.option_id, state=RequestState(row.state), opened=opened,
        answer=None if row.state == RequestState.OPEN else row.answer,  # an earlier one's, until there is another
        requested_at=UnixSeconds(row.requested_at_unix),
    )  # fmt: skip


def _ended(session: Session, option_id: str, *, now: UnixSeconds) -> Asked | None:
    """Return how an option ended, None for one that has not. Raises NotFoundError."""
    option = find_option(session, option_id)
    if option.state not in OptionRow.__machine__.ends:
        return None
    before, settlement = views.request(session, option_id), views.settlement_of(session, option_id)
    by = f", by transaction {settlement.txid}" if settlement is not None and settlement.txid else ""
    return Asked(
        option_id=option_id, state=RequestState.REFUSED, answer=f"the option has ended: {option.state}{by}",
        opened=False, requested_at=now if before is None else UnixSeconds(before.requested_at_unix),
    )  # fmt: skip
