"""The cluster of ``btcfi chaos``: real processes, two of each kind that matters, and a hand on everything they need.

Broker, node and replayed exchanges run as one cluster, the workers as another that is told where they are: so the
harness can kill the first under the second. The workers reach the node through a proxy that can be slow.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import psutil
from sqlalchemy import text, update
from sqlmodel import col

from btcfi.adapters.chain.node import Node
from btcfi.adapters.store.chain.views import newest_confirmed_height
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.tables import OutboxRow
from btcfi.adapters.venues.candle_folder import COLUMNS, read_candle_folder, venues_for_replay
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.errors import BtcfiError
from btcfi.units import SECONDS_PER_MINUTE, Slot
from settings.deployment import Deployment
from tasks.context import Context, make_context, mining_address
from workers.app import FAULTS
from workers.chaos.points import SKEW, Orders
from workers.chaos.power_cut import PowerCut
from workers.chaos.skew import Skew
from workers.deployed import node_of
from workers.machine import parties
from workers.machine.cluster import Cluster
from workers.machine.part import Part
from workers.machine.rows import LOOPBACK
from workers.roles import QUEUES
from workers.seal import KeyFile, Seal

PREFIX: Final = b"btcfi:"
"""Of the broker's keys: ``global_keyprefix`` of workers/app.py."""

LEASE_SECONDS: Final = 5
"""The shortest that a deployment may ask for: a case waits for one to lapse."""

BLOCKS_A_SECOND: Final = 5
"""At most: each block brings the height nearer at which options that were sold and not settled are refunded."""

COINS_EACH: Final = 110
"""Coins of each party; the change of an option's funding pays for the next one's."""

SLOWNESS_SECONDS: Final = 1.5
"""What a slow node adds to an answer."""


class StalledError(BtcfiError):
    """The cluster did not get somewhere in time."""

    def __init__(self, what: str, seconds: float, logs: Path) -> None:
        super().__init__(f"waited {seconds:.0f} s for {what}; see {logs}")
        self.what = what


