"""Closing one position early: what a price would give each side, and the command that offers it to the other."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from btcfi.errors import InvalidInputError
from btcfi.market.closing import LAST_BLOCKS
from dashboards.trader.desk import Desk
from dashboards.trader.gate import Signed
from dashboards.trader.holding import Row, Split, split_of
from dashboards.trader.pages_positions import OptionId

Price = Annotated[str, Query(max_length=20)]


def router(desk: Desk) -> APIRouter:
    """Return the page; of who is signed in."""
    routes = APIRouter()

    @routes.get("/close/{option_id}")
    async def show(request: Request, who: Signed, option_id: OptionId, price: Price = "") -> HTMLResponse:
        async with desk.pricing.of(who.account, seconds=desk.deps.limits.wait_seconds):
            row, asked = await run_in_threadpool(desk.holdings.one, who.account, option_id)
        seen, split, problem = desk.market.seen(), None, ""
        spot = None if seen.market is None else seen.market.spot
        suggested = None if spot is None else suggestion(row, spot)
        given = price.strip() or ("" if suggested is None else str(suggested))
        try:
            split = _split(row, given) if given else None
        except InvalidInputError as e:
            problem = str(e)
        whole = request.headers.get("hx-request") != "true"
        return desk.page(
            request, "close.html" if whole else "parts/close.html", row=row, asked=asked, seen=seen, split=split,
            problem=problem, price=given, suggested=suggested, last_blocks=LAST_BLOCKS,
            command=None if split is None else close_command(row.option.id, split),
        )  # fmt: skip

    return routes


def suggestion(row: Row, spot: int) -> int | None:
    """Return the mark as satoshis to the holder, within the collateral; None where there is no mark."""
    if row.mark is None:
        return None
    return min(abs(row.mark.value_cents) * 100_000_000 // spot, row.option.collateral_sats)


def close_command(option_id: str, split: Split) -> str:
    """Return what offers the other side to close: the price is what the holder gets."""
    return f"btcfi market close {option_id} --price {split.holder_sats}sat"


def _split(row: Row, text: str) -> Split:
    digits = text.replace(",", "")
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidInputError("price", repr(text), "a whole number of satoshis")
    return split_of(row.option, int(digits), bought=row.position.bought, cost=row.cost_sats)
