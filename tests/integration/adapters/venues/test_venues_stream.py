"""ccxt.pro's real WebSocket clients against a local server that speaks the exchanges' candle streams."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import UTC, datetime

import pytest
from aiohttp import WSMsgType, web
from hypothesis import given
from hypothesis import strategies as st

from btcfi.adapters.venues.candle_folder import read_candle_folder
from btcfi.adapters.venues.replay_server import Replay, ReplayServer
from btcfi.adapters.venues.rest import Backoff, VenueClient
from btcfi.adapters.venues.stream import Dropped, NoStreamError, StreamingVenue
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.adapters.venues.synthetic_candles.generate import FIRST_SLOT
from btcfi.hashes import sha256
from btcfi.oracle.quote import Missing, MissingReason, Quote, parse_venue
from btcfi.oracle.venues import exchange_of
from btcfi.oracle.venues.candle import read_response
from btcfi.units import Slot, UnixSeconds

pytestmark = pytest.mark.integration

SLOT = Slot(FIRST_SLOT + 600)
NOW = UnixSeconds(SLOT + 62)


def binance_frame(slot: int, close: str, *, closed: bool) -> str:
    k = {"t": slot * 1000, "T": slot * 1000 + 59_999, "s": "BTCUSDT", "i": "1m", "o": "60000.00", "c": close,
         "h": "60100.00", "l": "59900.00", "v": "1.5", "x": closed}  # fmt: skip
    return json.dumps({"e": "kline", "E": slot * 1000, "s": "BTCUSDT", "k": k})


def kraken_frame(slot: int, close: str, **_: bool) -> str:
    begin = datetime.fromtimestamp(slot, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
    return (
        '{"channel":"ohlc","type":"update","timestamp":"x","data":[{"symbol":"BTC/USD","open":60000.0,"high":60100.0,'
        f'"low":59900.0,"close":{close},"trades":3,"volume":1.5,"vwap":60000.0,"interval_begin":"{begin}","interval":1,'
        f'"timestamp":"{begin}"}}]}}'
    )


FRAMES = {"binance:BTC/USDT": binance_frame, "kraken:BTC/USD": kraken_frame}


class Streams:
    """A WebSocket server: sends what the test says to whoever has subscribed, and can hang up."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.sockets: list[web.WebSocketResponse] = []
        self.connections = 0
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self.thread.start()
        assert ready.wait(10)

    def _run(self, ready: threading.Event) -> None:
        async def start() -> None:
            app = web.Application()
            app.router.add_get("/{tail:.*}", self._serve)
            self.runner = web.AppRunner(app)
            await self.runner.setup()
            site = web.TCPSite(self.runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"ws://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
            ready.set()

        self.loop.run_until_complete(start())
        self.loop.run_forever()

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connections += 1
        async for message in socket:
            if message.type is WSMsgType.TEXT and "subscribe" in message.data.lower():
                self.sockets.append(socket)
        if socket in self.sockets:
            self.sockets.remove(socket)
        return socket

    def do(self, coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(5)

    def send(self, text: str) -> None:
        for socket in list(self.sockets):
            self.do(socket.send_str(text))

    def hang_up(self) -> None:
        for socket in list(self.sockets):
            self.do(socket.close())

    def stop(self) -> None:
        self.hang_up()
        self.do(self.runner.cleanup())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


@pytest.fixture(params=FRAMES)
def stream(request):
    streams = Streams()
    server = ReplayServer(Replay(read_candle_folder(SYNTHETIC_CANDLES).candles).answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    venue = parse_venue(request.param)
    rest = VenueClient(venue, base_url=server.base_url, rate_limit=False, backoff=Backoff(attempts=1))
    made = StreamingVenue(venue, fallback=rest, base_url=server.base_url, ws_url=streams.url, first_pause=0.05)
    made.start()
    wait_for(lambda: streams.sockets)
    yield made, streams, FRAMES[request.param]
    made.close()
    streams.stop()
    server.shutdown()
    server.server_close()


def wait_for(holds) -> None:
    until = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_last_frame_of_a_minute_is_its_quote_and_its_evidence(stream) -> None:
    venue, streams, frame = stream
    streams.send(frame(SLOT, "60001.11", closed=False))
    last = frame(SLOT, "60002.25", closed=True)
    streams.send(last)
    streams.send(frame(SLOT + 60, "60003.00", closed=False))
    wait_for(lambda: venue.last_word(SLOT))
    observation, raw = venue.fetch(SLOT, NOW)
    assert isinstance(observation, Quote)
    assert (observation.close, observation.volume) == (60_002_25, 150_000_000)
    assert raw == last.encode()
    assert observation.evidence == sha256(raw)
    assert venue.gaps == 0


def test_a_minute_without_a_last_word_is_a_gap_and_rest_fills_it(stream) -> None:
    venue, streams, frame = stream
    streams.send(frame(SLOT, "70000.00", closed=False))
    time.sleep(0.1)
    observation, _ = venue.fetch(SLOT, NOW)
    assert isinstance(observation, Quote)
    assert observation.close != 70_000_00
    assert venue.gaps == 1


def test_after_a_hang_up_the_stream_comes_back_and_the_cut_minute_is_not_trusted(stream) -> None:
    venue, streams, frame = stream
    streams.send(frame(SLOT, "70000.00", closed=False))
    time.sleep(0.1)
    streams.hang_up()
    wait_for(lambda: streams.connections >= 2 and streams.sockets)
    assert venue.reconnects >= 1
    streams.send(frame(SLOT + 60, "60010.00", closed=True))
    streams.send(frame(SLOT + 120, "60020.00", closed=False))
    wait_for(lambda: venue.last_word(Slot(SLOT + 60)))
    assert venue.last_word(SLOT) is None
    cut, _ = venue.fetch(SLOT, NOW)
    assert cut.close != 70_000_00
    whole, _ = venue.fetch(Slot(SLOT + 60), UnixSeconds(SLOT + 122))
    assert whole.close == 60_010_00


def test_rubbish_in_the_stream_is_no_candle() -> None:
    venue = StreamingVenue(parse_venue("binance:BTC/USDT"), fallback=VenueClient(parse_venue("binance:BTC/USDT")))
    for rubbish in ("", "{}", "[", "[]", '{"e":"kline"}', '{"e":"kline","k":7}', "x" * 100_000, b"\xff",
                    binance_frame(SLOT, "1", closed=True).replace("BTCUSDT", "ETHUSDT")):  # fmt: skip
        venue.take(rubbish)
    assert venue.last_word(SLOT) is None


def test_the_ring_keeps_only_the_newest_minutes() -> None:
    venue = StreamingVenue(parse_venue("binance:BTC/USDT"), fallback=VenueClient(parse_venue("binance:BTC/USDT")))
    for i in range(100):
        venue.take(binance_frame(SLOT + 60 * i, "60000.00", closed=True))
    assert venue.last_word(SLOT) is None
    assert venue.last_word(Slot(SLOT + 60 * 99)) is not None


def test_an_exchange_without_a_candle_stream_says_so() -> None:
    venue = parse_venue("coinbaseexchange:BTC/USD")
    with pytest.raises(NoStreamError):
        StreamingVenue(venue, fallback=VenueClient(venue))


def odd_frames(venue: str) -> list[str]:
    """Return well-formed frames with one field of another type than the exchange documents."""
    odd = (True, False, None, "1", 1.5, -1, 2**63 - 1, 10**30, [], [1], {}, {"a": []})
    frames = []
    document = json.loads(FRAMES[venue](SLOT, "60001.11", closed=True))
    places = [("k", n) for n in document["k"]] if "k" in document else [("data", 0, n) for n in document["data"][0]]
    for *way, name in places:
        for value in odd:
            copy = json.loads(json.dumps(document))
            inner = copy
            for step in way:
                inner = inner[step]
            inner[name] = value
            frames.append(json.dumps(copy))
    for name in document:
        frames += [json.dumps({**document, name: value}) for value in odd]
    return frames


@pytest.mark.parametrize("venue", FRAMES)
def test_frames_with_odd_types_are_dropped_and_named_and_never_a_price_of_another_minute(venue: str) -> None:
    stream = StreamingVenue(parse_venue(venue), fallback=VenueClient(parse_venue(venue)))
    for frame in odd_frames(venue):
        before = (stream.dropped.total(), stream.last_word(SLOT))
        stream.take(frame)  # whatever it is: no exception
        held = stream.last_word(SLOT)
        assert stream.dropped.total() == before[0] + 1 or set(stream._minutes) <= {SLOT}
        if held is not None:
            seen = read_response(
                exchange_of(stream.venue.exchange), held, venue=stream.venue, slot=SLOT, now=NOW, evidence=sha256(held)
            )
            assert isinstance(seen, Missing) or (seen.low, seen.high) == (59_900_00, 60_100_00)
    assert stream.dropped[Dropped.ODD_SHAPE] > 0
    assert stream.dropped[Dropped.OTHER_KIND] > 0


@pytest.mark.parametrize("venue", FRAMES)
def test_a_frame_of_another_pair_or_interval_never_passes_not_even_when_it_is_read_as_evidence(venue: str) -> None:
    asked = parse_venue(venue)
    right = FRAMES[venue](SLOT, "60001.11", closed=True)
    for old, new, kind in (
        ("BTCUSDT", "ETHUSDT", Dropped.OTHER_MARKET), ("BTC/USD", "ETH/USD", Dropped.OTHER_MARKET),
        ('"1m"', '"5m"', Dropped.OTHER_KIND), ('"interval":1,', '"interval":5,', Dropped.OTHER_KIND),
        ('"interval":1,', '"interval":true,', Dropped.OTHER_KIND),
    ):  # fmt: skip
        frame = right.replace(old, new)
        if frame == right:
            continue
        stream = StreamingVenue(asked, fallback=VenueClient(asked))
        stream.take(frame)
        assert (stream.last_word(SLOT), dict(stream.dropped)) == (None, {kind: 1})
        raw = frame.encode()
        seen = read_response(exchange_of(asked.exchange), raw, venue=asked, slot=SLOT, now=NOW, evidence=sha256(raw))
        assert seen.reason is MissingReason.MALFORMED


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["e", "k", "t", "i", "s", "x", "data", "interval"]), inner, max_size=4),
))  # fmt: skip
def test_any_json_in_a_stream_is_taken_or_counted(document) -> None:
    for name in FRAMES:
        stream = StreamingVenue(parse_venue(name), fallback=VenueClient(parse_venue(name)))
        for wrapped in (document, {"e": "kline", "k": document}, {"channel": "ohlc", "data": [document]}):
            stream.take(json.dumps(wrapped))
        assert stream.dropped.total() == 3
