"""Crossing an edge: one conditional UPDATE, one event row, the outbox rows, in one transaction.

0 rows changed means that somebody else did it: the caller stops quietly, and it is counted. The edges below are all
there are; ``cross`` refuses any other.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import CursorResult, and_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel

from btcfi.adapters.store.contract_tables import ContractRow
from btcfi.adapters.store.tables import (
    CounterRow,
    EventRow,
    OptionRow,
    OutboxRow,
    RoundRow,
    SettlementRow,
    TransactionRow,
)
from btcfi.errors import BtcfiError
from btcfi.units import UnixSeconds

EDGES: Final[dict[str, frozenset[tuple[str, str]]]] = {
    "round": frozenset({("open", "priced"), ("open", "void")}),
    "option": frozenset({
        ("CREATED", "ACTIVE"), ("ACTIVE", "CREATED"),  # funding confirmed; undone by a reorganisation
        ("ACTIVE", "EXPIRED"),  # due, or exercised early
        ("EXPIRED", "EXERCISED"), ("EXPIRED", "ABANDONED"),
        ("EXERCISED", "EXPIRED"), ("ABANDONED", "EXPIRED"),  # the settlement was reorganised away
    }),
    "settlement": frozenset({
        ("due", "claimed"), ("claimed", "claimed"), ("claimed", "due"), ("claimed", "executed"), ("executed", "proven"),
        ("claimed", "proven"), ("proven", "built"), ("proven", "due"),  # an early exercise that waits
        ("built", "broadcast"), ("broadcast", "confirmed"),
        ("confirmed", "broadcast"), ("due", "parked"), ("claimed", "parked"), ("executed", "parked"),
        ("proven", "parked"), ("built", "parked"), ("parked", "due"),
    }),
    "chain_transaction": frozenset({
        ("built", "broadcast"), ("broadcast", "confirmed"), ("confirmed", "final"), ("built", "confirmed"),
        ("confirmed", "broadcast"), ("final", "broadcast"), ("broadcast", "conflicted"), ("built", "conflicted"),
        ("confirmed", "conflicted"), ("conflicted", "broadcast"),
        ("built", "replaced"), ("broadcast", "replaced"), ("replaced", "confirmed"),  # by a version that pays more
    }),
    "contract": frozenset({
        ("ordered", "offered"), ("offered", "accepted"), ("accepted", "signed"), ("signed", "checked"),
        ("checked", "funded"),
    }),
}  # fmt: skip
"""Per table: every allowed (from, to)."""

_KEYS: Final[dict[type[SQLModel], str]] = {
    RoundRow: "id",
    OptionRow: "id",
    SettlementRow: "id",
    TransactionRow: "txid",
    ContractRow: "option_id",
}


class UnknownEdgeError(BtcfiError):
    """Code asked for a transition that the state machine does not have."""

    def __init__(self, entity: str, from_state: str, to_state: str) -> None:
        super().__init__(f"{entity} has no edge from {from_state} to {to_state}")
        self.entity, self.from_state, self.to_state = entity, from_state, to_state


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
    table = type(row)
    entity, from_state = str(table.__tablename__), str(row.state)  # type: ignore[attr-defined]
    if (from_state, to_state) not in EDGES[entity]:
        raise UnknownEdgeError(entity, from_state, to_state)
    key = _KEYS[table]
    identity = getattr(row, key)
    conditions = [getattr(table, key) == identity, table.state == from_state]  # type: ignore[attr-defined]
    if fence is not None:
        conditions.append(table.fence == fence)  # type: ignore[attr-defined]
    values = {"state": to_state, **(changes or {})}
    if "updated_at_unix" in table.model_fields:
        values["updated_at_unix"] = now
    statement = update(table).where(and_(*conditions)).values(**values).execution_options(synchronize_session=False)
    result = session.execute(statement)
    if not isinstance(result, CursorResult) or result.rowcount != 1:
        count(session, f"stale_{entity}_edges")
        return False
    for name, value in values.items():
        # the caller's copy follows the database, so that it can cross the next edge
        setattr(row, name, value)
    session.add(
        EventRow(
            entity=entity, entity_id=str(identity), from_state=from_state, to_state=to_state,
            fence=fence or 0, at_unix=now, detail=detail,
        )
    )  # fmt: skip
    enqueue(session, work, now=now)
    return True


def enqueue(session: Session, work: Iterable[Work], *, now: UnixSeconds) -> None:
    """Write outbox rows for ``work``; the relay publishes them after the commit, with the row's id as task id."""
    for item in work:
        session.add(
            OutboxRow(
                id=str(uuid.uuid4()), flow=item.flow, arguments=json.dumps(list(item.arguments)), created_at_unix=now
            )
        )


def record(session: Session, entity: str, entity_id: str, to_state: str, *, now: UnixSeconds, detail: str = "") -> None:
    """Write the event of a row that came into being (its first state)."""
    session.add(
        EventRow(entity=entity, entity_id=entity_id, from_state="", to_state=to_state, at_unix=now, detail=detail)
    )


def count(session: Session, name: str, by: int = 1) -> None:
    """Add ``by`` to the counter ``name``."""
    statement = upsert(session, CounterRow).values(name=name, value=by)
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": CounterRow.value + by}))


def upsert(session: Session, table: type[SQLModel]) -> Any:  # noqa: ANN401 - one of two dialects' Insert
    """Return the dialect's INSERT that knows ON CONFLICT."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    return insert(table)
