"""Binance spot: ``/api/v3/klines``, rows ``[open ms, "open", "high", "low", "close", "volume", close ms, ...]``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from btcfi.oracle.venues.candle import Exchange, RawCandle, ResponseShapeError, StreamFrame, sequence_of
from btcfi.units import Slot

_MILLISECONDS = 1000


def request_klines(client: Any, market_id: str, slot: Slot) -> object:  # noqa: ANN401 - a ccxt client
    """Ask for the candle of ``slot`` and the one after it."""
    return client.publicGetKlines(
        {"symbol": market_id, "interval": "1m", "startTime": slot * _MILLISECONDS, "limit": 2}
    )


def klines(document: Any, _market_id: str | None) -> Iterator[RawCandle]:  # noqa: ANN401 - parsed JSON
    """Yield the rows of a response, or the one candle of a stream's ``kline`` frame; the opening is in milliseconds."""
    if isinstance(document, dict):
        k = document["k"]
        if k["x"] is not True:
            return  # a frame of a minute in progress is nobody's evidence
        document = [[k["t"], k["o"], k["h"], k["l"], k["c"], k["v"]]]
    if not isinstance(document, list):
        raise ResponseShapeError("binance", "a list of rows")
    for row in document:
        opened, first, high, low, close, volume = sequence_of(row, exchange="binance", width=6)[:6]
        if isinstance(opened, int) and not isinstance(opened, bool) and opened % _MILLISECONDS == 0:
            opened //= _MILLISECONDS
        else:
            raise ResponseShapeError("binance", "an opening time in milliseconds, at a whole second")
        yield RawCandle(opened_at=opened, open=first, high=high, low=low, close=close, volume=volume)


def stream_frame(document: Any) -> StreamFrame | None:  # noqa: ANN401 - parsed JSON
    """Return what a frame says of one-minute candles: Binance marks the last one of a minute itself."""
    if not isinstance(document, dict) or document.get("e") != "kline" or document["k"]["i"] != "1m":
        return None
    return StreamFrame(symbol=document["s"], opened_at=document["k"]["t"] // _MILLISECONDS, closed=document["k"]["x"])


BINANCE = Exchange(
    name="binance",
    ccxt_id="binance",
    request=request_klines,
    rows=klines,
    stream=stream_frame,
    # without this ccxt also loads the futures' markets from two more hosts
    options={
        "fetchMarkets": {"types": ["spot"]},
        "fetchCurrencies": False,
        "warnOnFetchCurrenciesWithoutAuthorization": False,
    },
)
