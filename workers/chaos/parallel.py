"""The cases of ``btcfi chaos``, shared among clusters side by side, each with process, folder, ports, store of its own.

A process each, since a cluster names its faults in the environment, takes SIGTERM, and is Celery's current app: none of
these can be had twice in one process. What ends a cluster early costs its own cases alone.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Final

import structlog

from btcfi.adapters.files import new_private
from workers.chaos.cluster import ChaosCluster, long_recording
from workers.chaos.matrix import CASE_SECONDS, CASES_A_LOT, HISTORY_SLOTS, Case, Outcome, minutes_needed, run_cases

CASES_PER_CLUSTER: Final = 60
"""At most: the next cases of one that dies are not run."""

STOP_SECONDS: Final = 60.0
"""From SIGTERM to SIGKILL of a cluster's process: it stops two clusters softly, one after the other."""

START_LIMIT: Final = 240.0
"""For a cluster's start and its first prices, on cores shared with others: a quiet machine takes 30 s."""

LOT_LIMIT: Final = 90.0
SALE_LIMIT: Final = 12.0
"""For selling and funding a lot, and for each of its options more."""

CASE_LIMIT: Final = 40.0
"""Of a share's time for each of its cases, on average: the slowest of the whole matrix took 30 s, most take 5 to 10."""

LOOK_SECONDS: Final = 1.0
"""Between two looks whether one has stalled."""

SILENCE_LIMIT: Final = 2.5 * CASE_SECONDS
"""For one case, its prices and its audit included: each wait in it ends by itself before that."""

Cell = tuple[str, str]
"""A point and a kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one cluster is given."""

    first: int
    """The place of its first case in the whole."""
    cells: tuple[Cell, ...]
    seed: int
    database_url: str | None
    keep: bool
    options_each: int

    @property
    def limit_seconds(self) -> float:
        """After which its cluster is ended: what a start, its sales and its cases may take."""
        return limit_seconds(self.cells, options_each=self.options_each)


@dataclass(frozen=True, slots=True)
class Began:
    """What a cluster's process has come to; ``seconds`` is what that may take."""

    what: str
    seconds: float


@dataclass(slots=True, kw_only=True)
class _Team:
    """One cluster's process, as its parent sees it."""

    share: Share
    process: SpawnProcess
    outcomes: list[Outcome] = field(default_factory=list)
    reason: str = ""
    doing: Began = Began("its start", START_LIMIT)
    began: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.monotonic)
    """When it came to what it is doing."""

    ended_at: float = 0.0
    """When it was told to end for having stalled; 0 while it was not."""

    def stalled(self) -> str:
        """Return why it is to be ended; empty while it is in time."""
        now = time.monotonic()
        if now - self.since > self.doing.seconds:
            return f"{self.doing.what} took more than {self.doing.seconds:g} s"
        if now - self.began > self.share.limit_seconds:
            return (
                f"its {len(self.share.cells)} cases took more than {self.share.limit_seconds:g} s together; "
                f"it was at {self.doing.what}"
            )
        return ""

    def comes_to(self, doing: Began) -> None:
        """Note what it does from now on."""
        self.doing, self.since = doing, time.monotonic()


