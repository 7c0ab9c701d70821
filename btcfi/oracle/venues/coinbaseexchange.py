"""Coinbase Exchange: ``/products/{id}/candles``, rows ``[open s, low, high, open, close, volume]``, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from btcfi.oracle.quote import VenueId
from btcfi.oracle.venues.candle import Exchange, RawCandle, ResponseShapeError, sequence_of
from btcfi.oracle.venues.recorded import Answer, Candle, Query, Shelf, iso8601, json_answer, unix_of_iso8601
from btcfi.units import SECONDS_PER_MINUTE, Slot


def market_names(venue: VenueId) -> tuple[str, ...]:
    """Return the market's only name."""
    return (f"{venue.base}-{venue.quote}",)


def target(market: str, slot: Slot) -> str:
    """Return what ``request_candles`` asks for, as it goes over the wire."""
    return f"/products/{market}/candles?{urlencode(_window(slot))}"


def request_candles(client: Any, market_id: str, slot: Slot) -> object:  # noqa: ANN401 - a ccxt client
    """Ask for the candle of ``slot`` and the one after it; both ends of the window are inclusive."""
    return client.publicGetProductsIdCandles({"id": market_id, **_window(slot)})


def candles(document: Any, _venue: VenueId) -> Iterator[RawCandle]:  # noqa: ANN401 - parsed JSON
    """Yield the rows. The columns are low, high, open, close: not the order of the others."""
    if not isinstance(document, list):
        raise ResponseShapeError("coinbaseexchange", "a list of rows")
    for row in document:
        opened, low, high, first, close, volume = sequence_of(row, exchange="coinbaseexchange", width=6)[:6]
        yield RawCandle(opened_at=opened, open=first, high=high, low=low, close=close, volume=volume)


def replay(shelf: Shelf, path: str, query: Query) -> Answer:
    """Answer as Coinbase does: its markets, its clock, its candles, its ticker."""
    by_id = shelf.markets(lambda venue: market_names(venue)[0])
    if path == "currencies":
        return json_answer(200, [_currency(code) for code in shelf.coins()])
    if path == "products":
        return json_answer(200, [_product(market_id, v) for market_id, v in by_id.items()])
    if path == "time":
        return json_answer(200, {"iso": iso8601(int(shelf.now)), "epoch": shelf.now})
    market_id, _, what = path.partition("products/")[2].partition("/")
    venue = by_id.get(market_id)
    if venue is None or what not in {"candles", "ticker"}:
        return json_answer(404, {"message": "NotFound"})
    if what == "ticker":
        newest = shelf.newest(venue)
        return json_answer(200, {"price": newest.close, "volume": newest.volume, "time": iso8601(newest.slot)})
    first = unix_of_iso8601(query["start"]) if "start" in query else None
    last = unix_of_iso8601(query["end"]) if "end" in query else None
    return shelf.recorded(venue, first) or (200, _rows(shelf.window(venue, first, last, 300)))


def _window(slot: Slot) -> dict[str, object]:
    return {"granularity": SECONDS_PER_MINUTE, "start": iso8601(slot), "end": iso8601(slot + SECONDS_PER_MINUTE)}


def _rows(candles: list[Candle]) -> bytes:
    # Coinbase sends JSON numbers: the recording's own text goes into the document, not a float's idea of it
    rows = [f"[{c.slot},{c.low},{c.high},{c.open},{c.close},{c.volume}]" for c in reversed(candles)]
    return f"[{','.join(rows)}]".encode()


def _currency(code: str) -> dict[str, object]:
    kind = "fiat" if code == "USD" else "crypto"
    return {"id": code, "name": code, "status": "online", "max_precision": "0.00000001", "details": {"type": kind}}


def _product(market_id: str, v: VenueId) -> dict[str, object]:
    return {
        "id": market_id,
        "base_currency": v.base,
        "quote_currency": v.quote,
        "quote_increment": "0.01",
        "base_increment": "0.00000001",
        "display_name": v.symbol,
        "status": "online",
        "trading_disabled": False,
    }


COINBASEEXCHANGE = Exchange(
    name="coinbaseexchange",
    ccxt_id="coinbaseexchange",
    market_names=market_names,
    target=target,
    request=request_candles,
    rows=candles,
    replay=replay,
)
