"""Binance.US: Binance's spot API under another roof, with its own markets."""

from __future__ import annotations

from btcfi.oracle.venues.binance import klines, request_klines, stream_frame
from btcfi.oracle.venues.candle import Exchange

BINANCEUS = Exchange(
    name="binanceus",
    ccxt_id="binanceus",
    request=request_klines,
    rows=klines,
    stream=stream_frame,
    options={"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False},
)
