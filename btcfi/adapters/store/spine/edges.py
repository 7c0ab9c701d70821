"""Crossing an edge: one conditional UPDATE, its event rows, the outbox rows, in one transaction.

0 rows changed means that somebody else did it: the caller stops quietly, and it is counted. Which edges
there are, each table declares (``machines.py``); ``cross`` refuses any other.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import ColumnElement, Update, bindparam, insert, or_, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import Session, SQLModel

from btcfi.adapters.store.spine.machines import machine_of
from btcfi.adapters.store.spine.tables import CounterRow, EventRow, OutboxRow
from btcfi.units import UnixSeconds

R = TypeVar("R", bound=SQLModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing(Generic[R]):
    """One row's way over an edge."""

    row: R
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Further columns to set."""
    fence: int | None = None
    """The fence token that must still hold (rows that have one)."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One flow of tasks/pipeline.py to start, by name, with ids as arguments."""

    flow: str
    arguments: tuple[Any, ...] = ()


def cross(
    session: Session,
    row: SQLModel,
    to_state: str,
    *,
    now: UnixSeconds,
    changes: Mapping[str, Any] | None = None,
    fence: int | None = None,
    detail: str = "",
    work: Iterable[Work] = (),
) -> bool:
    """Take ``row`` from the state it was read in to ``to_state``, and return whether it was us who did.

    ``fence``: the fence token that must still hold (rows that have one). ``changes``: further columns to set.
    ``work``: flows to publish once this transaction commits. Raises UnknownEdgeError.
    """
    moved = cross_all(
        session, [Crossing(row=row, changes=changes or {}, fence=fence, detail=detail)], to_state, now=now
    )
    if moved:
        enqueue(session, work, now=now)
    return bool(moved)


def cross_all(
    session: Session, crossings: Sequence[Crossing[R]], to_state: str, *, now: UnixSeconds
) -> list[Crossing[R]]:
    """Take many rows of one table to ``to_state`` at once, each as ``cross`` does; return the crossings that were ours.

    Statements are counted by the states that the rows come from, not by rows. Raises UnknownEdgeError.
    """
    moved = []
    by_state: dict[str, list[Crossing[R]]] = {}
    for one in crossings:
        by_state.setdefault(str(one.row.state), []).append(one)  # type: ignore[attr-defined]
    for from_state, some in by_state.items():
        moved += _cross_from(session, some, from_state, to_state, now)
    return moved


def _cross_from(
    session: Session, crossings: Sequence[Crossing[R]], from_state: str, to_state: str, now: UnixSeconds
) -> list[Crossing[R]]:
    table = type(crossings[0].row)
    entity, machine = str(table.__tablename__), machine_of(table)
    key = machine.key
    machine.check(entity, from_state, to_state)
    values: dict[str, Any] = {"state": str(to_state)}  # a column of text: no member of an enum goes through
    if "updated_at_unix" in table.model_fields:
        values["updated_at_unix"] = now
    alike = all(one.changes == crossings[0].changes for one in crossings)
    statement = (
        update(table)
        .where(table.state == from_state, _named(table, key, crossings))  # type: ignore[attr-defined]
        .values(**values, **(crossings[0].changes if alike else {}))
        .returning(getattr(table, key))
        .execution_options(synchronize_session=False)
    )
    ours = set(session.execute(statement).scalars())
    moved = [one for one in crossings if getattr(one.row, key) in ours]
    if len(moved) < len(crossings):
        count(session, f"stale_{entity}_edges", len(crossings) - len(moved))
    if not alike:  # the rows are locked by now
        each = [{_KEY: getattr(one.row, key), **one.changes} for one in moved if one.changes]
        for some in _of_equal_columns(each):
            session.execute(_by_key(table, key, frozenset(some[0]) - {_KEY}), some)
    for one in moved:
        # the caller's copy follows the database, so that it can cross the next edge
        for name, value in {**values, **one.changes}.items():
            set_committed_value(one.row, name, value)
    _write_events(
        session,
        [(entity, str(getattr(s.row, key)), from_state, str(to_state), s.fence or 0, now, s.detail) for s in moved],
    )
    return moved


_KEY: Final = "crossing_row_key"
"""A parameter that no column is called."""


@cache
def _by_key(table: type[SQLModel], key: str, names: frozenset[str]) -> Update:
    """Return the statement that sets these columns of one row; rows of a set run it one after the other.

    On the table, not on the class: the session would walk its mapping for each row.
    """
    columns = table.__table__.c  # type: ignore[attr-defined]
    values: dict[Any, Any] = {columns[name]: bindparam(name) for name in sorted(names)}
    return update(table.__table__).where(columns[key] == bindparam(_KEY)).values(values)  # type: ignore[attr-defined]


def _named(table: type[SQLModel], key: str, crossings: Sequence[Crossing[Any]]) -> ColumnElement[bool]:
    """Return the condition that a row is one of those crossing, with the fence token that its crossing asks for."""
    column: Any = getattr(table, key)
    free = [getattr(one.row, key) for one in crossings if one.fence is None]
    fenced = [(getattr(one.row, key), one.fence) for one in crossings if one.fence is not None]
    parts: list[ColumnElement[bool]] = [column.in_(free)] if free else []
    if fenced:
        parts.append(tuple_(column, table.fence).in_(fenced))  # type: ignore[attr-defined]
    return or_(*parts)


def _of_equal_columns(rows: Iterable[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    """Return rows in groups that set the same columns, as one statement with many parameters must."""
    groups: dict[frozenset[str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(frozenset(row), []).append(row)
    return groups.values()


def enqueue(session: Session, work: Iterable[Work], *, now: UnixSeconds) -> None:
    """Write outbox rows for ``work``; the relay publishes them after the commit, with the row's id as task id."""
    rows = [
        {"id": str(uuid.uuid4()), "flow": one.flow, "arguments": json.dumps(list(one.arguments)),
         "created_at_unix": now}
        for one in work
    ]  # fmt: skip
    if rows:
        session.execute(insert(OutboxRow), rows)


def record(session: Session, entity: str, entity_id: str, to_state: str, *, now: UnixSeconds, detail: str = "") -> None:
    """Write the event of a row that came into being (its first state)."""
    _write_events(session, [(entity, entity_id, "", str(to_state), 0, now, detail)])


def record_all(session: Session, entity: str, born: Mapping[str, str], to_state: str, *, now: UnixSeconds) -> None:
    """Write the events of rows that came into being together. born: detail by id."""
    _write_events(session, [(entity, one, "", str(to_state), 0, now, detail) for one, detail in born.items()])


def _write_events(session: Session, rows: Sequence[tuple[Any, ...]]) -> None:
    names = ("entity", "entity_id", "from_state", "to_state", "fence", "at_unix", "detail")
    if rows:
        session.execute(insert(EventRow), [dict(zip(names, row, strict=True)) for row in rows])


def count(session: Session, name: str, by: int = 1) -> None:
    """Add ``by`` to the counter ``name``."""
    statement = upsert(session, CounterRow).values(name=name, value=by)
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": CounterRow.value + by}))


def upsert(session: Session, table: type[SQLModel]) -> Any:  # noqa: ANN401 - one of two dialects' Insert
    """Return the dialect's INSERT that knows ON CONFLICT."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    return insert(table)
