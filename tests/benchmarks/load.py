"""The load of one minute: many attested contracts that expire together, in the embedded default; and memory.

``make load`` runs it, ``make bench`` does not: each contract costs its two parties half a second before it can settle.

- Contracts: broker, node, replayed exchanges, four workers, beat and two parties, as ``btcfi up`` starts them and with
  its settings; coins enough for the parties and for the fees. All options expire in one minute, but for a few that warm
  the processes before. From that minute's tick on the event log is read every 50 ms: the first look that shows an edge
  is when it was crossed. No block is mined meanwhile. Afterwards everything is mined and audited.
- Memory: settlements without contracts, from due to proven, a thousand at a time, in a settle worker of two processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from sqlalchemy import func, select
from sqlmodel import col

from btcfi.adapters.chain.node import Node
from btcfi.adapters.store.chain import wallet
from btcfi.adapters.store.options.sales import Order, sell
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.adapters.venues.candle_folder import read_candle_folder, venues_for_replay
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.bitcoin.address import decode_address, encode_address
from btcfi.bitcoin.keys import TaprootKey, wallet_key
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE
from btcfi.units import CentiBtc, CentsPerBtc, Sats, Slot, UnixSeconds
from settings.deployment import Deployment
from tasks.context import Context, make_context, mining_address
from tests.benchmarks.__main__ import _commit, _machine
from tests.benchmarks.fleet import (
    EMBEDDED,
    cluster_without_contracts,
    cpu_seconds,
    due_to_proven,
    memory,
    wait_for,
    warm_up,
)
from workers import audit
from workers.chaos.parallel import own_database
from workers.deployed import sale_rule, ticker
from workers.machine import parties
from workers.machine.cluster import Cluster
from workers.roles import SETTLE

BEGIN = "<!-- load:begin: rewritten by `make load` -->"
END = "<!-- load:end -->"

POLL_SECONDS = 0.05
HISTORY = 3
"""Minutes that are priced before the sale."""
WARM = 6
"""Contracts that expire a minute each before: a process that runs for long has settled something already."""
OUTPUTS = 400
"""Coins that one transaction makes of one block's reward."""
COIN = Sats(10_000_000)
"""A party's coin: the collateral of one option, or its premium, with its share of the fee."""
FUNDING_SECONDS_EACH = 6.0
MINE_SECONDS = 4.0
"""Between two blocks of the funding: the first contract's refund must lie far beyond the last one's signing."""
WINDOW_SECONDS = 900.0
STAGES = ("due", "claimed", "proven", "built", "broadcast")

TARGET_RATE = 600.0
TARGET_P95 = 10.0

RENAMED = (
    ("contracts", "settlements_per_s", "price_to_broadcast_per_s"),
    ("contracts", "settlements_per_s_middle", "price_to_broadcast_per_s_middle"),
    ("memory", "settlements_per_s", "due_to_proven_per_s"),
)
"""Part, what a figure was called in the last release, and what it is called: it is in the answer under both names."""


