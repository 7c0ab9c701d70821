"""Settlements a second from due to proven, with any number of settle processes, on SQLite or PostgreSQL.

    python -m tests.benchmarks.fleet --processes 1 2 4 --settlements 2000 [--postgresql]

There is one way of measuring it, here, and the rows ``pipeline.due_to_proven_per_s`` of the bench and the long run of
``tests/benchmarks/load.py`` use it. Settlements without contracts become due a thousand at a time, in one transaction,
and are published at once by the process that committed it, as ``options.expire_due`` does. The clock runs from that
commit until the store says that all are proven: claimed, run on both executors, traced, hashed, proof stored, by real
workers over a real broker. Nothing else runs in the cluster meanwhile. Rates depend on what else the cores do; the
processor time of each part for one settlement, beside them, hardly does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil
from sqlalchemy import func, insert, make_url, select
from sqlmodel import col

from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import Work, enqueue
from btcfi.adapters.venues.candle_folder import read_candle_folder, venues_for_replay
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.options.expiry import settlement_input
from btcfi.options.terms import OptionKind, OptionTerms, required_collateral
from btcfi.oracle.quote import Feed
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Slot, UnixSeconds
from btcfi.vm.program import load_program
from settings.deployment import Deployment
from settings.preset import load_preset
from tasks.pipeline import publish_pending
from workers.chaos.parallel import own_database
from workers.machine.cluster import Cluster
from workers.machine.part import Part
from workers.roles import CONTROL, PRICES, SETTLE

FEED: Final = Feed("BTC/USD")
FIRST: Final = Slot(1_700_000_040)
PRESET: Final = load_preset("standard")
PROGRAM: Final = load_program("option_settlement")
"""An option is settled by the preset and the program that its row names by hash."""

BATCH: Final = PRESET.batch_size
WARM_EACH: Final = 12
"""Settlements a process before the clock runs, one a message: each process compiles and loads once."""

AT_A_TIME: Final = 1_000
"""Settlements that become due together."""

PROCESSES: Final = (1, 2, 4)
EMBEDDED: Final = 2
"""Settle processes of a deployment that says nothing else."""

SETTLEMENTS: Final = 2_000
LIMIT_SECONDS: Final = 120

HARNESS: Final = "harness"
DATABASE: Final = "postgresql"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What settling many took, from due to proven."""

    settlements: int
    seconds: float
    """While any of them was due and not proven."""
    cpu_seconds: dict[str, float]
    """Of each part of the cluster in that time, of this harness, and of PostgreSQL's connections."""
    per_thousand: list[float] = field(default_factory=list)
    """The seconds of each thousand."""

    @property
    def per_s(self) -> float:
        """Settlements a second."""
        return self.settlements / self.seconds

    @property
    def cpu_us(self) -> dict[str, float]:
        """Microseconds of processor time for one settlement, by part."""
        return {name: round(spent * 1e6 / self.settlements, 1) for name, spent in self.cpu_seconds.items()}


def due_to_proven(
    store: Store, cluster: Cluster, *, first: int, settlements: int, each: Callable[[int], None] = lambda _done: None
) -> Proven:
    """Settle ``settlements`` numbered from ``first``, a thousand at a time; ``each`` is told how many are done.

    The store must hold ``first`` proven ones, and nothing that is due. Raises TimeoutError.
    """
    before, seconds = cpu_seconds(cluster, store), []
    for start in range(first, first + settlements, AT_A_TIME):
        upto = min(start + AT_A_TIME, first + settlements)
        began = make_due(store, range(start, upto), batch=BATCH)
        publish_pending(store, store.now())
        wait_for(lambda goal=upto: proven(store) >= goal)  # type: ignore[misc]
        seconds.append(time.monotonic() - began)
        each(upto - first)
    after = cpu_seconds(cluster, store)
    spent = {name: after[name] - before.get(name, 0.0) for name in after}
    return Proven(settlements=settlements, seconds=sum(seconds), cpu_seconds=spent, per_thousand=seconds)


def warm_up(store: Store, processes: int) -> int:
    """Settle a few in each process; return how many."""
    warm = WARM_EACH * processes
    make_due(store, range(warm), batch=1)
    publish_pending(store, store.now())
    wait_for(lambda: proven(store) == warm)
    return warm


# ---- settlements without contracts


