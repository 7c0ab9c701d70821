"""Kraken: ``/0/public/OHLC``, rows ``[open s, "open", "high", "low", "close", "vwap", "volume", trades]`` by pair.

A minute without a trade is absent; the candle in progress is always there. The response names its pair.
"""

from __future__ import annotations

from calendar import timegm
from collections.abc import Iterator
from itertools import product
from time import strptime
from typing import Any, Final

from btcfi.oracle.quote import VenueId
from btcfi.oracle.venues.candle import (
    Exchange,
    RawCandle,
    ResponseShapeError,
    StreamFrame,
    checked_frame,
    sequence_of,
)
from btcfi.oracle.venues.recorded import Answer, Candle, Query, Shelf, json_answer
from btcfi.units import SECONDS_PER_MINUTE, Slot

_ASSETS: Final = {"BTC": ("XXBT", "XBT"), "USD": ("ZUSD", "USD"), "EUR": ("ZEUR", "EUR")}
"""Kraken's own names, id and alternative name, where they differ from everybody's."""


_WARNING: Final = "W"
"""How a line of ``error`` begins that spoils nothing; an error begins with an E."""


def market_names(venue: VenueId) -> tuple[str, ...]:
    """Return the names that the market can have: first the one that a replay gives it.

    Its old markets against the dollar carry both long names, most newer ones both short ones, USDT/USD one of each.
    """
    names = tuple(base + quote for base, quote in product(_asset(venue.base), _asset(venue.quote)))
    return names if venue.quote == "USD" else names[::-1]


def target(market: str, slot: Slot) -> str:
    """Return what ``request_ohlc`` asks for, as it goes over the wire."""
    return f"/0/public/OHLC?pair={market}&interval=1&since={slot - SECONDS_PER_MINUTE}"


def request_ohlc(client: Any, market_id: str, slot: Slot) -> object:  # noqa: ANN401 - a ccxt client
    """Ask for the candles after the minute before ``slot``: ``since`` is exclusive."""
    return client.publicGetOHLC({"pair": market_id, "interval": 1, "since": slot - SECONDS_PER_MINUTE})


def ohlc(document: Any, venue: VenueId) -> Iterator[RawCandle]:  # noqa: ANN401 - parsed JSON
    """Yield the rows of our pair, or those of a stream's frame."""
    if isinstance(document, dict) and document.get("channel") == "ohlc":
        yield from (_streamed(candle, venue) for candle in document["data"])
        return
    if not isinstance(document, dict) or not isinstance(document.get("result"), dict):
        raise ResponseShapeError("kraken", "an object with a result")
    if any(not error.startswith(_WARNING) for error in document.get("error", ())):
        raise ResponseShapeError("kraken", "no error")
    pairs = [name for name in document["result"] if name != "last"]
    if len(pairs) != 1 or pairs[0] not in market_names(venue):
        raise ResponseShapeError("kraken", f"the rows of {venue.symbol} and of no other pair in the result")
    rows = document["result"][pairs[0]]
    if not isinstance(rows, list):
        raise ResponseShapeError("kraken", "a list of rows")
    for row in rows:
        opened, first, high, low, close, _vwap, volume = sequence_of(row, exchange="kraken", width=7)[:7]
        yield RawCandle(opened_at=opened, open=first, high=high, low=low, close=close, volume=volume)


def stream_frame(document: Any) -> StreamFrame | None:  # noqa: ANN401 - parsed JSON
    """Return what a frame says of one-minute candles: Kraken marks none as the last; a later minute's frame does."""
    if not isinstance(document, dict) or document.get("channel") != "ohlc" or len(document["data"]) != 1:
        return None
    (candle,) = document["data"]
    if type(candle["interval"]) is not int or candle["interval"] != 1:  # true is 1 to Python
        return None
    opened = _unix(candle["interval_begin"])
    return checked_frame("kraken", symbol=candle["symbol"], opened_at=opened, closed=False)


