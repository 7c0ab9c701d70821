"""``btcfi serve`` under a flood: 150 bodies that never end and 30 sign-ins at once, while others ask for premiums.

The server is the real process, with API and console, on the loopback. The flood comes from 127.1.0.1 and its
neighbours, those who measure are four others. An attacker that is turned away comes again after a second. A request
of the others is due on the clock whether or not earlier ones were answered, and its latency counts from then.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

import psutil

from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Store
from btcfi.units import UnixSeconds
from dashboards.operator import accounts
from tests.benchmarks import Row
from tests.support.paths import ROOT

BODIES = 150
ADDRESSES = 10
"""From which the bodies come, as many from each."""

SIGN_INS = 30
CALLERS = 4
PER_SECOND = 20
SECONDS = 10
BODY_BYTES = 4 << 20
"""What a proof may have: the largest body that any request may bring."""

SLOT = 1_767_571_200
MOST_MB, MOST_MS = 600, 500
ASKED = f"/api/premium?strike=55000&expiry={SLOT + 86_400}&type=call"


def rows() -> list[Row]:
    """Return ``api.flood_rss_mb`` and ``api.flood_p99_ms``."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[Row]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("BTCFI_", "DATABASE_", "BROKER_"))}
    environment |= {"BTCFI_DATA_DIR": str(folder), "BTCFI_REPLAY_CLOCK": "true", "PYTHONPATH": str(ROOT)}
    _fill(folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"from workers.commands.serve import serve; serve(host='127.0.0.1', port={port})",
        cwd=ROOT, env=environment, stdout=DEVNULL, stderr=DEVNULL,
    )  # fmt: skip
    try:
        return await _flooded(port, psutil.Process(server.pid))
    finally:
        server.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(server.wait(), 15)
        if server.returncode is None:
            server.kill()
            await server.wait()


async def _flooded(port: int, process: psutil.Process) -> list[Row]:
    for _ in range(300):
        with suppress(OSError):
            await _get(port, ASKED)
            break
        await asyncio.sleep(0.1)
    for _ in range(20):
        await _get(port, ASKED)
    quiet = process.memory_info().rss / 1e6
    most = [quiet]
    watch = asyncio.create_task(_watch(process, most))
    attack = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.flood", str(port), cwd=ROOT, stdin=PIPE, stdout=PIPE
    )  # fmt: skip
    assert attack.stdout is not None
    await attack.stdout.readline()
    try:
        latencies = await _others(port)
    finally:
        said, _ = await attack.communicate(b"enough\n")
        watch.cancel()
    refused, hashed = map(int, said.split())
    latencies.sort()
    p50, p99 = latencies[len(latencies) // 2] * 1e3, latencies[int(len(latencies) * 0.99)] * 1e3
    under = f"{BODIES} slow bodies, {SIGN_INS} sign-ins at once"
    return [
        Row(
            name="api.flood_rss_mb", value=max(most), against=f"target {MOST_MB}", ratio=MOST_MB / max(most),
            unit=f"MB, largest under {under} (quiet {quiet:.0f}; {refused} bodies refused, {hashed} passwords hashed)",
        ),
        Row(
            name="api.flood_p99_ms", value=p99, against=f"target {MOST_MS}", ratio=MOST_MS / p99,
            unit=f"ms, other callers' premiums meanwhile, {PER_SECOND}/s (median {p50:.1f})",
        ),
    ]  # fmt: skip


async def _attack(port: int) -> None:
    """Flood until a line comes; a process of its own, so that its work is not in what is measured."""
    counts = {"refused": 0, "hashed": 0}
    flood = [asyncio.create_task(_body(port, f"127.1.0.{1 + n % ADDRESSES}", counts)) for n in range(BODIES)]
    flood.append(asyncio.create_task(_sign_ins(port, counts)))
    await asyncio.sleep(0.3)
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    sys.stdout.write(f"{counts['refused']} {counts['hashed']}\n")


async def _watch(process: psutil.Process, most: list[float]) -> None:
    while True:
        most.append(process.memory_info().rss / 1e6)
        await asyncio.sleep(0.02)


async def _body(port: int, address: str, counts: dict[str, int]) -> None:
    """Send all but the last byte of a body, as fast as it is taken, and wait; begin again when turned away."""
    head = (
        f"POST /api/v1/proofs/verify HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {BODY_BYTES}\r\n\r\n"
    )
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            try:
                writer.write(head.encode())
                for _ in range(BODY_BYTES // 65_536):
                    writer.write(b" " * 65_535)
                    await writer.drain()
                await reader.read()
            finally:
                counts["refused"] += 1
                writer.transport.abort()
        await asyncio.sleep(1)


async def _sign_ins(port: int, counts: dict[str, int]) -> None:
    """Guess the password of one account, ``SIGN_INS`` guesses at once, again and again."""
    while True:
        form = await _get(port, "/sign-in")
        cookie = re.search(r"btcfi_sign_in=([^;]+)", form)
        token = re.search(r'name="csrf" value="([^"]+)"', form)
        body = urlencode({"csrf": token[1] if token else "", "name": "ada", "password": "a guess of a password"})
        head = (
            f"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
            f"Cookie: btcfi_sign_in={cookie[1] if cookie else ''}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        said = await asyncio.gather(
            *(_say(port, head, address="127.2.0.1") for _ in range(SIGN_INS)), return_exceptions=True
        )
        counts["hashed"] += sum(isinstance(one, str) and one.startswith("HTTP/1.1 401") for one in said)
        await asyncio.sleep(1)


async def _others(port: int) -> list[float]:
    latencies: list[float] = []

    async def ask(due: float, address: str) -> None:
        answer = await _get(port, ASKED, address=address)
        latencies.append(time.perf_counter() - due)
        if not answer.startswith("HTTP/1.1 200"):
            raise ConnectionError(answer[:200])

    start, running = time.perf_counter() + 0.1, []
    for i in range(PER_SECOND * SECONDS):
        due = start + i / PER_SECOND
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        running.append(asyncio.create_task(ask(due, f"127.0.0.{1 + i % CALLERS}")))
    await asyncio.gather(*running)
    return latencies


async def _get(port: int, path: str, *, address: str = "127.0.0.1") -> str:
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    return await _say(port, head, address=address)


async def _say(port: int, request: str, *, address: str = "127.0.0.1") -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    try:
        writer.write(request.encode())
        return (await asyncio.wait_for(reader.read(), 60)).decode(errors="replace")
    finally:
        writer.close()


def _fill(folder: Path) -> None:
    store = Store(f"sqlite:///{folder / 'btcfi.db'}")
    store.migrate()
    with store.transaction() as session:
        session.add(
            RoundRow(
                feed="BTC/USD", slot=SLOT, state="priced", price_cents=5_700_000, low_cents=5_690_000,
                high_cents=5_710_000, deadline_unix=SLOT, opened_at_unix=SLOT, closed_at_unix=SLOT,
            )
        )  # fmt: skip
    now = UnixSeconds(int(time.time()))
    accounts.add_account(store, "ada", "correct horse battery", ("read",), now=now, by="bench")
    store.close()


if __name__ == "__main__":
    asyncio.run(_attack(int(sys.argv[1])))