def option_row(number: int, **changes: object) -> dict[str, object]:
    """Return an option's row, expired and listed in one minute."""
    return {
        "id": f"o{number}", "feed": FEED, "state": "EXPIRED", "kind": 0, "strike_cents": 5_000_000 + number,
        "quantity_centi_btc": 1, "american": False, "expiry_unix": FIRST, "premium_cents": 1, "premium_sats": 1_000,
        "collateral_sats": 1_000_000, "volatility_bps": 6_000, "rate_bps": 500, "preset": "standard",
        "preset_sha256": PRESET.sha256, "program": PROGRAM.name, "program_sha256": PROGRAM.program_hash.hex(),
        "created_at_unix": FIRST, "listed_slot": FIRST, "updated_at_unix": FIRST, **changes,
    }  # fmt: skip


def settlement_row(number: int, now: int) -> dict[str, object]:
    """Return a settlement's row, due, of another kind and strike for each number."""
    price = CentsPerBtc(6_000_000)
    kind, quantity = OptionKind(number % 4), CentiBtc(1)
    terms = OptionTerms(
        kind=kind, strike=CentsPerBtc(5_500_000 + 1_000 * number), quantity=quantity, barrier=None, american=False,
        expiry=FIRST, premium=Cents(100), collateral=required_collateral(kind, quantity),
    )  # fmt: skip
    given = settlement_input(
        terms, price=price, low=price, high=price, at=FIRST, volatility=BasisPoints(6_000), rate=BasisPoints(500)
    )
    return {
        "id": f"st-o{number}", "option_id": f"o{number}", "state": "due", "reason": "expiry", "slot": FIRST,
        "price_cents": price, "input_hex": given.to_bytes().hex(), "attempts": 0, "fence": 0, "retry_at_unix": 0,
        "created_at_unix": now, "updated_at_unix": now,
    }  # fmt: skip


def make_due(store: Store, numbers: range, *, batch: int) -> float:
    """Have settlements stand in the store as due and queued, in one transaction; return when it had been committed."""
    now = int(time.time())
    ids = [f"st-o{number}" for number in numbers]
    with store.transaction() as session:
        session.execute(insert(OptionRow), [option_row(number) for number in numbers])
        session.execute(insert(SettlementRow), [settlement_row(number, now) for number in numbers])
        batches = [ids[start : start + batch] for start in range(0, len(ids), batch)]
        enqueue(session, [Work(flow="settle", arguments=(some,)) for some in batches], now=UnixSeconds(now))
    return time.monotonic()


def proven(store: Store) -> int:
    """Return how many settlements are proven."""
    with store.reading() as session:
        query = select(func.count()).select_from(SettlementRow).where(col(SettlementRow.state) == "proven")
        return int(session.execute(query).scalar_one())


def wait_for(done: Callable[[], bool], pause: float = 0.02) -> float:
    """Wait until ``done`` and return the seconds. Raises TimeoutError."""
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > LIMIT_SECONDS:
            raise TimeoutError
        time.sleep(pause)
    return time.monotonic() - began


@contextmanager
def cluster_without_contracts(
    processes: int, database_url: str | None = None
) -> Iterator[tuple[Store, Callable[[int], None], Cluster]]:
    """Give the store, what ticks a minute, and a cluster that prices and settles but has no chain."""
    from workers.app import create_app  # noqa: PLC0415 - needs the started broker

    chosen = venues_for_replay(read_candle_folder(SYNTHETIC_CANDLES), None, None)
    with TemporaryDirectory(prefix="btcfi-bench-") as folder:
        deployment = Deployment(data_dir=Path(folder)).model_copy(
            update={
                "venues": tuple(str(v) for v in chosen.registered), "legs": tuple(str(v) for v in chosen.legs),
                "tick": False, "replay_clock": True, "venue_rate_limit": False, "relay_seconds": 0.5,
                "settle_concurrency": processes,
                **({"database_url": database_url} if database_url else {}),
            }
        )  # fmt: skip
        with Cluster(
            deployment, embedded_node=False, replay_folder=SYNTHETIC_CANDLES, roles=(PRICES, SETTLE, CONTROL),
            run_parties=False,
        ) as cluster:  # fmt: skip
            cluster.start()
            cluster.wait_ready(90)
            app = create_app(cluster.deployment)
            store = Store(cluster.deployment.database_url)
            yield store, lambda slot: app.send_task("oracle.tick", kwargs={"slot": slot}, queue="control"), cluster
            store.close()


# ---- what a part uses


