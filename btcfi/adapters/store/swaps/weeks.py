"""What happens to swaps by the clock: takes are initialised, prices posted, returns computed, books settled.

Each function is one transaction's work and may be called again at any time: by two workers at once, after a death
between two of them, by a message that comes twice. A book settles a week once: its settlement's key is both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from btcfi.adapters.store.prices.tables import RoundRow, RoundState
from btcfi.adapters.store.spine.edges import Work, cross, record, upsert
from btcfi.adapters.store.swaps import rows
from btcfi.adapters.store.swaps.acts import act, last_settlement
from btcfi.adapters.store.swaps.tables import (
    SubcontractState,
    SwapBoardRow,
    SwapBookRow,
    SwapQuoteRow,
    SwapRow,
    SwapSubcontractRow,
    SwapWeekRow,
    WeekState,
)
from btcfi.errors import InvalidInputError
from btcfi.swaps.book import ORACLE, BookStatus, Event
from btcfi.swaps.calendar import Day
from btcfi.swaps.ledger import SwapLedger
from btcfi.swaps.prices import CORRECTION_SECONDS
from btcfi.swaps.returns import MAX_PRICE, PRICE_UNIT, Prices
from btcfi.swaps.settlement import SETTLE_SECONDS
from btcfi.units import SECONDS_PER_MINUTE, UnixSeconds

CLAIM_SECONDS: Final = 300
"""For which a week's settlements are not started again: they take seconds."""

_CENT: Final = PRICE_UNIT // 100


def posted_day(session: Session) -> date | None:
    """Return the day of the latest post; None before the first."""
    day = session.execute(select(col(SwapBoardRow.day))).scalar_one_or_none()
    return date.fromisoformat(day) if day else None


# ---- takes


def to_initialise(session: Session, day: Day) -> Sequence[tuple[str, str]]:
    """Return the books, by contract and provider, with a take that is in time for a day's close and has no start."""
    query = (
        select(col(SwapBookRow.contract), col(SwapBookRow.provider))
        .join(SwapSubcontractRow, col(SwapSubcontractRow.book_id) == col(SwapBookRow.id))
        .where(
            col(SwapSubcontractRow.state) == SubcontractState.PENDING,
            col(SwapSubcontractRow.start_week).is_(None),
            col(SwapSubcontractRow.taken_at_unix) < day.initialise,
        )
        .distinct()
        .order_by(col(SwapBookRow.contract), col(SwapBookRow.provider))
    )
    return [(contract, provider) for contract, provider in session.execute(query)]


def initialise(session: Session, key: tuple[str, str], day: Day, *, now: UnixSeconds) -> tuple[Event, ...]:
    """Give a book's takes that are in time for a day's close its start, unless that is posted."""
    if rows.board_row(session).day >= day.date.isoformat():
        return ()
    return act(session, key, lambda one: one.initialise(key, caller=ORACLE, taken_before=day.initialise), now=now)


# ---- prices


def bring_quote(
    session: Session, day: date, contract: str, asset: int, *, by: str, now: UnixSeconds
) -> None:  # fmt: skip
    """Write an asset's price of a day, in millionths of the quote, until it is posted. Raises InvalidInputError."""
    if not 0 < asset <= MAX_PRICE:
        raise InvalidInputError("price", f"{asset} millionths", f"1 to {MAX_PRICE}")
    values = {"asset_millionths": asset, "brought_by": by, "at_unix": now}
    statement = upsert(session, SwapQuoteRow).values(day=day.isoformat(), contract=contract, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["day", "contract"], set_=values))


def prices_of(session: Session, feed: str, day: Day) -> dict[str, Prices] | None:
    """Return every contract's prices of a day; None while one is not there.

    Bitcoin's is the agreed price of the minute that ends at the reference time, or of the next one that has one. Any
    other asset's is what was brought for that day.
    """
    minutes = select(col(RoundRow.price_cents)).where(
        col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.PRICED,
        col(RoundRow.slot) >= day.reference - SECONDS_PER_MINUTE, col(RoundRow.slot) < day.post,
    )  # fmt: skip
    cents = session.execute(minutes.order_by(col(RoundRow.slot)).limit(1)).scalar_one_or_none()
    if cents is None:
        return None
    bitcoin = cents * _CENT
    brought = {
        one.contract: one.asset_millionths
        for one in session.execute(select(SwapQuoteRow).where(col(SwapQuoteRow.day) == day.date.isoformat())).scalars()
    }
    assets = {
        one.id: bitcoin if (one.asset, one.quote) == ("BTC", "USD") else brought.get(one.id)
        for one in session.execute(select(SwapRow).order_by(col(SwapRow.id))).scalars()
    }
    found = {name: Prices(asset=asset, margin=bitcoin) for name, asset in assets.items() if asset is not None}
    return found if found and len(found) == len(assets) else None


