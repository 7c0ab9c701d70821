"""Rows to the engine's records and back. Who acts upon a book holds its row; who posts or corrects holds the board's.

Locks are taken in one order: the board, a contract or its week, a book, balances by owner.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from sqlalchemy import insert, select, update
from sqlmodel import Session, col

from btcfi.adapters.store.spine.edges import Crossing, cross, cross_all, record, upsert
from btcfi.adapters.store.swaps.tables import (
    SubcontractState,
    SwapBalanceRow,
    SwapBoardRow,
    SwapBookRow,
    SwapEventRow,
    SwapPriceRow,
    SwapRow,
    SwapState,
    SwapSubcontractRow,
    SwapWeekRow,
)
from btcfi.swaps.book import Book, BookStatus, Event, Subcontract, SubcontractStatus
from btcfi.swaps.contract import Rates, SwapContract
from btcfi.swaps.prices import NEVER, PriceBoard, Start
from btcfi.swaps.returns import Prices, Side
from btcfi.swaps.settlement import WeekReturns
from btcfi.swaps.swap import AssetSwap
from btcfi.units import Sats, UnixSeconds

BOARD = 1
"""Number of the one board."""

KEPT = tuple(one.value for one in SubcontractState if one is not SubcontractState.REDEEMED)


def book_id(contract: str, provider: str) -> str:
    """Return a book's name. A contract's has no slash, so that no two books share one."""
    return f"{contract}/{provider}"


def week_id(contract: str, week: int) -> str:
    """Return the name of a contract's week."""
    return f"{contract}/{week}"


# ---- the board


def board_row(session: Session, *, writing: bool = False) -> SwapBoardRow:
    """Return the board's row, shared until the transaction ends, or held. Raises NoResultFound before a contract is."""
    query = select(SwapBoardRow).where(col(SwapBoardRow.id) == BOARD).with_for_update(read=not writing)
    found: SwapBoardRow = session.execute(query).scalar_one()
    return found


def board_of(session: Session, row: SwapBoardRow) -> PriceBoard:
    """Return the prices of the week that runs and of the one before."""
    query = select(SwapPriceRow).where(col(SwapPriceRow.week).in_((row.week, row.week - 1)))
    weeks = defaultdict[int, list[dict[str, Prices]]](list)
    for one in session.execute(query.order_by(col(SwapPriceRow.week), col(SwapPriceRow.slot))).scalars():
        slots = weeks[one.week]
        slots += [{} for _ in range(one.slot + 1 - len(slots))]
        slots[one.slot][one.contract] = Prices(asset=one.asset_millionths, margin=one.margin_millionths)
    return PriceBoard(
        week=row.week, slots=_frozen(weeks[row.week]), last_week=_frozen(weeks[row.week - 1]),
        posted_at=UnixSeconds(row.posted_at_unix), changed_at=UnixSeconds(row.changed_at_unix),
        settlement_at=UnixSeconds(row.settlement_at_unix),
    )  # fmt: skip


def _frozen(slots: Iterable[Mapping[str, Prices]]) -> tuple[Mapping[str, Prices], ...]:
    return tuple(MappingProxyType(dict(one)) for one in slots)


def write_board(session: Session, row: SwapBoardRow, board: PriceBoard, *, day: str, corrected: bool) -> None:
    """Write the board's times and its latest prices."""
    row.week, row.day = board.week, day
    row.posted_at_unix, row.changed_at_unix = board.posted_at, board.changed_at
    row.settlement_at_unix = board.settlement_at
    slot = len(board.slots) - 1
    for contract, prices in sorted(board.slots[slot].items()):
        values = {"asset_millionths": prices.asset, "margin_millionths": prices.margin, "day": day,
                  "corrected": corrected}  # fmt: skip
        key = {"week": board.week, "slot": slot, "contract": contract}
        statement = upsert(session, SwapPriceRow).values(**key, **values)
        session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))
    session.flush()


# ---- contracts and their weeks


def contract_of(row: SwapRow) -> SwapContract:
    """Return what is listed."""
    return SwapContract(
        name=row.id, asset=row.asset, quote=row.quote, leverage_hundredths=row.leverage_hundredths
    )  # fmt: skip


