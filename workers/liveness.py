"""Whether a process works, judged by the work that it does: not by its number, nor by an answer of its main loop.

A worker's main loop writes down every few seconds what it finished, what it holds and what waits for it; beat writes
when it last ticked. Who judges reads that file and nothing else: `btcfi health` for a container's health check, and the
supervisor of `btcfi up`. A worker is stuck when work has waited for a while and it finished none, though nothing in its
hands is young enough to explain that, no operator has drained it and the broker answers; or when its main loop stands
still. Times are of this machine's steady clock, which all its processes share: no clock of another host is compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from btcfi.adapters.files import UntrustedFileError, make_private, read_untrusted_json
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError

NOTE_SECONDS: Final = 5.0
"""Between two notes of a process."""

ALSO_SECONDS: Final = 1.0
"""Between two calls of what else a worker's main loop does beside its work."""

STANDSTILL_SECONDS: Final = 60.0
"""Without a note a worker's main loop stands still: the longest wait in it is for an answer of the broker, 30 s."""

BEAT_STANDSTILL_SECONDS: Final = 300.0
"""The same of beat, which waits for a broker that is away inside its only loop."""

IDLE_SECONDS: Final = 90.0
"""For which work may wait for an idle worker, at the least; three canaries where those come more slowly."""

LONGEST_TASK_SECONDS: Final = 360.0
"""What is in hand for so long explains nothing: a task is ended after 300 s (``workers.app``; a test compares)."""

KEEP_SECONDS: Final = 7 * 86_400
"""After which the notes of a name that nobody has any more are removed: containers never have the same twice."""

BEAT: Final = "beat"

FOLDER: Final = "alive"
MAX_NOTE_BYTES: Final = 4_096

_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,200}")

log = structlog.get_logger("btcfi.liveness")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a process last said of itself; times in seconds of ``time.monotonic``."""

    pid: int
    at: float
    """When it said it."""
    progress_at: float
    """When it last finished or refused something, or began to work."""
    waiting_since: float | None = None
    """Since when its queues have never been seen empty; None when they were, the last time it looked."""
    waiting: int = 0
    busy_since: float | None = None
    """When the oldest task in its hands began; None while it has none."""
    connecting: bool = False
    """Whether it is waiting for the broker, which no restart would help."""
    drained: tuple[str, ...] = ()
    """Queues that an operator told it to leave alone."""


def stuck(note: Note, *, now: float, canary_seconds: float, standstill: float = STANDSTILL_SECONDS) -> str | None:
    """Return why a process is to be started anew, None while it works or nothing is there to be done."""
    if note.connecting:
        return None
    if now - note.at > standstill:
        return f"its main loop has stood still for {now - note.at:,.0f} s"
    if note.drained or note.waiting_since is None:
        return None
    if note.busy_since is not None and now - note.busy_since <= LONGEST_TASK_SECONDS:
        return None
    patience = max(IDLE_SECONDS, 3 * canary_seconds)
    without = now - max(note.progress_at, note.waiting_since)
    if without > patience:
        return f"{note.waiting} messages wait and it has finished nothing for {now - note.progress_at:,.0f} s"
    return None


def judged(file: Path, *, canary_seconds: float, pid: int | None = None) -> str | None:
    """Return why the process of this note is to be started anew, None while it works or has said nothing yet.

    pid: whose note it must be; one of a process before it is no note.
    """
    note = read_note(file)
    if note is None or (pid is not None and note.pid != pid):
        return None
    beat = file.name.startswith(f"{BEAT}@")
    standstill = BEAT_STANDSTILL_SECONDS if beat else STANDSTILL_SECONDS
    return stuck(note, now=time.monotonic(), canary_seconds=canary_seconds, standstill=standstill)


def node_name(name: str) -> str:
    """Return a worker's full name, as Celery makes it of ``--hostname=NAME@%h``."""
    return f"{name}@{socket.gethostname()}"


def path_of(data_dir: Path, name: str) -> Path:
    """Return the file of a process by its full name. Raises InvalidInputError for what is no name of a process."""
    if not _NAME.fullmatch(name):
        raise InvalidInputError("name", "signs that no process has in its name", "letters, digits, . _ - @")
    return data_dir / FOLDER / f"{name}.json"


def read_note(file: Path) -> Note | None:
    """Return what a process said, None where nothing of use stands. It was written by ourselves, on this machine."""
    try:
        found = read_untrusted_json(file, at_most=MAX_NOTE_BYTES, what="a note of liveness")
        return Note(**{**found, "drained": tuple(found["drained"])})
    except (NotFoundError, UntrustedFileError, InvalidInputError, TypeError, KeyError, ValueError):
        return None