def limit_seconds(cells: Sequence[Cell], *, options_each: int) -> float:
    """Return what a cluster may take for these cases; a test's own limit follows from it."""
    lots = -(-len(cells) // CASES_A_LOT)
    return START_LIMIT + lots * LOT_LIMIT + len(cells) * (options_each * SALE_LIMIT + CASE_LIMIT)


def shares(wanted: Sequence[Cell], at_once: int) -> list[tuple[int, tuple[Cell, ...]]]:
    """Cut the cases into one cluster's each, evenly; return each share's first place and its cases."""
    most = min(CASES_PER_CLUSTER, -(-len(wanted) // at_once) or 1)
    return [(first, tuple(wanted[first : first + most])) for first in range(0, len(wanted), most)]


def run_all(
    wanted: Sequence[Cell], *, seed: int, database_url: str | None, keep: bool = False, options_each: int = 2,
    at_once: int = 1, said: Callable[[Outcome], None] = lambda _: None, told: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:  # fmt: skip
    """Run cases on as many clusters as they need, ``at_once`` of them side by side; return them in the order asked for.

    database_url: of a PostgreSQL server for tests. ``said`` hears each outcome as it comes, ``told`` what is started.
    A cluster that does not start, dies, or takes longer than its cases may is ended and makes its unfinished cases
    broken ones, with the reason: nothing here waits for ever. Interrupted, it stops every cluster first.
    """
    waiting = [
        Share(first=first, cells=cells, seed=seed + first, database_url=database_url, keep=keep,
              options_each=options_each)
        for first, cells in shares(wanted, at_once)
    ]  # fmt: skip
    running: dict[Connection, _Team] = {}
    found: dict[int, Outcome] = {}

    def take(team: _Team, outcome: Outcome) -> None:
        found[team.share.first + len(team.outcomes)] = outcome
        team.outcomes.append(outcome)
        said(outcome)

    with _left_softly():
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    pipe, team = _begin(waiting.pop(0))
                    running[pipe] = team
                ready = wait(list(running), timeout=LOOK_SECONDS)
                _end_stalled(running.values())
                for pipe in [pipe for pipe in running if pipe in ready]:
                    team = running[pipe]
                    try:
                        message = pipe.recv()
                    except (EOFError, OSError):
                        for outcome in _unfinished(running.pop(pipe)):
                            take(team, outcome)
                        continue
                    if isinstance(message, Outcome):
                        take(team, message)
                    elif isinstance(message, Began):
                        team.comes_to(message)
                    elif isinstance(message, Path):
                        told(f"a cluster in {message}")
                    else:
                        team.reason = team.reason or str(message)
        finally:
            _stop(running.values())
    return [found[place] for place in sorted(found)]


def _end_stalled(teams: Iterable[_Team]) -> None:
    """End what has taken too long: softly first, so that it stops its own parts, and then for good."""
    for team in teams:
        if not team.ended_at and (reason := team.stalled()):
            team.reason, team.ended_at = f"stalled: {reason}", time.monotonic()
            team.process.terminate()
        elif team.ended_at and time.monotonic() - team.ended_at > STOP_SECONDS:
            team.process.kill()


def _begin(share: Share) -> tuple[Connection, _Team]:
    spawn = multiprocessing.get_context("spawn")  # a fork would take Celery, threads and open files along
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_work, args=(share, theirs), name=f"btcfi-chaos-{share.first}")
    process.start()
    theirs.close()  # so that its end is seen here
    return ours, _Team(share=share, process=process)


def _unfinished(team: _Team) -> list[Outcome]:
    """Return the cases that an ended process did not get to, as broken ones."""
    team.process.join(STOP_SECONDS)
    reason = team.reason or f"its process ended with {team.process.exitcode}"
    return [
        Outcome(
            case=Case(point=point, kind=kind, slot=0, seed=team.share.seed + number), seconds=0.0,
            problems=(f"not run, its cluster is gone: {reason}",), reached=False,
        )
        for number, (point, kind) in enumerate(team.share.cells)
        if number >= len(team.outcomes)
    ]  # fmt: skip


def _stop(teams: Iterable[_Team]) -> None:
    processes = [team.process for team in teams]
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0.1))
        if process.is_alive():
            process.kill()


@contextmanager
def _left_softly() -> Iterator[None]:
    """Make SIGTERM an exception here, so that what was started is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signal.SIGTERM)


# ---- in the process of one cluster


def _work(share: Share, pipe: Connection) -> None:
    """Run one share on a cluster of its own and send each outcome; then why it ended early, if it did."""
    # Ctrl-C reaches the whole terminal: the parent hears it, and ends us with SIGTERM
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_leave_with_parent, daemon=True, name="btcfi-chaos-parent").start()
    folder = new_private("btcfi-chaos-")
    # whoever asked for JSON has our output; what the exporter logs of a fault is not it
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    pipe.send(folder)
    try:
        candles = long_recording(folder / "candles", HISTORY_SLOTS + minutes_needed(share.cells))
        with (
            own_database(share.database_url) as url,
            ChaosCluster(folder, database_url=url, candles=candles) as cluster,
        ):
            cluster.start()
            outcomes = run_cases(
                cluster, share.cells, seed=share.seed, said=pipe.send, options_each=share.options_each,
                begins=lambda what, sales: pipe.send(Began(what, _may_take(sales))),
            )  # fmt: skip
    except Exception as e:  # noqa: BLE001 - whatever it is, it is the reason of this share's cases
        pipe.send(f"{type(e).__name__}: {e}")
    else:
        if not share.keep and all(outcome.ok for outcome in outcomes):  # the logs of a broken promise are wanted
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        pipe.close()


def _may_take(sales: int) -> float:
    """Return the seconds for selling and funding so many options, or, of none, for one case."""
    return LOT_LIMIT + sales * SALE_LIMIT if sales else SILENCE_LIMIT


def _leave_with_parent() -> None:
    """Stop when the parent is gone: one that was killed cannot end us."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def own_database(server: str | None) -> Iterator[str | None]:
    """Give the URL of a database of its own on a test server, dropped afterwards; None for SQLite."""
    if server is None:
        yield None
        return
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - only where there is a server

    name = f"btcfi_chaos_{os.getpid()}_{time.monotonic_ns() % 1_000_000}"
    _execute(server, f"CREATE DATABASE {name}")
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        _execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _execute(server: str, statement: str) -> None:
    from sqlalchemy import create_engine, text  # noqa: PLC0415 - as above

    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
