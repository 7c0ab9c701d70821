"""Asking makers for quotes: a form that gives the command, one's own requests with their answers, and auctions.

Nothing is asked from here: a request is signed by its owner's process, as every take of an answer is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import HTMLResponse, StreamingResponse

from btcfi.adapters.store.market import views
from btcfi.adapters.store.market.offers import price_now
from btcfi.adapters.store.market.requests import check_asked
from btcfi.adapters.store.market.tables import FirmOfferRow, QuoteRequestRow, RequestState
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.chain import Cell
from btcfi.market.firm_offer import Side
from btcfi.market.instrument import STANDARD_FIXING, Instrument, parse_instrument
from btcfi.market.request import MOST_OPEN, Wanted
from btcfi.options.order import parse_dollars, parse_expiry, parse_kind, parse_quantity, read_fixing
from btcfi.options.terms import OptionKind, required_collateral, validate_terms
from btcfi.oracle.fixing import MINUTE
from btcfi.units import CentiBtc, Cents, UnixSeconds
from dashboards.trader.desk import Desk, base_of, visitor_in
from dashboards.trader.market import FORM_TIME, NAMED, Seen, moving, request_command, take_command
from dashboards.trader.pages_market import cell_of, window_in_words

SHOWN: Final = 20
"""Auctions, and requests of others, of a page."""

VALID: Final = ("1m", "5m", "15m", "1h")
"""How long makers may answer; the command's default is the second."""

USUAL: Final = "5m"

