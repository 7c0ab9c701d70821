"""Positions that change hands: what is for sale with its fair value, and the commands that offer, take and consent.

Nothing is offered or taken from here: an offer is signed by its holder's process, and a take by the newcomer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, StreamingResponse

from btcfi.adapters.store.market import transfers, views
from btcfi.adapters.store.market.transfer_tables import (
    ConsentState,
    TransferConsentRow,
    TransferOfferRow,
    TransferOfferState,
)
from btcfi.bitcoin.fees import DUST_P2TR
from btcfi.contracts.reopen import LAST_BLOCKS
from btcfi.errors import InvalidInputError
from btcfi.market.positions import marks
from dashboards.trader.desk import Desk, base_of, visitor_in
from dashboards.trader.gate import Signed
from dashboards.trader.holding import Row, has_mark, position_of
from dashboards.trader.pages_close import suggestion
from dashboards.trader.pages_positions import OptionId

SHOWN: Final = 50
"""Positions for sale of a page."""

_SATS_PER_BTC: Final = 100_000_000

Price = Annotated[str, Query(max_length=20)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """A position for sale as who looks sees it."""

    row: TransferOfferRow
    own: bool
    consented_until: int | None
    price_cents: int | None
    """The price at the newest agreed price; None: there is none."""
    fair_cents: int | None
    """By the model, of the whole position; None: it has no mark now."""

    @property
    def dearer_by(self) -> float | None:
        """Per cent that the price lies above the fair value."""
        if not self.fair_cents or self.price_cents is None:
            return None
        return (self.price_cents / self.fair_cents - 1) * 100

    @property
    def command(self) -> str:
        """What its owner takes back, and anybody else takes."""
        return f"btcfi market transfer {'withdraw' if self.own else 'take'} {self.row.id[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What an offer of a position at a price would be."""

    price_sats: int
    profit_sats: int
    command: str


def router(desk: Desk) -> APIRouter:
    """Return the pages and their stream."""
    routes = APIRouter()

    @routes.get("/for-sale")
    def show(request: Request) -> HTMLResponse:
        visitor = visitor_in(request)
        return desk.page(request, "for_sale.html", **_for_sale(desk, None if visitor is None else visitor.account))

    @routes.get("/live/for-sale")
    def live(request: Request) -> StreamingResponse:
        base, visitor = base_of(request), visitor_in(request)
        account = None if visitor is None else visitor.account

        def draw() -> Mapping[str, str]:
            shown = _for_sale(desk, account)
            return {
                "price": desk.draw("parts/price.html", base=base, **shown),
                "sales": desk.draw("parts/sales.html", base=base, **shown),
            }

        # what is for one account alone is in its own drawing: whose it is stands in the topic
        return desk.live.stream(request, f"for sale {account or ''}", draw)

    @routes.get("/sell/{option_id}")
    async def sell(request: Request, who: Signed, option_id: OptionId, price: Price = "") -> HTMLResponse:
        async with desk.pricing.of(who.account, seconds=desk.deps.limits.wait_seconds):
            row, _ = await run_in_threadpool(desk.holdings.one, who.account, option_id)
            said = await run_in_threadpool(_said, desk, row)
        seen, offer, problem = desk.market.seen(), None, ""
        spot = None if seen.market is None else seen.market.spot
        suggested = None if spot is None else suggestion(row, spot)
        given = price.strip() or ("" if suggested is None else str(suggested))
        try:
            offer = _offer(row, given) if given and row.position.bought else None
        except InvalidInputError as e:
            problem = str(e)
        whole = request.headers.get("hx-request") != "true"
        return desk.page(
            request, "sell.html" if whole else "parts/sell.html", row=row, seen=seen, suggested=suggested,
            price=given, offer=offer, problem=problem, last_blocks=LAST_BLOCKS, **said,
        )  # fmt: skip

    return routes


def _for_sale(desk: Desk, account: str | None) -> dict[str, Any]:
    seen = desk.market.seen()
    view = seen.view(desk.deps.api.rate)
    with desk.deps.api.store.reading() as session:
        page = transfers.open_transfer_offers(session, desk.deps.api.clock(), account=account, limit=SHOWN)
        positions = [
            position_of(session, views.Held(option=one.option, role="holder", take=None), seen) for one in page.rows
        ]
    alive = [] if view is None else [one for one in positions if has_mark(one, view)]
    marked = {} if view is None else {one.position.option_id: one.value_cents for one in marks(alive, view)}
    spot = None if seen.market is None else seen.market.spot
    sales = [
        Sale(
            row=one.row, own=one.row.holder == account,
            consented_until=one.consented_until, fair_cents=marked.get(one.option.id),
            price_cents=None if spot is None else one.row.price_sats * spot // _SATS_PER_BTC,
        )
        for one in page.rows
    ]  # fmt: skip
    return {"seen": seen, "sales": sales, "more": page.following is not None}


def _said(desk: Desk, row: Row) -> dict[str, Any]:
    """Return the words that stand about a position: its writer's consent, and its reader's own."""
    now, option = desk.deps.api.clock(), row.option
    with desk.deps.api.store.reading() as session:
        until = transfers.consented_until(session, [option.id], now).get(option.id)
        words: list[TransferOfferRow | TransferConsentRow] = []
        if row.position.bought:
            offers = transfers.offers_of(session, option.holder, state=TransferOfferState.OPEN, limit=SHOWN).rows
            words += [one for one in offers if one.option_id == option.id and one.valid_until_unix > now]
        else:
            consents = transfers.consents_of(session, option.writer, state=ConsentState.OPEN, limit=SHOWN).rows
            words += [one for one in consents if one.option_id == option.id and one.valid_until_unix > now]
    return {"consented_until": until, "words": words}


def _offer(row: Row, text: str) -> Offer:
    digits = text.replace(",", "")
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidInputError("price", repr(text), "a whole number of satoshis")
    price = int(digits)
    if not DUST_P2TR <= price <= row.option.collateral_sats:
        expected = f"{DUST_P2TR} to {row.option.collateral_sats:,}, the collateral"
        raise InvalidInputError("price", f"{price:,} sats", expected)
    return Offer(
        price_sats=price, profit_sats=price - row.cost_sats,
        command=f"btcfi market transfer offer {row.option.id} --price {price}sat",
    )  # fmt: skip
