"""A whole deployment on one machine, started and stopped as one: ``btcfi up`` and ``btcfi demo``.

Which parts there are stands in ``workers/machine/rows.py``. The broker listens on a unix socket in a private
directory, the node on the loopback. Every part runs in a session of its own, so that Ctrl-C reaches only the parent,
which then stops them in order. Children are configured by their environment alone: arguments are readable by every
user of the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Final, Self

import psutil

from btcfi.adapters.chain.node import DatadirInUseError
from btcfi.adapters.files import (
    UntrustedFileError,
    make_private,
    new_private,
    open_private,
    write_private,
)
from btcfi.errors import BtcfiError, InvalidInputError, UnreachableError
from settings.deployment import SECRETS, Deployment, variable
from settings.preset import load_preset
from workers import liveness, seal
from workers.logs import bound_log
from workers.machine import parties, rows
from workers.machine.nursery import SUPPORTED, Nursery
from workers.machine.part import Part, end, todo, until_answered
from workers.machine.rows import Here, Row
from workers.roles import CONTROL

MAX_SOCKET_PATH: Final = 100
"""Characters. The kernel's limit is 108 on Linux and 104 on macOS, its final zero included."""

SOFT_STOP_SECONDS: Final = 12.0
"""From SIGTERM to SIGKILL: the soft shutdown of ``workers.app`` (5 s) and the exit of the pool."""

FIRST_BACKOFF_SECONDS: Final = 1.0
LONGEST_BACKOFF_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A part that ran so long starts again with the first backoff."""

FLOWER_BASIC_AUTH: Final = "FLOWER_BASIC_AUTH"
"""Flower's own variable for a login; of all processes it alone is told."""

_RUN_PREFIX: Final = "btcfi-run-"


def _silent(_: str) -> None:
    pass


@dataclass(slots=True)
class _Supervised:
    """What the supervisor thread and the main thread share."""

    parts: list[Part] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)
    unwritten: bool = False
    """Whether ``cluster.json`` lacks a process, such as one that was started while the disk was full."""


