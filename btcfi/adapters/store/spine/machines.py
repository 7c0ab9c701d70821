"""State machines as their tables declare them: the states of a row, and every edge between two of them.

A table with states has a ``__machine__``. ``edges.py`` crosses its edges and imports no table; whatever else needs a
list of states (metrics, the console, an audit) derives it from the machine. Columns hold the states' values as text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Generic, TypeVar

from sqlmodel import SQLModel

from btcfi.errors import BtcfiError

S = TypeVar("S", bound=StrEnum)


class UnknownEdgeError(BtcfiError):
    """Code asked for a transition that the state machine does not have."""

    def __init__(self, entity: str, from_state: str, to_state: str) -> None:
        super().__init__(f"{entity} has no edge from {from_state or 'nothing'} to {to_state}")
        self.entity, self.from_state, self.to_state = entity, from_state, to_state


class NoMachineError(BtcfiError):
    """Code asked for the state machine of a table that declares none."""

    def __init__(self, table: str) -> None:
        super().__init__(f"the table {table} declares no state machine")
        self.table = table


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(Generic[S]):
    """One table's states, in the order of a row's life, and the edges between them.

    Raises ValueError, when its module is imported, for an edge or an end that is no state, or a state no edge reaches.
    """

    states: type[S]
    key: str = "id"
    """Name of the column by which events and messages name a row."""
    edges: frozenset[tuple[S, S]]
    """Every allowed (from, to). An edge from a state to itself renews something of the row, a claim for instance."""
    ends: frozenset[S]
    """Where a row normally stays. A reorganisation may take it back from there."""
    first: S = field(init=False)
    """In which a row is born."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", next(iter(self.states)))
        reached = {self.first} | {to for _, to in self.edges}
        if wrong := {one for pair in self.edges for one in pair} | self.ends | set(self.states):
            wrong = {one for one in wrong if not isinstance(one, self.states) or one not in reached}
        if wrong:
            raise ValueError(f"{self.states.__name__}: no edge reaches {', '.join(sorted(map(str, wrong)))}")

    def check(self, entity: str, from_state: str, to_state: str) -> None:
        """Return quietly for an edge of this machine. Raises UnknownEdgeError."""
        if (from_state, to_state) not in self.edges:
            raise UnknownEdgeError(entity, from_state, to_state)

    @property
    def pending(self) -> tuple[S, ...]:
        """Every state before an end, in order."""
        return tuple(one for one in self.states if one not in self.ends)


def edges(*pairs: tuple[S | Iterable[S], S]) -> frozenset[tuple[S, S]]:
    """Return edges written as (from, to) or (several, to)."""
    return frozenset(
        (one, to) for start, to in pairs for one in ((start,) if isinstance(start, StrEnum) else tuple(start))
    )


@cache
def machine_of(table: type[SQLModel]) -> Machine[StrEnum]:
    """Return the machine that a table declares. Raises NoMachineError."""
    machine: Machine[StrEnum] | None = getattr(table, "__machine__", None)
    if machine is None:
        raise NoMachineError(str(table.__tablename__))
    return machine


def machines() -> dict[str, tuple[type[SQLModel], Machine[StrEnum]]]:
    """Return every declared machine with its table, by the table's name. Load the tables first (``schema.py``)."""
    found = {}
    for mapper in SQLModel._sa_registry.mappers:  # noqa: SLF001 - SQLModel has no public list of its tables
        table: type[SQLModel] = mapper.class_
        if getattr(table, "__machine__", None) is not None:
            found[str(table.__tablename__)] = (table, machine_of(table))
    return dict(sorted(found.items()))
