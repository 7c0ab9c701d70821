"""The market's routes, together."""

from __future__ import annotations

from collections.abc import Collection
from threading import Event

from fastapi import APIRouter

from btcfi.adapters.store.market import letters
from btcfi.surfaces.rest.auth import Gate
from btcfi.surfaces.rest.deps import Deps
from btcfi.surfaces.rest.market import MarketReader
from btcfi.surfaces.rest.market_desk.asking import add_requests
from btcfi.surfaces.rest.market_desk.holding import add_closes, add_positions
from btcfi.surfaces.rest.market_desk.hooks import add_hooks
from btcfi.surfaces.rest.market_desk.letters import add_letters
from btcfi.surfaces.rest.market_desk.own import add_accounts, add_offers, add_takes
from btcfi.surfaces.rest.market_desk.public import add_public
from btcfi.surfaces.rest.market_desk.transfers import add_transfers
from btcfi.surfaces.rest.market_desk.visitors import add_visitors
from btcfi.surfaces.rest.market_desk.waiting import Bell
from btcfi.surfaces.rest.read_once import ReadOnceRoute


def bell(deps: Deps, closing: Event) -> Bell:
    """Return what wakes who waits for letters. ``closing``: set when the server stops, and ends every wait."""

    def look(after: int | None) -> tuple[int, Collection[str]]:
        with deps.store.reading() as session:
            return letters.come_since(session, after)

    return Bell(look, closing)


def router(deps: Deps, market: MarketReader, gate: Gate, rings: Bell) -> APIRouter:
    """Return the endpoints, without a prefix."""
    routes = APIRouter(tags=["market"], route_class=ReadOnceRoute)
    add_public(routes, deps, market)
    add_accounts(routes, deps, gate)
    add_letters(routes, deps, rings)
    add_offers(routes, deps, market)
    add_takes(routes, deps, market)
    add_positions(routes, deps)
    add_closes(routes, deps)
    add_transfers(routes, deps)
    add_requests(routes, deps, market)
    add_visitors(routes, deps)
    add_hooks(routes, deps)
    return routes
