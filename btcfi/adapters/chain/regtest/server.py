"""The embedded regtest node: Bitcoin Core's consensus engine behind bitcoind's JSON-RPC.

``python -m btcfi.adapters.chain.regtest.server --datadir DIR --port N`` serves HTTP on the loopback, with the user and
password in ``DIR/.cookie`` (mode 0600), as bitcoind does. SIGTERM, SIGINT and the RPC ``stop`` end it cleanly.

What it relays, replaces and mines is what bitcoind does by default; ``-minrelaytxfee``, ``-blockmintxfee``,
``-blockmaxweight`` and ``-mempooltruc`` are bitcoind's settings (the last one Knots'). Stricter than bitcoind: no dust
at all (no ephemeral one), no carve-out beyond 25 descendants, no unusual output scripts.

Not here: peers, wallets, a full pool, expiry from it, and the bracketed detail of a script failure. A chain of a demo
or a test replays in a second at start; this is no node for a long chain.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import fcntl
import hmac
import json
import logging
import secrets
import signal
import sys
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, Final

from btcfi.adapters.chain.node import DatadirInUseError, PortInUseError
from btcfi.adapters.chain.regtest.chain import Chain
from btcfi.adapters.chain.regtest.policy import Policy, Truc
from btcfi.adapters.chain.regtest.rpc import RPC_INVALID_REQUEST, RPC_METHOD_NOT_FOUND, RPC_PARSE_ERROR, Rpc, encode
from btcfi.adapters.chain.regtest.template import COINBASE_RESERVE
from btcfi.adapters.files import make_private, open_private, write_private
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.errors import BtcfiError

EXIT_PORT_IN_USE: Final = 71
EXIT_DATADIR_IN_USE: Final = 73
"""The rows of these errors in ``btcfi.surfaces.status``, which an adapter does not import; a test compares."""

_COIN: Final = 100_000_000

MAX_BODY_BYTES: Final = 32 << 20
"""Largest request that is read; bitcoind's limit (MAX_SIZE)."""


class Server:
    """HTTP/1.1 with keep-alive on the loopback; one request at a time, so the chain needs no lock."""

    def __init__(self, rpc: Rpc, *, credentials: str) -> None:
        self._rpc = rpc
        self._authorization = b"Basic " + base64.b64encode(credentials.encode())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until it closes."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                request, _, rest = head.partition(b"\r\n")
                headers = {
                    name.strip().lower(): value.strip()
                    for name, _, value in (line.partition(b":") for line in rest.split(b"\r\n") if line)
                }
                size = int(headers.get(b"content-length", b"0"))
                if size > MAX_BODY_BYTES:
                    writer.write(_http(413, b"", close=True))
                    break
                body = await reader.readexactly(size)
                close = headers.get(b"connection", b"").lower() == b"close"
                writer.write(self._respond(request, headers, body, close=close))
                await writer.drain()
                if close:
                    break
        except asyncio.CancelledError:
            pass  # the node stops
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            pass  # the client went away or does not speak HTTP: nothing to answer
        finally:
            writer.close()

    def _respond(self, request: bytes, headers: dict[bytes, bytes], body: bytes, *, close: bool) -> bytes:
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._authorization):
            return _http(401, b"", close=close)
        if not request.startswith(b"POST "):
            return _http(405, b"JSONRPC server handles only POST requests", close=close)
        try:
            parsed = json.loads(body)
        except ValueError:
            error = {"code": RPC_PARSE_ERROR, "message": "Parse error"}
            return _http(500, encode({"result": None, "error": error, "id": None}), close=close)
        if isinstance(parsed, list):
            return _http(200, encode([self._rpc.call(one) for one in parsed]), close=close)
        answer = self._rpc.call(parsed)
        fault = answer["error"]
        status = 200
        if isinstance(fault, dict):
            status = {RPC_METHOD_NOT_FOUND: 404, RPC_INVALID_REQUEST: 400}.get(fault["code"], 500)
        return _http(status, encode(answer), close=close)


_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    500: "Internal Server Error",
}


