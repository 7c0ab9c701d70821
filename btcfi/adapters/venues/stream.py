"""Candles by WebSocket, through ccxt.pro: the last frame of each minute, kept raw; REST where the stream has a gap.

ccxt.pro connects, subscribes and reconnects; its floats are not used. We keep the text of each frame, and read it as
we read a response, so that a streamed price has the same kind of evidence.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import structlog

from btcfi.adapters.venues.rest import VenueClient, repointed
from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256
from btcfi.oracle.quote import MalformedObservationError, Missing, Observation, VenueId, parse_json
from btcfi.oracle.venues import exchange_of
from btcfi.oracle.venues.candle import StreamFrame, read_response
from btcfi.units import Slot, UnixSeconds

RING_MINUTES: Final = 32
"""Minutes whose last frame is kept: the node asks for the newest one only."""

MAX_FRAME: Final = 64 * 1024
"""Bytes of one frame: a candle has 400, a snapshot of Kraken's 720 candles is not kept."""

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0

log = structlog.get_logger()


DROPS_TOLD: Final = 3
"""Frames of a kind that get a line in the log; the counter has them all, of which there may be hundreds a minute."""


class Dropped(StrEnum):
    """Why a frame was not taken."""

    TOO_LARGE = "too_large"
    NO_JSON = "no_json"
    ODD_SHAPE = "odd_shape"
    """A field is not there or of another type than the exchange documents."""
    OTHER_KIND = "other_kind"
    """No candle, or one of another interval."""
    OTHER_MARKET = "other_market"


class NoStreamError(InvalidInputError):
    """The exchange publishes no candles by WebSocket."""

    def __init__(self, exchange: str) -> None:
        super().__init__("--stream", f"{exchange} streams no candles", "another exchange, or REST without --stream")
        self.exchange = exchange


@dataclass(slots=True)
class _Minute:
    raw: bytes
    connection: int
    """Which connection it came by: only a later frame of the same one proves that this was the minute's last."""
    closed: bool


