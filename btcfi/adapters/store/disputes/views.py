"""What people read of disputed contracts: the list in pages, one with its way, and how many blocks are left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select

from btcfi.adapters.store.chain import views as chain
from btcfi.adapters.store.disputes.tables import DisputeRow, DisputeStepRow
from btcfi.adapters.store.spine.paging import Page, newest_page
from btcfi.disputes.stages import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressing:
    """What is due in contracts of one state."""

    state: str
    blocks_left: int | None
    """To the nearest deadline that is not over; None: there is none."""
    late: int
    """Contracts whose deadline is over: the other side may move now."""
    overdue: int
    """Contracts that somebody could have ended by now."""


def disputes(session: Session, *, state: str | None = None, limit: int, cursor: str | None = None) -> Page[DisputeRow]:
    """Return one page of contracts, newest first. Raises NoSuchPageError."""
    query = select(DisputeRow)
    if state is not None:
        query = query.where(DisputeRow.state == state)
    return newest_page(
        session, query, col(DisputeRow.created_at_unix), col(DisputeRow.id), limit=limit, cursor=cursor
    )  # fmt: skip


def dispute(session: Session, name: str) -> DisputeRow | None:
    """Return a contract under watch, by its id."""
    return session.get(DisputeRow, name)


def are_any_watched(session: Session) -> bool:
    """Return whether a contract is looked at."""
    query = select(DisputeRow.id).where(col(DisputeRow.final_height).is_(None)).limit(1)
    return session.exec(query).first() is not None


def steps(session: Session, name: str) -> Sequence[DisputeStepRow]:
    """Return the transactions that brought a contract where it stands, the opening first."""
    query = select(DisputeStepRow).where(DisputeStepRow.dispute_id == name)
    return session.exec(query.order_by(col(DisputeStepRow.number))).all()


def tip_of(session: Session, row: DisputeRow) -> int:
    """Return the newest block that is known here: what was looked at for a contract, or what the chain's walk has."""
    newest = chain.tip(session)
    return max(row.walked_height, newest.height if newest else 0)


def behind(session: Session) -> int:
    """Return how many blocks the contract that is furthest behind has still to be looked at in."""
    query = select(func.min(DisputeRow.walked_height)).where(col(DisputeRow.final_height).is_(None))
    least, newest = session.exec(query).one(), chain.tip(session)
    return 0 if least is None or newest is None else max(0, newest.height - least)


def pressing(session: Session) -> Iterator[Pressing]:
    """Yield, by state, what is due in the contracts that are looked at."""
    query = (
        select(DisputeRow)
        .where(col(DisputeRow.final_height).is_(None), col(DisputeRow.overdue_height).is_not(None),
               col(DisputeRow.state) != Stage.UNOPENED.value)
    )  # fmt: skip
    newest = chain.tip(session)
    by_state: dict[str, list[tuple[int, int]]] = {}
    for row in session.exec(query):
        tip = max(row.walked_height, newest.height if newest else 0)
        deadline = tip if row.deadline_height is None else row.deadline_height
        by_state.setdefault(row.state, []).append((deadline - tip, (row.overdue_height or 0) - tip))
    for state, left in sorted(by_state.items()):
        yield Pressing(
            state=state, blocks_left=min((one for one, _ in left if one >= 0), default=None),
            late=sum(one < 0 for one, _ in left), overdue=sum(one < 0 for _, one in left),
        )  # fmt: skip
