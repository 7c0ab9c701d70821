"""A local HTTP server that answers the exchanges' real REST endpoints from recorded candles.

``python -m btcfi.adapters.venues.replay_server --folder FOLDER --port 0 --port-file FILE``

The first path segment names the exchange (``/kraken/0/public/OHLC``), the rest is the exchange's own path. The clock of
the recording stands where the request's time window stands: a client that asks for a minute gets that minute's
candle and the one after it, which at that moment would still be in progress, as the real exchanges send it.

A folder may hold CSVs (``candle_folder.py``), raw responses (``recorder.py``), or both; a raw response, where there is
one for the minute, is sent byte for byte.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import time
from typing import Final
from urllib.parse import parse_qs, urlsplit

from btcfi.adapters.venues.candle_folder import Candle, CandleFolder, read_candle_folder
from btcfi.adapters.venues.recorder import Recording, read_recording
from btcfi.errors import BtcfiError
from btcfi.oracle.quote import VenueId
from btcfi.units import SECONDS_PER_MINUTE, Slot

LOOPBACK: Final = "127.0.0.1"
"""The server stands in for exchanges on this machine only."""

Answer = tuple[int, bytes]
Query = Mapping[str, str]

_KRAKEN_ASSETS: Final = {"BTC": ("XXBT", "XBT"), "USD": ("ZUSD", "USD")}
"""Kraken's own names, id and alternative name, where they differ from everybody's."""


class Replay:
    """The answers, made from candles; apart from the sockets, so that a test can ask it directly."""

    def __init__(self, candles: Mapping[VenueId, Mapping[Slot, Candle]], recording: Recording | None = None) -> None:
        self._candles = dict(candles)
        self._recording = recording
        for venue in recording.venues if recording is not None else ():
            self._candles.setdefault(venue, {})
        self._routes: dict[str, Callable[[str, str, Query], Answer]] = {
            "binance": self._binance,
            "binanceus": self._binance,
            "coinbaseexchange": self._coinbase,
            "kraken": self._kraken,
        }

    def answer(self, target: str) -> Answer:
        """Return status and body for a request target. Never raises; what we do not serve is a 404."""
        try:
            parts = urlsplit(target)
            exchange, _, path = parts.path.lstrip("/").partition("/")
            query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            if exchange not in self._routes:
                return _json(404, {"message": f"no exchange {exchange!r} here"})
            return self._routes[exchange](exchange, path, query)
        except (ValueError, KeyError) as e:
            return _json(400, {"message": f"{type(e).__name__}: {e}"})

    def _markets(self, exchange: str) -> list[VenueId]:
        return sorted(v for v in self._candles if v.exchange == exchange)

    def _window(self, venue: VenueId, first: int | None, last: int | None, limit: int) -> list[Candle]:
        """Return the candles of the window; without one, the newest of the recording."""
        rows = self._candles[venue]
        if first is None:
            return [rows[s] for s in sorted(rows)[-limit:]]
        begin = -(-first // SECONDS_PER_MINUTE) * SECONDS_PER_MINUTE
        end = begin + SECONDS_PER_MINUTE if last is None else min(last, begin + limit * SECONDS_PER_MINUTE)
        wanted = range(begin, end + 1, SECONDS_PER_MINUTE)
        return [rows[Slot(s)] for s in wanted if Slot(s) in rows][:limit]

    def _recorded(self, venue: VenueId, first: int | None) -> Answer | None:
        raw = (
            self._recording.response(venue, Slot(first)) if self._recording is not None and first is not None else None
        )
        return (200, raw) if raw is not None else None

    def _binance(self, exchange: str, path: str, query: Query) -> Answer:
        by_id = {v.base + v.quote: v for v in self._markets(exchange)}
        if path == "api/v3/exchangeInfo":
            symbols = [_binance_symbol(market_id, v) for market_id, v in by_id.items()]
            return _json(200, {"timezone": "UTC", "serverTime": _now_ms(), "rateLimits": [], "symbols": symbols})
        if path == "api/v3/time":
            return _json(200, {"serverTime": _now_ms()})
        if path not in {"api/v3/klines", "api/v3/ticker/24hr"}:
            return _json(404, {"code": -1, "msg": "not served in a replay"})
        venue = by_id.get(query.get("symbol", ""))
        if venue is None:
            return _json(400, {"code": -1121, "msg": "Invalid symbol."})
        if path.endswith("24hr"):
            newest = self._window(venue, None, None, 1)[0]
            return _json(200, _binance_ticker(query["symbol"], newest))
        first = int(query["startTime"]) // 1000 if "startTime" in query else None
        last = int(query["endTime"]) // 1000 if "endTime" in query else None
        candles = self._window(venue, first, last, min(int(query.get("limit", "500")), 1000))
        return self._recorded(venue, first) or _json(200, [_kline(c) for c in candles])

    def _coinbase(self, exchange: str, path: str, query: Query) -> Answer:
        by_id = {f"{v.base}-{v.quote}": v for v in self._markets(exchange)}
        if path == "currencies":
            codes = sorted({c for v in by_id.values() for c in (v.base, v.quote)})
            return _json(200, [_coinbase_currency(code) for code in codes])
        if path == "products":
            return _json(200, [_coinbase_product(market_id, v) for market_id, v in by_id.items()])
        if path == "time":
            now = time()
            return _json(200, {"iso": datetime.fromtimestamp(now, UTC).isoformat(), "epoch": now})
        _, _, rest = path.partition("products/")
        market_id, _, what = rest.partition("/")
        venue = by_id.get(market_id)
        if venue is None or what not in {"candles", "ticker"}:
            return _json(404, {"message": "NotFound"})
        if what == "ticker":
            newest = self._window(venue, None, None, 1)[0]
            return _json(200, {"price": newest.close, "volume": newest.volume, "time": _iso(newest.slot)})
        first = _parse_iso(query["start"]) if "start" in query else None
        last = _parse_iso(query["end"]) if "end" in query else None
        candles = self._window(venue, first, last, 300)
        return self._recorded(venue, first) or (200, _coinbase_rows(candles))

    def _kraken(self, exchange: str, path: str, query: Query) -> Answer:
        by_id = {_kraken_pair(v): v for v in self._markets(exchange)}
        method = path.removeprefix("0/public/")
        if method == "Assets":
            codes = sorted({c for v in by_id.values() for c in (v.base, v.quote)})
            return _kraken_result({_kraken_asset(c)[0]: _kraken_asset_info(c) for c in codes})
        if method == "AssetPairs":
            return _kraken_result({pair: _kraken_pair_info(v) for pair, v in by_id.items()})
        if method == "Time":
            return _kraken_result({"unixtime": int(time())})
        pair = query.get("pair", "")
        if method not in {"OHLC", "Ticker"} or pair not in by_id:
            return _json(200, {"error": ["EQuery:Unknown asset pair" if pair else "EGeneral:Unknown method"]})
        return self._kraken_market(by_id[pair], method, pair, query)

    def _kraken_market(self, venue: VenueId, method: str, pair: str, query: Query) -> Answer:
        if method == "Ticker":
            newest = self._window(venue, None, None, 1)[0]
            return _kraken_result({pair: {"c": [newest.close, "0"], "v": [newest.volume, newest.volume]}})
        first = int(query["since"]) + SECONDS_PER_MINUTE if "since" in query else None  # exclusive
        candles = self._window(venue, first, None, 720)
        last = candles[-1].slot - SECONDS_PER_MINUTE if candles else 0
        return self._recorded(venue, first) or _kraken_result({pair: [_ohlc(c) for c in candles], "last": last})


def candle_target(venue: VenueId, at: Slot) -> str:
    """Return the request target by which a client asks this server for ``at`` and the minute after it."""
    end = at + SECONDS_PER_MINUTE
    match venue.exchange:
        case "coinbaseexchange":
            window = f"granularity=60&start={_iso(at)}&end={_iso(end)}"
            return f"/coinbaseexchange/products/{venue.base}-{venue.quote}/candles?{window}"
        case "kraken":
            return f"/kraken/0/public/OHLC?pair={_kraken_pair(venue)}&interval=1&since={at - SECONDS_PER_MINUTE}"
        case exchange:
            window = f"interval=1m&startTime={at * 1000}&limit=2"
            return f"/{exchange}/api/v3/klines?symbol={venue.base}{venue.quote}&{window}"


def _json(status: int, document: object) -> Answer:
    return status, json.dumps(document, separators=(",", ":")).encode()


def _now_ms() -> int:
    return int(time() * 1000)


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse_iso(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def _kline(c: Candle) -> list[object]:
    close_ms = (c.slot + SECONDS_PER_MINUTE) * 1000 - 1
    return [c.slot * 1000, c.open, c.high, c.low, c.close, c.volume, close_ms, "0", 1, "0", "0", "0"]


def _binance_ticker(symbol: str, c: Candle) -> dict[str, object]:
    return {
        "symbol": symbol,
        "lastPrice": c.close,
        "openPrice": c.open,
        "highPrice": c.high,
        "lowPrice": c.low,
        "volume": c.volume,
        "openTime": c.slot * 1000,
        "closeTime": (c.slot + SECONDS_PER_MINUTE) * 1000 - 1,
    }


def _binance_symbol(market_id: str, v: VenueId) -> dict[str, object]:
    return {
        "symbol": market_id,
        "status": "TRADING",
        "baseAsset": v.base,
        "baseAssetPrecision": 8,
        "quoteAsset": v.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"},
        ],
        "permissions": ["SPOT"],
    }


def _coinbase_currency(code: str) -> dict[str, object]:
    kind = "fiat" if code == "USD" else "crypto"
    return {"id": code, "name": code, "status": "online", "max_precision": "0.00000001", "details": {"type": kind}}


def _coinbase_product(market_id: str, v: VenueId) -> dict[str, object]:
    return {
        "id": market_id,
        "base_currency": v.base,
        "quote_currency": v.quote,
        "quote_increment": "0.01",
        "base_increment": "0.00000001",
        "display_name": v.symbol,
        "status": "online",
        "trading_disabled": False,
    }


def _coinbase_rows(candles: list[Candle]) -> bytes:
    # Coinbase sends JSON numbers: the recording's own text goes into the document, not a float's idea of it
    rows = [f"[{c.slot},{c.low},{c.high},{c.open},{c.close},{c.volume}]" for c in reversed(candles)]
    return f"[{','.join(rows)}]".encode()


def _ohlc(c: Candle) -> list[object]:
    return [c.slot, c.open, c.high, c.low, c.close, c.close, c.volume, 1]


def _kraken_asset(code: str) -> tuple[str, str]:
    return _KRAKEN_ASSETS.get(code, (code, code))


def _kraken_asset_info(code: str) -> dict[str, object]:
    return {
        "aclass": "currency",
        "altname": _kraken_asset(code)[1],
        "decimals": 8,
        "display_decimals": 5,
        "status": "enabled",
    }


def _kraken_pair(v: VenueId) -> str:
    # Kraken's old markets against the dollar carry both long names; the newer ones only what is not theirs
    (base_id, base_alt), (quote_id, quote_alt) = _kraken_asset(v.base), _kraken_asset(v.quote)
    if v.quote == "USD":
        return base_id + quote_id
    return base_alt + quote_alt


def _kraken_pair_info(v: VenueId) -> dict[str, object]:
    (base_id, base_alt), (quote_id, quote_alt) = _kraken_asset(v.base), _kraken_asset(v.quote)
    return {
        "altname": base_alt + quote_alt,
        "wsname": f"{base_alt}/{quote_alt}",
        "aclass_base": "currency",
        "base": base_id,
        "aclass_quote": "currency",
        "quote": quote_id,
        "lot": "unit",
        "pair_decimals": 5 if v.is_leg else 2,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, 0.4]],
        "fees_maker": [[0, 0.25]],
        "ordermin": "0.0001",
        "status": "online",
    }


def _kraken_result(result: object) -> Answer:
    return _json(200, {"error": [], "result": result})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive, as the exchanges do
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    timeout = 60
    server: ReplayServer

    def do_GET(self) -> None:
        status, body = self.server.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay quiet: one line a request would drown the log."""


