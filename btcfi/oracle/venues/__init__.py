"""The exchanges that we can read, one module each. A new exchange is a module and a row in ``EXCHANGES``."""

from __future__ import annotations

from typing import Final

from btcfi.errors import NotFoundError
from btcfi.oracle.venues.binance import BINANCE
from btcfi.oracle.venues.binanceus import BINANCEUS
from btcfi.oracle.venues.bitfinex import BITFINEX
from btcfi.oracle.venues.bitstamp import BITSTAMP
from btcfi.oracle.venues.candle import Exchange
from btcfi.oracle.venues.coinbaseexchange import COINBASEEXCHANGE
from btcfi.oracle.venues.gemini import GEMINI
from btcfi.oracle.venues.kraken import KRAKEN
from btcfi.oracle.venues.okx import OKX

EXCHANGES: Final[dict[str, Exchange]] = {
    exchange.name: exchange
    for exchange in (BINANCE, BINANCEUS, BITFINEX, BITSTAMP, COINBASEEXCHANGE, GEMINI, KRAKEN, OKX)
}


def exchange_of(name: str) -> Exchange:
    """Return what we know of the exchange ``name``. Raises NotFoundError, which names the known ones."""
    if name not in EXCHANGES:
        raise NotFoundError("exchange", name, f"known are {', '.join(sorted(EXCHANGES))}")
    return EXCHANGES[name]
