"""Kraken: ``/0/public/OHLC``, rows ``[open s, "open", "high", "low", "close", "vwap", "volume", trades]`` by pair.

A minute without a trade is absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from btcfi.oracle.venues.candle import Exchange, RawCandle, ResponseShapeError, sequence_of
from btcfi.units import SECONDS_PER_MINUTE, Slot


def request_ohlc(client: Any, market_id: str, slot: Slot) -> object:  # noqa: ANN401 - a ccxt client
    """Ask for the candles after the minute before ``slot``: ``since`` is exclusive."""
    return client.publicGetOHLC({"pair": market_id, "interval": 1, "since": slot - SECONDS_PER_MINUTE})


def ohlc(document: Any, market_id: str | None) -> Iterator[RawCandle]:  # noqa: ANN401 - parsed JSON
    """Yield the rows of our pair; of the only pair in the response where its name is not known."""
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


KRAKEN = Exchange(name="kraken", ccxt_id="kraken", request=request_ohlc, rows=ohlc)
