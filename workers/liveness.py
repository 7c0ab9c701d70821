"""Whether a process works, judged by the work that it does: not by its number, nor by an answer of its main loop.

A worker's main loop writes down every few seconds what it finished, what it holds and what waits for it; beat writes
when it last ticked. Who judges reads that file and nothing else: `btcfi health` for a container's health check, and the
supervisor of `btcfi up`. A worker is stuck when work has waited for a while and it finished none, though nothing in its
hands is young enough to explain that, no operator has drained it and the broker answers; or when its main loop stands
still. Times are of this machine's steady clock, which all its processes share: no clock of another host is compared,
and a note of before the machine started anew is none. A number is given again: a note says when its process was born,
too, and nothing is ended that was not born then. On an overloaded machine everybody is given more time.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Final

import psutil
import structlog

from btcfi.adapters.files import UntrustedFileError, make_private, read_untrusted
from btcfi.documents import parse_json
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError

NOTE_SECONDS: Final = 5.0
"""Between two notes of a process."""

ALSO_SECONDS: Final = 1.0
"""Between two calls of what else a worker's main loop does beside its work."""

STANDSTILL_SECONDS: Final = 180.0
"""Without a note a worker's main loop stands still. Its longest waits are for the broker, and those are noted."""

BROKER_WAIT_SECONDS: Final = 600.0
"""For which waiting for an answer of the broker explains that there is no note: redis-py asks four times, 30 s each,
and some questions follow each other."""

BEAT_STANDSTILL_SECONDS: Final = 300.0
"""The same of beat, which waits for a broker that is away inside its only loop."""

IDLE_SECONDS: Final = 90.0
"""For which work may wait for an idle worker, at the least; three canaries where those come more slowly."""

LONGEST_TASK_SECONDS: Final = 360.0
"""What is in hand for so long explains nothing: a task is ended after 300 s (``workers.app``; a test compares)."""

MOST_STRAIN: Final = 5.0
"""How many times as patient as on an idle machine it is on one that is overloaded: who gets the processor rarely is
slow and not stuck, and a stuck one is still found in a quarter of an hour."""

BORN_SECONDS: Final = 1.0
"""By which two readings of the moment of a process's birth may differ: the kernel counts it in hundredths."""

KEEP_SECONDS: Final = 7 * 86_400
"""After which the notes of a name that nobody has any more are removed: containers never have the same twice."""

BEAT: Final = "beat"

FOLDER: Final = "alive"
MAX_NOTE_BYTES: Final = 4_096

NOTE_BYTES: Final = 1_024
"""Of a note, filled up with blanks: where there is no room for a new file, one is written over the old in its place."""

_ASKS: Final = b"\n"
_IDLE: Final = b" "
"""The last byte of a note: whether its process is waiting for an answer of the broker. One byte is written before each
question and after it, which costs less than the question."""

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

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
    boot: str | None = None
    """Which start of the machine its times are of; None where the system gives that no name."""
    born: float | None = None
    """When the process began, in seconds from the machine's start; None in a note of older code."""
    asking: bool = False
    """Whether it waits for an answer of the broker this moment, which may take longer than the next note."""


def stuck(
    note: Note, *, now: float, canary_seconds: float, standstill: float = STANDSTILL_SECONDS, strain: float = 1.0
) -> str | None:
    """Return why a process is to be started anew, None while it works or nothing is there to be done.

    strain: how many times more time than on an idle machine it has.
    """
    if note.connecting:
        return None
    if now - note.at > strain * (max(standstill, BROKER_WAIT_SECONDS) if note.asking else standstill):
        return f"its main loop has stood still for {now - note.at:,.0f} s"
    if note.drained or note.waiting_since is None:
        return None
    if note.busy_since is not None and now - note.busy_since <= LONGEST_TASK_SECONDS:
        return None
    patience = strain * max(IDLE_SECONDS, 3 * canary_seconds)
    without = now - max(note.progress_at, note.waiting_since)
    if without > patience:
        return f"{note.waiting} messages wait and it has finished nothing for {now - note.progress_at:,.0f} s"
    return None


def judged(file: Path, *, canary_seconds: float, pid: int | None = None) -> str | None:
    """Return why the process of this note is to be started anew, None while it works or has said nothing yet.

    pid: whose note it must be; one of a process before it is no note.
    """
    note = read_note(file)
    if note is None or (pid is not None and note.pid != pid) or not lives(note):
        return None
    beat = file.name.startswith(f"{BEAT}@")
    standstill = BEAT_STANDSTILL_SECONDS if beat else STANDSTILL_SECONDS
    now = time.monotonic()
    reason = stuck(note, now=now, canary_seconds=canary_seconds, standstill=standstill, strain=strain())
    # what nobody can write to says nothing of who would
    return None if reason is not None and _read_only(file.parent) else reason