def say(line: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


# ---- many contracts of one minute


@dataclass(slots=True, kw_only=True)
class Service:
    """The embedded default while it runs."""

    cluster: Cluster
    here: Context
    node: Node
    tick: Callable[[int], None]
    slots: list[Slot]

    def price(self, slot: Slot) -> None:
        """Price a minute."""
        self.tick(slot)

        def closed() -> bool:
            with self.here.store.reading() as session:
                row = rounds.find_round(session, self.here.feed, slot)
                return row is not None and row.state != "open"

        wait_for(closed)

    def mine(self, blocks: int = 1) -> None:
        """Mine, paying whom a deployment's blocks pay."""
        for _ in range(blocks):
            self.node.generate(1, mining_address(self.here.deployment, self.node.block_count()))

    def count(self, *states: str) -> int:
        """Return how many options are in one of these states."""
        with self.here.store.reading() as session:
            query = select(func.count()).select_from(OptionRow).where(col(OptionRow.state).in_(states))
            return int(session.execute(query).scalar_one())


@contextmanager
def service(folder: Path, contracts: int, database_url: str | None, processes: int) -> Iterator[Service]:
    """Start what ``btcfi up`` starts, but for its pages; each setting its default."""
    recorded = read_candle_folder(SYNTHETIC_CANDLES)
    chosen = venues_for_replay(recorded, None, None)
    deployment = Deployment(data_dir=folder).model_copy(
        update={
            "database_url": database_url or f"sqlite:///{folder / 'btcfi.db'}",
            "venues": tuple(str(v) for v in chosen.registered), "legs": tuple(str(v) for v in chosen.legs),
            "tick": False, "replay_clock": True, "venue_rate_limit": False, "settle_concurrency": processes,
        }
    )  # fmt: skip
    with Cluster(deployment, replay_folder=SYNTHETIC_CANDLES) as cluster:
        cluster.start()
        here = make_context(cluster.deployment)
        node = Node(here.deployment.node_url or "", 60.0, cookie_file=here.deployment.node_cookie_file)
        give_coins(node, here.deployment, contracts)
        cluster.wait_ready(90)
        yield Service(cluster=cluster, here=here, node=node, tick=ticker(here), slots=recorded.slots(None, None))
        node.close()
        here.store.close()


def give_coins(node: Node, deployment: Deployment, contracts: int) -> None:
    """Mine to the service, and give each party a coin for every option: blocks alone would pay them ever less."""
    key = wallet_key(os.urandom(32), 0)
    ours = encode_address(key.script)
    files = [deployment.parties_dir / party / "address" for party in parties.PARTIES]
    wait_for(lambda: all(file.exists() for file in files))  # a party makes its keys when it starts
    addresses = [file.read_text().strip() for file in files]
    many = contracts + contracts // 10 + WARM + 2
    pieces = [(address, min(OUTPUTS, many - at)) for address in addresses for at in range(0, many, OUTPUTS)]
    rewards = [node.generate(1, ours)[0] for _ in pieces]
    parties.fill_wallets(node, deployment, coins=2)
    for name, (address, outputs) in zip(rewards, pieces, strict=True):
        coinbase = node.block(name).transactions[0]
        node.send(_split(key, coinbase, decode_address(address), outputs))
        node.generate(1, addresses[0])


def _split(key: TaprootKey, coinbase: Transaction, script: bytes, outputs: int) -> Transaction:
    spent = coinbase.outputs[0]
    fee = 200 * outputs
    rest = TxOut(value=Sats(spent.value - COIN * outputs - fee - 20_000), script=key.script)
    made = Transaction(
        version=2, inputs=(TxIn(outpoint=coinbase.outpoint(0)),),
        outputs=(*[TxOut(value=COIN, script=script)] * outputs, rest),
    )  # fmt: skip
    return made.with_witness(0, [key.sign_input(made, 0, [spent])])


def sell_all(run: Service, name: str, contracts: int, expiry: Slot) -> list[str]:
    """Sell options that differ in kind and strike and expire in one minute."""
    rule = sale_rule(run.here.deployment)
    ids = []
    with run.here.store.reading() as session:
        last = rounds.latest_priced(session, run.here.feed)
    if last is None or last.price_cents is None:
        raise RuntimeError("no price to sell at")
    for number in range(contracts):
        # whole dollars; one strike in ten is far out of the money, for there nothing is paid
        strike = last.price_cents // 100 * (85 + number % 30) // 100 * 100 + 100 * (number // 30)
        order = Order(
            option_id=f"{name}-{number}", kind=OptionKind(number % 4), strike=CentsPerBtc(strike), quantity=CentiBtc(1),
            barrier=None, american=False, expiry=expiry, fixing=MINUTE,
        )  # fmt: skip
        with run.here.store.transaction() as session:
            ids.append(sell(session, order, rule, now=UnixSeconds(last.slot + 60)).id)
    return ids


def fund_all(run: Service, contracts: int) -> float:
    """Wait until both parties have signed every contract and all are confirmed; return the seconds."""
    began = time.monotonic()
    told = mined = 0.0
    while (active := run.count("ACTIVE")) < contracts:
        if time.monotonic() - mined > MINE_SECONDS:
            mined = time.monotonic()
            run.mine()
        if time.monotonic() - began > 120 + FUNDING_SECONDS_EACH * contracts:
            raise TimeoutError(f"{active} of {contracts} contracts are funded")
        if time.monotonic() - told > 20:
            told = time.monotonic()
            say(f"funding: {active} of {contracts}, {told - began:.0f} s")
        time.sleep(1.0)
    return time.monotonic() - began


def wait_for_coins(run: Service, contracts: int) -> None:
    """Wait until the service has a confirmed coin for each settlement's fee."""
    deadline = time.monotonic() + 120

    def there() -> int:
        with run.here.store.reading() as session:
            return wallet.mature_coins(session, tip=run.node.block_count())

    while (coins := there()) < contracts:
        run.mine()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{coins} coins for the fees of {contracts} settlements")
        time.sleep(1.0)
    say(f"{coins} coins for fees")


@dataclass(slots=True)
class Watch:
    """The event log as it grows: when each edge was first seen."""

    run: Service
    last: int = 0
    seen: dict[tuple[str, str, str], float] = field(default_factory=dict)
    known: set[tuple[str, str, str]] = field(default_factory=set)
    """What had happened before."""

    def look(self) -> None:
        """Read what is new. PostgreSQL commits out of the order of numbers, so a little is read again."""
        with self.run.here.store.reading() as session:
            rows = session.execute(
                select(col(EventRow.id), col(EventRow.entity), col(EventRow.entity_id), col(EventRow.to_state)).where(
                    col(EventRow.id) > self.last - (2_000 if self.run.here.store.url.startswith("postgresql") else 0)
                )
            ).all()
        now = time.monotonic()
        for number, entity, identity, state in rows:
            self.last = max(self.last, number)
            if (entity, identity, state) not in self.known and not identity.startswith("st-warm"):
                self.seen.setdefault((entity, identity, state), now)

    def times(self, entity: str, state: str) -> dict[str, float]:
        """Return when each of an entity was first seen in a state."""
        return {one[1]: at for one, at in self.seen.items() if one[0] == entity and one[2] == state}


def measure(run: Service, contracts: int, expiry: Slot) -> dict[str, Any]:
    """Price the minute and watch its settlements to the last broadcast."""
    watch = Watch(run)
    watch.look()
    watch.known = set(watch.seen)
    watch.seen.clear()
    before, spent, busy = memory(run.cluster), cpu_seconds(run.cluster), machine_seconds()
    ticked = time.monotonic()
    run.tick(expiry)
    told = ticked
    while len(watch.times("settlement", "broadcast")) < contracts:
        watch.look()
        now = time.monotonic()
        if now - told > 5:
            told = now
            counts = {stage: len(watch.times("settlement", stage)) for stage in STAGES}
            say(f"{now - ticked:.1f} s after the tick: {counts}")
        if now - ticked > WINDOW_SECONDS:
            break
        time.sleep(POLL_SECONDS)
    window = time.monotonic() - ticked
    after, used, busy = memory(run.cluster), cpu_seconds(run.cluster), machine_seconds() - busy
    priced = min(watch.times("round", "priced").values())
    due, sent = watch.times("settlement", "due"), watch.times("settlement", "broadcast")
    waits = sorted(at - due[one] for one, at in sent.items())
    last = max(sent.values(), default=priced)
    ordered = sorted(sent.values())
    tenth, ninth = ordered[len(ordered) // 10], ordered[len(ordered) * 9 // 10]
    return {
        "contracts": contracts,
        "broadcast": len(sent),
        "tick_to_priced_s": round(priced - ticked, 2),
        "priced_to_last_broadcast_s": round(last - priced, 2),
        "price_to_broadcast_per_s": round(len(sent) / (last - priced), 1),
        "price_to_broadcast_per_s_middle": round(
            (len(ordered) * 9 // 10 - len(ordered) // 10) / max(ninth - tenth, 0.05), 1
        ),
        "due_to_broadcast_p50_s": round(statistics.median(waits), 2),
        "due_to_broadcast_p95_s": round(statistics.quantiles(waits, n=20)[-1], 2),
        "stages": {
            stage: {
                "median_s": round(statistics.median(times) - priced, 2), "last_s": round(times[-1] - priced, 2)
            }
            for stage in STAGES if (times := sorted(watch.times("settlement", stage).values()))
        },
        "machine_busy_s": round(busy, 2),
        "machine_had_s": round(window * (psutil.cpu_count() or 1), 2),
        "cpu_s": {name: round(used[name] - spent.get(name, 0.0), 2) for name in used},
        "rss_mb": {name: [before.get(name, 0.0), after[name]] for name in after},
    }  # fmt: skip


def settle_all(run: Service, ids: list[str]) -> tuple[float, list[str]]:
    """Mine until every option is settled and audit each; return the seconds and what is broken."""
    began = time.monotonic()
    told = began
    while (done := run.count(*audit.SETTLED)) < len(ids):
        run.mine()
        if time.monotonic() - began > 120 + len(ids):
            break
        if time.monotonic() - told > 20:
            told = time.monotonic()
            say(f"confirmed: {done} of {len(ids)}")
        time.sleep(2.0)
    view = audit.ChainView()
    view.follow(run.node)
    say("auditing")
    return time.monotonic() - began, [str(one) for one in audit.audit(run.here.store, view, ids)]


def contracts_of_one_minute(contracts: int, database_url: str | None, processes: int = EMBEDDED) -> dict[str, Any]:
    """Sell, fund, price, watch, confirm and audit."""
    with (
        TemporaryDirectory(prefix="btcfi-load-") as folder,
        own_database(database_url) as url,
        service(Path(folder), contracts, url, processes) as run,
    ):
        say("started; prices first")
        for slot in run.slots[:HISTORY]:
            run.price(slot)
        early, expiry = run.slots[HISTORY + 2 : HISTORY + 2 + WARM], run.slots[HISTORY + 2 + WARM]
        ids = [one for slot in early for one in sell_all(run, f"warm-{slot}", 1, slot)]
        ids += sell_all(run, "load", contracts, expiry)
        say(f"{contracts} options sold; both parties sign each")
        funded = fund_all(run, len(ids))
        for slot in (*run.slots[HISTORY : HISTORY + 2], *early):
            run.price(slot)
            time.sleep(1.0)
        wait_for_coins(run, contracts)
        time.sleep(10)  # what the funding left to do is done
        found = measure(run, contracts, expiry)
        seconds, broken = settle_all(run, ids)
        idle = memory(run.cluster)
        return {
            "store": "PostgreSQL" if url else "SQLite", "processes": processes, **found,
            "setup_s_each": round(funded / len(ids), 2), "broadcast_to_settled_s": round(seconds, 1),
            "rss_mb_settled": idle, "broken_promises": broken,
        }  # fmt: skip


# ---- memory


def machine_seconds() -> float:
    """Return the processor time that everything on this machine has used: ours, this harness's, and strangers'."""
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def memory_of_settling(many: int, database_url: str | None, processes: int) -> dict[str, Any]:
    """Settle ``many`` from due to proven in one worker, looking at its memory every thousand."""
    samples = []
    with own_database(database_url) as url, cluster_without_contracts(processes, url) as (store, _, cluster):

        def look(done: int) -> None:
            samples.append(memory(cluster)[SETTLE])
            say(f"{done} settled: {samples[-1]} MB")

        first = warm_up(store, processes)
        before = memory(cluster)[SETTLE]
        found = due_to_proven(store, cluster, first=first, settlements=many, each=look)
    half = samples[len(samples) // 2 :]
    slope = statistics.linear_regression(range(len(half)), half).slope if len(half) > 1 else 0.0
    return {
        "store": "PostgreSQL" if database_url else "SQLite", "processes": processes, "settlements": many,
        "due_to_proven_per_s": round(found.per_s, 1), "cpu_us_each": found.cpu_us, "rss_mb_first": before,
        "rss_mb": samples, "second_half_mb_per_1000": round(slope, 3),
    }  # fmt: skip


# ---- the answer


def markdown(said: dict[str, Any]) -> str:
    """Return the result as a document shows it."""
    machine = said["machine"]
    changed = " with changes" * said["commit"].endswith("+")
    on = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}"
    commit = f"commit `{said['commit'][:12] or 'unknown'}`{changed}"
    lines = [f'`make load ARGS="{said["arguments"]}"` on {on}; {commit}, {said["date"]}.', ""]
    if found := said.get("contracts"):
        rate, p95 = found["price_to_broadcast_per_s"], found["due_to_broadcast_p95_s"]
        lines += [
            f"{found['contracts']:,} attested contracts, {found['store']}, {found['processes']} settle processes:",
            "",
            "| figure | measured | wanted |", "| --- | ---: | ---: |",
            f"| broadcast | {found['broadcast']:,} | all |",
            f"| settlements/s, from the price to the last broadcast | {rate} | at least {TARGET_RATE:.0f} |",
            f"| settlements/s, the middle eight tenths | {found['price_to_broadcast_per_s_middle']} | |",
            f"| due to broadcast, half within | {found['due_to_broadcast_p50_s']} s | |",
            f"| due to broadcast, 95 % within | {p95} s | at most {TARGET_P95:.0f} s |",
            f"| tick to price | {found['tick_to_priced_s']} s | |",
            f"| setup of a contract before, all in all | {found['setup_s_each']} s | |",
            f"| broken promises (`workers/audit.py`) | {len(found['broken_promises'])} | 0 |",
            "", "| after the price | half were there | the last was there |", "| --- | ---: | ---: |",
            *(f"| {stage} | {at['median_s']} s | {at['last_s']} s |" for stage, at in found["stages"].items()),
            "",
            f"The cores had {found['machine_had_s']} s in that time; all processes used {found['machine_busy_s']} s.",
            "", "| part | CPU in that time | resident before | after | when all was settled |",
            "| --- | ---: | ---: | ---: | ---: |",
            *(
                f"| {name} | {found['cpu_s'][name]} s | {low} MB | {high} MB | "
                f"{found['rss_mb_settled'].get(name, '')} MB |"
                for name, (low, high) in found["rss_mb"].items()
            ),
            "",
        ]  # fmt: skip
    if found := said.get("memory"):
        rss = found["rss_mb"]
        lines += [
            f"{found['settlements']:,} from due to proven, {found['store']}, {found['processes']} settle processes:",
            f"{found['due_to_proven_per_s']}/s; {found['rss_mb_first']} MB after a warm-up, {rss[0]} after the first",
            f"thousand, {rss[len(rss) // 2]} MB half way, {rss[-1]} MB at the end;",
            f"{found['second_half_mb_per_1000']:+.2f} MB a thousand over the second half.",
            "",
        ]
    return "\n".join(lines)


def main() -> int:
    """Measure what is asked for; print it as JSON, and write it into a document."""
    asked = argparse.ArgumentParser(prog="make load ARGS=", description="The load of one minute, and memory.")
    asked.add_argument("--contracts", type=int, default=1_000, help="options of one minute; 0 leaves this out")
    asked.add_argument("--settlements", type=int, default=20_000, help="for the memory; 0 leaves this out")
    asked.add_argument("--processes", type=int, default=EMBEDDED, help="settle processes")
    asked.add_argument("--postgresql", action="store_true", help="on the server of BTCFI_TEST_DATABASE_URL")
    asked.add_argument("--write", type=Path, help=f"into this document, between {BEGIN} and {END}")
    given = asked.parse_args()
    url = os.environ.get("BTCFI_TEST_DATABASE_URL") if given.postgresql else None
    if given.postgresql and not url:
        asked.error("--postgresql needs BTCFI_TEST_DATABASE_URL: the URL of a server for tests")
    if given.write is not None:
        _around(given.write)
    said: dict[str, Any] = {
        "arguments": " ".join(
            ["--postgresql"] * given.postgresql
            + [f"--processes {given.processes}"] * (given.processes != EMBEDDED)
            + [f"--contracts {given.contracts} --settlements {given.settlements}"]
        ),
        "machine": _machine(), "commit": _commit(), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    if given.contracts:
        said["contracts"] = contracts_of_one_minute(given.contracts, url, given.processes)
    if given.settlements:
        said["memory"] = memory_of_settling(given.settlements, url, given.processes)
    if given.write is not None:
        before, after = _around(given.write)
        given.write.write_text(f"{before}{BEGIN}\n\n{markdown(said)}\n{END}{after}", encoding="utf-8")
    for part, old, new in RENAMED:
        if part in said:
            said[part][old] = said[part][new]  # for one release
            say(f"{part}.{old} is {part}.{new} now; the old name goes with the next release")
    print(json.dumps(said, indent=1))
    say("\n" + markdown(said))
    found = said.get("contracts")
    return int(bool(found and (found["broken_promises"] or found["broadcast"] != found["contracts"])))


def _around(document: Path) -> tuple[str, str]:
    before, begin, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{document} has no place for the result; expected the lines {BEGIN} and {END}")
    return before, after


if __name__ == "__main__":
    sys.exit(main())