class Cluster:
    """The parts of one deployment, as many as wanted; a context manager that leaves no process behind.

    A broker, node or database that the deployment names is used instead of an embedded one, and never stopped.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        embedded_broker: bool = True,
        embedded_node: bool = True,
        replay_folder: Path | None = None,
        simulated: int | None = None,
        roles: tuple[str, ...] = rows.ROLES,
        beat: bool = True,
        flower: bool = False,
        api: bool = False,
        metrics: bool = False,
        run_parties: bool = True,
        run_oracles: bool = True,
        more: Sequence[Row] = (),
    ) -> None:
        """Raise InvalidInputError for a part that needs what is not before it.

        simulated: seed of a market without an end, instead of a folder. more: parts of other systems.
        run_oracles: start the preset's oracles, unless the deployment names others or nobody would ask them.
        """
        self._deployment, self._replay_folder, self._simulated = deployment, replay_folder, simulated
        asked = run_oracles and CONTROL in roles and not deployment.oracles
        oracles = load_preset(deployment.preset).oracles if asked else 0
        wanted = {
            rows.BROKER: embedded_broker or deployment.broker_url is not None,
            rows.NODE: embedded_node or deployment.node_url is not None,
            rows.REPLAY: replay_folder is not None or simulated is not None,
            **dict.fromkeys(parties.PARTIES, run_parties),
            rows.BEAT: beat, rows.API: api, rows.FLOWER: flower, rows.METRICS: metrics,
        }  # fmt: skip
        self.rows = tuple(row for row in rows.table(roles, more, oracles=oracles) if wanted.get(row.name, True))
        """The wanted parts, in the order of their start."""
        self._here: Here | None = None
        self._told: list[str] = []
        self._logs = deployment.data_dir / "logs"
        self._nursery = Nursery(self._logs / "nursery.log")
        self._shared = _Supervised()
        self._supervisor: threading.Thread | None = None
        self._run_dir: Path | None = None
        self._lock_file: IO[bytes] | None = None
        self._old_handler: Any = None

    @property
    def deployment(self) -> Deployment:
        """The deployment with the URLs of the embedded parts filled in, once started."""
        return self._deployment if self._here is None else self._here.deployment

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
        make_private(data_dir, named=True)
        self._lock(data_dir)
        self._end_leftovers(data_dir)
        parties.prepare(self._deployment)
        if seal.prepare(self._deployment) and self._deployment.broker_url is None:
            # what an embedded broker of before there was a key holds has no seal; the reconciler sends it again
            shutil.rmtree(data_dir / "broker", ignore_errors=True)
        self._run_dir = _private_directory()
        if SUPPORTED and any(row.forked for row in self.rows):
            self._nursery.open()  # it imports while the broker and the node start
        here = Here(
            deployment=self._deployment, run_dir=self._run_dir, replay_folder=self._replay_folder,
            simulated=self._simulated,
        )  # fmt: skip
        for row in self.rows:
            here = self._here = self._bring(row, here, progress)
        self._write_down()  # with what the last of them filled in
        self._supervisor = threading.Thread(target=self._supervise, name="btcfi-supervisor", daemon=True)
        self._supervisor.start()

    def _bring(self, row: Row, here: Here, progress: Callable[[str], None]) -> Here:
        """Start one row, or ask the service that stands in for it; return what is known then."""
        if (ask := row.outside(self._deployment)) is not None:
            progress(row.outside_says)
            ask()
            return here
        here = _filled(here, row.before(here))
        if line := row.says(here):
            progress(line)
        if row.work is not None:
            row.work(here)
        self._told += row.tells
        if row.command is None:
            return here
        self._here = here
        part = self._launch(
            row.name, row.command(here), forked=row.forked, stdin=row.stdin(here), environment=row.environment,
            secrets=row.secrets,
        )  # fmt: skip
        if row.ready is None:
            return here
        for _ in until_answered(part, row.service, row.where(here)):
            if (fields := row.ready(here, part)) is not None:
                here = _filled(here, fields)
                part.command = row.command(here)  # where clients know it: if it has to start again, then there
                break
        return here

    def launch(self, name: str, *arguments: str) -> Part:
        """Start one more process of ours: ``launch("settle-2", "worker", "settle", "--name", "settle-2")``."""
        return self._launch(name, [*rows.CLI, *arguments], forked=True)

    def add(self, row: Row) -> None:
        """Start one part more, once the others run; it is supervised and stopped like them. Raises as ``start``."""
        if self._here is None:
            raise InvalidInputError(f"part {row.name}", "nothing runs yet", "a cluster that was started")
        self.rows = (*self.rows, row)
        self._here = self._bring(row, self._here, _silent)

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return when every worker and the API answer. Raises UnreachableError that names the first that does not."""
        deadline = time.monotonic() + timeout
        for row in self.rows:
            while row.answers is not None and not row.answers(self.deployment):
                if time.monotonic() > deadline:
                    part = next(p for p in self._shared.parts if p.name == row.name)
                    where = "" if self._here is None else row.where(self._here)
                    raise UnreachableError(row.service, where, part.last_line(), todo(part))
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop every part, workers softly, and what others use after those that use it. Safe to call twice."""
        self._shared.stopping.set()
        parts = list(self._shared.parts)  # the supervisor replaces a part's process, never the list's parts
        try:
            if self._supervisor is not None:
                self._supervisor.join(10)
            left = parts
            while left:
                needed = self._needed(left)
                end([p for p in left if p.name not in needed], SOFT_STOP_SECONDS)
                left = [p for p in left if p.name in needed]
        finally:  # a second Ctrl-C ends the waiting, not the cleaning
            with self._shared.lock:
                for part in parts:
                    part.kill()
                self._shared.parts.clear()
            self._nursery.close()
            self._clean()

    def _needed(self, parts: Sequence[Part]) -> set[str]:
        """Return the names of what some of ``parts`` use. Rows need earlier ones only, so something is not needed."""
        names = {part.name for part in parts}
        return {need for row in self.rows if row.name in names for need in row.needs}

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
        file = open_private(data_dir / "cluster.lock")
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
        known = {"run_dir": str(self._run_dir), "parts": rows, "urls": self._own_urls()}
        # whole or not at all: the next start ends what stands here, and an empty file would hide all of them
        write_private(self._deployment.data_dir / "cluster.json", json.dumps(known).encode())
        self._shared.unwritten = False

    def _own_urls(self) -> dict[str, object]:
        """Return what `btcfi doctor`, `watch` and `metrics` need to find this cluster (see attach.py); no password."""
        found = {name: getattr(self.deployment, name) for name in self._told}
        texts = {name: str(value) if isinstance(value, Path) else value for name, value in found.items()}
        clock = {"replay_clock": self._deployment.replay_clock, "replay_until": self._deployment.replay_until}
        return {**clock, **texts}

    def _launch(
        self, name: str, command: list[str], *, forked: bool, stdin: bytes = b"",
        environment: Callable[[Deployment], dict[str, str]] | None = None, secrets: frozenset[str] = rows.WORKING,
    ) -> Part:  # fmt: skip
        part = Part(
            name=name,
            command=command,
            environment=self.environment_of(environment, secrets),
            log=self._logs / f"{name}.log",
            stdin=stdin,
            nursery=self._nursery if forked and SUPPORTED else None,
            works_as=_works_as(name, command),
        )
        self._shared.parts.append(part)
        part.start()
        self._write_down()
        return part

    def environment_of(
        self, own: Callable[[Deployment], dict[str, str]] | None, secrets: frozenset[str]
    ) -> dict[str, str]:
        """Return what a part is told: by its row's own function, or the deployment with these of its secrets alone."""
        if own is not None:
            return own(self.deployment)
        ours = {variable(known) for known in Deployment.model_fields} | {FLOWER_BASIC_AUTH}
        ours |= {f"{variable(secret)}_FILE" for secret in SECRETS}
        environment = {key: value for key, value in os.environ.items() if key not in ours}
        untold = {name: None for name in SECRETS if name not in secrets}
        environment |= self.deployment.model_copy(update=untold).environment()
        environment |= {"REMAP_SIGTERM": "SIGQUIT", "PYTHONUNBUFFERED": "1"}
        if "flower_password" in secrets and FLOWER_BASIC_AUTH in os.environ:
            environment[FLOWER_BASIC_AUTH] = os.environ[FLOWER_BASIC_AUTH]
        return environment

    def _supervise(self) -> None:
        while not self._shared.stopping.wait(0.5):
            with self._shared.lock:
                for part in self._shared.parts:
                    # whatever one part's files or the nursery do to us: the others are watched, and it, again
                    with contextlib.suppress(Exception):
                        self._look_after(part)
                if self._shared.unwritten:
                    with contextlib.suppress(OSError):
                        self._write_down()

    def _look_after(self, part: Part) -> None:
        if part.exit_code is not None and not self._shared.stopping.is_set():
            self._restart(part)
        elif (reason := self._stuck(part)) is not None:
            part.give_up(reason)  # ended, so it starts anew in the next round
        elif bound_log(part.log):
            part.offset = 0

    def _stuck(self, part: Part) -> str | None:
        """Return why a worker or beat is to be ended, by what it notes of its work; None for every other part."""
        now = time.monotonic()
        if part.process is None or part.works_as is None or now - part.judged < liveness.NOTE_SECONDS:
            return None
        part.judged = now
        file = liveness.path_of(self._deployment.data_dir.resolve(), part.works_as)
        return liveness.judged(file, canary_seconds=self._deployment.canary_seconds, pid=part.process.pid)

    def _restart(self, part: Part) -> None:
        now = time.monotonic()
        if part.retry_at is None:
            part.failures = 0 if now - part.started > STEADY_SECONDS else part.failures + 1
            wait = _backoff(part.failures)
            part.retry_at = now + wait
            # a full disk must not end the supervision of all
            with contextlib.suppress(OSError, UntrustedFileError), open_private(part.log, append=True) as log:
                said = f"btcfi: {part.name} ended with {part.exit_code}; starting again in {wait:.0f} s\n"
                log.write(said.encode())
        elif now >= part.retry_at:
            part.kill()  # what its group left
            # no process, no memory, a link in the log's place: the next round tries again
            with contextlib.suppress(OSError, UnreachableError, UntrustedFileError):
                part.start()
                self._shared.unwritten = True


