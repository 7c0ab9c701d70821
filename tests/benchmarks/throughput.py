"""Many options of one minute: settlements a second by workers, from due to broadcast, rounds under load, memory, scans.

The first rows are about 1,000 settlements from due to proven (claimed, run on both executors, traced, hashed, proof
stored) in real worker processes over Valkey and SQLite. The contract's part, from due to broadcast with pre-signed
transactions, is measured on fewer options, since the two parties sign each of them first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from sqlalchemy import func, insert, select
from sqlmodel import col

from btcfi.adapters.store.options import options
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import Work, enqueue
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.adapters.venues.candle_folder import read_candle_folder, venues_for_replay
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.options.expiry import settlement_input
from btcfi.options.terms import OptionKind, OptionTerms, required_collateral
from btcfi.oracle.quote import Feed
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Slot, UnixSeconds
from btcfi.vm.program import load_program
from settings.deployment import Deployment
from settings.preset import load_preset
from tasks import chain as chain_tasks
from tasks import options as option_tasks
from tasks import settlement as settlement_tasks
from tests.benchmarks import Row
from tests.support.contract_stage import open_stage
from workers.chaos.cluster import ChaosCluster, Size
from workers.chaos.matrix import HISTORY_SLOTS, Case, Run, _fund, _price, sell
from workers.machine.cluster import Cluster
from workers.roles import CONTROL, PRICES, SETTLE

FEED = Feed("BTC/USD")
MANY = 1_000
BATCH = 64
WARM_EACH = 12
CONTRACTS = 16
OPEN_OPTIONS = 10_000
MINUTES_A_YEAR = 525_600
FIRST = Slot(1_700_000_040)
PRESET = load_preset("standard")
PROGRAM = load_program("option_settlement")
"""An option is settled by the preset and the program that its row names by hash."""

LIMIT_SECONDS = 120


def rows() -> list[Row]:
    """Return settlements a second with 1, 2 and 4 processes, memory, rounds under load, the contract's p95, a scan."""
    found = []
    rates = {}
    for workers in (1, 2, 4):
        rate, more = _settle(workers)
        rates[workers] = rate
        against = None if workers == 1 else "1 worker"
        ratio = None if workers == 1 else rate / rates[1]
        name = f"pipeline.settlements_per_s ({workers} worker{'s' * (workers > 1)})"
        found.append(Row(name=name, value=rate, unit="1/s, due to proven, 1,000 options", against=against, ratio=ratio))
        if workers == 2:
            found += more
    return [*found, *_stages(), *_contracts(), *_scan()]


STAGED = 100
"""Real contracts whose settlement is timed stage by stage."""


def _stages() -> list[Row]:
    """Time each stage of settling real contracts in this process, one after the other, on the embedded node."""
    sizes = {"coins": STAGED + 2, "fee_coins": STAGED + 2}
    with TemporaryDirectory() as folder, open_stage(Path(folder), **sizes) as stage:
        for number in range(STAGED):
            stage.sell(f"o{number}", strike=4_900_000 + number)
        began = time.perf_counter()
        stage.talk()
        found = [_each("contract.service_setup_ms", time.perf_counter() - began, "both parties' work included")]
        stage.mine(6)
        stage.price(5_100_000)
        due = [f"st-o{number}" for number in range(STAGED)]
        tasks_of = (
            ("expire_and_attest", lambda: (option_tasks.expire_due(FEED), stage.attest())),
            (
                "execute_and_prove",
                lambda: settlement_tasks.execute_batch(due),
            ),
            ("build_and_broadcast", chain_tasks.settle),
        )
        total = 0.0
        for name, run in tasks_of:
            began = time.perf_counter()
            run()
            spent = time.perf_counter() - began
            total += spent
            found.append(_each(f"pipeline.stage_{name}_ms", spent, f"{STAGED} contracts, one process"))
        with stage.here.store.reading() as session:
            sent = session.exec(select(SettlementRow).where(SettlementRow.state == "broadcast")).all()
        if len(sent) != STAGED:
            raise RuntimeError(f"{len(sent)} of {STAGED} were broadcast")
        rate = Row(
            name="pipeline.due_to_broadcast_per_s", value=STAGED / total, unit="1/s, real contracts, one process"
        )
        return [*found, rate]


def _each(name: str, seconds: float, what: str) -> Row:
    return Row(name=name, value=seconds / STAGED * 1000, unit=f"ms each, {what}")