def strain() -> float:
    """Return how many times more is to be done here than processors can do, at least 1 and at most ``MOST_STRAIN``."""
    try:
        waiting = os.getloadavg()[0]
    except OSError:
        return 1.0
    return min(max(waiting / (os.cpu_count() or 1), 1.0), MOST_STRAIN)


def _read_only(folder: Path) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def node_name(name: str) -> str:
    """Return a worker's full name, as Celery makes it of ``--hostname=NAME@%h``."""
    return f"{name}@{socket.gethostname()}"


def path_of(data_dir: Path, name: str) -> Path:
    """Return the file of a process by its full name. Raises InvalidInputError for what is no name of a process."""
    if not _NAME.fullmatch(name):
        raise InvalidInputError("name", "signs that no process has in its name", "letters, digits, . _ - @")
    return data_dir / FOLDER / f"{name}.json"


def read_note(file: Path) -> Note | None:
    """Return what a process said, None where nothing of use stands. It was written by ourselves, on this machine.

    Of no use, too: times of before the machine started anew, which are of another clock, and times to come.
    """
    try:
        data = read_untrusted(file, at_most=MAX_NOTE_BYTES, what="a note of liveness")
        found = parse_json(data, "a note of liveness")
        known = {one.name: found[one.name] for one in fields(Note) if one.name in found}
        note = Note(**{**known, "drained": tuple(found["drained"]), "asking": data.endswith(_ASKS)})
        if note.at > time.monotonic() or (note.boot is not None and note.boot != boot()):
            return None
    except (NotFoundError, UntrustedFileError, InvalidInputError, TypeError, KeyError, ValueError):
        return None
    return note


@cache
def boot() -> str | None:
    """Return the name of this start of the machine, None where the system has none."""
    try:
        return _BOOT_ID.read_text().strip()[:64]
    except (OSError, ValueError):
        return None


def born(pid: int) -> float | None:
    """Return when a process began, in seconds from the machine's start; None where none has this number.

    Both terms move with the wall clock, their difference does not: setting a clock makes nobody a stranger.
    """
    try:
        return float(psutil.Process(pid).create_time() - psutil.boot_time())
    except (psutil.Error, OSError, ValueError):
        return None


def lives(note: Note) -> bool:
    """Return whether the process of a note runs; another one that was given its number since is not it."""
    return alive(note.pid) and (note.born is None or _is_born_at(note.pid, note.born))


def may_be_ended(note: Note) -> bool:
    """Return whether what has a note's number is known to be its process; of an older note that is not known."""
    return note.born is not None and lives(note)


def _is_born_at(pid: int, moment: float) -> bool:
    found = born(pid)
    return found is not None and abs(found - moment) <= BORN_SECONDS


def alive(pid: int) -> bool:
    """Return whether a process of this number runs here."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
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
    _descriptor: int | None = None
    """Of the note as it lies there now."""
    _writer: tuple[int, float | None] = (0, None)
    """Who writes: a forked child has all of this, too, and notes nothing in its parent's name."""
    _asking: bool = False
    _size: int = NOTE_BYTES

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
        """Write the note, whole or not at all, in the old one's place where there is no room for a new one.

        A folder that cannot be written to at all is said once.
        """
        if self.file is None:
            return
        if self._writer[0] != os.getpid():
            self._writer, self._descriptor = (os.getpid(), born(os.getpid())), None
        note = Note(
            pid=os.getpid(), at=time.monotonic(), progress_at=self.progress_at, waiting_since=self.waiting_since,
            waiting=self.waiting, busy_since=busy_since, connecting=self.connecting,
            drained=tuple(sorted(self.drained)), boot=boot(), born=self._writer[1],
        )  # fmt: skip
        data = json.dumps(asdict(note)).encode().ljust(NOTE_BYTES - 1) + (_ASKS if self._asking else _IDLE)
        try:
            try:
                descriptor = self._anew(self.file, data)
            except OSError:  # no room, or no right to a new name
                descriptor = self._over(self.file, data)
            self._said = False
        except OSError as e:
            if not self._said:
                self._said = True
                log.warning("not noted that this process works", file=str(self.file), problem=e.strerror)
            return
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._size = descriptor, len(data)

    @staticmethod
    def _anew(file: Path, data: bytes) -> int:
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _whole(descriptor, data)
            temporary.replace(file)  # no sync: after a power cut nobody runs
        except OSError:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        return descriptor

    @staticmethod
    def _over(file: Path, data: bytes) -> int:
        descriptor = os.open(file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _whole(descriptor, data)
            os.ftruncate(descriptor, len(data))
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Have the note say meanwhile that the main loop waits for an answer of the broker."""
        here = self._descriptor is not None and not self._asking and self._writer[0] == os.getpid()
        if not here or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._asking = True
        self._mark(_ASKS)
        try:
            yield
        finally:
            self._asking = False
            self._mark(_IDLE)

    def _mark(self, byte: bytes) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, byte, self._size - 1)


def _whole(descriptor: int, data: bytes) -> None:
    if os.pwrite(descriptor, data, 0) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


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