def post(session: Session, day: Day, prices: Mapping[str, Prices], *, now: UnixSeconds) -> tuple[Event, ...]:
    """Post a day's prices, once; a settlement day's end a week of every contract. Raises SwapRefusedError."""
    row = rows.board_row(session, writing=True)
    if row.day >= day.date.isoformat():
        return ()
    ledger = SwapLedger(board=rows.board_of(session, row))
    events = ledger.post(prices, settles=day.settles, caller=ORACLE, now=now)
    before = row.week
    rows.write_board(session, row, ledger.board, day=day.date.isoformat(), corrected=False)
    if before and ledger.board.week > before:
        _end_week(session, sorted(prices), before, now)
    rows.write_events(session, events, now=now)
    return events


def _end_week(session: Session, contracts: Sequence[str], week: int, now: UnixSeconds) -> None:
    unsettled = select(SwapWeekRow).where(col(SwapWeekRow.state).in_((WeekState.POSTED, WeekState.COMPUTED)))
    for one in session.execute(unsettled.order_by(col(SwapWeekRow.id)).with_for_update()).scalars():
        cross(session, one, WeekState.PASSED, now=now)
    for contract in contracts:
        row = SwapWeekRow(
            id=rows.week_id(contract, week), contract=contract, week=week, created_at_unix=now, updated_at_unix=now
        )  # fmt: skip
        session.add(row)
        session.flush()
        record(session, "swap_week", row.id, WeekState.POSTED, now=now)


# ---- returns


def to_compute(session: Session, *, now: UnixSeconds) -> Sequence[str]:
    """Return the contracts whose week is over and has no returns by its prices, once those can't be corrected."""
    board = session.execute(select(SwapBoardRow)).scalar_one()
    if now <= board.posted_at_unix + CORRECTION_SECONDS:
        return []
    query = select(SwapWeekRow).where(
        col(SwapWeekRow.state).in_((WeekState.POSTED, WeekState.COMPUTED)), col(SwapWeekRow.week) == board.week - 1
    )
    found = session.execute(query.order_by(col(SwapWeekRow.contract))).scalars()
    return [one.contract for one in found if (one.computed_at_unix or 0) < board.changed_at_unix]


def compute(session: Session, contract: str, *, now: UnixSeconds) -> tuple[Event, ...]:
    """Compute a contract's week, once for its prices; proposed rates are live from here on. Raises SwapRefusedError."""
    board = rows.board_of(session, rows.board_row(session))
    swap = session.get_one(SwapRow, contract, with_for_update=True)
    week = session.get(SwapWeekRow, rows.week_id(contract, board.week - 1), with_for_update=True)
    if week is None or week.state not in {WeekState.POSTED, WeekState.COMPUTED}:
        return ()
    if (week.computed_at_unix or 0) >= board.changed_at:
        return ()
    ledger = SwapLedger(board=board)
    ledger.swaps[contract] = rows.swap_of(swap, week, last_settle_at=last_settlement(session, contract))
    events = ledger.compute(contract, caller=ORACLE, now=now)
    after = ledger.swaps[contract]
    if after.returns is not None:
        changes = rows.returns_columns(after.returns)
        cross(session, week, WeekState.COMPUTED, now=now, changes=changes | {"chain_time_unix": None})
    swap.target_ppm, swap.basis_ppm = after.rates.target_ppm, after.rates.basis_ppm
    if after.proposed is None:
        swap.proposed_target_ppm = swap.proposed_basis_ppm = None
    swap.updated_at_unix = now
    rows.write_events(session, events, now=now)
    return events


# ---- settlements


