"""A local HTTP server that answers the exchanges' real REST endpoints from recorded or SIMULATED candles.

``python -m btcfi.adapters.venues.replay_server --folder FOLDER --port 0 --port-file FILE``, or ``--simulate SEED``

The first path segment names the exchange (``/kraken/0/public/OHLC``), the rest is the exchange's own path. The clock of
the recording stands where the request's time window stands: a client that asks for a minute gets that minute's
candle and the one after it, which at that moment would still be in progress, as the real exchanges send it.

A folder may hold CSVs (``candle_folder.py``), raw responses (``recorder.py``), or both; a raw response, where there is
one for the minute, is sent byte for byte. A simulated market has every minute (``oracle/venues/synthetic.py``).
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import time
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from btcfi.adapters.files import write_private
from btcfi.adapters.venues.candle_folder import CandleFolder, read_candle_folder
from btcfi.adapters.venues.recorder import Recording, read_recording
from btcfi.adapters.venues.rest import MINUTE_HEADER
from btcfi.errors import BtcfiError
from btcfi.oracle.quote import VenueId
from btcfi.oracle.venues import EXCHANGES, exchange_of
from btcfi.oracle.venues.evidence import opened
from btcfi.oracle.venues.recorded import Answer, Candle, Shelf, json_answer
from btcfi.oracle.venues.synthetic import simulated_market
from btcfi.units import SECONDS_PER_MINUTE, Slot

LOOPBACK: Final = "127.0.0.1"
"""The server stands in for exchanges on this machine only."""

CLOSED_AFTER: Final = SECONDS_PER_MINUTE + 2
"""Seconds from a minute's opening to where the recording's clock stands when that minute is asked for."""

MINUTE_DIGITS: Final = 12
"""Digits that no Unix second of ours has."""


class Replay:
    """The answers, made from candles; apart from the sockets, so that a test can ask it directly."""

    def __init__(self, candles: Mapping[VenueId, Mapping[Slot, Candle]], recording: Recording | None = None) -> None:
        self._candles = dict(candles)
        self._recording = recording
        for venue in recording.venues if recording is not None else ():
            self._candles.setdefault(venue, {})

    def answer(self, target: str, at: int | None = None) -> Answer:
        """Return status and body for a request target. Never raises; what we do not serve is a 404.

        at: the minute that the client is at, for an exchange whose request names none.
        """
        try:
            parts = urlsplit(target)
            name, _, path = parts.path.lstrip("/").partition("/")
            query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            if name not in EXCHANGES:
                return json_answer(404, {"message": f"no exchange {name!r} here"})
            return EXCHANGES[name].replay(self._shelf(name, at), unquote(path), query)
        except (ValueError, LookupError) as e:
            return json_answer(400, {"message": f"{type(e).__name__}: {e}"})

    def _shelf(self, exchange: str, at: int | None) -> Shelf:
        mine = {venue: rows for venue, rows in self._candles.items() if venue.exchange == exchange}
        return Shelf(candles=mine, response=self._response, now=time(), at=at)

    def _response(self, venue: VenueId, at: Slot) -> Answer | None:
        raw = self._recording.response(venue, at) if self._recording is not None else None
        if raw is None:
            return None
        response = opened(raw)
        return response.status, response.body


def candle_target(venue: VenueId, at: Slot) -> str:
    """Return the request target by which a client asks this server for ``at`` and the minute after it."""
    exchange = exchange_of(venue.exchange)
    return f"/{exchange.name}{exchange.target(exchange.market_names(venue)[0], at)}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive, as the exchanges do
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    timeout = 60
    server: ReplayServer

    def do_GET(self) -> None:
        said = self.headers.get(MINUTE_HEADER, "")
        is_minute = said.isascii() and said.isdigit() and len(said) < MINUTE_DIGITS
        at = int(said) if is_minute else None
        status, body = self.server.answer(self.path, at)
        self.send_response_only(status)
        # the same minute is the same evidence in every run: its Date is the recording's too
        self.send_header("Date", formatdate(time() if at is None else at + CLOSED_AFTER, usegmt=True))
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

    def __init__(self, answer: Callable[[str, int | None], Answer], *, port: int = 0) -> None:
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


def simulate(seed: int) -> Replay:
    """Return the answers of the simulated market of a seed; a request without a window sees it up to this moment."""
    return Replay(simulated_market(seed, lambda: Slot((int(time()) // SECONDS_PER_MINUTE - 1) * SECONDS_PER_MINUTE)))


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Exit code 0, 2 for a broken folder, 71 for a port in use (surfaces/status.py)."""
    parser = argparse.ArgumentParser(prog="replay_server", description=__doc__.split("\n", 1)[0] if __doc__ else None)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", type=Path, help="of CSVs, raw responses or both")
    source.add_argument("--simulate", type=int, metavar="SEED", help="a market without an end instead")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--port-file", type=Path, help="where to write the port once it listens")
    options = parser.parse_args(arguments)
    try:
        replay = simulate(options.simulate) if options.folder is None else load(options.folder)
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
        # whole or not at all: a reader sees no half of it
        write_private(options.port_file, str(server.server_port).encode())
    print(f"replay server on {server.base_url}", flush=True)  # noqa: T201 - tells a human where it is
    server.serve_forever(poll_interval=0.2)
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
