"""Latency of GET /api/premium at a steady 200 requests a second: the server in its own process, an open loop outside.

A request is due on the clock whether or not earlier ones were answered, and its latency counts from when it was due.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL
from dataclasses import replace
from pathlib import Path

import uvicorn

from btcfi.surfaces.rest.app import create_app
from btcfi.surfaces.rest.deps import Limits
from tests.benchmarks import Row
from tests.support.rest_world import make_world

PER_SECOND = 200
SECONDS = 6
WARM_UP = 200
CONNECTIONS = 16
REQUEST = (
    b"GET /api/premium?strike=70000&expiry=2027-01-01T08:00:00Z&type=call HTTP/1.1\r\nHost: localhost\r\n\r\n"
)  # fmt: skip


async def measure() -> list[Row]:
    """Return the row ``api.premium_p99_ms``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.benchmarks.pricing_api", folder, str(port), stdout=DEVNULL, stderr=DEVNULL
        )
        try:
            latencies = await _load(port)
        finally:
            server.terminate()
            await server.wait()
    latencies.sort()
    p50, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    return [
        Row(
            name="api.premium_p99_ms",
            value=p99 * 1e3,
            unit=f"ms at {PER_SECOND} requests/s (median {p50 * 1e3:.1f})",
            against="target",
            ratio=0.010 / p99,
        )
    ]


async def _load(port: int) -> list[float]:
    lines: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        lines.put_nowait(await _connect(port))
    latencies: list[float] = []

    async def ask(due: float) -> None:
        reader, writer = await lines.get()
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        latencies.append(time.perf_counter() - due)
        lines.put_nowait((reader, writer))
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(head.decode())

    for _ in range(WARM_UP):
        await ask(time.perf_counter())
    latencies.clear()
    start = time.perf_counter() + 0.1
    running = []
    for i in range(PER_SECOND * SECONDS):
        due = start + i / PER_SECOND
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        running.append(asyncio.create_task(ask(due)))
    await asyncio.gather(*running)
    while not lines.empty():
        lines.get_nowait()[1].close()
    return latencies


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for _ in range(300):
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            await asyncio.sleep(0.1)
    message = "the API did not start within 30 s"
    raise ConnectionError(message)


def serve(folder: str, port: int) -> None:
    """Serve the API of a priced market until terminated."""
    world = make_world(Path(folder))
    limits = Limits(anonymous_requests_per_minute=10**9)
    deps = replace(world.deps, monotonic=time.monotonic, limits=limits)
    uvicorn.run(create_app(deps), host="127.0.0.1", port=port, log_config=None, access_log=False)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
