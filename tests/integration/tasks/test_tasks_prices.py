"""The tasks of prices, called as a message calls them: whoever can write to the broker can send any of these."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep, time

import pytest
from sqlmodel import select

from btcfi.adapters.store.prices.observations import observations_of
from btcfi.adapters.store.prices.rounds import find_round
from btcfi.adapters.store.prices.tables import QuoteRow, RoundRow
from btcfi.adapters.store.prices.wait_tables import VenueWaitRow
from btcfi.adapters.store.prices.waits import waits_until
from btcfi.adapters.venues.replay_server import Replay
from btcfi.errors import InvalidInputError, UnitOutOfRangeError
from btcfi.oracle.quote import Feed, MinuteNotClosedError, MissingReason, Quote, parse_venue
from btcfi.oracle.venues.recorded import Candle
from btcfi.units import Slot
from settings.deployment import Deployment
from tasks import context, oracle, venues
from workers.app import create_app

pytestmark = pytest.mark.integration

VENUE = "kraken:BTC/USD"
FEED = Feed("BTC/USD")


class Exchange:
    """Kraken from recorded candles, that counts what it is asked and can say wait."""

    def __init__(self) -> None:
        self.asked, self.says_wait = 0, False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                is_candles = "OHLC" in self.path
                outer.asked += is_candles
                status, body = (429, b"{}") if is_candles and outer.says_wait else outer.replay.answer(self.path)
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", "120")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args) -> None:
                pass

        self.minute = Slot(int(time()) // 60 * 60 - 120)
        row = {"open": "60000", "high": "60010", "low": "59990", "close": "60005", "volume": "1.5"}
        candles = {Slot(self.minute + 60 * k): Candle(slot=Slot(self.minute + 60 * k), **row) for k in range(5)}
        self.replay = Replay({parse_venue(VENUE): candles})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def exchange():
    made = Exchange()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def here(tmp_path, exchange):
    deployment = Deployment(
        data_dir=tmp_path, broker_url="memory://", venues=(VENUE,), legs=(), venue_base_url=exchange.base_url,
        venue_rate_limit=False, fetch_backoff_seconds=0.01,
    )  # fmt: skip
    create_app(deployment)
    made = context.context()
    made.store.migrate()
    yield made
    made.store.close()


def stored(here, table):
    with here.store.reading() as session:
        return session.exec(select(table)).all()


def test_one_message_on_the_broker_voids_no_future_minute(here, exchange) -> None:
    ahead = exchange.minute + 60 * 60
    for send in (
        lambda: oracle.tick(ahead), lambda: venues.fetch("BTC/USD", ahead, VENUE),
        lambda: oracle.aggregate([], "BTC/USD", ahead),
    ):  # fmt: skip
        with pytest.raises(MinuteNotClosedError):
            send()
    assert stored(here, RoundRow) == stored(here, QuoteRow) == []
    assert exchange.asked == 0


@pytest.mark.parametrize("slot", [2**63 - 1, 2**63 - 8, 2**64, -60, 61])
def test_a_slot_that_is_none_is_refused_by_every_task_of_prices(here, slot) -> None:
    for send in (
        lambda: oracle.tick(slot), lambda: venues.fetch("BTC/USD", slot, VENUE),
        lambda: oracle.aggregate([], "BTC/USD", slot),
    ):  # fmt: skip
        with pytest.raises(UnitOutOfRangeError):
            send()
    assert issubclass(UnitOutOfRangeError, InvalidInputError)


def test_a_venue_that_has_spoken_is_not_asked_again_by_a_second_message(here, exchange) -> None:
    assert venues.fetch("BTC/USD", exchange.minute, VENUE)
    assert not venues.fetch("BTC/USD", exchange.minute, VENUE)
    assert exchange.asked == 1
    with here.store.reading() as session:
        (said,) = observations_of(session, FEED, exchange.minute)
    assert isinstance(said, Quote)


def test_a_worker_obeys_what_another_one_of_its_machine_was_told(here, exchange) -> None:
    exchange.says_wait = True
    venues.fetch("BTC/USD", exchange.minute, VENUE)
    with here.store.reading() as session:
        until = waits_until(session, "kraken", venues.HOST, now=int(time()))
        (said,) = observations_of(session, FEED, exchange.minute)
    assert said.reason is MissingReason.ASKED_TO_WAIT
    assert until - int(time()) in range(115, 121)
    venues_rest_forgets(exchange)  # as in another process, which knows only what the store says
    venues.fetch("BTC/USD", exchange.minute - 60, VENUE)
    assert exchange.asked == 1


def venues_rest_forgets(exchange) -> None:
    from btcfi.adapters.venues import rest  # noqa: PLC0415 - the process's own memory, looked into by this test alone

    rest._waits.pop(("kraken", exchange.base_url), None)


def test_a_wait_that_was_noted_by_a_clock_far_ahead_silences_no_exchange(here, exchange) -> None:
    with here.store.transaction() as session:
        session.add(VenueWaitRow(exchange="kraken", host=venues.HOST, until_unix=int(time()) + 80 * 365 * 86_400))
    venues_rest_forgets(exchange)
    assert venues.fetch("BTC/USD", exchange.minute, VENUE)
    assert exchange.asked == 1
    exchange.says_wait = True
    venues.fetch("BTC/USD", exchange.minute - 60, VENUE)
    with here.store.reading() as session:
        until = waits_until(session, "kraken", venues.HOST, now=int(time()))
    assert until - int(time()) in range(115, 121)
    venues_rest_forgets(exchange)


def test_a_venue_that_keeps_a_thread_waiting_gets_no_second_one_and_no_other_venue_waits_behind_it(here) -> None:
    stuck, honest = parse_venue("bitstamp:BTC/USD"), parse_venue("kraken:BTC/USD")
    with venues._asking_of(stuck, 0.05) as first:
        sleep(0.1)
        with venues._asking_of(stuck, 0.05) as second, venues._asking_of(honest, 0.05) as other:
            assert (first, second, other) == (True, False, True)
    with ExitStack() as held:
        assert [held.enter_context(venues._asking_of(stuck, 60)) for _ in range(4)] == [True, True, True, False]
    with venues._asking_of(stuck, 0.05) as again:
        assert again


def test_the_minute_goes_through_tick_fetch_and_aggregate(here, exchange) -> None:
    oracle.tick(exchange.minute)
    venues.fetch("BTC/USD", exchange.minute, VENUE)
    oracle.aggregate([True], "BTC/USD", exchange.minute)
    with here.store.reading() as session:
        assert find_round(session, FEED, exchange.minute).state in {"priced", "void"}
