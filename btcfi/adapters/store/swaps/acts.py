"""What people do with swaps: one act is one transaction, by the engine's own guards on the rows it holds.

The caller's transaction is the act's: where a guard refuses, nothing was written. What happens by the clock is in
``weeks.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import func, select
from sqlmodel import Session, col

from btcfi.adapters.store.spine.edges import cross, record, upsert
from btcfi.adapters.store.swaps import rows
from btcfi.adapters.store.swaps.tables import (
    SwapBalanceRow,
    SwapBoardRow,
    SwapBookRow,
    SwapRow,
    SwapSettlementRow,
    SwapState,
    SwapWeekRow,
)
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.swaps.book import ORACLE, Event
from btcfi.swaps.contract import Rates, SwapContract
from btcfi.swaps.errors import Guard, SwapRefusedError
from btcfi.swaps.ledger import Key, SwapLedger
from btcfi.units import Sats, UnixSeconds

Act = Callable[[SwapLedger], tuple[Event, ...]]
"""Something done to a ledger that holds the one book it is about."""

BY_THE_CLOCK: Final = frozenset({"post", "initialise", "compute", "settle"})
"""Actions of a scenario that nobody asks this store for: ``weeks.py`` does them when they are due."""

MAX_NAME: Final = 64


class AlreadySettledError(ConflictError):
    """A book has settled a week."""

    def __init__(self, book: str, week: int) -> None:
        super().__init__(f"{book} has settled week {week}: a week is settled once")
        self.book, self.week = book, week


def list_contract(session: Session, contract: SwapContract, rates: Rates, *, now: UnixSeconds) -> None:
    """List a contract with its first rates. Before the first post: all prices are posted at once from then on."""
    if "/" in contract.name or not 1 <= len(contract.name) <= MAX_NAME:
        raise InvalidInputError("contract", repr(contract.name[:MAX_NAME]), f"1 to {MAX_NAME} signs, none a slash")
    session.execute(upsert(session, SwapBoardRow).values(
        id=rows.BOARD, week=0, day="", posted_at_unix=0, changed_at_unix=0, settlement_at_unix=0
    ).on_conflict_do_nothing())  # fmt: skip
    if rows.board_row(session, writing=True).week:
        raise SwapRefusedError(Guard.PRICES, f"{contract.name} after the first post", "before it: prices go together")
    if session.get(SwapRow, contract.name) is not None:
        raise SwapRefusedError(Guard.BOOK_EXISTS, f"{contract.name} is listed", "a new contract")
    session.add(
        SwapRow(
            id=contract.name, asset=contract.asset, quote=contract.quote,
            leverage_hundredths=contract.leverage_hundredths, target_ppm=rates.target_ppm, basis_ppm=rates.basis_ppm,
            created_at_unix=now, updated_at_unix=now,
        )
    )  # fmt: skip
    session.flush()
    record(session, "swap", contract.name, SwapState.OPEN, now=now)
    rows.write_events(session, [Event(name="listed", fields={"contract": contract.name})], now=now)


def act(session: Session, key: Key, action: Act, *, now: UnixSeconds) -> tuple[Event, ...]:
    """Do something to one book; return its events. Raises SwapRefusedError, and AlreadySettledError."""
    board = rows.board_of(session, rows.board_row(session))
    swap = _held_contract(session, key[0])
    week = session.get(SwapWeekRow, rows.week_id(key[0], board.week - 1), with_for_update={"read": True})
    row = rows.held_book(session, rows.book_id(*key))
    ledger = SwapLedger(board=board, swaps={key[0]: rows.swap_of(swap, week)})
    kept = {} if row is None else rows.kept_subcontracts(session, row.id)
    if row is not None:
        ledger.books[key] = rows.book_of(row, kept)
    events = action(ledger)
    if row is None:
        rows.new_book(session, ledger.books[key], paid_in=ledger.paid_in, now=now)
    else:
        _settled(session, row, events, now)
        rows.write_book(
            session, row, kept, ledger.books[key], paid_in=ledger.paid_in, burned=ledger.burned, now=now
        )  # fmt: skip
    rows.add_to_balances(session, ledger.balances)
    rows.write_events(session, events, now=now)
    return events


def create_book(
    session: Session, contract: str, *, caller: str, amount: int, minimum_take: int, now: UnixSeconds
) -> tuple[Event, ...]:  # fmt: skip
    """Open a book. Raises SwapRefusedError."""
    _owner(caller)
    rows.board_row(session)
    _held_contract(session, contract, writing=True)  # two that open one at once come one after the other
    return act(
        session, (contract, caller),
        lambda one: one.create_book(contract, caller=caller, amount=amount, minimum_take=minimum_take, now=now),
        now=now,
    )  # fmt: skip


def correct(session: Session, action: Act, *, now: UnixSeconds) -> tuple[Event, ...]:
    """Correct the latest prices; weeks that were computed by them are computed again. Raises SwapRefusedError."""
    row = rows.board_row(session, writing=True)
    ledger = SwapLedger(board=rows.board_of(session, row))
    events = action(ledger)
    rows.write_board(session, row, ledger.board, day=row.day, corrected=True)
    rows.write_events(session, events, now=now)
    return events


def set_contract(session: Session, contract: str, action: Act, *, now: UnixSeconds) -> tuple[Event, ...]:
    """Propose a contract's rates, pause or resume it. Raises SwapRefusedError."""
    row = _held_contract(session, contract, writing=True)
    ledger = SwapLedger(swaps={contract: rows.swap_of(row, None)})
    events = action(ledger)
    after = ledger.swaps[contract]
    if after.proposed is not None:
        row.proposed_target_ppm, row.proposed_basis_ppm = after.proposed.target_ppm, after.proposed.basis_ppm
        row.updated_at_unix = now
    session.flush()
    if after.paused != (row.state == SwapState.PAUSED):
        cross(session, row, SwapState.PAUSED if after.paused else SwapState.OPEN, now=now)
    rows.write_events(session, events, now=now)
    return events


