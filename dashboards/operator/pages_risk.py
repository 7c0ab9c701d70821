"""Risk: the writer's book, computed beside the pages, once a priced minute."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from btcfi.adapters.store.options.premiums import counted_from, open_book, volatility_of
from btcfi.adapters.store.options.tables import LOCKED_OPTIONS
from btcfi.adapters.store.options.views import locked_book
from btcfi.adapters.store.prices import views
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Session
from btcfi.errors import BtcfiError
from btcfi.oracle.quote import Feed
from btcfi.pricing import portfolio
from btcfi.pricing.premium import to_cents
from btcfi.units import CentsPerBtc, Slot
from dashboards.operator.console import Console
from dashboards.operator.gate import Operator

SPOT_MOVES: Final = (-0.30, -0.20, -0.10, -0.05, 0.0, 0.05, 0.10, 0.20, 0.30)
VOLATILITY_MOVES: Final = (-0.25, 0.0, 0.25)
CONFIDENCE: Final = 0.99
"""Of the shortfall, where the past returns are enough to carry it; the page says which it is."""
HOUR: Final = 3_600
LARGE_BOOK: Final = 2_000
RETURNS: Final = 240
RETURNS_OF_A_LARGE_BOOK: Final = 60
"""The shortfall prices the whole book once a past return; a large book gets fewer, and the page says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """The book's risk at one priced minute."""

    book: str
    """Which options it is of (``book_of``)."""
    slot: int
    spot: int
    volatility: float
    options: int
    greeks: portfolio.BookGreeks
    margin: portfolio.Margin
    grid: tuple[tuple[int, ...], ...]
    """Profit in cents, a row a volatility move, a column a spot move."""
    tail: portfolio.TailRisk | None
    horizon: str
    """Of the shortfall, in words."""


class Desk:
    """Computes the risk in a thread of its own when a minute or the book is another than the last answer's.

    Pages never wait for it; an answer of another book is not shown.
    """

    def __init__(self, console: Console) -> None:
        """``console``: where book and market are read."""
        self._console = console
        self._lock = threading.Lock()
        self._busy = False
        self.risk: Risk | None = None
        self.problem = ""

    def look(self) -> bool:
        """Return whether a computation is under way, having started one where it was due."""
        console = self._console
        with console.reading() as session:
            last = views.newest_priced(session, console.feed)
            book = locked_book(session, console.feed)
        with self._lock:
            known = self.risk
            if known is not None and known.book != book:  # something was funded, expired or settled since
                known = self.risk = None
            if self._busy or last is None or (known is not None and known.slot >= last.slot):
                return self._busy
            self._busy = True
        threading.Thread(target=self._work, args=(last,), name="btcfi-console-risk", daemon=True).start()
        return True

    def _work(self, last: RoundRow) -> None:
        try:
            self.risk = compute(self._console, last)
            self.problem = ""
        except BtcfiError as e:
            self.problem = str(e)
        finally:
            with self._lock:
                self._busy = False


def router(console: Console) -> APIRouter:
    """Return the page and its body."""
    routes = APIRouter()
    desk = Desk(console)

    def shown() -> dict[str, Any]:
        busy = desk.look()
        return {
            "busy": busy, "risk": desk.risk, "problem": desk.problem, "spot_moves": SPOT_MOVES,
            "volatility_moves": VOLATILITY_MOVES,
        }  # fmt: skip

    @routes.get("/risk")
    def risk(request: Request, who: Operator) -> HTMLResponse:
        return console.page(request, who, "risk.html", **shown())

    @routes.get("/risk/body")
    def body(request: Request, who: Operator) -> HTMLResponse:
        return console.page(request, who, "parts/risk.html", **shown())

    return routes


def compute(console: Console, last: RoundRow) -> Risk:
    """Return the risk of all funded options at the price of ``last``. Raises what the pricing library raises."""
    deps = console.deps.api
    fallback = deps.quote_rule.fallback_volatility_bps
    with console.reading() as session:
        now = counted_from(Slot(last.slot))
        book = locked_book(session, console.feed)
        written = open_book(session, Feed(console.feed), LOCKED_OPTIONS)
        volatility = volatility_of(session, Feed(console.feed), fallback_bps=fallback).level / 10_000
        closes, interval = _closes(session, console.feed, last.slot)
    positions = portfolio.Positions(
        book=written.book,
        # what is knocked out owes nothing any more, but its collateral is locked until it is settled
        quantity_centi_btc=np.where(written.knocked_out, 0, -written.quantity_centi_btc),
        collateral_sats=written.collateral_sats,
    )
    at = portfolio.Market(
        spot=CentsPerBtc(int(last.price_cents or 0)), volatility=volatility, rate=deps.rate, now=now,
        sampled=False,  # in each scenario anew: a few medians would take minutes
    )  # fmt: skip
    grid = portfolio.scenarios(positions, at, spot_moves=SPOT_MOVES, volatility_moves=VOLATILITY_MOVES)
    returns = RETURNS if len(written) <= LARGE_BOOK else RETURNS_OF_A_LARGE_BOOK
    tail = None
    if len(written) and len(closes) > portfolio.LEAST_RETURNS:
        sample = closes[-returns - 1 :]
        carried = 1 - 1 / (len(sample) - 1)  # one return lies beyond it: few past prices say nothing of a rarer loss
        tail = portfolio.historical_risk(
            positions, at, sample, confidence=min(CONFIDENCE, carried), interval_days=interval / 86_400
        )  # fmt: skip
    return Risk(
        book=book,
        slot=last.slot,
        spot=at.spot,
        volatility=volatility,
        options=len(written),
        greeks=portfolio.aggregate(positions, at),
        margin=portfolio.margin(positions, at),
        grid=tuple(tuple(int(v) for v in to_cents(row)) for row in grid.profit[0]),
        tail=tail,
        horizon="one hour" if interval == HOUR else "one minute",
    )


def _closes(session: Session, feed: str, slot: int) -> tuple[list[float], int]:
    """Return past prices in USD and their distance: hourly ones where there are enough, else minutes."""
    for interval in (HOUR, 60):
        closes = views.closes(session, feed, until=slot, interval=interval, limit=RETURNS + 1)
        if len(closes) > portfolio.LEAST_RETURNS or interval != HOUR:
            break
    return [cents / 100 for cents in closes], interval