def _http(status: int, body: bytes, *, close: bool) -> bytes:
    extra = 'WWW-Authenticate: Basic realm="jsonrpc"\r\n' if status == 401 else ""  # noqa: PLR2004
    extra += "Connection: close\r\n" if close else ""
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return (head + extra + "\r\n").encode() + body


def write_cookie(datadir: Path) -> str:
    """Write ``user:password`` with a fresh random password to ``datadir/.cookie``, mode 0600, and return it."""
    credentials = f"__cookie__:{secrets.token_hex(32)}"
    path = datadir / ".cookie"
    write_private(path, credentials.encode())
    return credentials


def _lock(datadir: Path) -> IO[bytes]:
    file = open_private(datadir / ".lock")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        file.close()
        raise DatadirInUseError(datadir) from e
    return file


async def _run(datadir: Path, host: str, port: int, policy: Policy) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    chain = Chain(datadir, clock=lambda: int(time.time()), policy=policy)
    try:
        server = Server(Rpc(chain, stop=stopping.set), credentials=write_cookie(datadir))
        try:
            listener = await asyncio.start_server(server.serve, host, port, limit=1 << 16)
        except OSError as e:
            raise PortInUseError(host=host, port=port) from e
        bound = listener.sockets[0].getsockname()[1]
        print(f"btcfi regtest node: http://{host}:{bound} height {chain.tip.height}", flush=True)  # noqa: T201
        await stopping.wait()
        listener.close()
    finally:
        chain.close()
        (datadir / ".cookie").unlink(missing_ok=True)


def _rate(text: str) -> SatsPerKvb:
    try:
        rate = Decimal(text).scaleb(8)
    except InvalidOperation as e:
        raise argparse.ArgumentTypeError(f"{text}: not a number; give BTC/kvB, 0.00001 by default") from e
    if not rate.is_finite() or rate != rate.to_integral_value() or not 0 <= rate < _COIN:
        raise argparse.ArgumentTypeError(f"{text}: give 0 to 0.99999999 BTC/kvB, at most 8 decimals")
    return SatsPerKvb(int(rate))


def _block_weight(text: str) -> int:
    if not text.isdecimal() or not COINBASE_RESERVE <= int(text) <= Policy().block_weight:
        raise argparse.ArgumentTypeError(f"{text}: give {COINBASE_RESERVE} to {Policy().block_weight}")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Run the node until SIGTERM, SIGINT or the RPC ``stop``; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m btcfi.adapters.chain.regtest.server", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--datadir", type=Path, required=True, help="directory of the chain and of the .cookie file")
    parser.add_argument("--port", type=int, required=True, help="TCP port; 0 lets the system choose and prints it")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (the loopback by default)")
    usual = Policy()
    for name, fallback, what in (
        ("-minrelaytxfee", usual.relay_fee, "least fee rate that is relayed, BTC/kvB"),
        ("-blockmintxfee", usual.block_fee, "least fee rate that is mined, BTC/kvB"),
    ):
        parser.add_argument(name, type=_rate, default=fallback, help=f"{what}; %(default)s sat/kvB by default")
    parser.add_argument("-blockmaxweight", type=_block_weight, default=usual.block_weight, help="weight of a block")
    parser.add_argument("-mempooltruc", type=Truc, choices=list(Truc), default=usual.truc, help="rules of version 3")
    arguments = parser.parse_args(argv)
    policy = Policy(
        relay_fee=arguments.minrelaytxfee,
        block_fee=arguments.blockmintxfee,
        block_weight=arguments.blockmaxweight,
        truc=arguments.mempooltruc,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s")
    try:
        make_private(arguments.datadir, named=True)
        with _lock(arguments.datadir):
            asyncio.run(_run(arguments.datadir, arguments.host, arguments.port, policy))
    except (BtcfiError, OSError) as e:
        print(f"btcfi regtest node: {e}", file=sys.stderr)  # noqa: T201 - this process's error line
        return {PortInUseError: EXIT_PORT_IN_USE, DatadirInUseError: EXIT_DATADIR_IN_USE}.get(type(e), 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