def withdraw_balance(session: Session, *, caller: str, now: UnixSeconds) -> tuple[Event, ...]:
    """Pay a balance out, whole: it is nothing before anybody is paid. Raises SwapRefusedError."""
    row = session.get(SwapBalanceRow, caller, with_for_update=True)
    ledger = SwapLedger(balances={caller: Sats(row.amount_sats)} if row is not None and row.amount_sats else {})
    events = ledger.withdraw_balance(caller=caller)
    if row is not None:
        row.amount_sats, row.paid_out_sats = 0, row.paid_out_sats + ledger.paid_out
    session.flush()
    rows.write_events(session, events, now=now)
    return events


def perform(session: Session, name: str, given: Mapping[str, Any], *, now: UnixSeconds) -> tuple[Event, ...]:
    """Do an action of a scenario by its name, its fields as JSON. Raises InvalidInputError, SwapRefusedError."""
    from btcfi.swaps.scenario import ACTIONS, read_action  # noqa: PLC0415 - rules of records, where one is read

    if name not in ACTIONS or name in BY_THE_CLOCK:
        raise InvalidInputError("action", repr(name[:41]), "one of " + ", ".join(sorted(set(ACTIONS) - BY_THE_CLOCK)))
    read = read_action(name, given, name)

    def action(ledger: SwapLedger) -> tuple[Event, ...]:
        return ACTIONS[name].do(ledger, now, read)

    if name == "correct":
        return correct(session, action, now=now)
    if name == "withdraw-balance":
        return withdraw_balance(session, caller=read["caller"], now=now)
    if name in {"propose", "pause"}:
        return set_contract(session, read["contract"], action, now=now)
    if name == "create-book":
        return create_book(
            session, read["contract"], caller=read["caller"], amount=read["amount_sats"],
            minimum_take=read["minimum_take_sats"], now=now,
        )  # fmt: skip
    if name == "take":
        _owner(read["caller"])
    return act(session, (read["contract"], read["provider"]), action, now=now)


def last_settlement(session: Session, contract: str) -> UnixSeconds:
    """Return when a book of a contract was last settled; 0 before the first."""
    query = select(func.max(SwapBookRow.last_settle_at_unix)).where(
        col(SwapBookRow.contract) == contract, col(SwapBookRow.weeks) > 0
    )
    return UnixSeconds(session.execute(query).scalar_one() or 0)


def _held_contract(session: Session, contract: str, *, writing: bool = False) -> SwapRow:
    row = session.get(SwapRow, contract, with_for_update={"read": not writing})
    if row is None:
        raise SwapRefusedError(Guard.NO_BOOK, f"no contract {contract!r}", "one that is listed")
    return row


def _owner(name: str) -> None:
    """Refuse the oracle's own name for anybody else's margin: fees go to it."""
    if name == ORACLE or not 1 <= len(name) <= MAX_NAME:
        raise InvalidInputError("caller", repr(name[:MAX_NAME]), f"1 to {MAX_NAME} signs, not {ORACLE!r}")


def _settled(session: Session, row: SwapBookRow, events: tuple[Event, ...], now: UnixSeconds) -> None:
    """Write a settlement's row: there is one of a book and a week, or none of this act is."""
    for one in events:
        if one.name != "settled":
            continue
        told = one.fields
        statement = upsert(session, SwapSettlementRow).values(
            book_id=row.id, week=told["week"], burned_sats=told["burned_sats"], fees_sats=told["fees_sats"],
            provider_margin_sats=told["provider_margin_sats"], profits=json.dumps(dict(told["profits_sats"])),
            credits=json.dumps(dict(told["credits_sats"])), settled_at_unix=now,
        )  # fmt: skip
        ours = statement.on_conflict_do_nothing().returning(col(SwapSettlementRow.week))
        if session.execute(ours).scalar_one_or_none() is None:
            raise AlreadySettledError(row.id, told["week"])
