"""What everybody sees of the market: the desk's keys, what is listed, books, trades."""

from __future__ import annotations

import json
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from fastapi.concurrency import run_in_threadpool

from btcfi.adapters.store.market import views
from btcfi.adapters.store.market.offers import price_now
from btcfi.adapters.store.market.tables import FirmOfferRow
from btcfi.adapters.store.options.options import NoPriceYetError
from btcfi.adapters.store.options.sales import Market
from btcfi.market import instrument as instruments
from btcfi.market.instrument import parse_instrument
from btcfi.options.terms import OptionKind, required_collateral
from btcfi.surfaces.rest.auth import ROLE, Reader
from btcfi.surfaces.rest.deps import READ, Deps
from btcfi.surfaces.rest.errors import NoDeskError
from btcfi.surfaces.rest.market import MarketReader
from btcfi.surfaces.rest.market_desk import shapes
from btcfi.surfaces.rest.market_desk.listing import Listed, Listing
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.schemas import OptionType
from btcfi.units import CentiBtc, UnixSeconds

REFUSALS: Final = documented(401, 403, 422, 429, 503)

ONE_BITCOIN: Final = CentiBtc(100)

Name = Annotated[shapes.Name, Path(description="An instrument's one name.")]


def add_public(routes: APIRouter, deps: Deps, market: MarketReader) -> None:
    """Add the routes."""
    listing = Listing(deps)

    @routes.get("/desk", responses=REFUSALS, openapi_extra={ROLE: READ})
    def desk(_caller: Reader) -> shapes.Desk:
        """Return what a party pins before it trades here."""
        return _desk(deps)

    @routes.get("/instruments", responses=REFUSALS, openapi_extra={ROLE: READ})
    def listed(_caller: Reader) -> shapes.Instruments:
        """Return what is listed now, by expiry, strike and kind."""
        now = listing.current()
        return shapes.Instruments(items=[_instrument(one, listed=True) for one in now.by_name.values()])

    @routes.get("/instruments/{instrument}", responses=REFUSALS, openapi_extra={ROLE: READ})
    def one_instrument(_caller: Reader, instrument: Name) -> shapes.Instrument:
        """Return what a name means."""
        return _instrument(parse_instrument(instrument), listed=instrument in listing.current().by_name)

    @routes.get("/chain", responses=REFUSALS, openapi_extra={ROLE: READ})
    async def chain(_caller: Reader, query: Annotated[shapes.ChainQuery, Query()]) -> shapes.Chain:
        """Return what is listed or offered of one expiry: the best of each side, and how much there is."""
        seen = await newest_or_none(market)
        return await run_in_threadpool(_chain, deps, market, seen, listing, query.expiry)

    @routes.get("/book/{instrument}", responses=REFUSALS, openapi_extra={ROLE: READ})
    def book(
        caller: Reader, instrument: Name, query: Annotated[shapes.BookQuery, Query()]
    ) -> shapes.Book:  # fmt: skip
        """Return the open offers of an instrument; those for one account alone are that account's to see."""
        name = parse_instrument(instrument).name
        now = deps.clock()
        with deps.store.reading() as session:
            sides = views.book(session, name, now, account=caller.account, limit=query.limit)
        return shapes.Book(instrument=name, bids=bids_of(sides, now), asks=asks_of(sides, now))

    @routes.get("/trades", responses=REFUSALS, openapi_extra={ROLE: READ})
    def trades(_caller: Reader, query: Annotated[shapes.TradeQuery, Query()]) -> shapes.TradePage:
        """List trades, newest first: what and for how much, not who."""
        name = None if query.instrument is None else parse_instrument(query.instrument).name
        with deps.store.reading() as session:
            page = views.trades(session, instrument=name, limit=query.limit, cursor=query.cursor)
        return shapes.TradePage(items=[_trade(one) for one in page.rows], next_cursor=page.following)