def alive(pid: int) -> bool:
    """Return whether a process of this number runs here."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(slots=True)
class Life:
    """What this process notes of itself; one a process."""

    began: float = field(default_factory=time.monotonic)
    progress_at: float = field(default_factory=time.monotonic)
    finished: int = 0
    waiting_since: float | None = None
    waiting: int = 0
    connecting: bool = False
    drained: set[str] = field(default_factory=set)
    held: dict[str, float] = field(default_factory=dict)
    """By task: when it was first seen in the worker's hands."""
    queues: tuple[str, ...] = ()
    """Those that it was started for, whether it still takes them or not."""
    file: Path | None = None
    _said: bool = False

    def name(self, data_dir: Path, name: str) -> None:
        """Say where the notes go; remove those of names that are long gone."""
        with contextlib.suppress(BtcfiError):
            self.file = path_of(data_dir.resolve(), name)
            with contextlib.suppress(OSError):
                make_private(self.file.parent)
                for old in self.file.parent.glob("*.json"):
                    if time.time() - old.stat().st_mtime > KEEP_SECONDS:
                        old.unlink(missing_ok=True)

    def saw(self, waiting: int | None) -> None:
        """Take in how much waits; None: it could not be asked, and what was known holds."""
        if waiting is None:
            return
        self.waiting = waiting
        if waiting == 0:
            self.waiting_since = None
        elif self.waiting_since is None:
            self.waiting_since = time.monotonic()

    def write(self, *, busy_since: float | None = None) -> None:
        """Write the note, whole or not at all; a folder that cannot be written to is said once."""
        if self.file is None:
            return
        note = Note(
            pid=os.getpid(), at=time.monotonic(), progress_at=self.progress_at, waiting_since=self.waiting_since,
            waiting=self.waiting, busy_since=busy_since, connecting=self.connecting,
            drained=tuple(sorted(self.drained)),
        )  # fmt: skip
        temporary = self.file.with_suffix(f".{os.getpid()}.tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(json.dumps(asdict(note)))
            temporary.replace(self.file)  # no sync: after a power cut nobody runs
            self._said = False
        except OSError as e:
            if not self._said:
                self._said = True
                log.warning("not noted that this process works", file=str(self.file), problem=e.strerror)


LIFE: Final = Life()


def progress() -> None:
    """Note that something came to its end."""
    LIFE.progress_at = time.monotonic()


def connect(app: Any, data_dir: Path, *, also: Callable[[], None]) -> None:  # noqa: ANN401 - Celery has no types
    """Have the workers of an application note what they do. also: called every second in their main loop."""
    from celery import bootsteps  # noqa: PLC0415 - who judges needs no Celery

    class Liveness(bootsteps.StartStopStep):  # type: ignore[misc]
        """Notes what the worker does, from a timer of its main loop."""

        requires = ("celery.worker.components:Timer",)

        def __init__(self, worker: Any, **_: Any) -> None:  # noqa: ANN401, ARG002 - Celery's
            self._timers: list[Any] = []

        def start(self, worker: Any) -> None:  # noqa: ANN401 - as above
            LIFE.name(data_dir, str(worker.hostname))
            LIFE.queues = tuple(worker.app.amqp.queues.consume_from)
            progress()
            self._timers = [
                worker.timer.call_repeatedly(NOTE_SECONDS, _note, (worker,)),
                worker.timer.call_repeatedly(ALSO_SECONDS, _quietly, (also,)),
            ]

        def stop(self, worker: Any) -> None:  # noqa: ANN401, ARG002 - as above
            while self._timers:
                self._timers.pop().cancel()

    app.steps["worker"].add(Liveness)


def _quietly(work: Callable[[], None]) -> None:
    with contextlib.suppress(Exception):  # whatever it is, it may not end the main loop's timer
        work()


def _note(worker: Any) -> None:  # noqa: ANN401 - as above
    from celery.worker import state  # noqa: PLC0415 - as above

    active = list(state.active_requests)
    finished = state.all_total_count[0] - len(active)
    if finished != LIFE.finished:
        LIFE.finished = finished
        progress()
    LIFE.saw(_waiting(worker))
    now = time.monotonic()
    LIFE.held = {request.id: LIFE.held.get(request.id, now) for request in active}
    LIFE.write(busy_since=min(LIFE.held.values(), default=None))


def _waiting(worker: Any) -> int | None:  # noqa: ANN401 - as above
    """Return how many messages wait in the queues that the worker was started for, taken or not."""
    try:
        with worker.consumer.connection.default_channel.conn_or_acquire() as client:
            return sum(int(client.llen(name)) for name in LIFE.queues)
    except Exception:  # noqa: BLE001 - the broker is away, which the consumer itself notices
        return None