Text = Annotated[str, Query(max_length=40)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What the form says, as it was typed."""

    wanted: str
    kind: str
    strike: str
    expiry: str
    quantity: str
    barrier: str
    american: str
    fixing: str
    valid: str


async def _fields(
    *, wanted: Annotated[Literal["buy", "sell", "both"], Query()] = "buy", kind: Text = "call", strike: Text = "",
    expiry: Text = "", quantity: Text = "0.10", barrier: Text = "",
    american: Annotated[Literal["", "yes"], Query()] = "", fixing: Text = "",
    valid: Annotated[Literal["1m", "5m", "15m", "1h"], Query()] = "5m",
) -> Fields:  # fmt: skip
    return Fields(
        wanted=wanted, kind=kind, strike=strike.strip(), expiry=expiry.strip(), quantity=quantity.strip(),
        barrier=barrier.strip(), american=american, fixing=fixing.strip(), valid=valid,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the form comes to."""

    instrument: Instrument
    quantity: CentiBtc
    cell: Cell
    """Its mark, and what stands of it already."""
    mark_cents: Cents
    """Of the whole quantity."""
    collateral: int
    window: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One firm offer that answers a request."""

    offer_id: str
    buys: bool
    """What its taker does."""
    price_cents: int
    price_sats: int
    quantity: CentiBtc
    """What can be taken of it for this request."""
    premium_cents: int
    """Of that quantity."""
    against_mark: float | None
    """What it costs its taker over the mark, as a share of it; below 0: it is better."""
    valid_until: int
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """A request with the answers that stand."""

    row: QuoteRequestRow
    is_open: bool
    mark_cents: int | None
    """For one bitcoin."""
    answers: tuple[Answer, ...]
    """On each side the best first."""


def router(desk: Desk) -> APIRouter:
    """Return the page and its stream."""
    routes = APIRouter()

    @routes.get("/quotes")
    def quotes(request: Request, fields: Annotated[Fields, Depends(_fields)]) -> HTMLResponse:
        seen, wish, problem = desk.market.seen(), None, ""
        given = _filled(fields, seen)
        try:
            wish = _wish(desk, given)
        except (InvalidInputError, NotFoundError) as e:
            problem = str(e)
        part: dict[str, Any] = {"wish": wish, "problem": problem}
        if request.headers.get("hx-request") == "true":
            return desk.page(request, "parts/wish.html", **part)
        visitor = visitor_in(request)
        return desk.page(
            request, "quotes.html", fields=given, kinds=[one.label for one in OptionKind], valid=VALID, seen=seen,
            fixing=str(STANDARD_FIXING), **_shown(desk, None if visitor is None else visitor.account), **part,
        )  # fmt: skip

    @routes.get("/live/quotes")
    def live(request: Request) -> StreamingResponse:
        base, visitor = base_of(request), visitor_in(request)
        account = None if visitor is None else visitor.account

        def draw() -> Mapping[str, str]:
            shown = _shown(desk, account)
            return {
                "price": desk.draw("parts/price.html", base=base, seen=desk.market.seen()),
                "asked": desk.draw("parts/asked.html", base=base, **shown),
                "auctions": desk.draw("parts/auctions.html", base=base, **shown),
            }

        # whose requests are shown stands in the topic: a drawing is shared by all who ask for one topic
        return desk.live.stream(request, f"quotes {account or ''}", draw)

    return routes


def _shown(desk: Desk, account: str | None) -> dict[str, Any]:
    now = desk.deps.api.clock()
    shown = {"moving": moving(desk.market.auctions(limit=SHOWN), now), "account": account, "most_open": MOST_OPEN}
    if account is None:
        return shown | {"requests": (), "others": ()}
    with desk.deps.api.store.reading() as session:
        own = views.requests_of(session, account, limit=MOST_OPEN).rows
        every = views.open_requests(session, now, limit=SHOWN).rows
        found = {row.id: views.answers(session, row.id, now) for row in own if _is_open(row, now)}
    requests = [_requested(desk, row, found.get(row.id), now) for row in own]
    return shown | {"requests": requests, "others": [row for row in every if row.account_id != account]}


def _is_open(row: QuoteRequestRow, now: UnixSeconds) -> bool:
    return row.state == RequestState.OPEN and row.valid_until_unix > now


def _requested(desk: Desk, row: QuoteRequestRow, sides: views.BookSides | None, now: UnixSeconds) -> Requested:
    if sides is None:
        return Requested(row=row, is_open=False, mark_cents=None, answers=())
    cell = cell_of(desk, parse_instrument(row.instrument))
    mark = None if cell is None else cell.mark_cents
    many = (*sides.asks, *sides.bids)
    return Requested(
        row=row, is_open=True, mark_cents=mark, answers=tuple(_answer(row, one, mark, now) for one in many)
    )


def _answer(row: QuoteRequestRow, offer: FirmOfferRow, mark: int | None, now: UnixSeconds) -> Answer:
    at, buys = price_now(offer, now), offer.side == Side.ASK
    quantity = CentiBtc(min(offer.remaining, row.quantity))
    over = None if not mark else (at.price_cents - mark) / mark * (1 if buys else -1)
    return Answer(
        offer_id=offer.id, buys=buys, price_cents=at.price_cents, price_sats=at.price_sats, quantity=quantity,
        premium_cents=-(-at.price_cents * quantity // 100), against_mark=over, valid_until=offer.valid_until_unix,
        command=take_command(offer.instrument, offer.id[:NAMED], quantity),
    )  # fmt: skip


# ---- the form


def _filled(fields: Fields, seen: Seen) -> Fields:
    """Return the form with something listed where nothing was typed."""
    spot = None if seen.market is None else seen.market.spot
    ahead = [one for one in seen.expiries if one > seen.now]
    strike, expiry = fields.strike, fields.expiry
    if not strike and spot is not None:
        strike = str(round(spot / 100_000) * 1_000)
    if not expiry and ahead:
        expiry = datetime.fromtimestamp(ahead[min(1, len(ahead) - 1)], UTC).strftime(FORM_TIME)
    return replace(fields, strike=strike, expiry=expiry)


def _wish(desk: Desk, fields: Fields) -> Wish:
    """Return what is asked for, checked as the service checks a request, and the takes of its answers.

    Raises InvalidInputError naming the field, NotFoundError before there is a price.
    """
    seen, rules = desk.market.seen(), desk.deps.api.market_rules
    view = seen.view(desk.deps.api.rate)
    if seen.market is None or view is None:
        raise NotFoundError("price", desk.deps.api.feed, "it is there with the first agreed minute")
    one, quantity = _instrument(fields, seen.now), parse_quantity(fields.quantity)
    if rules is not None:
        check_asked(one, quantity, rules.offers, slot=seen.market.slot)
    cell = cell_of(desk, one)
    if cell is None:
        raise NotFoundError("price", desk.deps.api.feed, "it is there with the first agreed minute")
    mark = Cents(max(-(-cell.mark_cents * quantity // 100), 1))
    terms = one.terms(quantity, mark)
    validate_terms(terms, now=seen.now, spot=seen.market.spot)
    if rules is not None and (refusal := rules.sales.refusal(terms)):
        raise refusal
    return Wish(
        instrument=one, quantity=quantity, cell=cell, mark_cents=mark,
        collateral=required_collateral(one.kind, quantity), window=window_in_words(one),
        command=request_command(
            one.name, quantity, Wanted(fields.wanted), valid="" if fields.valid == USUAL else fields.valid
        ),
    )  # fmt: skip


def _instrument(fields: Fields, now: UnixSeconds) -> Instrument:
    """Return the instrument that the form names. Raises InvalidInputError naming the field."""
    american = fields.american == "yes"
    fixing = read_fixing(fields.fixing) if fields.fixing else MINUTE if american else STANDARD_FIXING
    expiry = fields.expiry
    if "T" in expiry and not expiry.endswith("Z"):  # a browser's field has no zone, and its label says UTC
        expiry += "Z"
    return Instrument(
        kind=parse_kind(fields.kind), strike=parse_dollars(fields.strike, "strike"),
        expiry=parse_expiry(expiry).slot(now), american=american, fixing=fixing,
        barrier=parse_dollars(fields.barrier, "barrier") if fields.barrier else None,
    )  # fmt: skip