def _works_as(name: str, command: Sequence[str]) -> str | None:
    """Return the name under which a part notes what it does; None for one that notes nothing."""
    ours = tuple(command[: len(rows.CLI)]) == rows.CLI and command[len(rows.CLI)] in {"worker", "beat"}
    return liveness.node_name(rows.BEAT if command[len(rows.CLI)] == "beat" else name) if ours else None


def _backoff(failures: int) -> float:
    # the power is bounded, not only the product: a float ends at 2 ** 1023, which is a night of failures
    return min(FIRST_BACKOFF_SECONDS * 2.0 ** min(max(failures - 1, 0), 16), LONGEST_BACKOFF_SECONDS)


def _filled(here: Here, fields: rows.Fields) -> Here:
    if not fields:
        return here
    return replace(here, deployment=here.deployment.model_copy(update=dict(fields)), filled={**here.filled, **fields})


def _private_directory() -> Path:
    """Return a new directory, mode 0700, whose sockets the kernel can name."""
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - its name is fresh and its mode 0700
        if len(parent) + len(f"/{_RUN_PREFIX}12345678/broker.sock") < MAX_SOCKET_PATH:
            return new_private(_RUN_PREFIX, Path(parent))
    raise BtcfiError("the path of the temporary directory is too long for a unix socket; set TMPDIR to a shorter one")
