"""Binance spot: ``/api/v3/klines``, rows ``[open ms, "open", "high", "low", "close", "volume", close ms, ...]``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from btcfi.oracle.quote import VenueId
from btcfi.oracle.venues.candle import (
    Exchange,
    RawCandle,
    ResponseShapeError,
    StreamFrame,
    checked_frame,
    seconds_of_milliseconds,
    sequence_of,
)
from btcfi.oracle.venues.recorded import Answer, Candle, Query, Shelf, json_answer
from btcfi.units import SECONDS_PER_MINUTE, Slot

_MILLISECONDS = 1000


def market_names(venue: VenueId) -> tuple[str, ...]:
    """Return the market's only name."""
    return (venue.base + venue.quote,)


def target(market: str, slot: Slot) -> str:
    """Return what ``request_klines`` asks for, as it goes over the wire."""
    return f"/api/v3/klines?symbol={market}&interval=1m&startTime={slot * _MILLISECONDS}&limit=2"


def request_klines(client: Any, market_id: str, slot: Slot) -> object:  # noqa: ANN401 - a ccxt client
    """Ask for the candle of ``slot`` and the one after it."""
    return client.publicGetKlines(
        {"symbol": market_id, "interval": "1m", "startTime": slot * _MILLISECONDS, "limit": 2}
    )


def klines(document: Any, venue: VenueId) -> Iterator[RawCandle]:  # noqa: ANN401 - parsed JSON
    """Yield the rows of a response, or the one candle of a stream's ``kline`` frame; the opening is in milliseconds."""
    if isinstance(document, dict):
        k = document["k"]
        if k["s"] not in market_names(venue) or k["i"] != "1m":
            raise ResponseShapeError("binance", f"one-minute candles of {venue.symbol}")
        if k["x"] is not True:
            return  # a frame of a minute in progress is nobody's evidence
        document = [[k["t"], k["o"], k["h"], k["l"], k["c"], k["v"]]]
    if not isinstance(document, list):
        raise ResponseShapeError("binance", "a list of rows")
    for row in document:
        opened, first, high, low, close, volume = sequence_of(row, exchange="binance", width=6)[:6]
        at = seconds_of_milliseconds(opened, exchange="binance")
        yield RawCandle(opened_at=at, open=first, high=high, low=low, close=close, volume=volume)


def stream_frame(document: Any) -> StreamFrame | None:  # noqa: ANN401 - parsed JSON
    """Return what a frame says of one-minute candles: Binance marks the last one of a minute itself."""
    if not isinstance(document, dict) or document.get("e") != "kline" or document["k"]["i"] != "1m":
        return None
    k = document["k"]
    opened = seconds_of_milliseconds(k["t"], exchange="binance")
    return checked_frame("binance", symbol=k["s"], opened_at=opened, closed=k["x"])


def replay(shelf: Shelf, path: str, query: Query) -> Answer:
    """Answer as Binance does: its markets, its clock, its candles, its ticker."""
    by_id = shelf.markets(lambda venue: market_names(venue)[0])
    now_ms = int(shelf.now * _MILLISECONDS)
    if path == "api/v3/exchangeInfo":
        symbols = [_symbol(market_id, v) for market_id, v in by_id.items()]
        return json_answer(200, {"timezone": "UTC", "serverTime": now_ms, "rateLimits": [], "symbols": symbols})
    if path == "api/v3/time":
        return json_answer(200, {"serverTime": now_ms})
    if path not in {"api/v3/klines", "api/v3/ticker/24hr"}:
        return json_answer(404, {"code": -1, "msg": "not served in a replay"})
    venue = by_id.get(query.get("symbol", ""))
    if venue is None:
        return json_answer(400, {"code": -1121, "msg": "Invalid symbol."})
    if path.endswith("24hr"):
        return json_answer(200, _ticker(query["symbol"], shelf.newest(venue)))
    first = int(query["startTime"]) // _MILLISECONDS if "startTime" in query else None
    last = int(query["endTime"]) // _MILLISECONDS if "endTime" in query else None
    candles = shelf.window(venue, first, last, min(int(query.get("limit", "500")), 1000))
    return shelf.recorded(venue, first) or json_answer(200, [_kline(c) for c in candles])


def _kline(c: Candle) -> list[object]:
    close_ms = (c.slot + SECONDS_PER_MINUTE) * _MILLISECONDS - 1
    return [c.slot * _MILLISECONDS, c.open, c.high, c.low, c.close, c.volume, close_ms, "0", 1, "0", "0", "0"]


def _ticker(symbol: str, c: Candle) -> dict[str, object]:
    return {
        "symbol": symbol,
        "lastPrice": c.close,
        "openPrice": c.open,
        "highPrice": c.high,
        "lowPrice": c.low,
        "volume": c.volume,
        "openTime": c.slot * _MILLISECONDS,
        "closeTime": (c.slot + SECONDS_PER_MINUTE) * _MILLISECONDS - 1,
    }


def _symbol(market_id: str, v: VenueId) -> dict[str, object]:
    return {
        "symbol": market_id,
        "status": "TRADING",
        "baseAsset": v.base,
        "baseAssetPrecision": 8,
        "quoteAsset": v.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"},
        ],
        "permissions": ["SPOT"],
    }


BINANCE = Exchange(
    name="binance",
    ccxt_id="binance",
    market_names=market_names,
    target=target,
    request=request_klines,
    rows=klines,
    stream=stream_frame,
    replay=replay,
    most_market_bytes=24 * 1024 * 1024,  # it describes all its markets in more than 10 MB
    # without this ccxt also loads the futures' markets from two more hosts
    options={
        "fetchMarkets": {"types": ["spot"]},
        "fetchCurrencies": False,
        "warnOnFetchCurrenciesWithoutAuthorization": False,
    },
)
