"""Coinbase Exchange: ``/products/{id}/candles``, rows ``[open s, low, high, open, close, volume]``, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from btcfi.oracle.venues.candle import Exchange, RawCandle, ResponseShapeError, sequence_of
from btcfi.units import SECONDS_PER_MINUTE, Slot


def request_candles(client: Any, market_id: str, slot: Slot) -> object:  # noqa: ANN401 - a ccxt client
    """Ask for the candle of ``slot`` and the one after it; both ends of the window are inclusive."""
    return client.publicGetProductsIdCandles(
        {
            "id": market_id,
            "granularity": SECONDS_PER_MINUTE,
            "start": _iso8601(slot),
            "end": _iso8601(slot + SECONDS_PER_MINUTE),
        }
    )


def candles(document: Any, _market_id: str | None) -> Iterator[RawCandle]:  # noqa: ANN401 - parsed JSON
    """Yield the rows. The columns are low, high, open, close: not the order of the others."""
    if not isinstance(document, list):
        raise ResponseShapeError("coinbaseexchange", "a list of rows")
    for row in document:
        opened, low, high, first, close, volume = sequence_of(row, exchange="coinbaseexchange", width=6)[:6]
        yield RawCandle(opened_at=opened, open=first, high=high, low=low, close=close, volume=volume)


def _iso8601(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


COINBASEEXCHANGE = Exchange(name="coinbaseexchange", ccxt_id="coinbaseexchange", request=request_candles, rows=candles)
