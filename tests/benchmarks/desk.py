"""A market's desk over HTTP on the loopback: offers that a maker posts in batches, and chain and book with 5,000 open.

The server is a process of its own with its store in SQLite; the maker's signatures are made before the clock runs, the
server's checks are what is measured.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import uvicorn

from btcfi.adapters.signed_http import RequestSigner
from btcfi.market.account import encode_signed_registration
from btcfi.market.firm_offer import Side, encode_signed_offer
from btcfi.market.instrument import parse_instrument
from btcfi.market.listing import listed
from btcfi.surfaces.rest.app import create_app
from btcfi.surfaces.rest.deps import Limits
from settings.market_preset import load_market_preset
from tests.benchmarks import Row, row_of
from tests.support.accounts import DESK, Trader, trader
from tests.support.market_world import with_market
from tests.support.rest_world import NOW, SPOT, make_world

OFFERS = 5_000
BATCH = 500
PAGES = 40
"""Requests of each page."""
DAY = 86_400


def rows() -> list[Row]:
    """Return ``offers.per_s`` and ``desk.page_p95_ms``."""
    maker = trader("maker")
    names = [one.name for one in listed(load_market_preset("standard").listing, NOW, SPOT)]
    with tempfile.TemporaryDirectory() as folder, _served(Path(folder)) as url:
        signer = RequestSigner(
            identity=maker.identity, request_secret=maker.keystore.request_secret(), desk=DESK, clock=lambda: NOW
        )
        with httpx.Client(base_url=f"{url}/api/v1", timeout=60) as http:
            http.post("/accounts", json=encode_signed_registration(maker.registered(at=NOW))).raise_for_status()
            rates = []
            for batch in _batches(maker, names):
                started = time.perf_counter()
                answer = http.post("/offers", content=batch, headers={"Content-Type": "application/json"}, auth=signer)
                rates.append(BATCH / (time.perf_counter() - started))
                refused = [one for one in answer.raise_for_status().json()["results"] if one["state"] != "open"]
                if refused:
                    raise RuntimeError(refused[0])
            return [
                row_of("offers.per_s", rates, unit=f"1/s, in batches of {BATCH}", at_least=2_000),
                _pages(http, names),
            ]


def _batches(maker: Trader, names: list[str]) -> list[bytes]:
    """Return the bodies of all offers: both sides of every listed instrument, at prices that differ."""
    made = []
    for n in range(OFFERS):
        side = Side.ASK if n % 2 else Side.BID
        name = names[n // 2 % len(names)]
        over = min(parse_instrument(name).expiry, NOW + DAY)
        # the two prices of one offer lie on the market's price
        sats = 1_000_000 + 1_000 * (n // len(names)) * (1 if side is Side.ASK else -1)
        signed = maker.offer(
            name, side, price=sats, price_cents=sats * SPOT // 10**8, valid_until=over, number=n + 1, quantity=50
        )  # fmt: skip
        made.append(encode_signed_offer(signed))
    return [json.dumps({"offers": made[at : at + BATCH]}).encode() for at in range(0, OFFERS, BATCH)]


def _pages(http: httpx.Client, names: list[str]) -> Row:
    busiest = max(names, key=lambda name: len(http.get(f"/book/{name}").json()["asks"]))
    expiry = parse_instrument(busiest).expiry
    times: dict[str, list[float]] = {}
    for _ in range(PAGES):
        for path in (f"/chain?expiry={expiry}", f"/book/{busiest}"):
            started = time.perf_counter()
            http.get(path).raise_for_status()
            times.setdefault(path.partition("?")[0].split("/")[1], []).append((time.perf_counter() - started) * 1e3)
    p95 = {page: float(np.percentile(of, 95)) for page, of in times.items()}
    worst = max(p95.values())
    each = ", ".join(f"{page} {value:.1f}" for page, value in p95.items())
    return Row(
        name="desk.page_p95_ms", value=worst, unit=f"ms at {OFFERS:,} offers ({each})", against="target 150",
        ratio=150 / worst,
    )  # fmt: skip


@contextmanager
def _served(folder: Path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.desk", str(folder), str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def serve(folder: str, port: int) -> None:
    """Serve a market without offers until terminated."""
    world = with_market(make_world(Path(folder)))
    limits = Limits(anonymous_requests_per_minute=10**9, registrations_per_minute=10**9)
    deps = replace(world.deps, monotonic=time.monotonic, limits=limits)
    uvicorn.run(create_app(deps), host="127.0.0.1", port=port, log_config=None, access_log=False)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
