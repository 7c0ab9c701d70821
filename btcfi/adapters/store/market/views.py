"""What people read of the market: the book and the chain, an account's own things, what everybody may see.

``account``, where a view takes one, is whose things alone are shown; None shows all, for the operator.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from sqlalchemy import ColumnElement, literal_column, or_
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from btcfi.adapters.store.access.api_tables import ApiKeyRow
from btcfi.adapters.store.market.offers import still_open
from btcfi.adapters.store.market.requests import asked_still
from btcfi.adapters.store.market.tables import (
    AccountRow,
    CloseRow,
    CloseState,
    FirmOfferRow,
    QuoteRequestRow,
    TakeRow,
)
from btcfi.adapters.store.options.tables import LOCKED_OPTIONS, OptionRow, OptionState, SettlementRow
from btcfi.adapters.store.options.views import options_of, settlements_of
from btcfi.adapters.store.spine.paging import Page, aside, either_page, newest_page, stretch
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.market.firm_offer import Side
from btcfi.units import UnixSeconds

STANDING: Final = (OptionState.CREATED, *LOCKED_OPTIONS)
"""States of an option that is a position, or is about to be one."""


STANDS: Final[ColumnElement[bool]] = col(TakeRow.state) != literal_column("'failed'")
"""That a take has not failed, as the partial indexes have it: a literal, as in ``still_open``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookSides:
    """The open offers of one instrument, on each side the best first."""

    bids: Sequence[FirmOfferRow]
    asks: Sequence[FirmOfferRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """One side of one instrument: its best price, and what there is."""

    price_sats: int
    price_cents: int
    """Of the first offer at the best price."""
    quantity: int
    """At the best price; hundredths of a bitcoin, as the next one."""
    depth: int
    """At every price."""
    offers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRow:
    """One instrument of an expiry that has open offers."""

    instrument: str
    bid: Top | None
    ask: Top | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A take as everybody may see it: no account."""

    at_unix: int
    id: str
    instrument: str
    side: str
    """``buy`` where the taker bought, else ``sell``."""
    quantity: int
    price_sats: int
    price_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One option of an account."""

    option: OptionRow
    role: str
    """``writer`` or ``holder``."""
    take: TakeRow | None
    """None of an option that no take made."""


def book(
    session: Session, instrument: str, now: UnixSeconds, *, account: str | None = None, limit: int = 200
) -> BookSides:  # fmt: skip
    """Return the best open offers of an instrument that anybody may take, ``limit`` a side.

    account: whose own offers, and those that are for it alone, are shown as well.
    """
    for_all, for_it = col(FirmOfferRow.taker).is_(None), col(FirmOfferRow.taker) == account
    theirs = for_all if account is None else or_(for_all, for_it, col(FirmOfferRow.account_id) == account)
    sides = []
    for side in (Side.BID, Side.ASK):
        price = col(FirmOfferRow.price_sats)
        query = select(FirmOfferRow).where(
            FirmOfferRow.instrument == instrument, FirmOfferRow.side == side.value, still_open(now=now), theirs
        )
        order = price.desc() if side is Side.BID else price.asc()
        sides.append(session.exec(query.order_by(order, col(FirmOfferRow.rank)).limit(limit)).all())
    return BookSides(bids=sides[0], asks=sides[1])


def chain(session: Session, expiry: int, now: UnixSeconds) -> list[ChainRow]:
    """Return the best bid and ask, and the depth, of each instrument of an expiry that has an open offer."""
    query = select_columns(
        col(FirmOfferRow.instrument), col(FirmOfferRow.side), col(FirmOfferRow.price_sats), col(FirmOfferRow.rank),
        col(FirmOfferRow.price_cents), col(FirmOfferRow.remaining),
    )  # fmt: skip
    query = query.where(col(FirmOfferRow.expiry_unix) == expiry, still_open(now=now), col(FirmOfferRow.taker).is_(None))
    levels: dict[tuple[str, str], list[tuple[int, int, int, int]]] = {}
    # plain tuples of the driver: five thousand rows of mapped classes take five times as long
    for instrument, side, price, rank, cents, remaining in session.execute(query):
        levels.setdefault((instrument, side), []).append((price, rank, cents, remaining))
    return [
        ChainRow(
            instrument=name, bid=_top(levels.get((name, Side.BID)), highest=True),
            ask=_top(levels.get((name, Side.ASK)), highest=False),
        )
        for name in sorted({name for name, _ in levels})
    ]  # fmt: skip


def _top(levels: Sequence[tuple[int, int, int, int]] | None, *, highest: bool) -> Top | None:
    if not levels:
        return None
    best = (max if highest else min)(price for price, *_ in levels)
    at_best = [one for one in levels if one[0] == best]
    return Top(
        price_sats=best, price_cents=min(at_best, key=itemgetter(1))[2],
        quantity=sum(remaining for *_, remaining in at_best), depth=sum(remaining for *_, remaining in levels),
        offers=len(levels),
    )  # fmt: skip


def answers(session: Session, request_id: str, now: UnixSeconds, *, limit: int = 200) -> BookSides:
    """Return the best open answers to a request, ``limit`` a side."""
    sides = []
    for side in (Side.BID, Side.ASK):
        price = col(FirmOfferRow.price_sats)
        query = select(FirmOfferRow).where(
            FirmOfferRow.request_id == request_id, aside(FirmOfferRow.side) == side.value, still_open(now=now)
        )
        order = price.desc() if side is Side.BID else price.asc()
        sides.append(session.exec(query.order_by(order, col(FirmOfferRow.rank)).limit(limit)).all())
    return BookSides(bids=sides[0], asks=sides[1])


def open_requests(
    session: Session, now: UnixSeconds, *, limit: int, cursor: str | None = None
) -> Page[QuoteRequestRow]:  # fmt: skip
    """Return one page of the requests that can be answered, newest first: whose each is, is shown."""
    query = select(QuoteRequestRow).where(asked_still(now=now))
    at, key = col(QuoteRequestRow.created_at_unix), col(QuoteRequestRow.id)
    return newest_page(session, query, at, key, limit=limit, cursor=cursor)


def requests_of(
    session: Session, account: str | None, *, limit: int, cursor: str | None = None
) -> Page[QuoteRequestRow]:  # fmt: skip
    """Return one page of an account's requests, newest first. account: None: of all. Raises NoSuchPageError."""
    query = select(QuoteRequestRow)
    if account is not None:
        query = query.where(QuoteRequestRow.account_id == account)
    at, key = col(QuoteRequestRow.created_at_unix), col(QuoteRequestRow.id)
    return newest_page(session, query, at, key, limit=limit, cursor=cursor)


def request_of(session: Session, account: str | None, request_id: str) -> QuoteRequestRow | None:
    """Return a request of an account. account: None: of any."""
    row = session.get(QuoteRequestRow, request_id)
    return row if row is not None and account in (None, row.account_id) else None


def expiries(session: Session, now: UnixSeconds) -> Sequence[int]:
    """Return the expiries that have an open offer, the next first."""
    at = col(FirmOfferRow.expiry_unix)
    # every expiry is above 0: by this the index of the open ones is read, and no other offer
    return session.exec(select(at).where(still_open(now=now), at > 0).distinct().order_by(at)).all()


# ---- one account's; the operator's where there is no account


def offers_of(
    session: Session, account: str | None, *, state: str | None = None, limit: int, cursor: str | None = None
) -> Page[FirmOfferRow]:  # fmt: skip
    """Return one page of the offers of an account, newest first. account: None: of all. Raises NoSuchPageError."""
    query = select(FirmOfferRow)
    if account is not None:
        query = query.where(FirmOfferRow.account_id == account)
    if state is not None:
        query = query.where(aside(FirmOfferRow.state) == state)
    at, key = col(FirmOfferRow.created_at_unix), col(FirmOfferRow.id)
    return newest_page(session, query, at, key, limit=limit, cursor=cursor)


def offer_of_account(session: Session, account: str | None, offer_id: str) -> FirmOfferRow | None:
    """Return an offer of an account. account: None: of any."""
    row = session.get(FirmOfferRow, offer_id)
    return row if row is not None and account in (None, row.account_id) else None


def takes_of(session: Session, account: str | None, *, limit: int, cursor: str | None = None) -> Page[TakeRow]:
    """Return one page of the takes that an account made, or others of its offers, newest first.

    account: None: of all. Raises NoSuchPageError.
    """
    return _takes(session, select(TakeRow), account, limit=limit, cursor=cursor)


def take_of(session: Session, account: str | None, take_id: str) -> TakeRow | None:
    """Return a take that an account is a side of. account: None: of any."""
    row = session.get(TakeRow, take_id)
    return row if row is not None and account in (None, row.maker, row.taker) else None


def fills(session: Session, account: str | None, *, limit: int, cursor: str | None = None) -> Page[TakeRow]:
    """Return the same as ``takes_of`` without those that failed."""
    return _takes(session, select(TakeRow).where(STANDS), account, limit=limit, cursor=cursor)


def _takes(
    session: Session, query: SelectOfScalar[TakeRow], account: str | None, *, limit: int, cursor: str | None
) -> Page[TakeRow]:
    at, key = col(TakeRow.created_at_unix), col(TakeRow.id)
    if account is None:
        return newest_page(session, query, at, key, limit=limit, cursor=cursor)
    both = [query.where(TakeRow.maker == account), query.where(TakeRow.taker == account)]
    return either_page(session, both, at, key, limit=limit, cursor=cursor)


def positions(
    session: Session, account: str | None, *, states: Collection[str] = STANDING, limit: int, cursor: str | None = None
) -> Page[Held]:  # fmt: skip
    """Return one page of the options that an account wrote or holds, newest first.

    account: None: of every account. states: of the options. Raises NoSuchPageError.
    """
    if account is None:
        owned = select(OptionRow).where(col(OptionRow.writer).is_not(None))
        some = [owned.where(OptionRow.state == state) for state in states]
    else:
        query = select(OptionRow).where(aside(OptionRow.state).in_(list(states)))
        some = [query.where(OptionRow.writer == account), query.where(OptionRow.holder == account)]
    at, key = col(OptionRow.created_at_unix), col(OptionRow.id)
    page = either_page(session, some, at, key, limit=limit, cursor=cursor)
    taken = [row.take_id for row in page.rows if row.take_id is not None]
    found = session.exec(select(TakeRow).where(col(TakeRow.id).in_(taken))).all() if taken else []
    takes = {row.id: row for row in found}
    rows = [
        Held(option=row, role="holder" if row.holder == account else "writer", take=takes.get(row.take_id or ""))
        for row in page.rows
    ]  # fmt: skip
    return Page(rows=rows, following=page.following)


EVENTFUL: Final = ("take", "option", "settlement")
"""What an account hears of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountEdge:
    """An edge that something of an account crossed."""

    event: EventRow
    option: OptionRow
    settlement: SettlementRow | None
    """Of an edge of a settlement."""
    close: CloseRow | None = None
    """Of the edge by which a close at a price of both sides ended an option."""


def closes_of(session: Session, option_ids: Collection[str]) -> dict[str, CloseRow]:
    """Return the closes that ended options at a price of both sides, by option: those have no settlement's amounts."""
    if not option_ids:
        return {}
    query = select(CloseRow).where(col(CloseRow.option_id).in_(option_ids), CloseRow.state == CloseState.DONE)
    return {row.option_id: row for row in session.exec(query)}


def edges_of(session: Session, account: str, *, after: int, limit: int = 500) -> tuple[list[AccountEdge], int]:
    """Return an account's edges among the ``limit`` of everybody's after an event, oldest first; and the last one's id.

    Who follows goes on from there: below ``limit`` edges there are no more now.
    """
    everybodys = select(EventRow).where(aside(EventRow.entity).in_(EVENTFUL))
    rows = stretch(session, everybodys, col(EventRow.id), beyond=(after,), limit=limit)
    named: dict[str, set[str]] = {entity: set() for entity in EVENTFUL}
    for row in rows:
        named[row.entity].add(row.entity_id)
    taken = session.exec(select(TakeRow).where(col(TakeRow.id).in_(named["take"]))).all() if named["take"] else ()
    settled = settlements_of(session, named["settlement"])
    about = {("take", row.id): row.option_id for row in taken}
    about |= {("settlement", name): row.option_id for name, row in settled.items()}
    about |= {("option", name): name for name in named["option"]}
    options = options_of(session, set(about.values()))
    ended = {row.entity_id for row in rows if row.entity == "option" and row.to_state == OptionState.ABANDONED}
    closed = closes_of(session, ended)
    found = []
    for row in rows:
        option = options.get(about.get((row.entity, row.entity_id), ""))
        if option is not None and account in {option.writer, option.holder}:
            settlement = settled.get(row.entity_id) if row.entity == "settlement" else None
            ends = row.entity == "option" and row.to_state == OptionState.ABANDONED
            close = closed.get(option.id) if ends else None
            found.append(AccountEdge(event=row, option=option, settlement=settlement, close=close))
    return found, rows[-1].id or after if rows else after


# ---- everybody's


def trades(
    session: Session, *, instrument: str | None = None, limit: int, cursor: str | None = None
) -> Page[Trade]:  # fmt: skip
    """Return one page of what was taken and has not failed, newest first: no account. Raises NoSuchPageError.

    A take's id is a hash of who took what of whose offer, so it is for its two sides alone: with it, and what is public
    of the trade, anybody could try who it was. No cursor has it.
    """
    query = select(TakeRow).where(STANDS)
    if instrument is not None:
        query = query.where(TakeRow.instrument == instrument)
    at, key = col(TakeRow.created_at_unix), col(TakeRow.id)
    page = newest_page(session, query, at, key, limit=limit, cursor=cursor, shortened=True)
    rows = [
        Trade(
            at_unix=row.created_at_unix, id=row.id, instrument=row.instrument,
            side="buy" if row.side == Side.ASK else "sell", quantity=row.quantity, price_sats=row.price_sats,
            price_cents=row.price_cents,
        )
        for row in page.rows
    ]  # fmt: skip
    return Page(rows=rows, following=page.following)


def accounts(session: Session, *, limit: int, cursor: str | None = None) -> Page[AccountRow]:
    """Return one page of the accounts, newest first. Raises NoSuchPageError."""
    at, key = col(AccountRow.joined_at_unix), col(AccountRow.id)
    return newest_page(session, select(AccountRow), at, key, limit=limit, cursor=cursor)


def api_keys_of(session: Session, account: str) -> Sequence[ApiKeyRow]:
    """Return the API keys that are bound to an account, the oldest first."""
    query = select(ApiKeyRow).where(ApiKeyRow.account_id == account)
    return session.exec(query.order_by(col(ApiKeyRow.created_at_unix), col(ApiKeyRow.id))).all()


def times_to_check(session: Session, *, limit: int = 1_000) -> Sequence[int]:
    """Return how long the newest takes took from their commit to both sides' checked signatures, milliseconds."""
    query = select_columns(col(TakeRow.created_ms), col(TakeRow.checked_ms)).where(STANDS)
    newest = query.order_by(col(TakeRow.created_at_unix).desc(), col(TakeRow.id).desc()).limit(limit)
    return [end - start for start, end in session.execute(newest) if end is not None]
