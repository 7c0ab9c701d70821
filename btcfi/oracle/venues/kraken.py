"""Kraken: ``/0/public/OHLC``, rows ``[open s, "open", "high", "low", "close", "vwap", "volume", trades]`` by pair.

A minute without a trade is absent.
"""

from __future__ import annotations

from calendar import timegm
from collections.abc import Iterator
from time import strptime
from typing import Any

from btcfi.oracle.venues.candle import Exchange, RawCandle, ResponseShapeError, StreamFrame, sequence_of
from btcfi.units import SECONDS_PER_MINUTE, Slot


def request_ohlc(client: Any, market_id: str, slot: Slot) -> object:  # noqa: ANN401 - a ccxt client
    """Ask for the candles after the minute before ``slot``: ``since`` is exclusive."""
    return client.publicGetOHLC({"pair": market_id, "interval": 1, "since": slot - SECONDS_PER_MINUTE})


def ohlc(document: Any, market_id: str | None) -> Iterator[RawCandle]:  # noqa: ANN401 - parsed JSON
    """Yield the rows of our pair (of the only pair there is where its name is not known), or of a stream's frame."""
    if isinstance(document, dict) and document.get("channel") == "ohlc":
        yield from (_streamed(candle) for candle in document["data"])
        return
    if not isinstance(document, dict) or not isinstance(document.get("result"), dict):
        raise ResponseShapeError("kraken", "an object with a result")
    pairs = {name: rows for name, rows in document["result"].items() if name != "last"}
    if len(pairs) != 1 or market_id not in (None, *pairs):
        raise ResponseShapeError("kraken", f"the rows of {market_id or 'one pair'} in the result")
    (rows,) = pairs.values()
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
    if candle["interval"] != 1:
        return None
    return StreamFrame(symbol=candle["symbol"], opened_at=_unix(candle["interval_begin"]), closed=False)


def _streamed(candle: Any) -> RawCandle:  # noqa: ANN401 - parsed JSON
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


KRAKEN = Exchange(name="kraken", ccxt_id="kraken", request=request_ohlc, rows=ohlc, stream=stream_frame)
