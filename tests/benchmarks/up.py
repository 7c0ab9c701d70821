"""What a whole ``btcfi up`` takes of a machine: its memory after honest work, and the seconds until all is ready.

Memory is Pss: a page that several processes share counts once, divided among them, so the sum is what the machine
would have back. It is read from ``/proc/PID/smaps_rollup``, and Linux alone has that.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil

from btcfi.adapters.store.spine.database import Store
from tests.benchmarks import Row
from tests.benchmarks.fleet import BATCH, WARM_EACH, make_due, proven
from tests.benchmarks.throughput import MANY

ROOT: Final = Path(__file__).resolve().parents[2]

BENCH_MINUTES: Final = 2.0
"""Of work, in a whole run of the bench; the goal of the issue is stated for ``LONG_MINUTES``."""

LONG_MINUTES: Final = 10.0

START_SECONDS: Final = 120

SETTLE_SECONDS: Final = 240

CONTRACTS: Final = 4
"""Options sold with a real contract, so that parties, check and chain have worked too."""

PACE: Final = 5.0
"""Seconds that a recorded minute takes, as by default."""

BEFORE_MB: Final = 1_780
"""Idle, 18 processes, before a worker imported only what its role needs."""

BEAT_MB: Final = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One process of the deployment."""

    part: str
    """The part of the cluster whose session it is in, and ``up`` for the parent."""
    pid: int
    pss: float
    """Megabytes, 10**6 bytes."""


def rows(minutes: float = BENCH_MINUTES) -> list[Row]:
    """Return up.start_s, and up.pss_mb of all processes and of beat alone after ``minutes`` of work."""
    started, _, worked = measure(minutes)
    beat = sum(one.pss for one in worked if one.part == "beat")
    whole = sum(one.pss for one in worked)
    work = f"after {minutes:g} min of work, {MANY:,} settlements and {CONTRACTS} contracts"
    return [
        Row(name="up.start_s", value=started, unit="s, start of `btcfi up` to every part ready, coins mined"),
        Row(name="up.pss_mb", value=whole, unit=f"MB Pss, {len(worked)} processes, {work}",
            against=f"half of {BEFORE_MB:,} MB", ratio=BEFORE_MB / 2 / whole),
        Row(name="up.beat_pss_mb", value=beat, unit="MB Pss", against=f"target {BEAT_MB} MB", ratio=BEAT_MB / beat),
    ]  # fmt: skip


def measure(minutes: float) -> tuple[float, list[Taken], list[Taken]]:
    """Return the seconds of the start, and the processes right after it and after the work."""
    with TemporaryDirectory(prefix="btcfi-bench-") as name:
        folder = Path(name, "up").resolve()
        began = time.monotonic()
        with _up(folder) as process:
            started = time.monotonic() - began
            idle = taken(process.pid, folder)
            _sell(folder)
            store = Store(f"sqlite:///{folder / 'btcfi.db'}")
            _settle(store)
            store.close()
            time.sleep(max(0.0, began + started + 60 * minutes - time.monotonic()))
            return started, idle, taken(process.pid, folder)


def taken(pid: int, folder: Path) -> list[Taken]:
    """Return what each process of the ``btcfi up`` takes."""
    named = _parts(folder)
    found = []
    for one in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            part = named.get(os.getsid(one.pid), "up" if one.pid == pid else "nursery")
            found.append(Taken(part=part, pid=one.pid, pss=one.memory_full_info().pss / 1e6))
    return found


def _parts(folder: Path) -> dict[int, str]:
    """Return the parts by the id of their session, from what each was started with."""
    named = {}
    for pid, _ in json.loads((folder / "cluster.json").read_text())["parts"]:
        words = [word for word in psutil.Process(pid).cmdline() if word]
        module, rest = (words[2], words[3:]) if words[1:2] == ["-m"] else ("broker", [])
        if module == "workers.cli":
            named[pid] = rest[-1]
        elif "party" in module:
            named[pid] = next(word for word in rest if word.startswith("--dir=")).split("/")[-2]
        else:
            named[pid] = module.rpartition(".")[2]
    return named


@contextmanager
def _up(folder: Path) -> Iterator[subprocess.Popen[str]]:
    folder.mkdir(mode=0o700)
    command = [sys.executable, "-m", "workers.cli", "up", f"--data-dir={folder}", f"--pace={PACE}"]
    ports = {f"BTCFI_{name}_PORT": "0" for name in ("API", "FLOWER", "METRICS")}
    said = folder / "up.log"
    with said.open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | ports, stderr=log, text=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "running. prices" not in said.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"`btcfi up` did not start: {said.read_text()[-500:]}")
            time.sleep(0.02)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)  # a SIGINT would be ignored below a shell in the background
        process.wait(60)


def _sell(folder: Path) -> None:
    """Sell options as a user does, once there is a price."""
    known = os.environ | {"BTCFI_DATA_DIR": str(folder), "BTCFI_REPLAY_CLOCK": "true"}
    for number in range(CONTRACTS):
        strike = f"--strike={55_000 + 100 * number}"
        order = ["--kind=call", strike, "--expiry=+5", "--quantity=0.05", "--fixing=minute", "--yes"]
        command = [sys.executable, "-m", "workers.cli", "options", "create", *order]
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(command, cwd=ROOT, env=known, check=False, capture_output=True).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError("no option could be sold")
            time.sleep(1)


def _settle(store: Store) -> None:
    """Have 1,000 settlements proven by the workers that run."""
    warm = 2 * WARM_EACH
    before = proven(store)
    make_due(store, range(warm), batch=1)
    make_due(store, range(warm, warm + MANY), batch=BATCH)
    deadline = time.monotonic() + SETTLE_SECONDS
    while proven(store) < before + warm + MANY:
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of processes: ``python -m tests.benchmarks.up --minutes 10``."""
    parser = argparse.ArgumentParser(description="What each process of `btcfi up` takes, in MB of Pss")
    parser.add_argument("--minutes", type=float, default=LONG_MINUTES)
    started, idle, worked = measure(parser.parse_args(arguments).minutes)
    print(f"start {started:.1f} s")
    for title, found in (("idle", idle), ("worked", worked)):
        print(f"{title}: {sum(one.pss for one in found):.0f} MB in {len(found)} processes")
        for part in dict.fromkeys(one.part for one in found):
            print(f"  {part:8}", *(f"{one.pss:7.1f}" for one in found if one.part == part))


if __name__ == "__main__":
    main()