def swap_of(row: SwapRow, week: SwapWeekRow | None, *, last_settle_at: UnixSeconds = NEVER) -> AssetSwap:
    """Return a contract as it runs, with the returns of the week that is over."""
    proposed = None
    if row.proposed_target_ppm is not None and row.proposed_basis_ppm is not None:
        proposed = Rates(target_ppm=row.proposed_target_ppm, basis_ppm=row.proposed_basis_ppm)
    return AssetSwap(
        contract=contract_of(row), rates=Rates(target_ppm=row.target_ppm, basis_ppm=row.basis_ppm), proposed=proposed,
        returns=None if week is None else returns_of(week), paused=row.state == SwapState.PAUSED,
        last_settle_at=last_settle_at,
    )  # fmt: skip


def returns_of(row: SwapWeekRow) -> WeekReturns | None:
    """Return a week's returns; None before they are computed."""
    if row.returns is None or row.target_ppm is None or row.basis_ppm is None:
        return None
    return WeekReturns(
        week=row.week, days=row.days or 0, rates=Rates(target_ppm=row.target_ppm, basis_ppm=row.basis_ppm),
        computed_at=UnixSeconds(row.computed_at_unix or 0),
        parts=MappingProxyType(
            {(slot, Side(side)): Fraction(int(top), int(bottom)) for slot, side, top, bottom in json.loads(row.returns)}
        ),
    )  # fmt: skip


def returns_columns(returns: WeekReturns) -> dict[str, Any]:
    """Return what a week's row says of its returns."""
    parts = [
        [slot, side.value, str(part.numerator), str(part.denominator)]
        for (slot, side), part in sorted(returns.parts.items())
    ]
    return {
        "target_ppm": returns.rates.target_ppm, "basis_ppm": returns.rates.basis_ppm, "days": returns.days,
        "returns": json.dumps(parts), "computed_at_unix": returns.computed_at,
    }  # fmt: skip


# ---- books


def held_book(session: Session, name: str) -> SwapBookRow | None:
    """Return a book's row, held until the transaction ends."""
    return session.execute(
        select(SwapBookRow).where(col(SwapBookRow.id) == name).with_for_update()
    ).scalar_one_or_none()


def kept_subcontracts(session: Session, name: str) -> dict[int, SwapSubcontractRow]:
    """Return the rows of a book's subcontracts that are not redeemed, by number."""
    query = select(SwapSubcontractRow).where(
        col(SwapSubcontractRow.book_id) == name, col(SwapSubcontractRow.state).in_(KEPT)
    )
    rows = session.execute(query.order_by(col(SwapSubcontractRow.number))).scalars()
    return {row.number: row for row in rows}


def book_of(row: SwapBookRow, subcontracts: Mapping[int, SwapSubcontractRow]) -> Book:
    """Return a book of its rows."""
    return Book(
        contract=row.contract, provider=row.provider, margin=Sats(row.margin_sats),
        minimum_take=Sats(row.minimum_take_sats), next_number=row.next_number, netted=Sats(row.netted_sats),
        last_settle_at=UnixSeconds(row.last_settle_at_unix), weeks=row.weeks, status=BookStatus(row.state),
        subcontracts=MappingProxyType({number: _subcontract(one) for number, one in subcontracts.items()}),
    )  # fmt: skip


def _subcontract(row: SwapSubcontractRow) -> Subcontract:
    start = None
    if row.start_week is not None and row.start_slot is not None:
        start = Start(row.start_week, row.start_slot)
    return Subcontract(
        number=row.number, taker=row.taker, side=Side(row.side), required=Sats(row.required_sats),
        margin=Sats(row.margin_sats), taken_at=UnixSeconds(row.taken_at_unix), start=start,
        settled_once=row.settled_once, status=SubcontractStatus(row.state), cancelled_by=row.cancelled_by,
        admin_cancelled=row.admin_cancelled, taker_burned=row.taker_burned, provider_burned=row.provider_burned,
    )  # fmt: skip