def _desk(deps: Deps) -> shapes.Desk:
    card = deps.desk
    if card is None:
        raise NoDeskError
    rules = deps.market_rules
    return shapes.Desk(
        desk_key=card.public.desk_key.hex(), box_key=card.public.box_key.hex(), network=card.network, feed=deps.feed,
        oracles=[shapes.DeskOracle(url=url, key=key) for url, key in card.oracles()],
        oracle_threshold=card.oracle_threshold, programs=dict(card.programs), preset=card.preset,
        preset_sha256=card.preset_sha256, market_preset=None if rules is None else rules.preset,
        market_preset_sha256=None if rules is None else rules.preset_sha256, simulated=deps.replay_clock,
        advice="btcfi party join URL --name NAME",
    )  # fmt: skip


async def newest_or_none(market: MarketReader) -> Market | None:
    """Return the market, None before the first priced minute."""
    try:
        return await market.newest()
    except NoPriceYetError:
        return None


def _chain(
    deps: Deps, market: MarketReader, seen: Market | None, listing: Listing, expiry: int | None
) -> shapes.Chain:  # fmt: skip
    now: Listed = listing.current()
    expiries = list(now.by_expiry)
    at = expiry if expiry is not None else expiries[0] if expiries else 0
    with deps.store.reading() as session:
        rows = {row.instrument: row for row in views.chain(session, at, deps.clock())}
    known = dict(now.by_expiry.get(at, {}))
    known |= {name: parse_instrument(name) for name in rows if name not in known}
    lines = []
    for name, one in sorted(known.items(), key=lambda item: (item[1].strike, item[1].kind, item[0])):
        row = rows.get(name)
        lines.append(
            shapes.ChainLine(
                instrument=name, type=OptionType(OptionKind(one.kind).label), strike_cents=one.strike,
                bid=_top(row.bid) if row else None, ask=_top(row.ask) if row else None,
            )
        )  # fmt: skip
    return shapes.Chain(
        expiry_unix=at, expiries_unix=expiries, spot_cents=None if seen is None else seen.spot,
        market_status=None if seen is None else market.status(seen).value, lines=lines,
    )  # fmt: skip


def _top(top: views.Top | None) -> shapes.Top | None:
    if top is None:
        return None
    return shapes.Top(
        price_sats=top.price_sats, price_cents=top.price_cents, quantity_centi_btc=top.quantity,
        depth_centi_btc=top.depth, offers=top.offers,
    )  # fmt: skip


def _instrument(one: instruments.Instrument, *, listed: bool) -> shapes.Instrument:
    return shapes.Instrument(
        name=one.name, type=OptionType(OptionKind(one.kind).label), strike_cents=one.strike,
        barrier_cents=one.barrier, american=one.american, fixing=str(one.fixing), expiry_unix=one.expiry,
        collateral_sats=required_collateral(one.kind, ONE_BITCOIN), listed=listed,
    )  # fmt: skip


def bids_of(sides: views.BookSides, now: UnixSeconds) -> list[shapes.BookOffer]:
    """Return who buys, the best first."""
    return sorted((_book_offer(row, now) for row in sides.bids), key=lambda one: -one.price_sats)


def asks_of(sides: views.BookSides, now: UnixSeconds) -> list[shapes.BookOffer]:
    """Return who writes, the best first."""
    return sorted((_book_offer(row, now) for row in sides.asks), key=lambda one: one.price_sats)


def _book_offer(row: FirmOfferRow, now: UnixSeconds) -> shapes.BookOffer:
    # sorted again above, and stably: an auction may have moved since the store's last tick
    at = price_now(row, now)
    return shapes.BookOffer(
        id=row.id, price_sats=at.price_sats, price_cents=at.price_cents, quantity_centi_btc=row.remaining,
        minimum_centi_btc=row.minimum, valid_until_unix=row.valid_until_unix, step=at.step,
        moves_at_unix=at.moves_at_unix, signed=json.loads(row.body),
    )  # fmt: skip


def _trade(one: views.Trade) -> shapes.Trade:
    return shapes.Trade(
        at_unix=one.at_unix, instrument=one.instrument, side="buy" if one.side == "buy" else "sell",
        quantity_centi_btc=one.quantity, price_sats=one.price_sats, price_cents=one.price_cents,
    )  # fmt: skip