class StreamingVenue:
    """A venue whose candles come by WebSocket. Has ``fetch`` like a VenueClient; start it by the first ``fetch``.

    fallback: the REST client for minutes of which the stream has not the last word. ws_url: None for the live stream,
    else every WebSocket URL of ccxt becomes ``ws_url/EXCHANGE/its own path``. Raises NoStreamError.
    """

    def __init__(
        self,
        venue: VenueId,
        *,
        fallback: VenueClient,
        base_url: str | None = None,
        ws_url: str | None = None,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        exchange = exchange_of(venue.exchange)
        if exchange.stream is None:
            raise NoStreamError(exchange.name)
        self.venue, self._exchange, self._read = venue, exchange, exchange.stream
        self._fallback, self._base_url, self._ws_url = fallback, base_url, ws_url
        self._first_pause = first_pause
        self._minutes: OrderedDict[int, _Minute] = OrderedDict()
        self._lock = threading.Lock()
        self._connection = 0
        self._newest = 0
        self.gaps = 0
        """Minutes that were asked for and not in the stream."""
        self.dropped: Counter[Dropped] = Counter()
        """Frames that were not taken, by what was wrong with them."""
        self.reconnects = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Connect in a thread of its own, and stay connected until ``close``."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"stream {self.venue}", daemon=True)
            self._thread.start()

    def fetch(self, slot: Slot, now: UnixSeconds) -> tuple[Observation, bytes]:
        """Return what the stream says about ``slot`` with its frame; what REST says where the stream has a gap."""
        self.start()
        raw = self.last_word(slot)
        if raw is not None:
            observation = read_response(self._exchange, raw, venue=self.venue, slot=slot, now=now, evidence=sha256(raw))
            if not isinstance(observation, Missing):
                return observation, raw
        self.gaps += 1
        log.info("stream_gap", venue=str(self.venue), slot=slot, gaps=self.gaps)
        return self._fallback.fetch(slot, now)

    def last_word(self, slot: Slot) -> bytes | None:
        """Return the last frame of a minute, None while it may not be the last or when it never came."""
        with self._lock:
            minute = self._minutes.get(slot)
            if minute is None:
                return None
            followed = any(s > slot and m.connection == minute.connection for s, m in self._minutes.items())
            return minute.raw if minute.closed or followed else None

    def take(self, raw: str | bytes) -> None:
        """Take one frame as it came. One that is no one-minute candle of our market is dropped, counted and named."""
        data = raw.encode(errors="surrogatepass") if isinstance(raw, str) else raw
        frame = self._frame_of(data)
        if isinstance(frame, Dropped):
            self.dropped[frame] += 1
            # the exchanges' own greetings are of another kind; of the others the first few tell
            if frame is not Dropped.OTHER_KIND and self.dropped[frame] <= DROPS_TOLD:
                log.warning("stream_frame_dropped", venue=str(self.venue), kind=frame.value, begins=repr(data[:80]))
            return
        with self._lock:
            held = self._minutes.get(frame.opened_at)
            if held is not None and held.closed and not frame.closed:
                return
            self._minutes[frame.opened_at] = _Minute(data, self._connection, frame.closed)
            while len(self._minutes) > RING_MINUTES:
                self._minutes.pop(min(self._minutes))

    def _frame_of(self, data: bytes) -> StreamFrame | Dropped:
        if len(data) > MAX_FRAME:
            return Dropped.TOO_LARGE
        try:
            document = parse_json(data)
        except MalformedObservationError:
            return Dropped.NO_JSON
        try:
            frame = self._read(document)
        except (InvalidInputError, LookupError, TypeError, AttributeError, ValueError, ArithmeticError):
            return Dropped.ODD_SHAPE
        if frame is None:
            return Dropped.OTHER_KIND
        return frame if _plain(frame.symbol) == _plain(self.venue.symbol) else Dropped.OTHER_MARKET

    def close(self) -> None:
        """Disconnect and end the thread."""
        if self._thread is not None and self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(10)
        self._fallback.close()

    def _run(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._stay_connected())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    async def _stay_connected(self) -> None:
        pause = self._first_pause
        while True:
            client = self._client()
            try:
                while True:
                    await client.watch_ohlcv(self.venue.symbol, "1m")
                    pause = self._first_pause
            except asyncio.CancelledError:
                await client.close()
                raise
            except Exception as e:  # noqa: BLE001 - whatever a foreign client raises means: connect again
                self.reconnects += 1
                log.warning("stream_lost", venue=str(self.venue), problem=type(e).__name__, reconnects=self.reconnects)
            await client.close()
            with self._lock:
                self._connection += 1
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _client(self) -> Any:  # noqa: ANN401 - ccxt has no types
        import ccxt.pro  # noqa: PLC0415 - 109 MB: only who streams pays

        take = self.take

        class Tapped(getattr(ccxt.pro, self._exchange.ccxt_id)):  # type: ignore[misc]
            """ccxt's client, whose frames we hear before it parses them."""

            def client(self, url: str) -> Any:  # noqa: ANN401
                connection = super().client(url)
                if not getattr(connection, "btcfi_tapped", False):
                    parse = connection.handle_text_or_binary_message

                    def heard(data: str | bytes) -> None:
                        take(data)
                        parse(data)

                    connection.handle_text_or_binary_message = heard
                    connection.btcfi_tapped = True
                return connection

        client = Tapped({"options": dict(self._exchange.options), "enableRateLimit": self._base_url is None})
        websockets = client.urls["api"].pop("ws", None)
        if self._base_url is not None:
            client.urls["api"] = repointed(
                client.urls["api"], f"{self._base_url}/{self._exchange.name}", client.hostname
            )
        if self._ws_url is not None:
            websockets = repointed(websockets, f"{self._ws_url}/{self._exchange.name}", client.hostname)
        client.urls["api"]["ws"] = websockets
        return client


def _plain(symbol: str) -> str:
    """Return a market's name without its exchange's spelling: BTCUSDT, BTC/USDT and XBT/USDT are one."""
    return symbol.upper().replace("/", "").replace("XBT", "BTC")
