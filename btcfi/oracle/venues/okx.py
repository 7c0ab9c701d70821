"""OKX: ``/api/v5/market/candles``, rows ``["open ms", "open", "high", "low", "close", "volume", ..., "confirm"]``.

Newest first; the last column is "1" when the candle has closed and "0" while it is in progress. The last 1440 minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from btcfi.oracle.quote import VenueId
from btcfi.oracle.venues.candle import Exchange, RawCandle, ResponseShapeError, seconds_of_milliseconds, sequence_of
from btcfi.oracle.venues.recorded import Answer, Candle, Query, Shelf, json_answer
from btcfi.units import SECONDS_PER_MINUTE, Slot

_CLOSED: Final = "1"


def market_names(venue: VenueId) -> tuple[str, ...]:
    """Return the market's only name."""
    return (f"{venue.base}-{venue.quote}",)


def target(market: str, slot: Slot) -> str:
    """Return what ``request_candles`` asks for, as it goes over the wire."""
    before, after = _window(slot)
    return f"/api/v5/market/candles?instId={market}&bar=1m&before={before}&after={after}&limit=2"


def request_candles(client: Any, market_id: str, slot: Slot) -> object:  # noqa: ANN401 - a ccxt client
    """Ask for the candle of ``slot`` and the one after it: newer than ``before``, older than ``after``."""
    before, after = _window(slot)
    return client.publicGetMarketCandles(
        {"instId": market_id, "bar": "1m", "before": before, "after": after, "limit": 2}
    )


def candles(document: Any, _venue: VenueId) -> Iterator[RawCandle]:  # noqa: ANN401 - parsed JSON
    """Yield the rows, each with OKX's own word whether it has closed."""
    if not isinstance(document, dict) or document.get("code") != "0" or not isinstance(document.get("data"), list):
        raise ResponseShapeError("okx", "an object with data and the code 0")
    for row in document["data"]:
        opened, first, high, low, close, volume, _, _, confirm = sequence_of(row, exchange="okx", width=9)[:9]
        at = seconds_of_milliseconds(opened, exchange="okx")
        yield RawCandle(
            opened_at=at, open=first, high=high, low=low, close=close, volume=volume, closed=confirm == _CLOSED
        )


def replay(shelf: Shelf, path: str, query: Query) -> Answer:
    """Answer as OKX does: its spot markets and its candles."""
    by_id = shelf.markets(lambda venue: market_names(venue)[0])
    if path == "api/v5/public/instruments":
        return _data([_instrument(market_id, v) for market_id, v in by_id.items()])
    venue = by_id.get(query.get("instId", ""))
    if path != "api/v5/market/candles" or venue is None:
        return json_answer(200, {"code": "51001", "msg": "Instrument ID does not exist", "data": []})
    first = int(query["before"]) // 1000 + 1 if "before" in query else None
    candles = shelf.window(venue, first, None, int(query.get("limit", "100")))
    open_now = None if first is None else first + SECONDS_PER_MINUTE
    rows = [_row(c, in_progress=c.slot == open_now) for c in reversed(candles)]
    return shelf.recorded(venue, first) or _data(rows)


def _window(slot: Slot) -> tuple[int, int]:
    return slot * 1000 - 1, (slot + 2 * SECONDS_PER_MINUTE) * 1000


def _data(data: object) -> Answer:
    return json_answer(200, {"code": "0", "msg": "", "data": data})


def _row(c: Candle, *, in_progress: bool) -> list[str]:
    return [str(c.slot * 1000), c.open, c.high, c.low, c.close, c.volume, "0", "0", "0" if in_progress else _CLOSED]


def _instrument(market_id: str, v: VenueId) -> dict[str, object]:
    return {
        "instType": "SPOT",
        "instId": market_id,
        "baseCcy": v.base,
        "quoteCcy": v.quote,
        "tickSz": "0.00001" if v.is_leg else "0.1",
        "lotSz": "0.00000001",
        "minSz": "0.00001",
        "state": "live",
    }


OKX = Exchange(
    name="okx",
    ccxt_id="okx",
    market_names=market_names,
    target=target,
    request=request_candles,
    rows=candles,
    replay=replay,
    asks_for_coins=False,
    options={"fetchMarkets": {"types": ["spot"]}},
)
