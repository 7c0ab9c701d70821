"""The public market: a chain, an instrument's book and its ticket, the smiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import HTMLResponse, StreamingResponse

from btcfi.contracts.messages import CET_FEE
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.book import Walk, depth, walk
from btcfi.market.chain import PLAIN, Cell, Line, Smile, lines_of, priced_cells
from btcfi.market.firm_offer import Side
from btcfi.market.instrument import LONGEST_NAME, Instrument, parse_instrument
from btcfi.market.positions import Ticket, counting, curves, ticket
from btcfi.market.request import Wanted
from btcfi.options.order import parse_quantity
from btcfi.options.terms import validate_terms
from btcfi.oracle.fixing import FixingKind
from btcfi.pricing.surface import flat_surface
from btcfi.units import MAX_MONEY_SATS, MAX_U32, CentiBtc, Cents, CentsPerBtc, Sats, Slot
from dashboards.trader import drawing
from dashboards.trader.desk import Desk, base_of, visitor_in
from dashboards.trader.market import Chain, moving, quotes_query, request_command, standing, take_command

SHOWN: Final = 200
"""Offers of each side of a book."""

TRADES: Final = 20

MONEYNESS: Final = (80, 90, 95, 100, 105, 110, 120)
"""Per cent of the forward: the columns of the surface."""

Name = Annotated[str, Path(min_length=1, max_length=LONGEST_NAME, pattern=r"^[A-Za-z0-9-]+$")]
Expiry = Annotated[int | None, Query(ge=0, le=MAX_U32)]
Do = Annotated[Literal["buy", "write"], Query()]
Amount = Annotated[str, Query(max_length=20)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One take that a ticket becomes."""

    offer_id: str
    quantity: CentiBtc
    price: Sats
    price_cents: Cents
    valid_until: int
    command: str
    """What its owner runs: keys never come here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A ticket as its page shows it."""

    ticket: Ticket
    steps: tuple[Step, ...]
    left: CentiBtc
    """What nobody offers."""
    premium: Sats
    premium_cents: Cents
    holds_until: int | None
    """The first of the steps' offers to lapse; None: nobody offers, and what is shown is the mark's."""
    picture: drawing.Curve
    request: str | None
    """The command that asks makers for what nobody offers; None: all of it is there."""
    quotes: str
    """Of the page that asks for quotes: what its form then says."""


def router(desk: Desk) -> APIRouter:
    """Return the pages and their streams."""
    routes = APIRouter()
    _chain(routes, desk)
    _book(routes, desk)

    @routes.get("/smile")
    def smile(request: Request, expiry: Expiry = None) -> HTMLResponse:
        smiles, seen = desk.market.smiles(), desk.market.seen()
        told = [one for one in smiles if one.points]
        at = Slot(expiry) if expiry is not None else told[0].expiry if told else None
        one = None if at is None else desk.market.smile(at)
        realised = None if seen.market is None else seen.market.volatility / 10_000
        return desk.page(
            request, "smile.html", seen=seen, smiles=told, one=one, realised=realised, moneyness=MONEYNESS,
            drawn=drawing.smile(one) if one is not None and one.points else None,
            surface=[(one.expiry, _row(one)) for one in told], term=drawing.term(smiles, realised),
        )  # fmt: skip

    return routes


def _chain(routes: APIRouter, desk: Desk) -> None:
    @routes.get("/")
    def chain(request: Request, expiry: Expiry = None) -> HTMLResponse:
        found, visitor = desk.market.chain(expiry), visitor_in(request)
        own = _own(desk, found, None if visitor is None else visitor.account)
        return desk.page(request, "chain.html", chain=found, own=own, **families(found))

    @routes.get("/live/chain/{expiry}")
    def live(request: Request, expiry: Annotated[int, Path(ge=0, le=MAX_U32)]) -> StreamingResponse:
        base, visitor = base_of(request), visitor_in(request)
        account = None if visitor is None else visitor.account
        desk.market.chain(expiry)

        def draw() -> Mapping[str, str]:
            found = desk.market.chain(expiry)
            own = _own(desk, found, account)
            return {
                "price": desk.draw("parts/price.html", base=base, seen=found.seen),
                "chain": desk.draw("parts/chain.html", base=base, chain=found, own=own, **families(found)),
            }

        # whose sizes are marked stands in the topic: a drawing is shared by all who ask for one topic
        return desk.live.stream(request, f"chain {expiry} {account or ''}", draw)


