"""The console over a large store: how long pages take, and how soon a change in the store is on a live page.

10,000 open options and 100,000 settled ones (a settlement is of one option) with their settlements and a day of
minutes, in SQLite. Pages are asked for one after another through the whole application, sign-in check included;
what the network adds is not measured.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from sqlalchemy import insert

from btcfi.adapters.store.options.tables import OptionRow, PremiumRow, SettlementRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import record
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.units import UnixSeconds
from dashboards.operator import accounts
from dashboards.operator.console import Console
from dashboards.operator.pages_now import snapshot
from tests.benchmarks import Row, row_of
from tests.support.console_world import ConsoleWorld, fill_store, open_world

OPEN = 10_000
SETTLED = 100_000
ROUNDS = 1_440
REPEATS = 12
CHANGES = 15
PAGES = (
    "/", "/prices", "/prices/data?span=24h", "/options", "/options?state=ACTIVE&kind=put", "/options?id=s00007",
    "/options/o000123", "/options/s000123", "/options/new", "/settlements", "/settlements?state=parked",
    "/settlements/st-s000123", "/risk", "/operate",
)  # fmt: skip
BATCH = 10_000


def rows() -> list[Row]:
    """Return ``console.page_p95_ms`` and ``console.live_update_ms``."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "console.db"
        now = fill_store(file)
        _fill(file, now)
        world = open_world(file, now)
        try:
            return [*_pages(world), _live(world)]
        finally:
            world.store.close()


def _pages(world: ConsoleWorld) -> list[Row]:
    client = world.signed_in()
    times: dict[str, list[float]] = {}
    for path in PAGES:
        assert client.get(path).status_code == 200, path
        for _ in range(REPEATS):
            started = time.perf_counter()
            client.get(path)
            times.setdefault(path, []).append((time.perf_counter() - started) * 1e3)
    slowest = max(times, key=lambda path: median(times[path]))
    every = [one for of in times.values() for one in of]
    p95 = float(np.percentile(every, 95))
    return [
        Row(
            name="console.page_p95_ms",
            value=p95,
            unit=f"ms, {len(PAGES)} pages (slowest {slowest}: median {median(times[slowest]):.0f})",
            against="target 150",
            ratio=150 / p95,
            repeats=len(every),
        )
    ]


def _live(world: ConsoleWorld) -> Row:
    """Time from the commit of a change to the bytes of the event that shows it."""
    console: Console = world.app.state.console
    base = world.signed_in()

    async def watch() -> list[float]:
        taken = []
        request = _Request(world, base.cookies["btcfi_session"])
        stream = console.live.stream(
            request, "bench", lambda: {"events": console.draw("parts/events.html", **snapshot(console))}
        )
        body = stream.body_iterator
        async with asyncio.timeout(30):
            await _until(body, "event: events")
            for n in range(CHANGES):
                mark = f"change-{n}"
                await asyncio.sleep(0.13 * (n % 3))

                def change(mark: str = mark) -> None:
                    with world.store.transaction() as session:
                        record(session, "option", mark, "ACTIVE", now=UnixSeconds(world.now))

                await asyncio.to_thread(change)
                started = time.perf_counter()
                await _until(body, mark)
                taken.append((time.perf_counter() - started) * 1e3)
        await body.aclose()
        return taken

    return row_of("console.live_update_ms", asyncio.run(watch()), unit="ms", against="target 1000", at_most=1_000)


class _Request:
    """As much of a request as a stream looks at."""

    def __init__(self, world: ConsoleWorld, token: str) -> None:
        self.app, self.cookies, self.client = world.app, {"btcfi_session": token}, None

    async def is_disconnected(self) -> bool:
        return False


async def _until(body, text: str) -> None:
    async for part in body:
        if text in part:
            return


