"""Ticks: what happens by the clock is judged by one clock, the database's.

A tick that waited is worth nothing once its like has just run. Whether it has is read here: no time that another
host's clock wrote into a message is compared with this host's.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from btcfi.adapters.store.spine.edges import upsert
from btcfi.adapters.store.spine.fleet_tables import TickRow

KNOWN_MS: Final = 600_000
"""How old a worker's word about its clock may be."""


def is_due(session: Session, name: str, *, now_ms: int, rest_ms: int) -> bool:
    """Return whether the last run of ``name`` ended at least ``rest_ms`` ago, or there was none.

    One that ended later than now is of before the database's clock was set back: it holds nothing up.
    """
    ended: int | None = session.execute(
        select(col(TickRow.ended_ms)).where(col(TickRow.name) == name)
    ).scalar_one_or_none()
    return ended is None or not 0 <= now_ms - ended < rest_ms


def note_end(session: Session, name: str, *, now_ms: int, ahead_ms: int, worker: str) -> None:
    """Note that a run of ``name`` has ended at ``now_ms`` of the database's clock, on a clock ``ahead_ms`` ahead."""
    values = {"ended_ms": now_ms, "ahead_ms": ahead_ms, "worker": worker}
    statement = upsert(session, TickRow).values(name=name, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def clocks(session: Session, *, now_ms: int) -> dict[str, float]:
    """Return by worker how many seconds its clock was ahead of the database's, where it said so lately."""
    fresh = [one for one in ticks(session) if 0 <= now_ms - one.ended_ms + 1_000 < KNOWN_MS]
    return {one.worker: one.ahead_ms / 1_000 for one in sorted(fresh, key=lambda one: one.ended_ms)}


def ticks(session: Session) -> list[TickRow]:
    """Return what runs by the clock, by name."""
    return list(session.execute(select(TickRow).order_by(col(TickRow.name))).scalars())