def long_recording(folder: Path, slots: int) -> Path:
    """Write the package's recording into a folder, again and again until it has ``slots`` minutes; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    length = len(read_candle_folder(SYNTHETIC_CANDLES).slots(None, None))
    for file in SYNTHETIC_CANDLES.glob("*.csv"):
        rows = [line.partition(",") for line in file.read_text().splitlines()[1:]]
        lines = [
            f"{int(at) + turn * length * SECONDS_PER_MINUTE},{rest}"
            for turn in range(-(-slots // length))
            for at, _, rest in rows
        ]
        (folder / file.name).write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    return folder


class NodeProxy:
    """A TCP relay to the node on a free port of the loopback; it can be slow for a while."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.slow_until = 0.0
        """Monotonic; until then every piece of an answer is late."""
        self._listener = socket.create_server((LOOPBACK, 0))
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True, name="btcfi-node-proxy")
        self._thread.start()

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"http://{LOOPBACK}:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Accept nobody any more."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept
        self._listener.close()
        self._thread.join(2)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((LOOPBACK, self._target), timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()  # the node is away: so are we
                continue
            for pair, slow in (((client, server), False), ((server, client), True)):
                threading.Thread(target=self._pump, args=(*pair, slow), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:  # noqa: FBT001 - one direction
        try:
            while data := source.recv(65_536):
                if slow and time.monotonic() < self.slow_until:
                    time.sleep(SLOWNESS_SECONDS)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many processes of each kind."""

    settle: int = 2
    chain: int = 2
    control: int = 1
    settle_concurrency: int = 1


class ChaosCluster:
    """One cluster, started, filled with coins and watched; a context manager that leaves no process behind."""

    def __init__(
        self, folder: Path, *, database_url: str | None = None, size: Size | None = None, candles: Path | None = None,
        changes: dict[str, Any] | None = None, mains: bool = False,
    ) -> None:  # fmt: skip
        """mains: keep what each process of the fleet has synced, so that ``cut_power`` can be asked; SQLite alone."""
        self.folder = folder
        fleet = folder / "fleet"
        self.size = size or Size()
        self.orders = Orders(folder / "orders")
        candles = candles or SYNTHETIC_CANDLES
        recorded = read_candle_folder(candles)
        chosen = venues_for_replay(recorded, None, None)
        self.slots: list[Slot] = recorded.slots(None, None)
        self._candles = candles
        self._mined = 0.0
        self._deployment = Deployment(data_dir=fleet).model_copy(
            update={
                "database_url": database_url or f"sqlite:///{(fleet if mains else folder) / 'btcfi.db'}",
                "venues": tuple(str(v) for v in chosen.registered), "legs": tuple(str(v) for v in chosen.legs),
                "tick": False, "replay_clock": True, "venue_rate_limit": False, "relay_seconds": 0.5,
                "reconcile_seconds": 2.0, "premium_seconds": 10.0, "watch_seconds": 0.5, "exchange_seconds": 1.0,
                "lease_seconds": LEASE_SECONDS, "round_deadline_seconds": 4, "canary_seconds": 30.0,
                "settle_concurrency": self.size.settle_concurrency, "node_timeout_seconds": 8.0, "log_format": "json",
                **(changes or {}),
            }
        )  # fmt: skip
        self._base = Cluster(
            self._deployment.model_copy(update={"data_dir": folder / "base"}), roles=(), beat=False,
            replay_folder=candles, run_parties=False,
        )  # fmt: skip
        self._fleet: Cluster | None = None
        self._fleet_deployment = self._deployment
        self._proxy: NodeProxy | None = None
        self._mains = mains
        self._power: PowerCut | None = None
        self._cuts = 0
        self.here: Context
        self.node: Node

    # ---- starting and stopping

    def start(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Start everything. Nothing is left running when that fails."""
        try:
            self._start(progress)
        except BaseException:
            self.stop()
            raise

    def _start(self, progress: Callable[[str], None]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.orders.prepare()
        self._skew = Skew(self.orders.folder / SKEW)
        parties.prepare(self._deployment)
        self._base.start(progress)
        base = self._base.deployment
        self.node = node_of(base, timeout_seconds=20.0)
        self._proxy = NodeProxy(urlsplit(base.node_url or "").port or 0)
        deployment = base.model_copy(update={"data_dir": self._deployment.data_dir, "node_url": self._proxy.url})
        self._fleet_deployment = deployment
        self.start_fleet(progress)
        parties.fill_wallets(self.node, deployment, coins=COINS_EACH)

    def start_fleet(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Start the workers, as many as wanted; again after ``stop_fleet``."""
        self._fleet = Cluster(self._fleet_deployment)
        if self._mains:
            self._cuts += 1
            self._power = PowerCut(self._deployment.data_dir, self.folder / f"kept-{self._cuts}")
            self._power.begin()
        with self._faults_named():
            self._fleet.start(progress)
            for role, many in (
                ("settle", self.size.settle),
                ("chain", self.size.chain),
                ("control", self.size.control),
            ):
                for number in range(2, many + 1):
                    self.add_worker(role, f"{role}-{number}")
        self._fleet.wait_ready(90)
        self.here = make_context(self._fleet.deployment)

    def stop_fleet(self) -> None:
        """Stop the workers and the parties; broker and chain stay."""
        self.here.store.close()
        self.fleet.stop()

    @contextmanager
    def _faults_named(self) -> Iterator[None]:
        # for the children alone: this process is no worker
        ours = {FAULTS: str(self.orders.folder), **(self._power.environment() if self._power is not None else {})}
        # the loader takes several; one that keeps what is synced comes first
        ours["LD_PRELOAD"] = ":".join(filter(None, [ours.get("LD_PRELOAD", ""), *self._skew.preload]))
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def add_worker(self, role: str, name: str) -> Part:
        """Start one more worker of a role."""
        with self._faults_named():
            return self.fleet.launch(name, "worker", role, "--name", name)

    def add_beat(self, name: str) -> Part:
        """Start one more beat."""
        with self._faults_named():
            return self.fleet.launch(name, "beat")

    def stop(self) -> None:
        """Stop everything; safe to call twice."""
        try:  # a second Ctrl-C ends the waiting for the one, not the stopping of the other
            if self._fleet is not None:
                for part in self._fleet.parts:
                    _continue(part)
                self._fleet.stop()
        finally:
            if self._proxy is not None:
                self._proxy.close()
            self._base.stop()
            if hasattr(self, "here"):
                self.here.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def fleet(self) -> Cluster:
        """The cluster of the workers."""
        if self._fleet is None:
            raise StalledError("the start of the cluster", 0, self.folder)
        return self._fleet

    @property
    def store(self) -> Store:
        """The workers' store, from this process."""
        return self.here.store

    @property
    def logs(self) -> Path:
        """Where the workers write."""
        return self._deployment.data_dir / "logs"

    def parts(self) -> tuple[Part, ...]:
        """Return every process, the broker's and the node's included."""
        return (*self._base.parts, *self.fleet.parts)

    def part(self, name: str) -> Part:
        """Return a process by name."""
        return next(p for p in self.parts() if p.name == name)

    def part_of(self, pid: int) -> Part:
        """Return the process that ``pid`` is, or is a child of: each part is the leader of its own group."""
        group = os.getpgid(pid)
        return next(p for p in self.fleet.parts if p.process is not None and p.process.pid == group)

    def workers(self) -> list[Part]:
        """Return every worker process, whatever its role."""
        return [p for p in self.fleet.parts if "worker" in p.command]

    # ---- what a case does

    def tick(self, slot: int) -> None:
        """Send what beat sends at the minute; the broker may be away for a moment."""
        from workers.app import create_app  # noqa: PLC0415 - only a started cluster has a broker

        app = create_app(self.fleet.deployment)
        app.send_task("oracle.tick", kwargs={"slot": slot}, queue="control", retry=True)
        app.close()

    def mine(self) -> None:
        """Mine a block if one is waited for, at most BLOCKS_A_SECOND. A node that is away is asked again later."""
        if time.monotonic() - self._mined < 1 / BLOCKS_A_SECOND:
            return
        self._mined = time.monotonic()
        with contextlib.suppress(BtcfiError):
            tip = self.node.block_count()
            if self.node.pool() or tip < self._buried_at():
                self.node.generate(1, mining_address(self.here.deployment, tip))

    def _buried_at(self) -> int:
        """Return the height at which every confirmed transaction is final; what waits for a worker wants no block."""
        with self.store.reading() as session:
            newest = newest_confirmed_height(session)
        return 0 if newest is None else newest + self.here.preset.confirmations - 1

    def wait(self, what: str, done: Callable[[], bool], seconds: float = 60.0, pause: float = 0.1) -> None:
        """Wait until ``done``. Raises StalledError."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise StalledError(what, seconds, self.logs)
            time.sleep(pause)

    # ---- faults

    def kill_broker(self, *, wipe: bool) -> None:
        """Kill the broker; the supervisor starts it again, with its file or with an empty folder."""
        self._kill(self.part("broker"))
        if wipe:
            folder = self.folder / "base" / "broker"
            for entry in folder.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def kill_node(self) -> None:
        """Kill the node; it starts again on its chain, without its mempool as a bitcoind would."""
        self._kill(self.part("node"))

    @staticmethod
    def _kill(part: Part) -> None:
        if part.process is not None:
            part.process.send_signal(signal.SIGKILL)
            part.process.wait(5)
        part.failures = 0  # no backoff between the cases of one run

    def flush_broker(self) -> None:
        """FLUSHALL: every queue, every unacknowledged message, every binding gone."""
        self._redis().flushall()

    def _redis(self) -> Any:  # noqa: ANN401 - redis-py has no types that help here
        import redis  # noqa: PLC0415 - kombu's; only this fault talks to the broker past it

        path = (self._base.deployment.broker_url or "").removeprefix("redis+socket://").partition("?")[0]
        return redis.Redis(unix_socket_path=path, db=0, socket_timeout=5)

    def waiting(self, queue: str) -> list[bytes]:
        """Return the raw messages of a queue."""
        return list(self._redis().lrange(PREFIX + queue.encode(), 0, -1))

    def push_raw(self, queue: str, *messages: bytes) -> None:
        """Put raw bytes into a queue, as somebody with access to the broker could."""
        self._redis().lpush(PREFIX + queue.encode(), *messages)

    def deliver_again(self, since: int, rng: random.Random) -> None:
        """Have every message since ``since`` published again, and what waits in the queues doubled and shuffled."""
        with self.store.transaction() as session:
            statement = update(OutboxRow).where(col(OutboxRow.created_at_unix) >= since).values(published_at_unix=None)
            session.execute(statement.execution_options(synchronize_session=False))
        client = self._redis()
        for queue in (b"settle", b"chain", b"control"):
            key = PREFIX + queue
            messages = client.lrange(key, 0, -1) * 2
            if messages:
                rng.shuffle(messages)
                pipe = client.pipeline(transaction=True)
                pipe.delete(key)
                pipe.rpush(key, *messages)
                pipe.execute()

    def cut_database(self) -> None:
        """End every connection to the PostgreSQL database but this one."""
        with self.store.transaction() as session:
            session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )

    @property
    def is_postgresql(self) -> bool:
        """Whether the store is a server."""
        return self._deployment.database_url.startswith("postgresql")

    def cut_power(self) -> None:
        """Kill the fleet at once, take away what it has not synced, and start it again on what is left.

        Broker, node and exchanges are other machines': they stay. Raises StalledError without ``mains``.
        """
        if self._power is None:
            raise StalledError("the power cut: nothing keeps what was synced", 0, self.logs)
        for part in self.fleet.parts:
            if part.process is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(part.process.pid, signal.SIGKILL)
        self.stop_fleet()
        data, before = self._deployment.data_dir, self.folder / f"before-{self._cuts}"
        left = self.folder / f"left-{self._cuts}"
        self._power.leave(left)
        data.rename(before)
        left.rename(data)
        self.start_fleet()

    def fill_disk(self, *, full: bool) -> None:
        """Let no worker write into a file beyond its first page, as on a full disk; or again."""
        _limit_files(self.workers(), full=full)

    def fill_disks(self, *, full: bool) -> None:
        """As ``fill_disk``, of every process of the fleet: workers, beat, oracles and parties, their logs included."""
        _limit_files(self.fleet.parts, full=full)

    def skew(self, role: str, seconds: int) -> None:
        """Have the wall clock of one role's workers go ``seconds`` ahead of every other."""
        self._skew.set(role, seconds)

    def clocks_right(self) -> None:
        """Set the clocks of all roles right."""
        self._skew.right()

    def kill_part(self, name: str) -> None:
        """Kill a process of the fleet with its children; the supervisor starts it again."""
        part = self.part(name)
        if part.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(part.process.pid, signal.SIGKILL)
            part.process.wait(5)
        part.failures = 0

    @contextmanager
    def node_of_another_policy(self) -> Iterator[None]:
        """Restart the node so that it does not enforce TRUC: no parent without a fee; and as it was, afterwards."""
        part = self.part("node")
        usual = part.command
        part.command = [*usual, "-mempooltruc=accept"]
        self.kill_node()
        try:
            yield
        finally:
            part.command = usual
            self.kill_node()

    def held(self) -> list[tuple[str, bytes]]:
        """Return what lies in the queues and what workers hold, as it was written: each with its queue."""
        found = [(queue, raw) for queue in QUEUES for raw in self.waiting(queue)]
        for kept in self._redis().hvals(PREFIX + b"unacked"):
            message, _exchange, queue = json.loads(kept)
            found.append((str(queue), json.dumps(message).encode()))
        return found

    def envelope(self, queue: str, task: str, *args: object) -> dict[str, Any]:
        """Return a message as kombu writes it for a task of ours, unsealed."""
        given = {"lang": "py", "task": task, "id": str(uuid.uuid4()), "root_id": None, "argsrepr": ""}
        return {
            "body": base64.b64encode(json.dumps([list(args), {}, {}]).encode()).decode(),
            "content-encoding": "utf-8", "content-type": "application/json", "headers": given,
            "properties": {
                "correlation_id": given["id"], "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()), "delivery_info": {"exchange": "", "routing_key": queue},
            },
        }  # fmt: skip

    def sealed(self, envelope: dict[str, Any], queue: str, *, key: Path | None = None) -> bytes:
        """Return an envelope sealed for a queue, with the deployment's key or with another file's."""
        deployment = self.fleet.deployment
        keys = KeyFile(deployment.broker_key_file if key is None else key)
        seal = Seal(keys, KeyFile(deployment.operator_key_file), accept_unsigned=False)
        made: dict[str, Any] = json.loads(json.dumps(envelope))
        seal.sign(made, "", queue)
        return json.dumps(made).encode()

    def slow_node(self, *, seconds: float) -> None:
        """Make the node slow for a while."""
        if self._proxy is not None:
            self._proxy.slow_until = time.monotonic() + seconds

    def freeze(self, part: Part) -> None:
        """SIGSTOP a process and its children."""
        if part.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(part.process.pid, signal.SIGSTOP)

    def thaw(self, part: Part) -> None:
        """SIGCONT them."""
        _continue(part)

    def alive(self, names: Sequence[str] | None = None) -> bool:
        """Return whether these parts, or all, run."""
        parts = [p for p in self.fleet.parts if names is None or p.name in names]
        return all(p.exit_code is None for p in parts)


def _limit_files(parts: Iterable[Part], *, full: bool) -> None:
    for part in parts:
        if part.process is None:
            continue
        with contextlib.suppress(psutil.Error):
            top = psutil.Process(part.process.pid)
            for process in (top, *top.children(recursive=True)):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    _soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
                    limit = 4096 if full else hard
                    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, hard))


def _continue(part: Part) -> None:
    if part.process is not None and part.process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(part.process.pid, signal.SIGCONT)
