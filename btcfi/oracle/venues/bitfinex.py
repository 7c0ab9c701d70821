"""Bitfinex: ``/v2/candles/trade:1m:tBTCUSD/hist``, rows ``[open ms, open, close, high, low, volume]``.

A minute without a trade is absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from btcfi.oracle.quote import VenueId
from btcfi.oracle.venues.candle import Exchange, RawCandle, ResponseShapeError, seconds_of_milliseconds, sequence_of
from btcfi.oracle.venues.recorded import Answer, Candle, Query, Shelf, json_answer
from btcfi.units import Slot

_COINS: Final = {"USDT": "UST", "USDC": "UDC"}
"""Bitfinex's own names where they differ from everybody's."""

_SHORT: Final = 3
"""Letters of a coin whose name needs no colon before the next."""


def market_names(venue: VenueId) -> tuple[str, ...]:
    """Return the market's only name: ``tBTCUSD``, or with a colon after a longer coin."""
    base, quote = _COINS.get(venue.base, venue.base), _COINS.get(venue.quote, venue.quote)
    return (f"t{base}{'' if len(base) == len(quote) == _SHORT else ':'}{quote}",)


def target(market: str, slot: Slot) -> str:
    """Return what ``request_candles`` asks for, as it goes over the wire."""
    return f"/v2/candles/trade:1m:{market}/hist?start={slot * 1000}&limit=2&sort=1"


def request_candles(client: Any, market_id: str, slot: Slot) -> object:  # noqa: ANN401 - a ccxt client
    """Ask for the candle of ``slot`` and the one after it, oldest first."""
    return client.publicGetCandlesTradeTimeframeSymbolHist(
        {"symbol": market_id, "timeframe": "1m", "start": slot * 1000, "limit": 2, "sort": 1}
    )


def candles(document: Any, _venue: VenueId) -> Iterator[RawCandle]:  # noqa: ANN401 - parsed JSON
    """Yield the rows. The columns are open, close, high, low: not the order of the others."""
    if not isinstance(document, list):
        raise ResponseShapeError("bitfinex", "a list of rows")
    for row in document:
        opened, first, close, high, low, volume = sequence_of(row, exchange="bitfinex", width=6)[:6]
        at = seconds_of_milliseconds(opened, exchange="bitfinex")
        yield RawCandle(opened_at=at, open=first, high=high, low=low, close=close, volume=volume)


def replay(shelf: Shelf, path: str, query: Query) -> Answer:
    """Answer as Bitfinex does: its spot markets and its candles."""
    by_id = shelf.markets(lambda venue: market_names(venue)[0])
    if path.startswith("v2/conf/pub:info:pair,"):
        spot = [[name[1:], [None, None, None, "0.00004", "2000.0", *([None] * 7)]] for name in by_id]
        return json_answer(200, [spot, [], [], []])  # no futures, no securities, none on margin
    market_id, _, section = path.removeprefix("v2/candles/trade:1m:").partition("/")
    venue = by_id.get(market_id)
    if venue is None or section != "hist":
        return json_answer(500, ["error", 10020, "symbol: invalid"])
    first = int(query["start"]) // 1000 if "start" in query else None
    candles = shelf.window(venue, first, None, int(query.get("limit", "100")))
    return shelf.recorded(venue, first) or (200, _rows(candles))


def _rows(candles: list[Candle]) -> bytes:
    # Bitfinex sends JSON numbers: the recording's own text goes into the document, not a float's idea of it
    rows = [f"[{c.slot * 1000},{c.open},{c.close},{c.high},{c.low},{c.volume}]" for c in candles]
    return f"[{','.join(rows)}]".encode()


BITFINEX = Exchange(
    name="bitfinex",
    ccxt_id="bitfinex",
    market_names=market_names,
    target=target,
    request=request_candles,
    rows=candles,
    replay=replay,
    asks_for_coins=False,
)
