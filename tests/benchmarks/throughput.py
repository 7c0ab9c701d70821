"""Many options of one minute: settlements a second, rounds under load, memory, scans.

Due to proven is measured by ``tests/benchmarks/fleet.py``; price to broadcast by ``tests/benchmarks/load.py``, with
fewer contracts, since the two parties sign each of them first. Stages are timed one after the other in one process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import insert, select

from btcfi.adapters.store.options import options
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.venues.candle_folder import read_candle_folder
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.units import Slot, UnixSeconds
from settings.preset import load_preset
from tasks import chain as chain_tasks
from tasks import options as option_tasks
from tasks import settlement as settlement_tasks
from tests.benchmarks import Row
from tests.benchmarks.fleet import (
    BATCH,
    EMBEDDED,
    FEED,
    FIRST,
    cluster_without_contracts,
    due_to_proven,
    make_due,
    memory,
    option_row,
    proven,
    wait_for,
    warm_up,
)
from tests.benchmarks.load import contracts_of_one_minute
from tests.support.contract_stage import open_stage
from workers.roles import SETTLE

MANY = 1_000
CONTRACTS = 500
OPEN_OPTIONS = 10_000
MINUTES_A_YEAR = 525_600


def rows() -> list[Row]:
    """Return settlements a second with 1, 2 and 4 processes, memory, rounds under load, the contract's p95, a scan."""
    found = []
    rates = {}
    for processes in (1, 2, 4):
        rate, more = _settle(processes)
        rates[processes] = rate
        name, unit = "pipeline.due_to_proven_per_s", f"1/s, {MANY:,} options, nothing beside them"
        if processes == EMBEDDED:
            found += [Row(name=name, value=rate, unit=unit, against="at least 1,500/s", ratio=rate / 1_500), *more]
        else:
            named = f"{name} ({processes} process{'es' * (processes > 1)})"
            ratio = None if processes == 1 else rate / rates[1]
            found.append(Row(name=named, value=rate, unit=unit, against="1 process" if ratio else None, ratio=ratio))
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
        unit = "ms each, due to broadcast, real contracts, one process"
        return [*found, Row(name="pipeline.stages_ms", value=total / STAGED * 1000, unit=unit)]


def _each(name: str, seconds: float, what: str) -> Row:
    return Row(name=name, value=seconds / STAGED * 1000, unit=f"ms each, {what}")


def _settle(processes: int) -> tuple[float, list[Row]]:
    """Return settlements a second, from due to proven; with it, memory, and rounds while others are settled."""
    with cluster_without_contracts(processes) as (store, tick, cluster):
        slots = read_candle_folder(SYNTHETIC_CANDLES).slots(None, None)
        idle = [_round_ms(store, tick, slot) for slot in slots[:5]]
        done = warm_up(store, processes)
        found = due_to_proven(store, cluster, first=done, settlements=MANY)
        done += MANY
        rss = memory(cluster)[SETTLE]
        # rounds beside settlements are timed apart from the rate, which is measured with nothing beside it
        make_due(store, range(done, done + MANY), batch=BATCH)
        first = wait_for(lambda: proven(store) > done)
        loaded = []
        for slot in slots[5:]:
            if proven(store) == done + MANY:
                break
            loaded.append(_round_ms(store, tick, slot))
        more = [
            Row(name="pipeline.cpu_us", value=sum(found.cpu_us.values()), unit="us each, due to proven, every part"),
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
        return found.per_s, more


def _round_ms(store: Store, tick: Callable[[int], None], slot: int) -> float:
    began = time.monotonic()
    tick(slot)

    def closed() -> bool:
        with store.reading() as session:
            row = rounds.find_round(session, FEED, Slot(slot))
            return row is not None and row.state != "open"

    wait_for(closed, pause=0.005)
    return (time.monotonic() - began) * 1000


def _contracts() -> list[Row]:
    """Return the rows of options with real contracts that all expire in one minute, as ``make load`` measures them."""
    found = contracts_of_one_minute(CONTRACTS, None)
    if found["broken_promises"] or found["broadcast"] != CONTRACTS:
        raise RuntimeError(f"{found['broadcast']} of {CONTRACTS} were broadcast; broken: {found['broken_promises']}")
    rate, p95 = found["price_to_broadcast_per_s"], found["due_to_broadcast_p95_s"]
    what = f"{CONTRACTS} attested contracts of one minute"
    return [
        Row(name="pipeline.price_to_broadcast_per_s", value=rate, against="at least 600/s", ratio=rate / 600,
            unit=f"1/s, {what}"),
        Row(name="pipeline.due_to_broadcast_p95_s", value=p95, against="target 10 s", ratio=10 / p95,
            unit=f"s, {what}"),
        Row(name="pipeline.contract_setup_s", value=found["setup_s_each"],
            unit="s an option, from sale to six confirmations, both parties and the check on this machine"),
    ]  # fmt: skip


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
                option_row(n, state="ACTIVE", expiry_unix=last + 60 * (1 + n)) for n in range(OPEN_OPTIONS)
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