def _option(number: int, **changes: object) -> dict[str, object]:
    return {
        "id": f"o{number}", "feed": FEED, "state": "EXPIRED", "kind": 0, "strike_cents": 5_000_000 + number,
        "quantity_centi_btc": 1, "american": False, "expiry_unix": FIRST, "premium_cents": 1, "premium_sats": 1_000,
        "collateral_sats": 1_000_000, "volatility_bps": 6_000, "rate_bps": 500, "preset": "standard",
        "preset_sha256": PRESET.sha256, "program": PROGRAM.name, "program_sha256": PROGRAM.program_hash.hex(),
        "created_at_unix": FIRST, "listed_slot": FIRST, "updated_at_unix": FIRST, **changes,
    }  # fmt: skip


def _settlement(number: int, now: int) -> dict[str, object]:
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


def _settle(workers: int) -> tuple[float, list[Row]]:
    """Return settlements a second, from one transaction that makes them due to the last proven; memory and rounds."""
    with cluster_without_contracts(workers) as (store, tick, cluster):
        slots = read_candle_folder(SYNTHETIC_CANDLES).slots(None, None)
        idle = [_round_ms(store, tick, slot) for slot in slots[:5]]
        warm = WARM_EACH * workers
        make_due(store, range(warm), batch=1)  # each process compiles and loads once
        wait_for(lambda: proven(store) == warm)
        make_due(store, range(warm, warm + MANY), batch=BATCH)
        began = time.monotonic()
        first = wait_for(lambda: proven(store) > warm)
        loaded = []
        for slot in slots[5:]:
            if proven(store) == warm + MANY:
                break
            loaded.append(_round_ms(store, tick, slot))
        wait_for(lambda: proven(store) == warm + MANY)
        seconds = time.monotonic() - began
        parts = [part for part in cluster.parts if part.name == SETTLE and part.process is not None]
        family = [p for part in parts for p in (psutil.Process(part.process.pid), *_children(part.process.pid))]
        rss = sum(process.memory_info().rss for process in family) / 1e6
        more = [
            Row(name="pipeline.rss_mb", value=rss, unit="MB, a settle worker of 2 processes after 1,000 settlements"),
            Row(name="pipeline.first_proven_s", value=first, unit="s, due to the first proof: outbox, relay, queue"),
        ]
        if loaded:
            quiet = statistics.median(idle)
            more.append(
                Row(
                    name="pipeline.round_ms_under_load", value=statistics.median(loaded),
                    unit="ms, tick to price, median, while 1,000 options settle", against=f"idle, {quiet:.0f} ms",
                    ratio=quiet / statistics.median(loaded),
                )
            )  # fmt: skip
        return MANY / seconds, more


def make_due(store: Store, numbers: range, *, batch: int) -> None:
    """Have settlements stand in the store as due and queue them, in one transaction."""
    now = int(time.time())
    ids = [f"st-o{number}" for number in numbers]
    with store.transaction() as session:
        session.execute(insert(OptionRow), [_option(number) for number in numbers])
        session.execute(insert(SettlementRow), [_settlement(number, now) for number in numbers])
        batches = [ids[start : start + batch] for start in range(0, len(ids), batch)]
        enqueue(session, [Work(flow="settle", arguments=(some,)) for some in batches], now=UnixSeconds(now))


def _children(pid: int) -> list[psutil.Process]:
    return list(psutil.Process(pid).children(recursive=True))


