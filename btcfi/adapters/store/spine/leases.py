"""Leases: what only one process may do at a time, whatever an operator starts. A lapsed holder is fenced off.

The transaction that does the thing begins by taking or renewing the lease: the row's lock orders two that try at once,
and a holder that slept beyond its lease finds another one's name there and stops before it writes anything.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import CursorResult, delete, select, update
from sqlmodel import Session, col

from btcfi.adapters.store.spine.edges import upsert
from btcfi.adapters.store.spine.fleet_tables import LeaseRow
from btcfi.adapters.store.spine.times import LONGEST_SECONDS, lapsed
from btcfi.errors import RetryableError
from btcfi.units import UnixSeconds

WALLET: Final = "wallet"
"""Signing for the service's wallet, and walking the chain for it."""


class LeaseHeldError(RetryableError):
    """Another process holds the lease."""

    def __init__(self, name: str, holder: str, until: int) -> None:
        super().__init__(f"{holder} holds the lease {name!r} until {until}; this process stops and leaves it the work")
        self.name, self.holder, self.until = name, holder, until


def hold(session: Session, name: str, *, holder: str, now: UnixSeconds, seconds: int) -> int:
    """Take or renew a lease for this transaction and ``seconds`` beyond; return its fence number.

    seconds: 1 to LONGEST_SECONDS. Raises LeaseHeldError, which should end the transaction.
    """
    until = now + min(seconds, LONGEST_SECONDS)
    first = upsert(session, LeaseRow).values(name=name, holder=holder, fence=1, until_unix=until)
    session.execute(first.on_conflict_do_nothing(index_elements=["name"]))
    if not _renewed(session, name, holder, until) and not _taken(session, name, holder, until, now):
        row = session.execute(select(LeaseRow).where(col(LeaseRow.name) == name)).scalar_one()
        raise LeaseHeldError(name, row.holder, row.until_unix)
    return int(session.execute(select(col(LeaseRow.fence)).where(col(LeaseRow.name) == name)).scalar_one())


def _renewed(session: Session, name: str, holder: str, until: int) -> bool:
    mine = update(LeaseRow).where(col(LeaseRow.name) == name, col(LeaseRow.holder) == holder)
    result = session.execute(mine.values(until_unix=until).execution_options(synchronize_session=False))
    return isinstance(result, CursorResult) and result.rowcount == 1


def _taken(session: Session, name: str, holder: str, until: int, now: UnixSeconds) -> bool:
    statement = update(LeaseRow).where(col(LeaseRow.name) == name, lapsed(col(LeaseRow.until_unix), now))
    values = statement.values(holder=holder, until_unix=until, fence=LeaseRow.fence + 1)
    result = session.execute(values.execution_options(synchronize_session=False))
    return isinstance(result, CursorResult) and result.rowcount == 1


def release(session: Session, name: str, *, holder: str) -> None:
    """Give a lease back before it lapses, if it is still ours: the next one need not wait. The fence stays."""
    mine = update(LeaseRow).where(col(LeaseRow.name) == name, col(LeaseRow.holder) == holder)
    session.execute(mine.values(until_unix=0).execution_options(synchronize_session=False))


def forget(session: Session, name: str) -> None:
    """Remove a lease altogether: after a restore nobody holds anything."""
    session.execute(delete(LeaseRow).where(col(LeaseRow.name) == name))


_PROBE: Final = "precondition"
"""Name of a lease that nobody holds."""


def prove_writable(session: Session) -> None:
    """Write and take away a row, so that the commit shows whether the database takes anything at all."""
    forget(session, _PROBE)
    row = upsert(session, LeaseRow).values(name=_PROBE, holder="", fence=0, until_unix=0)
    session.execute(row.on_conflict_do_nothing(index_elements=["name"]))
    forget(session, _PROBE)