class ReplayServer(ThreadingHTTPServer):
    """The HTTP server; ``base_url`` is what a VenueClient is pointed at."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable[[str], Answer], *, port: int = 0) -> None:
        self.answer = answer
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://{LOOPBACK}:{self.server_address[1]}"

    def server_bind(self) -> None:
        """Bind without the reverse name look-up of the base class, which can take seconds offline."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that hangs up: its own business."""


def load(folder: Path) -> Replay:
    """Return the answers for a folder of CSVs, raw responses or both.

    Raises NotFoundError for an empty folder, BrokenCandleFileError for a wrong row.
    """
    recording = read_recording(folder)
    if recording is not None and not any(folder.glob("*.csv")):
        return Replay({}, recording)
    candles: CandleFolder = read_candle_folder(folder)
    return Replay(candles.candles, recording)


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Exit code 0, 2 for a broken folder, 71 for a port in use (surfaces/status.py)."""
    parser = argparse.ArgumentParser(prog="replay_server", description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--port-file", type=Path, help="where to write the port once it listens")
    options = parser.parse_args(arguments)
    try:
        replay = load(options.folder)
        server = ReplayServer(replay.answer, port=options.port)
    except BtcfiError as e:
        print(f"replay server: {e}", file=sys.stderr)  # noqa: T201 - a process's stderr
        return 2
    except OSError as e:
        print(f"replay server: port {options.port}: {e.strerror}; choose another --port", file=sys.stderr)  # noqa: T201
        return 71
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    if options.port_file is not None:
        unfinished = options.port_file.with_suffix(".new")
        unfinished.write_text(str(server.server_port))
        os.replace(unfinished, options.port_file)  # noqa: PTH105 - atomic: a reader sees all or nothing
    print(f"replay server on {server.base_url}", flush=True)  # noqa: T201 - tells a human where it is
    server.serve_forever(poll_interval=0.2)
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
