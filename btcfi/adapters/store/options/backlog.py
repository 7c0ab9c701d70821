"""Backpressure: nothing new is sold while too much of what was sold waits for its settlement or its funding.

What is due is always settled, however long it takes; only intake is refused, with an answer that says why.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import func, select
from sqlmodel import Session, col

from btcfi.adapters.store.options.tables import (
    UNSENT_SETTLEMENTS,
    OptionRow,
    OptionState,
    RequestState,
    SettlementRequestRow,
    SettlementRow,
)
from btcfi.errors import RetryableError

WAITING: Final = UNSENT_SETTLEMENTS
"""Settlements that no node has taken yet. What is broadcast waits for the chain, not for us."""

MAX_OPEN_REQUESTS: Final = 10_000
"""Ad hoc settlement requests that wait for an answer."""


class BacklogFullError(RetryableError):
    """More work waits than this deployment accepts."""

    def __init__(self, what: str, waiting: int, most: int) -> None:
        super().__init__(f"{waiting:,} {what} wait, at most {most:,} may; nothing new is taken until they are done")
        self.what, self.waiting, self.most = what, waiting, most


def backlog(session: Session) -> int:
    """Return how many settlements and fundings wait for us."""
    settlements = select(func.count()).select_from(SettlementRow).where(col(SettlementRow.state).in_(WAITING))
    fundings = select(func.count()).select_from(OptionRow).where(col(OptionRow.state) == OptionState.CREATED)
    return int(session.execute(settlements).scalar_one()) + int(session.execute(fundings).scalar_one())


def refuse_above(session: Session, most: int) -> None:
    """Raise BacklogFullError when ``most`` settlements and fundings wait already."""
    waiting = backlog(session)
    if waiting >= most:
        raise BacklogFullError("settlements and fundings", waiting, most)


def refuse_requests_above(session: Session, most: int = MAX_OPEN_REQUESTS) -> None:
    """Raise BacklogFullError when ``most`` settlement requests are open already."""
    query = select(func.count()).select_from(SettlementRequestRow)
    query = query.where(col(SettlementRequestRow.state) == RequestState.OPEN)
    waiting = int(session.execute(query).scalar_one())
    if waiting >= most:
        raise BacklogFullError("settlement requests", waiting, most)
