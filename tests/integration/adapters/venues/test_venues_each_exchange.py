"""Every exchange that has a row: ccxt's real client against the exchange's own replay route."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from btcfi.adapters.venues.replay_server import Replay, ReplayServer, candle_target
from btcfi.adapters.venues.rest import VenueClient
from btcfi.oracle.quote import LegQuote, Quote, VenueId
from btcfi.oracle.venues import EXCHANGES
from btcfi.oracle.venues.recorded import Candle
from btcfi.units import Slot, UnixSeconds

pytestmark = pytest.mark.integration

SLOT = Slot(1_700_000_040)
NOW = UnixSeconds(SLOT + 62)
MARKETS = [("BTC", "USD"), ("BTC", "USDT"), ("BTC", "USDC"), ("USDT", "USD"), ("USDC", "USD")]


def recorded(venue: VenueId, at: int, close: str = "60000.50") -> Candle:
    if venue.is_leg:
        return Candle(slot=Slot(at), open="1.0001", high="1.0010", low="0.9990", close="1.0002", volume="250000.5")
    return Candle(slot=Slot(at), open="60000.10", high="60010.50", low="59990.10", close=close, volume="1.5")


@contextmanager
def replaying(exchange: str) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    venues = [VenueId(exchange=exchange, base=base, quote=quote) for base, quote in MARKETS]
    candles = {v: {Slot(SLOT + 60 * k): recorded(v, SLOT + 60 * k, f"6000{k}.50") for k in range(3)} for v in venues}
    replay = Replay(candles)

    def answer(target: str, at: int | None):
        asked.append(target)
        return replay.answer(target, at)

    server = ReplayServer(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.base_url, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("exchange", sorted(EXCHANGES))
def test_ccxt_loads_the_markets_and_reads_the_closed_minute_of_each_from_the_exchanges_own_route(exchange) -> None:
    with replaying(exchange) as (base_url, _):
        for base, quote in MARKETS:
            venue = VenueId(exchange=exchange, base=base, quote=quote)
            seen, _ = VenueClient(venue, base_url=base_url, rate_limit=False).fetch(SLOT, NOW)
            if venue.is_leg:
                assert isinstance(seen, LegQuote)
                assert (seen.low, seen.rate, seen.high) == (99_900_000, 100_020_000, 100_100_000)
            else:
                assert isinstance(seen, Quote)
                assert (seen.low, seen.open, seen.close, seen.high) == (59_990_10, 60_000_10, 60_000_50, 60_010_50)


@pytest.mark.parametrize("exchange", sorted(EXCHANGES))
def test_what_ccxt_sends_for_a_minute_is_the_target_that_the_module_names(exchange) -> None:
    with replaying(exchange) as (base_url, asked):
        for base, quote in MARKETS:
            venue = VenueId(exchange=exchange, base=base, quote=quote)
            VenueClient(venue, base_url=base_url, rate_limit=False).fetch(SLOT, NOW)
            assert asked[-1] == candle_target(venue, SLOT)
