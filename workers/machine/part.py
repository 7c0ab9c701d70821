"""One process of the embedded cluster: started, watched and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from btcfi.adapters.files import OTHERS, UntrustedFileError, make_private, open_private
from btcfi.errors import UnreachableError
from workers.machine.nursery import Forked, Nursery, of_our_code

START_SECONDS: Final = 20.0
"""Until a broker, node or replay server that does not answer counts as failed."""


@dataclass(slots=True, kw_only=True)
class Part:
    """One process of the cluster."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    stdin: bytes = b""
    nursery: Nursery | None = None
    """What it is forked from, if not started as a program of its own."""
    process: subprocess.Popen[bytes] | Forked | None = None
    started: float = 0.0
    """Monotonic seconds."""
    failures: int = 0
    retry_at: float | None = None
    works_as: str | None = None
    """The name under which it notes what it does (``workers/liveness.py``); None for one that notes nothing."""
    judged: float = 0.0
    """When its note was last looked at, in monotonic seconds."""
    offset: int = 0
    """Where in the log this start's lines begin."""

    def start(self) -> None:
        """Start the process in a session of its own, its output appended to the log."""
        make_private(self.log.parent, named=True)
        with open_private(self.log, append=True) as log:
            self.offset = log.tell()
            if self.nursery is not None:
                self.process = self.nursery.fork(self.command, self.environment, log.fileno())
            else:
                self.process = subprocess.Popen(  # noqa: S603 - our own programs
                    self.command,
                    stdin=subprocess.PIPE if self.stdin else subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=of_our_code(self.environment),
                    start_new_session=True,
                    umask=OTHERS,
                )
        if self.stdin and self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(self.stdin)
                self.process.stdin.close()
        self.started, self.retry_at = time.monotonic(), None

    @property
    def exit_code(self) -> int | None:
        """What the process returned; None while it runs or before it started."""
        return self.process.poll() if self.process is not None else None

    def said(self) -> bytes:
        """Return what this start has logged so far."""
        with self.log.open("rb") as log:
            log.seek(self.offset)
            return log.read(65_536)

    def last_line(self) -> str:
        """Return the last line of the log, for an error."""
        lines = self.said().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it said nothing"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def give_up(self, reason: str) -> None:
        """End a process that runs and does not work; its log says why."""
        with contextlib.suppress(OSError, UntrustedFileError), open_private(self.log, append=True) as log:
            log.write(f"btcfi: {self.name} is ended to be started anew: {reason}\n".encode())
        self.kill()

    def kill(self) -> None:
        """End the process and whatever is left of its group, and reap it."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)


def until_answered(part: Part, service: str, where: str) -> Iterator[None]:
    """Give control every 50 ms until the caller is content. Raises UnreachableError for a part that ends or is mute."""
    deadline = time.monotonic() + START_SECONDS
    while part.exit_code is None and time.monotonic() < deadline:
        yield
        time.sleep(0.05)
    problem = "no answer in time" if part.exit_code is None else f"ended with {part.exit_code}: {part.last_line()}"
    raise UnreachableError(service, where, problem, todo(part))


def todo(part: Part) -> str:
    """Return what to do about a part that does not answer: one that still runs may only have had too little time."""
    if part.exit_code is not None:
        return f"see {part.log}"
    return f"a slow or busy machine needs longer: start again, it goes on where it was; else see {part.log}"


def end(parts: Sequence[Part], seconds: float) -> None:
    """Ask parts to end, the last one first, and wait for all of them together at most so long."""
    for part in reversed(parts):
        part.signal(signal.SIGTERM)
    deadline = time.monotonic() + seconds
    for part in parts:
        if part.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                part.process.wait(max(deadline - time.monotonic(), 0.01))