def _own(desk: Desk, chain: Chain, account: str | None) -> Mapping[str, int]:
    """Return what who looks holds of each instrument of a chain, hundredths: below 0 what it wrote."""
    return {} if account is None or chain.expiry is None else desk.holdings.sizes(account, chain.expiry)


def _book(routes: APIRouter, desk: Desk) -> None:
    @routes.get("/book/{instrument}")
    def book(request: Request, instrument: Name) -> HTMLResponse:
        one = parse_instrument(instrument)
        return desk.page(request, "book.html", instrument=one, **_sides(desk, one))

    @routes.get("/live/book/{instrument}")
    def live(request: Request, instrument: Name) -> StreamingResponse:
        base, one = base_of(request), parse_instrument(instrument)

        def draw() -> Mapping[str, str]:
            seen = _sides(desk, one)
            return {
                "price": desk.draw("parts/price.html", base=base, **seen),
                "book": desk.draw("parts/book.html", base=base, instrument=one, **seen),
            }

        return desk.live.stream(request, f"book {one.name}", draw)

    @routes.get("/ticket/{instrument}")
    def show(request: Request, instrument: Name, do: Do = "buy", quantity: Amount = "0.10") -> HTMLResponse:
        one = parse_instrument(instrument)
        asked, problem = None, ""
        try:
            visitor = visitor_in(request)
            own = None if visitor is None else visitor.account
            asked = _ticket(desk, one, parse_quantity(quantity), buys=do == "buy", own=own)
        except (InvalidInputError, NotFoundError) as e:
            problem = str(e)
        whole = request.headers.get("hx-request") != "true"
        return desk.page(
            request, "ticket.html" if whole else "parts/ticket.html", instrument=one, do=do, quantity=quantity,
            asked=asked, problem=problem, seen=desk.market.seen(), window=window_in_words(one), cet_fee=CET_FEE,
            listed=one in desk.market.seen().instruments,
        )  # fmt: skip


def families(chain: Chain) -> dict[str, Any]:
    """Return a chain's tables: plain calls and puts, binaries, and what stands alone."""
    plain: list[Cell] = []
    binary: list[Cell] = []
    others: list[Cell] = []
    taken: set[tuple[int, CentsPerBtc]] = set()
    for cell in chain.cells:
        one = cell.instrument
        place = (int(one.kind), one.strike)
        if one.barrier is not None or one.american or place in taken:
            others.append(cell)
            continue
        taken.add(place)
        (plain if one.kind in PLAIN else binary).append(cell)
    tables = (("Calls and puts", lines_of(plain)), ("Binary calls and puts", lines_of(binary)))
    spot = chain.seen.market.spot if chain.seen.market is not None else None
    return {
        "tables": [(title, lines, _money(lines, spot)) for title, lines in tables if lines],
        "others": sorted(others, key=lambda cell: cell.instrument.name),
        "spot": spot,
    }


def _money(lines: tuple[Line, ...], spot: CentsPerBtc | None) -> CentsPerBtc | None:
    """Return the first strike above the price: there the money is."""
    return next((line.strike for line in lines if spot is not None and line.strike > spot), None)


def _sides(desk: Desk, one: Instrument) -> dict[str, Any]:
    rows = desk.market.offers(one, limit=SHOWN)
    now = desk.deps.api.clock()
    bids, asks = standing(rows.bids, now), standing(rows.asks, now)
    return {
        "seen": desk.market.seen(), "cell": cell_of(desk, one),
        "bids": depth(bids, Side.BID), "asks": depth(asks, Side.ASK),
        "offers": (*rows.asks, *rows.bids), "moving": moving((*rows.asks, *rows.bids), now),
        "trades": desk.market.trades(one, limit=TRADES),
    }  # fmt: skip


