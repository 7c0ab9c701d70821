"""Binance.US: Binance's spot API under another roof, with its own markets."""

from __future__ import annotations

from btcfi.oracle.venues.binance import klines, market_names, replay, request_klines, stream_frame, target
from btcfi.oracle.venues.candle import Exchange

BINANCEUS = Exchange(
    name="binanceus",
    ccxt_id="binanceus",
    market_names=market_names,
    target=target,
    request=request_klines,
    rows=klines,
    stream=stream_frame,
    replay=replay,
    options={"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False},
)
