"""Bitstamp: ``/api/v2/ohlc/PAIR/``, rows of named texts, seconds. A minute without a trade has volume 0.

The response names its market.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from btcfi.oracle.quote import VenueId
from btcfi.oracle.venues.candle import Exchange, RawCandle, ResponseShapeError, seconds_of
from btcfi.oracle.venues.recorded import Answer, Candle, Query, Shelf, json_answer
from btcfi.units import SECONDS_PER_MINUTE, Slot


def market_names(venue: VenueId) -> tuple[str, ...]:
    """Return the market's only name."""
    return ((venue.base + venue.quote).lower(),)


def target(market: str, slot: Slot) -> str:
    """Return what ``request_ohlc`` asks for, as it goes over the wire."""
    return f"/api/v2/ohlc/{market}/?step=60&limit=2&start={slot}"


def request_ohlc(client: Any, market_id: str, slot: Slot) -> object:  # noqa: ANN401 - a ccxt client
    """Ask for the candle of ``slot`` and the one after it."""
    return client.publicGetOhlcPair({"pair": market_id, "step": SECONDS_PER_MINUTE, "limit": 2, "start": slot})


def ohlc(document: Any, venue: VenueId) -> Iterator[RawCandle]:  # noqa: ANN401 - parsed JSON
    """Yield the rows of our market."""
    if not isinstance(document, dict) or not isinstance(document.get("data"), dict):
        raise ResponseShapeError("bitstamp", "an object with data")
    if document["data"]["pair"] != venue.symbol:
        raise ResponseShapeError("bitstamp", f"candles of {venue.symbol}")
    for row in document["data"]["ohlc"]:
        yield RawCandle(
            opened_at=seconds_of(row["timestamp"], exchange="bitstamp"),
            open=row["open"],
            high=row["high"],
            low=row["low"],
            close=row["close"],
            volume=row["volume"],
        )


def replay(shelf: Shelf, path: str, query: Query) -> Answer:
    """Answer as Bitstamp does: its markets and its candles."""
    by_id = shelf.markets(lambda venue: market_names(venue)[0])
    if path == "api/v2/markets/":
        return json_answer(200, [_market(market_id, v) for market_id, v in by_id.items()])
    venue = by_id.get(path.removeprefix("api/v2/ohlc/").rstrip("/"))
    if venue is None:
        return json_answer(404, {"status": "error", "reason": "Not found", "code": "404.0001"})
    first = int(query["start"]) if "start" in query else None
    candles = shelf.window(venue, first, None, int(query.get("limit", "1000")))
    rows = {"data": {"pair": venue.symbol, "ohlc": [_row(c) for c in candles]}}
    return shelf.recorded(venue, first) or json_answer(200, rows)


def _row(c: Candle) -> dict[str, str]:
    return {
        "timestamp": str(c.slot),
        "open": c.open,
        "high": c.high,
        "low": c.low,
        "close": c.close,
        "volume": c.volume,
    }


def _market(market_id: str, v: VenueId) -> dict[str, object]:
    return {
        "name": v.symbol,
        "market_symbol": market_id,
        "base_currency": v.base,
        "base_decimals": 8,
        "counter_currency": v.quote,
        "counter_decimals": 5 if v.is_leg else 0,
        "minimum_order_value": "10",
        "trading": "Enabled",
        "market_type": "SPOT",
    }


BITSTAMP = Exchange(
    name="bitstamp",
    ccxt_id="bitstamp",
    market_names=market_names,
    target=target,
    request=request_ohlc,
    rows=ohlc,
    replay=replay,
    asks_for_coins=False,
)