def family(part: Part) -> list[psutil.Process]:
    """Return a part's process and its children."""
    with suppress(psutil.Error):
        if part.process is not None:
            top = psutil.Process(part.process.pid)
            return [top, *top.children(recursive=True)]
    return []


def memory(cluster: Cluster) -> dict[str, float]:
    """Return the resident megabytes of each part, its children included."""
    return {part.name: round(sum(p.memory_info().rss for p in family(part)) / 1e6, 1) for part in cluster.parts}


def cpu_seconds(cluster: Cluster, store: Store | None = None) -> dict[str, float]:
    """Return the processor time that each part has used so far; of ``store``, PostgreSQL's open connections too."""
    found = {part.name: sum(map(_cpu, family(part))) for part in cluster.parts}
    if store is not None:
        found[HARNESS] = _cpu(psutil.Process())
        if store.url.startswith("postgresql"):
            found[DATABASE] = sum(map(_cpu, _backends(make_url(store.url).database or "")))
    return found


def _cpu(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _backends(database: str) -> list[psutil.Process]:
    """Return PostgreSQL's processes for the connections to a database, where it runs on this machine."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ()).split()
        if words[:1] == ["postgres:"] and database in words[1:3]:
            found.append(process)
    return found


# ---- the answer


def measure(processes: int, settlements: int, server: str | None) -> dict[str, Any]:
    """Return rate, processor time by part, and memory, with so many settle processes."""
    with own_database(server) as url, cluster_without_contracts(processes, url) as (store, _, cluster):
        first = warm_up(store, processes)
        found = due_to_proven(store, cluster, first=first, settlements=settlements)
        return {
            "store": "PostgreSQL" if server else "SQLite",
            "processes": processes,
            "settlements": settlements,
            "due_to_proven_per_s": round(found.per_s, 1),
            "seconds_per_thousand": [round(one, 3) for one in found.per_thousand],
            "cpu_us_each": found.cpu_us,
            "cpu_us_each_in_all": round(sum(found.cpu_us.values()), 1),
            "settle_rss_mb": memory(cluster)[SETTLE],
        }


def markdown(said: dict[str, Any]) -> str:
    """Return the runs as a table of a document."""
    machine = said["machine"]
    on = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}"
    commit = f"commit `{said['commit'][:12]}`{' with changes' * said['commit'].endswith('+')}"
    lines = [
        f"`{said['command']}` on {on}; {commit}, {said['date']}; a load of {said['load']} before.",
        "",
        "| store | settle processes | due to proven, 1/s | CPU each, us | settle | control | database | resident |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for run in said["runs"]:
        cpu = run["cpu_us_each"]
        lines.append(
            f"| {run['store']} | {run['processes']} | {run['due_to_proven_per_s']} | {run['cpu_us_each_in_all']} | "
            f"{cpu[SETTLE]} | {cpu[CONTROL]} | {cpu.get(DATABASE, 'within')} | {run['settle_rss_mb']} MB |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure what is asked for, and print it as JSON; the table goes to stderr."""
    from tests.benchmarks.__main__ import _commit, _machine  # noqa: PLC0415 - it imports what measures

    asked = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet", description="Due to proven.")
    asked.add_argument("--processes", type=int, nargs="+", default=list(PROCESSES), help="settle processes, each a run")
    asked.add_argument("--settlements", type=int, default=SETTLEMENTS, help="in each run")
    asked.add_argument("--postgresql", action="store_true", help="on the server of BTCFI_TEST_DATABASE_URL")
    given = asked.parse_args()
    server = os.environ.get("BTCFI_TEST_DATABASE_URL") if given.postgresql else None
    if given.postgresql and not server:
        asked.error("--postgresql needs BTCFI_TEST_DATABASE_URL: the URL of a server for tests")
    if given.settlements < 1 or not all(1 <= one <= 64 for one in given.processes):
        asked.error("at least one settlement, and 1 to 64 processes")
    numbers = " ".join(str(one) for one in given.processes)
    said: dict[str, Any] = {
        "command": f"python -m tests.benchmarks.fleet --processes {numbers} --settlements {given.settlements}"
        + " --postgresql" * given.postgresql,
        "machine": _machine(), "commit": _commit(), "date": time.strftime("%Y-%m-%d"),
        "load": round(os.getloadavg()[0], 1),
        "runs": [measure(one, given.settlements, server) for one in given.processes],
    }  # fmt: skip
    print(json.dumps(said, indent=1))
    print(f"\n{markdown(said)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
