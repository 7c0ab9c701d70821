"""Where the processes of an embedded cluster come from on Linux: one that has imported what they share, and forks.

A dozen processes that import Celery, SQLAlchemy and pydantic each pay 75 MB for the same code. Forked from one, they
share those pages until somebody writes to them (``workers/warm.py`` does the same inside a worker). The nursery knows
no deployment: what a part is told stands in a file without a name that only the part reads, so no secret of one is ever
in the memory of another. It imports nothing of ``tasks``, where an identity of the process is made.

No part outlives the nursery, and the nursery not its parent, in whatever order they are killed: a part that nobody
knows of would work beside the one that is started in its place.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

from btcfi.adapters.files import OTHERS, make_private, open_private
from btcfi.adapters.store.spine.schema import map_tables
from btcfi.errors import BtcfiError, UnreachableError

CODE: Final = Path(__file__).resolve().parents[2]
"""The folder in which our packages lie."""

SUPPORTED: Final = sys.platform == "linux"
"""Elsewhere a fork after such imports is not safe (macOS) or its commands cannot be shown."""

SHARED: Final = (
    "celery.apps.beat", "celery.apps.worker", "celery.backends.redis", "celery.bin.celery",
    "celery.concurrency.prefork", "celery.worker.autoscale", "celery.worker.components",
    "celery.worker.consumer", "celery.worker.strategy",
    "celery.events.receiver", "kombu.transport.redis",
    "sqlalchemy.dialects.sqlite.pysqlite", "sqlmodel", "cryptography.hazmat.primitives.kdf.scrypt", "typer.main",
    "settings.deployment", "settings.preset", "workers.app", "workers.roles",
    "btcfi.adapters.chain.node", "btcfi.adapters.keystore", "btcfi.adapters.party.mailbox",
    "btcfi.adapters.party.store", "btcfi.adapters.store.spine.database", "btcfi.adapters.store.spine.leases",
    "btcfi.adapters.store.spine.outbox",
    "btcfi.adapters.store.options.contracts", "btcfi.adapters.store.options.settlements",
    "btcfi.contracts.cooperative", "btcfi.contracts.setup", "btcfi.contracts.watch", "btcfi.oracle.report",
    "btcfi.surfaces.cli", "btcfi.market.firm_offer", "httpx",
    "btcfi.vm.interpreter", "btcfi.proofs.settlement_proof", "btcfi.pricing.premium", "btcfi.market.positions",
)  # fmt: skip
"""Imported once, before the first fork: what most parts need, and nothing that only one does. The guest and the prices
among them: settle workers, parties, makers and the API all run the one or the other, and each would have a copy of the
compiler, 70 MB, and load its work anew."""

PROGRAM: Final = "option_settlement"
"""The guest that is warmed: what is sold today."""

ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Of the nursery: numpy's linear algebra starts threads as it is imported, and a process with threads does not fork
well. What is multiplied here are a dozen numbers."""

ROOM: Final = "-" * 480
"""The last argument of the nursery: a part's own command is written over the nursery's, so that `ps` shows it."""

START_SECONDS: Final = 30.0
"""Until a nursery that makes no process counts as hung: it is ended then, with what it made."""

CLOSE_SECONDS: Final = 10.0

_PR_SET_PDEATHSIG: Final = 1
"""prctl(2)."""


PRELOADED: Final = ("LD_PRELOAD", "BTCFI_POWER_CUT_OF", "BTCFI_POWER_CUT_KEPT")
"""Of a process's environment, also where that is cut down to the least: what is loaded before libc, an allocator or the
library of ``workers/chaos/power_cut.py``."""

MACHINES: Final = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "TMPDIR", "PYTHONPATH", "NUMBA_CACHE_DIR", *PRELOADED)
"""Variables of the machine, not of the deployment: what every part has of them. Where compiled code may be kept is one,
for in an image nothing can be written beside the code."""


def of_the_machine(*also: str) -> dict[str, str]:
    """Return our environment as far as it is the machine's; also: variables that one part has besides."""
    return {name: os.environ[name] for name in (*MACHINES, *also) if name in os.environ}


