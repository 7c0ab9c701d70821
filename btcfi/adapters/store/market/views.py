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
from btcfi.adapters.store.market.events import EVENTFUL, AccountEdge, closes_by_option, edges_with_owners
from btcfi.adapters.store.market.offers import still_open
from btcfi.adapters.store.market.requests import asked_still
from btcfi.adapters.store.market.tables import (
    PENDING_CLOSES,
    AccountRow,
    CloseRow,
    CloseState,
    FirmOfferRow,
    QuoteRequestRow,
    TakeRow,
)
from btcfi.adapters.store.options.tables import LOCKED_OPTIONS, OptionRow, OptionState
from btcfi.adapters.store.options.views import options_of
from btcfi.adapters.store.spine.paging import Page, aside, either_page, newest_page, stretch
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.contracts.messages import Role
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


def auctions(session: Session, now: UnixSeconds, *, limit: int) -> Sequence[FirmOfferRow]:
    """Return the open offers that anybody may take and whose price is still on its way, the next to move first."""
    moves = col(FirmOfferRow.moves_at_unix)
    query = select(FirmOfferRow).where(still_open(now=now), moves.is_not(None), col(FirmOfferRow.taker).is_(None))
    return session.exec(query.order_by(moves, col(FirmOfferRow.rank)).limit(limit)).all()


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


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnClose:
    """An offer to close an option of an account."""

    row: CloseRow
    option: OptionRow
    role: str
    """``writer`` or ``holder``: what the account is of the option."""

    @property
    def offered_by(self) -> str:
        """``writer`` or ``holder``: who offers it."""
        return "holder" if self.row.by == Role.BUYER.value else "writer"

    @property
    def own(self) -> bool:
        """Whether the account offers it."""
        return self.offered_by == self.role


AGREED: Final = (CloseState.SIGNED, CloseState.DONE)
"""States of a close that both sides have signed: an option has one at the most."""


def closes_of(
    session: Session, account: str | None, *, state: str | None = None, limit: int, cursor: str | None = None
) -> Page[OwnClose]:  # fmt: skip
    """Return one page of the offers to close options of an account, whoever offers, newest first.

    account: None: of every account. Raises NoSuchPageError.
    """
    query = select(CloseRow)
    if state is not None:
        query = query.where(aside(CloseRow.state) == state)
    at, key = col(CloseRow.created_at_unix), col(CloseRow.id)
    if account is None:
        page = newest_page(session, query, at, key, limit=limit, cursor=cursor)
    else:
        both = [query.where(CloseRow.writer == account), query.where(CloseRow.holder == account)]
        page = either_page(session, both, at, key, limit=limit, cursor=cursor)
    options = options_of(session, {row.option_id for row in page.rows})
    rows = [_own_close(row, options[row.option_id], account) for row in page.rows]
    return Page(rows=rows, following=page.following)


def close_of(session: Session, account: str | None, close_id: str) -> OwnClose | None:
    """Return an offer to close an option of an account. account: None: of any."""
    row = session.get(CloseRow, close_id)
    if row is None or account not in (None, row.writer, row.holder):
        return None
    return _own_close(row, session.get_one(OptionRow, row.option_id), account)


def agreed_closes(session: Session, option_ids: Collection[str]) -> dict[str, CloseRow]:
    """Return the close that both sides have signed, of each of some options that has one, by the option's id."""
    return closes_by_option(session, option_ids, AGREED)


def open_closes(session: Session, account: str, options: Sequence[OptionRow], now: UnixSeconds) -> list[OwnClose]:
    """Return the offers to close some options of an account that wait for a half, the first to lapse first."""
    by_id = {one.id: one for one in options}
    query = select(CloseRow).where(
        col(CloseRow.option_id).in_(list(by_id)), col(CloseRow.state).in_(PENDING_CLOSES),
        col(CloseRow.valid_until_unix) > now,
    )  # fmt: skip
    rows = session.exec(query).all() if by_id else []
    found = [_own_close(row, by_id[row.option_id], account) for row in rows]
    return sorted(found, key=lambda one: (one.row.valid_until_unix, one.row.id))


def _own_close(row: CloseRow, option: OptionRow, account: str | None) -> OwnClose:
    return OwnClose(row=row, option=option, role="holder" if option.holder == account else "writer")


def edges_of(
    session: Session, account: str, *, after: int, limit: int = 500, until: int | None = None
) -> tuple[list[AccountEdge], int]:  # fmt: skip
    """Return an account's edges among the ``limit`` of everybody's after an event, oldest first; and the last one's id.

    Who follows goes on from there. until: the last event that is looked at, which is then the answer's where there are
    fewer than ``limit``; None: the newest.
    """
    everybodys = select(EventRow).where(aside(EventRow.entity).in_(EVENTFUL))
    if until is not None:
        everybodys = everybodys.where(col(EventRow.id) <= until)
    rows = stretch(session, everybodys, col(EventRow.id), beyond=(after,), limit=limit)
    found = [one for one in edges_with_owners(session, rows) if account in one.accounts]
    if until is not None and len(rows) < limit:
        return found, until
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