def cell_of(desk: Desk, one: Instrument) -> Cell | None:
    """Return the instrument's place in its chain; priced alone where nobody lists or offers it; None once it is over.

    What is over is worth what its own minutes say, and not what the price of now would.
    """
    seen = desk.market.seen()
    if one.expiry <= seen.now:
        return None
    if one.expiry in seen.expiries:
        for cell in desk.market.chain(one.expiry).cells:
            if cell.instrument == one:
                return cell
    view = seen.view(desk.deps.api.rate)
    return None if view is None or counting(one, view.now) else priced_cells([one], {}, view)[0]


def _ticket(desk: Desk, one: Instrument, quantity: CentiBtc, *, buys: bool, own: str | None) -> Asked:
    """Return a ticket at what stands, or where nobody offers, at the mark. Raises InvalidInputError, NotFoundError.

    own: who looks, hex: nobody takes an offer of its own.
    """
    seen, cell = desk.market.seen(), cell_of(desk, one)
    if one.expiry <= seen.now:
        raise InvalidInputError("instrument", f"{one.name} has expired", "one that the chain lists")
    if seen.market is None:
        raise NotFoundError("price", desk.deps.api.feed, "it is there with the first agreed minute")
    # as a take is checked: no ticket of what nobody can take, such as one whose window has begun
    terms = one.terms(quantity, Cents(0))
    validate_terms(terms, now=seen.now, spot=seen.market.spot)
    if (rules := desk.deps.api.market_rules) is not None and (refusal := rules.sales.refusal(terms)):
        raise refusal
    if cell is None:
        raise NotFoundError("price", one.name, "its minutes are being counted")
    rows = desk.market.offers(one, limit=SHOWN)
    side = Side.ASK if buys else Side.BID
    stands = rows.asks if buys else rows.bids
    lapse = {row.id: row.valid_until_unix for row in stands}
    limit, but = Sats(MAX_MONEY_SATS) if buys else Sats(1), None if own is None else bytes.fromhex(own)
    found = walk(standing(stands, desk.deps.api.clock()), side, quantity, limit, but=but)
    steps = tuple(
        Step(
            offer_id=part.offer_id.hex(), quantity=part.quantity, price=part.price, price_cents=part.price_cents,
            valid_until=lapse[part.offer_id.hex()], command=take_command(one.name, part.offer_id.hex(), part.quantity),
        )
        for part in found.parts
    )  # fmt: skip
    amount = found.quantity or quantity
    premium, premium_cents = _premium(found, cell, amount, spot=seen.market.spot)
    level = cell.volatility or seen.market.volatility / 10_000
    base = seen.view(desk.deps.api.rate)
    assert base is not None  # noqa: S101 - there is a market
    view = replace(base, surface=flat_surface(level))
    made = ticket(one, amount, bought=buys, premium=premium, premium_cents=premium_cents, view=view)
    wanting, wanted = found.left if steps else quantity, Wanted.BUY if buys else Wanted.SELL
    made = replace(made, curves=curves(made.position, view, drawing.reach(one, view, level)))
    return Asked(
        ticket=made, steps=steps, left=found.left if steps else CentiBtc(0), premium=premium,
        premium_cents=premium_cents, holds_until=min((step.valid_until for step in steps), default=None),
        picture=drawing.curve(made, one, view.spot),
        request=request_command(one.name, wanting, wanted) if wanting else None,
        quotes=quotes_query(one, wanting or quantity, wanted),
    )  # fmt: skip


def _premium(found: Walk, cell: Cell, quantity: CentiBtc, *, spot: CentsPerBtc) -> tuple[Sats, Cents]:
    """Return the whole premium: of the takes, each rounded as its contract is, else the mark's."""
    if found.parts:
        cents = sum(-(-part.price_cents * part.quantity // 100) for part in found.parts)
        return found.premium, Cents(cents)
    cents = max(-(-cell.mark_cents * quantity // 100), 1)
    return Sats(cents * 100_000_000 // spot), Cents(cents)


def window_in_words(one: Instrument) -> str:
    """Return what settles an instrument."""
    minutes = one.fixing.minutes
    if one.fixing.kind is FixingKind.MINUTE:
        return "the agreed price of the expiry's minute"
    made = "mean" if one.fixing.kind is FixingKind.TWAP else "median"
    return f"the {made} of the {minutes} agreed minutes up to the expiry"


def _row(one: Smile) -> list[float | None]:
    return [one.volatility(one.forward * share / 100) for share in MONEYNESS]
