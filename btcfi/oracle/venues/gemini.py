"""Gemini: ``/v2/candles/PAIR/1m``, rows ``[open ms, open, high, low, close, volume]``, newest first.

It takes no window: every answer is the last day, about 1440 rows, the candle in progress among them. A minute without a
trade has volume 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from btcfi.oracle.quote import VenueId
from btcfi.oracle.venues.candle import Exchange, RawCandle, ResponseShapeError, seconds_of_milliseconds, sequence_of
from btcfi.oracle.venues.recorded import Answer, Candle, Query, Shelf, json_answer
from btcfi.units import Slot

REPLAYED_MINUTES: Final = 2
"""Of the day that the exchange sends: the closed minute and the one in progress."""


def market_names(venue: VenueId) -> tuple[str, ...]:
    """Return the market's only name."""
    return ((venue.base + venue.quote).lower(),)


def target(market: str, _slot: Slot) -> str:
    """Return what ``request_candles`` asks for, as it goes over the wire."""
    return f"/v2/candles/{market}/1m"


def request_candles(client: Any, market_id: str, _slot: Slot) -> object:  # noqa: ANN401 - a ccxt client
    """Ask for the candles of the last day: there is no request for less."""
    return client.publicGetV2CandlesSymbolTimeframe({"symbol": market_id, "timeframe": "1m"})


def candles(document: Any, _venue: VenueId) -> Iterator[RawCandle]:  # noqa: ANN401 - parsed JSON
    """Yield the rows; the opening is in milliseconds."""
    if not isinstance(document, list):
        raise ResponseShapeError("gemini", "a list of rows")
    for row in document:
        opened, first, high, low, close, volume = sequence_of(row, exchange="gemini", width=6)[:6]
        at = seconds_of_milliseconds(opened, exchange="gemini")
        yield RawCandle(opened_at=at, open=first, high=high, low=low, close=close, volume=volume)


def replay(shelf: Shelf, path: str, _query: Query) -> Answer:
    """Answer as Gemini does: the names of its markets, and their candles up to the one in progress."""
    by_id = shelf.markets(lambda venue: market_names(venue)[0])
    if path == "v1/symbols":
        return json_answer(200, list(by_id))
    market_id, _, frame = path.removeprefix("v2/candles/").partition("/")
    venue = by_id.get(market_id)
    if venue is None or frame != "1m":
        return json_answer(400, {"result": "error", "reason": "InvalidSymbol", "message": "Invalid symbol"})
    window = shelf.window(venue, shelf.at, None, REPLAYED_MINUTES)
    return shelf.recorded(venue, shelf.at) or (200, _rows(window))


def _rows(candles: list[Candle]) -> bytes:
    # Gemini sends JSON numbers: the recording's own text goes into the document, not a float's idea of it
    rows = [f"[{c.slot * 1000},{c.open},{c.high},{c.low},{c.close},{c.volume}]" for c in reversed(candles)]
    return f"[{','.join(rows)}]".encode()


GEMINI = Exchange(
    name="gemini",
    ccxt_id="gemini",
    market_names=market_names,
    target=target,
    request=request_candles,
    rows=candles,
    replay=replay,
    most_bytes=128 * 1024,  # a day's rows, about 91 KB
    asks_for_coins=False,
)