def _streamed(candle: Any, venue: VenueId) -> RawCandle:  # noqa: ANN401 - parsed JSON
    if candle["symbol"] not in {venue.symbol, f"{_asset(venue.base)[-1]}/{_asset(venue.quote)[-1]}"}:
        raise ResponseShapeError("kraken", f"candles of {venue.symbol}")
    if type(candle["interval"]) is not int or candle["interval"] != 1:
        raise ResponseShapeError("kraken", "candles of one minute")
    return RawCandle(
        opened_at=_unix(candle["interval_begin"]),
        open=candle["open"],
        high=candle["high"],
        low=candle["low"],
        close=candle["close"],
        volume=candle["volume"],
    )


def _unix(text: str) -> int:
    # nine digits of a second are more than datetime reads; a minute's opening has none that count
    try:
        return timegm(strptime(text.partition(".")[0].rstrip("Z"), "%Y-%m-%dT%H:%M:%S"))
    except ValueError as e:
        raise ResponseShapeError("kraken", "interval_begin as ISO 8601") from e


def _asset(code: str) -> tuple[str, ...]:
    return _ASSETS.get(code, (code,))


def replay(shelf: Shelf, path: str, query: Query) -> Answer:
    """Answer as Kraken does: its assets and pairs, its clock, its candles, its ticker."""
    by_id = shelf.markets(lambda venue: market_names(venue)[0])
    method = path.removeprefix("0/public/")
    if method == "Assets":
        return _result({_asset(code)[0]: _asset_info(code) for code in shelf.coins()})
    if method == "AssetPairs":
        return _result({pair: _pair_info(v) for pair, v in by_id.items()})
    if method == "Time":
        return _result({"unixtime": int(shelf.now)})
    pair = query.get("pair", "")
    if method not in {"OHLC", "Ticker"} or pair not in by_id:
        return json_answer(200, {"error": ["EQuery:Unknown asset pair" if pair else "EGeneral:Unknown method"]})
    if method == "Ticker":
        newest = shelf.newest(by_id[pair])
        return _result({pair: {"c": [newest.close, "0"], "v": [newest.volume, newest.volume]}})
    first = int(query["since"]) + SECONDS_PER_MINUTE if "since" in query else None  # exclusive
    candles = shelf.window(by_id[pair], first, None, 720)
    last = candles[-1].slot - SECONDS_PER_MINUTE if candles else 0
    rows = {pair: [_row(c) for c in candles], "last": last}
    return shelf.recorded(by_id[pair], first) or _result(rows)


def _row(c: Candle) -> list[object]:
    return [c.slot, c.open, c.high, c.low, c.close, c.close, c.volume, 1]


def _result(result: object) -> Answer:
    return json_answer(200, {"error": [], "result": result})


def _asset_info(code: str) -> dict[str, object]:
    return {
        "aclass": "currency",
        "altname": _asset(code)[-1],
        "decimals": 8,
        "display_decimals": 5,
        "status": "enabled",
    }


def _pair_info(v: VenueId) -> dict[str, object]:
    base, quote = _asset(v.base), _asset(v.quote)
    return {
        "altname": base[-1] + quote[-1],
        "wsname": f"{base[-1]}/{quote[-1]}",
        "aclass_base": "currency",
        "base": base[0],
        "aclass_quote": "currency",
        "quote": quote[0],
        "lot": "unit",
        "pair_decimals": 5 if v.is_leg else 2,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, 0.4]],
        "fees_maker": [[0, 0.25]],
        "ordermin": "0.0001",
        "status": "online",
    }


KRAKEN = Exchange(
    name="kraken",
    ccxt_id="kraken",
    market_names=market_names,
    target=target,
    request=request_ohlc,
    rows=ohlc,
    stream=stream_frame,
    replay=replay,
    most_bytes=96 * 1024,  # it may send 720 rows, about 60 KB
)