@contextmanager
def cluster_without_contracts(
    workers: int, database_url: str | None = None
) -> Iterator[tuple[Store, Callable[[int], None], Cluster]]:
    """Give the store, what ticks a minute, and a cluster that prices and settles but has no chain."""
    from workers.app import create_app  # noqa: PLC0415 - needs the started broker

    chosen = venues_for_replay(read_candle_folder(SYNTHETIC_CANDLES), None, None)
    with TemporaryDirectory(prefix="btcfi-bench-") as folder:
        deployment = Deployment(data_dir=Path(folder)).model_copy(
            update={
                "venues": tuple(str(v) for v in chosen.registered), "legs": tuple(str(v) for v in chosen.legs),
                "tick": False, "replay_clock": True, "venue_rate_limit": False, "relay_seconds": 0.5,
                "settle_concurrency": workers,
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


def proven(store: Store) -> int:
    """Return how many settlements are proven."""
    with store.reading() as session:
        query = select(func.count()).select_from(SettlementRow).where(col(SettlementRow.state) == "proven")
        return int(session.execute(query).scalar_one())


def _round_ms(store: Store, tick: Callable[[int], None], slot: int) -> float:
    began = time.monotonic()
    tick(slot)

    def closed() -> bool:
        with store.reading() as session:
            row = rounds.find_round(session, FEED, Slot(slot))
            return row is not None and row.state != "open"

    wait_for(closed, pause=0.005)
    return (time.monotonic() - began) * 1000


def wait_for(done: Callable[[], bool], pause: float = 0.02) -> float:
    """Wait until ``done`` and return the seconds. Raises TimeoutError."""
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > LIMIT_SECONDS:
            raise TimeoutError
        time.sleep(pause)
    return time.monotonic() - began


def _contracts() -> list[Row]:
    """Return the time from due to broadcast of options with real contracts, which all expire in one minute."""
    with TemporaryDirectory(prefix="btcfi-bench-") as folder:
        size = Size(settle=1, chain=1, settle_concurrency=2)
        with ChaosCluster(Path(folder), size=size, changes={"lease_seconds": 60}) as cluster:
            cluster.start()
            run = Run(cluster=cluster)
            for slot in cluster.slots[:HISTORY_SLOTS]:
                _price(run, slot)
            case = Case(point="-", kind="bench", slot=cluster.slots[HISTORY_SLOTS + 2], seed=1)
            began = time.monotonic()
            ids = sell(run, case, CONTRACTS)
            _fund(run, ids)
            funded = time.monotonic() - began
            _price(run, case.slot - 60)
            cluster.tick(case.slot)
            seconds = _due_to_broadcast(run, ids)
        p95 = statistics.quantiles(seconds, n=20)[-1]
        return [
            Row(name="pipeline.due_to_broadcast_p95_s", value=p95, against="target 10 s", ratio=10 / p95,
                unit=f"s, {CONTRACTS} attested contracts of one minute"),
            Row(name="pipeline.contract_setup_s", value=funded / CONTRACTS,
                unit="s an option, from sale to six confirmations, both parties and the check on this machine"),
        ]  # fmt: skip


def _due_to_broadcast(run: Run, ids: list[str]) -> list[float]:
    first: dict[tuple[str, str], float] = {}

    def done() -> bool:
        with run.store.reading() as session:
            found = select(col(EventRow.entity_id), col(EventRow.to_state)).where(col(EventRow.entity) == "settlement")
            for identity, state in session.execute(found):
                first.setdefault((identity, state), time.monotonic())
        return sum(1 for _, state in first if state == "broadcast") == len(ids)

    wait_for(done)
    return [first[f"st-{i}", "broadcast"] - first[f"st-{i}", "due"] for i in ids]


def _scan() -> list[Row]:
    """Return what a look for due options takes with 10,000 open ones and a year of minutes in the store."""
    with TemporaryDirectory(prefix="btcfi-bench-") as folder:
        store = Store(f"sqlite:///{folder}/store.db")
        store.migrate()
        last = FIRST + 60 * (MINUTES_A_YEAR - 1)
        with store.transaction() as session:
            for start in range(0, MINUTES_A_YEAR, 20_000):
                session.execute(insert(RoundRow), [
                    {"feed": FEED, "slot": FIRST + 60 * n, "state": "priced", "price_cents": 6_000_000,
                     "low_cents": 5_990_000, "high_cents": 6_010_000, "attempts": 1, "deadline_unix": FIRST,
                     "opened_at_unix": FIRST, "closed_at_unix": FIRST}
                    for n in range(start, min(start + 20_000, MINUTES_A_YEAR))
                ])  # fmt: skip
            session.execute(insert(OptionRow), [
                _option(n, state="ACTIVE", expiry_unix=last + 60 * (1 + n)) for n in range(OPEN_OPTIONS)
            ])  # fmt: skip
        rule = load_preset("standard").consensus
        times = []
        for _ in range(9):
            began = time.perf_counter()
            with store.transaction() as session:
                options.expire_due(session, FEED, lambda _sha256: rule, now=UnixSeconds(last), batch_size=BATCH)
            times.append((time.perf_counter() - began) * 1000)
        store.close()
        median = statistics.median(times)
        unit = "ms, 10,000 open options, a year of minutes, none due"
        return [Row(name="store.expiry_scan_ms", value=median, unit=unit, against="target 50 ms", ratio=50 / median)]