def _fill(file: Path, now: int) -> None:
    store = Store(f"sqlite:///{file}")
    accounts.list_accounts(store)
    with store.transaction() as session:
        first = session.query(RoundRow).order_by(RoundRow.slot).first()
        report = json.loads(first.report)
        price = first.price_cents
        wave = (price * (1 + 0.05 * np.sin(np.arange(ROUNDS) / 90))).astype(int)
        session.execute(
            insert(RoundRow),
            [
                {
                    "feed": first.feed, "slot": first.slot - 60 * (ROUNDS - n), "state": "priced",
                    "price_cents": int(wave[n]), "low_cents": int(wave[n]) - 900, "high_cents": int(wave[n]) + 900,
                    "report": json.dumps(report | {"price": int(wave[n])}), "attempts": 1, "deadline_unix": now,
                    "opened_at_unix": now, "closed_at_unix": now,
                }
                for n in range(ROUNDS)
            ],
        )  # fmt: skip
        for start in range(0, OPEN + SETTLED, BATCH):
            numbers = range(start, min(start + BATCH, OPEN + SETTLED))
            session.execute(insert(OptionRow), [_option(n, first.feed, price, now) for n in numbers])
            settled = [n - OPEN for n in numbers if n >= OPEN]
            if settled:
                session.execute(insert(SettlementRow), [_settlement(n, price, now) for n in settled])
                session.execute(insert(EventRow), [_event(n, now) for n in settled])
            else:
                session.execute(insert(PremiumRow), [_premium(n, now) for n in numbers])
    store.close()


def _option(n: int, feed: str, price: int, now: int) -> dict[str, object]:
    is_open = n < OPEN
    return {
        "id": f"o{n:06d}" if is_open else f"s{n - OPEN:06d}", "feed": feed,
        "state": ("ACTIVE" if n % 20 else "CREATED") if is_open else ("EXERCISED" if n % 2 else "ABANDONED"),
        "kind": n % 4, "strike_cents": price + (n % 401 - 200) * 1_000, "quantity_centi_btc": 1 + n % 50,
        "barrier_cents": None, "american": False, "expiry_unix": now // 60 * 60 + 60 * (1 + n % 10_000),
        "premium_cents": 1_000 + n % 997, "premium_sats": 2_000, "collateral_sats": 5_000_000 * (1 + n % 50) // 5,
        "volatility_bps": 6_000, "rate_bps": 300, "preset": "bench", "preset_sha256": "00" * 32,
        "program": "option_settlement", "program_sha256": "00" * 32, "created_at_unix": now - n // 3,
        "listed_slot": now // 60 * 60 - 60, "updated_at_unix": now,
    }  # fmt: skip


def _settlement(n: int, price: int, now: int) -> dict[str, object]:
    return {
        "id": f"st-s{n:06d}", "option_id": f"s{n:06d}", "state": "parked" if n % 5_000 == 0 else "confirmed",
        "reason": "expiry", "slot": now // 60 * 60 - 60, "price_cents": price, "input_hex": "00" * 64, "attempts": 1,
        "fence": 1, "retry_at_unix": 0, "payout_cents": n % 1_000, "payout_sats": n % 1_000, "steps": 491,
        "proof_root": f"{n:064x}", "txid": f"{n + 1:064x}", "created_at_unix": now - n // 3, "updated_at_unix": now,
    }  # fmt: skip


def _event(n: int, now: int) -> dict[str, object]:
    return {
        "entity": "settlement", "entity_id": f"st-s{n:06d}", "from_state": "broadcast", "to_state": "confirmed",
        "fence": 1, "at_unix": now, "detail": "",
    }  # fmt: skip


def _premium(n: int, now: int) -> dict[str, object]:
    return {
        "option_id": f"o{n:06d}", "slot": now // 60 * 60 - 60, "premium_cents": 1_000, "delta": 0.5, "gamma": 0.0001,
        "vega": 1.0, "theta": -2.0, "rho": 0.1, "priced_at_unix": now,
    }  # fmt: skip