def new_book(session: Session, book: Book, *, paid_in: Sats, now: UnixSeconds) -> None:
    """Write a book that was not there."""
    row = SwapBookRow(
        id=book_id(book.contract, book.provider), contract=book.contract, provider=book.provider, **_book_columns(book),
        paid_in_sats=paid_in, created_at_unix=now, updated_at_unix=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    record(session, "swap_book", row.id, BookStatus.OPEN, now=now)


def write_book(
    session: Session, row: SwapBookRow, rows: Mapping[int, SwapSubcontractRow], book: Book, *, paid_in: Sats,
    burned: Sats, now: UnixSeconds,
) -> None:  # fmt: skip
    """Write what an act has changed of a held book and its subcontracts."""
    _write_subcontracts(session, row.id, rows, book, now)
    changes = {
        **_book_columns(book), "paid_in_sats": row.paid_in_sats + paid_in, "burned_sats": row.burned_sats + burned,
    }  # fmt: skip
    if book.status != row.state:
        cross(session, row, book.status, now=now, changes=changes)
        return
    for name, value in changes.items():
        setattr(row, name, value)
    row.updated_at_unix = now
    session.flush()


def _write_subcontracts(
    session: Session, name: str, rows: Mapping[int, SwapSubcontractRow], book: Book, now: UnixSeconds
) -> None:  # fmt: skip
    crossing = defaultdict[str, list[Crossing[SwapSubcontractRow]]](list)
    staying, born = [], []
    for number, one in book.subcontracts.items():
        columns = _subcontract_columns(one)
        row = rows.get(number)
        if row is None:
            born.append(one)
        elif one.status != row.state:
            crossing[one.status.value].append(Crossing(row=row, changes=columns))
        elif any(getattr(row, key) != value for key, value in columns.items()):
            staying.append({"id": row.id, **columns, "updated_at_unix": now})
    for number, row in rows.items():
        if number not in book.subcontracts:
            crossing[SubcontractState.REDEEMED.value].append(Crossing(row=row, changes={"margin_sats": 0}))
    for state, some in crossing.items():
        cross_all(session, some, state, now=now)
    if staying:
        session.execute(update(SwapSubcontractRow), staying)
    for one in born:
        row = SwapSubcontractRow(
            id=f"{name}/{one.number}", book_id=name, number=one.number, taker=one.taker, side=one.side.value,
            taken_at_unix=one.taken_at, updated_at_unix=now, state=one.status.value, **_subcontract_columns(one),
        )  # fmt: skip
        session.add(row)
        session.flush()
        record(session, "swap_subcontract", row.id, SubcontractState.PENDING, now=now)


def _book_columns(book: Book) -> dict[str, Any]:
    return {
        "margin_sats": book.margin, "minimum_take_sats": book.minimum_take, "next_number": book.next_number,
        "netted_sats": book.netted, "last_settle_at_unix": book.last_settle_at, "weeks": book.weeks,
    }  # fmt: skip


def _subcontract_columns(one: Subcontract) -> dict[str, Any]:
    return {
        "required_sats": one.required, "margin_sats": one.margin,
        "start_week": None if one.start is None else one.start.week,
        "start_slot": None if one.start is None else one.start.slot, "settled_once": one.settled_once,
        "cancelled_by": one.cancelled_by, "admin_cancelled": one.admin_cancelled, "taker_burned": one.taker_burned,
        "provider_burned": one.provider_burned,
    }  # fmt: skip


# ---- balances and events


def add_to_balances(session: Session, amounts: Mapping[str, int]) -> None:
    """Add to withdrawal balances, in the order of their owners: no two acts wait for each other."""
    for owner, amount in sorted(amounts.items()):
        statement = upsert(session, SwapBalanceRow).values(owner=owner, amount_sats=amount, paid_out_sats=0)
        more = {"amount_sats": SwapBalanceRow.amount_sats + amount}
        session.execute(statement.on_conflict_do_update(index_elements=["owner"], set_=more))


def write_events(session: Session, events: Iterable[Event], *, now: UnixSeconds) -> None:
    """Write what acts did."""
    rows = [
        {"name": one.name, "contract": one.fields.get("contract", ""), "provider": one.fields.get("provider", ""),
         "fields": json.dumps(dict(one.fields)), "at_unix": now}
        for one in events
    ]  # fmt: skip
    if rows:
        session.execute(insert(SwapEventRow), rows)