def to_settle(session: Session, *, now: UnixSeconds) -> Sequence[str]:
    """Return the computed weeks that nobody is settling."""
    query = select(col(SwapWeekRow.id)).where(
        col(SwapWeekRow.state) == WeekState.COMPUTED, col(SwapWeekRow.claimed_until_unix) <= now
    )
    return session.execute(query.order_by(col(SwapWeekRow.id))).scalars().all()


def claim(session: Session, name: str, *, chain_time: UnixSeconds, now: UnixSeconds) -> bool:
    """Start a week's settlements, if the chain's median time has come to hours after its last price; return whether.

    They are started through the outbox; until the claim is over nobody starts them again.
    """
    board = rows.board_row(session)
    week = session.get_one(SwapWeekRow, name, with_for_update=True)
    fresh = (week.computed_at_unix or 0) >= board.changed_at_unix and week.week == board.week - 1
    if week.state != WeekState.COMPUTED or week.claimed_until_unix > now or not fresh:
        return False
    if chain_time < board.changed_at_unix + SETTLE_SECONDS:
        return False
    changes = {"chain_time_unix": chain_time, "claimed_until_unix": now + CLAIM_SECONDS}
    work = [Work(flow="settle_swaps", arguments=(name, list(waiting(session, week, board))))]
    return cross(session, week, WeekState.COMPUTED, now=now, changes=changes, work=work)


def waiting(session: Session, week: SwapWeekRow, board: SwapBoardRow) -> Sequence[str]:
    """Return the open books of a week's contract that have not settled since its post."""
    query = select(col(SwapBookRow.id)).where(
        col(SwapBookRow.contract) == week.contract, col(SwapBookRow.state) == BookStatus.OPEN,
        col(SwapBookRow.last_settle_at_unix) < board.settlement_at_unix,
    )  # fmt: skip
    return session.execute(query.order_by(col(SwapBookRow.id))).scalars().all()


def settle(session: Session, name: str, book: str, *, now: UnixSeconds) -> bool:
    """Settle a book's week; return whether it was us who did. Raises SwapRefusedError."""
    board = rows.board_row(session)
    week = session.get_one(SwapWeekRow, name, with_for_update={"read": True})
    if week.week != board.week - 1 or week.state != WeekState.COMPUTED:
        return False
    if week.chain_time_unix is None or week.chain_time_unix < board.changed_at_unix + SETTLE_SECONDS:
        return False
    row = rows.held_book(session, book)
    if row is None or row.state != BookStatus.OPEN or row.last_settle_at_unix >= board.settlement_at_unix:
        return False
    key = row.contract, row.provider
    act(session, key, lambda one: one.settle(key, caller=ORACLE, now=now), now=now)
    return True


def to_redeem(session: Session, name: str) -> Sequence[str]:
    """Return the books of a week's contract with subcontracts that are over."""
    week = session.get(SwapWeekRow, name)
    query = (
        select(col(SwapSubcontractRow.book_id))
        .join(SwapBookRow, col(SwapBookRow.id) == col(SwapSubcontractRow.book_id))
        .where(
            col(SwapSubcontractRow.state).in_((SubcontractState.TERMINATED, SubcontractState.DEFAULTED)),
            col(SwapBookRow.contract) == (None if week is None else week.contract),
        )
        .distinct()
    )
    return sorted(session.execute(query).scalars())


def redeem(session: Session, book: str, *, now: UnixSeconds) -> tuple[Event, ...]:
    """Take what is over off a book; each margin goes to its own taker's balance, as whoever asks may have done."""
    row = session.get_one(SwapBookRow, book)
    key = row.contract, row.provider

    def action(ledger: SwapLedger) -> tuple[Event, ...]:
        over = [one.number for one in ledger.books[key].subcontracts.values() if not one.status.is_live]
        return tuple(event for number in over for event in ledger.redeem(key, number))

    return act(session, key, action, now=now)


def close(session: Session, name: str, *, now: UnixSeconds) -> bool:
    """Write that a week is settled, once every open book has; return whether it was us who did."""
    if session.get(SwapWeekRow, name) is None:
        return False
    board = rows.board_row(session)
    week = session.get_one(SwapWeekRow, name, with_for_update=True)
    if week.state != WeekState.COMPUTED or week.week != board.week - 1 or week.chain_time_unix is None:
        return False
    if waiting(session, week, board):
        return False
    return cross(session, week, WeekState.SETTLED, now=now)