def of_our_code(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which ``python -m`` takes its code from where we have ours.

    By itself it looks first into the folder in which we happen to run, where others may write.
    """
    known = [str(CODE), *filter(None, [environment.get("PYTHONPATH")])]
    return {**environment, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(known)}


class Forked:
    """A process that the nursery made, with what ``Part`` uses of ``subprocess.Popen``."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery, self.pid = nursery, pid
        self._code: int | None = None
        self.stdin = None

    def poll(self) -> int | None:
        """Return what it ended with, as ``subprocess`` does: minus the signal's number; None while it runs."""
        if self._code is None:  # asked no more once it is known: the number may be another's by then
            self._code = self._nursery.code_of(self.pid)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Return what it ends with. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(0.02)
        return code

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal to it, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Nursery:
    """The parent's end of it. Starts with the first fork, and again when it was killed."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._codes: dict[int, int | None] = {}
        self._read = b""

    def open(self) -> None:
        """Start the nursery, if it does not run."""
        with self._lock:
            self._connection()

    def fork(self, command: Sequence[str], environment: Mapping[str, str], log: int) -> Forked:
        """Start ``PYTHON -m MODULE ARGUMENTS…``, its output to the file ``log``. Raises UnreachableError, OSError."""
        told = json.dumps({"command": list(command), "environment": dict(environment)}).encode()
        with self._lock, _nameless(told) as order:
            self._listen(0.0)  # it may have been killed since
            connection = self._connection()
            try:
                socket.send_fds(connection, [b"f"], [order, log])
                born = self._listen(time.monotonic() + START_SECONDS)
            except BaseException:  # also a Ctrl-C: what was asked for must not come later, when nobody waits for it
                self._lost()
                raise
            if born is None:
                self._lost()
                raise UnreachableError("nursery", "its socket", "it makes no process", f"see {self._log}")
        if born < 0:
            raise OSError(-born, os.strerror(-born))
        return Forked(self, born)

    def code_of(self, pid: int) -> int | None:
        """Return what a process ended with, None while it runs."""
        with self._lock:
            self._listen(0.0)
            return self._codes.get(pid)

    def close(self) -> None:
        """End the nursery; what it made is the caller's to end before."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            if self._process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(CLOSE_SECONDS)
                self._process.kill()
                self._process.wait()
                self._process = None

    def _connection(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        ours, its = socket.socketpair()
        make_private(self._log.parent, named=True)
        # neither its environment nor its arguments say anything about the deployment
        environment = of_the_machine() | {
            "REMAP_SIGTERM": "SIGQUIT",
            "PYTHONUNBUFFERED": "1",
        }  # Celery reads it as it is imported
        environment = of_our_code(environment | ONE_THREAD)
        with its, open_private(self._log, append=True) as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", __name__, str(its.fileno()), ROOM],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                umask=OTHERS,
            )
        self._socket, self._read = ours, b""
        return ours

    def _listen(self, until: float) -> int | None:
        """Take in what the nursery says, waiting ``until`` then for a process that is born; return its number.

        Minus the number of an error when none could be made; None when it said nothing of that.
        """
        while self._socket is not None:
            line, found, self._read = self._read.partition(b"\n")
            if found:
                kind, pid, code = line.split()
                if kind == b"failed":
                    return -int(code)
                self._codes[int(pid)] = int(code) if kind == b"ended" else None
                if kind == b"born":
                    return int(pid)
                continue
            self._read = line
            wait = max(until - time.monotonic(), 0.0)
            if not select.select([self._socket], [], [], wait)[0]:
                return None
            try:
                said = self._socket.recv(4096)
            except OSError:
                said = b""
            if not said:
                self._lost()
            self._read += said
        return None

    def _lost(self) -> None:
        """End a nursery and what it made, when it is gone or hangs: nobody would ever say what became of that."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        for pid, code in self._codes.items():
            if code is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                self._codes[pid] = -signal.SIGKILL


@contextlib.contextmanager
def _nameless(content: bytes) -> Iterator[int]:
    """Give a file that is in memory and in no folder, for whoever is handed its descriptor."""
    descriptor = os.memfd_create("told")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def share() -> None:
    """Import what most parts need, and have it as ready as they would make it.

    Whatever goes wrong as the guest or the prices are warmed is said by the part that needs them.
    """
    for name in SHARED:
        import_module(name)
    map_tables()
    with contextlib.suppress(Exception):
        _warm()


def _warm() -> None:
    """Run the guest and price once, where that was ever compiled here: compiling would keep every part from starting.

    One thread does it (``_connection``), so that what is forked afterwards holds no lock of another.
    """
    from btcfi.pricing import kernel_cache, premium  # noqa: PLC0415 - imported by ``share``; the parent needs none
    from btcfi.vm.interpreter import run_many, run_untraced  # noqa: PLC0415 - as above
    from btcfi.vm.program import load_program  # noqa: PLC0415 - as above
    from btcfi.vm.warmup import compiled_before  # noqa: PLC0415 - as above

    if kernel_cache.compiled_before():
        premium.warm_up()
    if compiled_before():
        program = load_program(PROGRAM)
        for run in (lambda: run_many(program, [bytes(4)]), lambda: run_untraced(program, bytes(4))):
            with contextlib.suppress(BtcfiError):  # four zeros are no terms: that it was run is enough
                run()


def main(channel: int) -> None:
    """Be the nursery, until the parent is gone; in a child that was forked: be that part."""
    share()
    woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes)
    nursery = os.getpid()
    with socket.socket(fileno=channel) as parent:
        gc.collect()
        gc.freeze()
        if (told := _attend(parent, woken)) is None:
            return
    _die_with(nursery)
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(woken)
    os.close(wakes)
    _be(*told)


def _attend(parent: socket.socket, woken: int) -> list[int] | None:
    """Fork when asked; return None when the parent is gone, and with it every part; in a part: what it is told."""
    living: set[int] = set()
    nursery = os.getpid()
    try:
        while True:
            ready, _, _ = select.select([parent.fileno(), woken], [], [])
            if woken in ready:
                os.read(woken, 512)
                _say_who_ended(parent, living)
            if parent.fileno() in ready:
                asked, received, _, _ = socket.recv_fds(parent, 1, 2)
                if not asked:
                    return None
                if _fork(parent, living) == 0:
                    return received
                for one in received:
                    os.close(one)
    except ConnectionError:  # it is gone in the middle of a word
        return None
    finally:
        if os.getpid() == nursery:
            for pid in living:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)  # what it has forked; itself, it dies with us


def _fork(parent: socket.socket, living: set[int]) -> int | None:
    """Return what ``os.fork`` does, None when no process can be made: that is this part's trouble, not the others'."""
    try:
        pid = os.fork()
    except OSError as e:
        parent.sendall(b"failed 0 %d\n" % (e.errno or errno.EAGAIN))
        return None
    if pid != 0:
        living.add(pid)
        parent.sendall(b"born %d 0\n" % pid)
    return pid


def _say_who_ended(parent: socket.socket, living: set[int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            living.discard(ended[0])
            parent.sendall(b"ended %d %d\n" % (ended[0], os.waitstatus_to_exitcode(ended[1])))


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before
        raise SystemExit(1)


def _be(order: int, log: int) -> NoReturn:
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    with os.fdopen(order, "rb") as file:
        told = json.load(file)
    command: list[str] = told["command"]
    os.environ.clear()
    os.environ.update(told["environment"])
    _show(command)
    module = command[2]
    sys.argv = [module, *command[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    raise SystemExit


def _show(command: Sequence[str]) -> None:
    """Write the part's command over the nursery's, as far as there is room: for `ps`, and who looks there."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start, arg_end: proc(5)
    text = b"\0".join(word.encode() for word in command)
    if start > 0 and len(text) < end - start:
        ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    main(int(sys.argv[1]))
