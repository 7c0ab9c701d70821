"""One Friday 08:00: many options of one minute between some parties, due in one transaction, until all are proven.

``python -m tests.benchmarks.friday --options 20000 --parties 50``. Real: the store, the broker, the relay, the settle
worker's processes; each settlement is claimed, run on both executors, traced, hashed, and its proof file stored. Not
here: contracts (each costs its two parties half a second before it can settle), so nothing is built or sent. What a
block holds of them says ``btcfi simulate friday``, which takes what this prints.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from typing import Any

from sqlalchemy import insert

from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import Work, enqueue
from btcfi.units import UnixSeconds
from tests.benchmarks.__main__ import _commit, _machine
from tests.benchmarks.load import cpu_seconds, machine_seconds, memory, say
from tests.benchmarks.throughput import (
    BATCH,
    WARM_EACH,
    _option,
    _settlement,
    cluster_without_contracts,
    make_due,
    proven,
    wait_for,
)
from workers.chaos.parallel import own_database
from workers.machine.cluster import Cluster
from workers.roles import SETTLE

LIMIT_SECONDS = 600.0
"""After it what is proven is printed as it is, and the command fails."""
SAMPLE_SECONDS = 2.0


def all_due(store: Store, numbers: range, *, parties: int) -> None:
    """Have settlements of options between some parties stand as due and queue them, in one transaction."""
    now = int(time.time())
    pairs = [(one, other) for one in range(parties) for other in range(one + 1, parties)]
    ids = [f"st-o{number}" for number in numbers]

    def owned(number: int) -> dict[str, object]:
        writer, holder = pairs[number % len(pairs)][:: -1 if number // len(pairs) % 2 else 1]
        return _option(number, writer=f"party-{writer}", holder=f"party-{holder}")

    with store.transaction() as session:
        session.execute(insert(OptionRow), [owned(number) for number in numbers])
        session.execute(insert(SettlementRow), [_settlement(number, now) for number in numbers])
        batches = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
        enqueue(session, [Work(flow="settle", arguments=(some,)) for some in batches], now=UnixSeconds(now))


def friday(many: int, *, parties: int, processes: int, database_url: str | None, limit: float) -> dict[str, Any]:
    """Prove what is due at once; return seconds, rate, memory by sample and processor time by part."""
    with own_database(database_url) as url, cluster_without_contracts(processes, url) as (store, _, cluster):
        warm = WARM_EACH * processes
        make_due(store, range(warm), batch=1)
        wait_for(lambda: proven(store) == warm)
        spent, busy, first = cpu_seconds(cluster), machine_seconds(), memory(cluster)[SETTLE]
        inserting = time.monotonic()
        all_due(store, range(warm, warm + many), parties=parties)
        began = time.monotonic()
        samples = _watch(store, cluster, warm, many, began, limit)
        seconds = time.monotonic() - began
        used, busy = cpu_seconds(cluster), machine_seconds() - busy
        done = proven(store) - warm
    half = [one["rss_mb"] for one in samples[len(samples) // 2 :]]
    slope = statistics.linear_regression(range(len(half)), half).slope if len(half) > 1 else 0.0
    return {
        "store": "PostgreSQL" if url else "SQLite", "options": many, "parties": parties, "settle_processes": processes,
        "proven": done, "insert_s": round(began - inserting, 2), "due_to_proven_s": round(seconds, 2),
        "proven_per_s": round(done / seconds, 1), "rss_mb_first": first, "samples": samples,
        "second_half_mb_per_sample": round(slope, 3),
        "cpu_s": {name: round(used[name] - spent.get(name, 0.0), 2) for name in used},
        "settle_cpu_ms_each": round((used[SETTLE] - spent.get(SETTLE, 0.0)) / max(done, 1) * 1000, 3),
        "machine_busy_s": round(busy, 1), "machine_had_s": round(seconds * (os.cpu_count() or 1), 1),
    }  # fmt: skip


def _watch(  # noqa: PLR0917 - called once, right above
    store: Store, cluster: Cluster, warm: int, many: int, began: float, limit: float
) -> list[dict[str, Any]]:
    samples: list[dict[str, Any]] = []
    while (done := proven(store) - warm) < many and time.monotonic() - began < limit:
        rss = memory(cluster)[SETTLE]
        samples.append({"s": round(time.monotonic() - began, 1), "proven": done, "rss_mb": rss})
        if len(samples) % 5 == 1:
            say(f"{done} of {many} proven, {rss} MB")
        time.sleep(SAMPLE_SECONDS)
    samples.append({"s": round(time.monotonic() - began, 1), "proven": done, "rss_mb": memory(cluster)[SETTLE]})
    return samples


def main() -> int:
    """Measure and print JSON; 1 when something was not proven."""
    asked = argparse.ArgumentParser(prog="python -m tests.benchmarks.friday", description="One Friday, until proven.")
    asked.add_argument("--options", type=int, default=20_000)
    asked.add_argument("--parties", type=int, default=50)
    asked.add_argument("--processes", type=int, default=2, help="of the settle worker")
    asked.add_argument("--postgresql", action="store_true", help="on the server of BTCFI_TEST_DATABASE_URL")
    asked.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds after which it is given up")
    given = asked.parse_args()
    url = os.environ.get("BTCFI_TEST_DATABASE_URL") if given.postgresql else None
    if given.postgresql and not url:
        asked.error("--postgresql needs BTCFI_TEST_DATABASE_URL: the URL of a server for tests")
    found = friday(given.options, parties=given.parties, processes=given.processes, database_url=url, limit=given.limit)
    where = {"machine": _machine(), "commit": _commit(), "date": time.strftime("%Y-%m-%d")}
    print(json.dumps({**found, **where}, indent=1))
    return int(found["proven"] != given.options)


if __name__ == "__main__":
    sys.exit(main())
