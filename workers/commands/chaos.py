"""``btcfi chaos``: faults on a cluster of its own, on a test chain, and what they changed.

``btcfi audit`` makes the same checks on any deployment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from btcfi.errors import InvalidInputError
from workers.audit import PromiseBrokenError
from workers.chaos.cluster import ChaosCluster, long_recording
from workers.chaos.matrix import KINDS, Outcome, all_cases, choose
from workers.chaos.parallel import own_database, run_all
from workers.chaos.soak import Minute, Soak, run_soak, slots_needed

BEGIN: Final = "<!-- the matrix: written by `btcfi chaos --report` -->"
END: Final = "<!-- end of the matrix -->"
SOAK_BEGIN: Final = "<!-- the soak: written by `btcfi chaos --soak MINUTES --report` -->"
SOAK_END: Final = "<!-- end of the soak -->"

WRITE_EVERY: Final = 20
"""Cases between two writings of the report: a machine that goes down leaves what it had."""

LONGEST_PROBLEM: Final = 300
"""Characters of a problem on the terminal; the JSON has all of it."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def chaos(
    *,
    cases: Annotated[int, typer.Option(help="How many, chosen by the seed", min=1, max=2_000)] = 44,
    seed: Annotated[int, typer.Option(help="The same seed, the same cases")] = 1,
    full: Annotated[bool, typer.Option("--full", help="Every kind at every point")] = False,
    only: Annotated[list[str] | None, typer.Option(help="KIND@POINT, or KIND@ or @POINT for all of it")] = None,
    postgresql: Annotated[
        bool, typer.Option("--postgresql", help="Use the empty database of BTCFI_TEST_DATABASE_URL as the store")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write the matrix into this Markdown file")] = None,
    options_each: Annotated[int, typer.Option("--options", help="How many a case settles", min=1, max=20)] = 2,
    at_once: Annotated[int, typer.Option(help="Clusters side by side; each takes about one core", min=1, max=32)] = 1,
    soak: Annotated[
        int | None,
        typer.Option(help="Instead of cases: minutes of sales and settlements, a fault in each", min=1, max=1440),
    ] = None,
    per_minute: Annotated[int, typer.Option(help="Options that a soak sells in a minute", min=4, max=200)] = 20,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the data of the clusters")] = False,
    as_json: AsJson = False,
) -> None:
    """Break things on purpose, on a cluster and a regtest chain of its own, and check that nothing is lost or doubled.

    Touches no service of this machine but its own; the environment's broker, node and database are not used.
    """
    url = _database(postgresql=postgresql)
    if soak is not None:
        _soak(soak, per_minute=per_minute, seed=seed, database_url=url, report=report, keep=keep, as_json=as_json)
        return
    every = all_cases(postgresql=postgresql)
    wanted = _picked(every, only) if only else every if full else choose(seed, cases, postgresql=postgresql)
    marked = _Report(wanted, seed=seed, store="PostgreSQL" if postgresql else "SQLite", file=report)
    try:
        run_all(
            wanted, seed=seed, database_url=url, keep=keep, options_each=options_each, at_once=at_once,
            said=marked.take, told=lambda line: typer.echo(line, err=True),
        )  # fmt: skip
    finally:  # an hour that was interrupted leaves what it has
        marked.write()
    summary, outcomes = marked.summary(), marked.outcomes
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        _table(outcomes)
        typer.echo(_verdict(summary))
    broken = [outcome for outcome in outcomes if not outcome.ok]
    if broken:
        raise PromiseBrokenError("chaos", len(broken), f"{broken[0].case.name}: {broken[0].problems[0]}")


def _soak(
    minutes: int, *, per_minute: int, seed: int, database_url: str | None, report: Path | None, keep: bool,
    as_json: bool,
) -> None:  # fmt: skip
    if report is not None:
        _around(report, SOAK_BEGIN, SOAK_END)
    soak, began = Soak(), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="btcfi-soak-"))
    candles = long_recording(folder / "candles", slots_needed(minutes))
    typer.echo(f"a cluster in {folder}", err=True)
    try:
        with (
            own_database(database_url) as url,
            ChaosCluster(folder / "cluster", database_url=url, candles=candles) as cluster,
        ):
            cluster.start()
            run_soak(
                cluster, soak, minutes=minutes, per_minute=per_minute, seed=seed,
                said=lambda line: typer.echo(line, err=True),
            )  # fmt: skip
    finally:
        said = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"), "commit": _commit(), "seed": seed,
            "store": "PostgreSQL" if database_url else "SQLite", "minutes": len(soak.minutes), "asked": minutes,
            "sold": len(soak.ids), "refused": soak.refused, "struck": sum(one.struck for one in soak.minutes),
            "drained_seconds": round(soak.drained_seconds, 1), "seconds": round(time.monotonic() - began, 1),
            "broken": soak.broken,
        }  # fmt: skip
        if report is not None and soak.minutes:
            _put(report, SOAK_BEGIN, SOAK_END, _soak_lines(soak.minutes, said))
    if not soak.broken and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    typer.echo(json.dumps(said, indent=1) if as_json else _soak_verdict(said))
    if soak.broken:
        raise PromiseBrokenError("soak", len(soak.broken), soak.broken[0])


def _soak_verdict(said: dict[str, Any]) -> str:
    broken = said["broken"]
    end = (
        "PARTIAL: stopped before its end and not audited"
        if broken is None
        else f"all settled within {said['drained_seconds']:.0f} s of the last sale's minute, every promise held"
        if not broken
        else f"{len(broken)} BROKEN promises"
    )
    return (
        f"{said['date']}, commit {said['commit']}, {said['store']}, seed {said['seed']}: {said['minutes']} of "
        f"{said['asked']} minutes, {said['sold']} options, {said['struck']} faults struck: {end}"
    )


def _soak_lines(minutes: Sequence[Minute], said: dict[str, Any]) -> list[str]:
    lines = [
        _soak_verdict(said) + ".", "",
        "| minute | fault | sold | settled | open | backlog | MB, all processes |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    lines += [
        f"| {one.number} | {one.fault}{'' if one.struck else ' (not reached)'} | {one.sold} | {one.settled} "
        f"| {one.open} | {one.backlog} | {one.rss_mb:,} |"
        for one in minutes
    ]
    return [*lines, "", *(f"- {one}" for one in said["broken"] or ())]


def _database(*, postgresql: bool) -> str | None:
    if not postgresql:
        return None
    url = os.environ.get("BTCFI_TEST_DATABASE_URL")
    if not url:
        raise InvalidInputError("BTCFI_TEST_DATABASE_URL", "not set", "postgresql+psycopg://… of a server for tests")
    return url


def _picked(every: Sequence[tuple[str, str]], only: Sequence[str]) -> list[tuple[str, str]]:
    chosen = []
    for text in only:
        kind, at, point = text.partition("@")
        found = [one for one in every if (not kind or one[1] == kind) and (not point or one[0] == point)]
        if not at or not found:
            raise InvalidInputError(
                "--only", repr(text), "KIND@POINT of the matrix, as `btcfi chaos --full` names them"
            )
        chosen += found
    return list(dict.fromkeys(chosen))


class _Report:
    """What came out so far, in the matrix's order; kept in a file while the run goes on."""

    def __init__(self, wanted: Sequence[tuple[str, str]], *, seed: int, store: str, file: Path | None) -> None:
        self._places = {cell: place for place, cell in enumerate(wanted)}
        self._seed, self._store, self._file = seed, store, file
        self._began = time.monotonic()
        self._found: dict[int, Outcome] = {}
        if file is not None:
            _around(file, BEGIN, END)  # an hour later is too late to say that the file has no marks

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes by their case's place in what was asked for."""
        return [self._found[place] for place in sorted(self._found)]

    def take(self, outcome: Outcome) -> None:
        """Note and print one more."""
        self._found[self._places[outcome.case.point, outcome.case.kind]] = outcome
        _say(outcome)
        if len(self._found) % WRITE_EVERY == 0:
            self.write()

    def summary(self) -> dict[str, Any]:
        """Return what is said of the run."""
        seconds = time.monotonic() - self._began
        return _summary(self.outcomes, len(self._places), seed=self._seed, seconds=seconds, store=self._store)

    def write(self) -> None:
        """Write what there is, if anything, into the file."""
        if self._file is not None and self._found:
            _write(self._file, self.outcomes, self.summary())


def _say(outcome: Outcome) -> None:
    mark = "ok  " if outcome.ok else "FAIL"
    problems = "; ".join(outcome.problems)[:LONGEST_PROBLEM]
    typer.echo(f"{mark} {outcome.seconds:5.1f} s  {outcome.case.name}{'  ' + problems if problems else ''}", err=True)


def _summary(outcomes: Sequence[Outcome], wanted: int, *, seed: int, seconds: float, store: str) -> dict[str, Any]:
    broken = [outcome for outcome in outcomes if not outcome.ok]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "store": store,
        "seed": seed,
        "cases": len(outcomes),
        **({"partial": f"{len(outcomes)} of {wanted} cases were run"} if len(outcomes) < wanted else {}),
        "ok": len(outcomes) - len(broken),
        "broken": [{"case": o.case.name, "problems": list(o.problems)} for o in broken],
        "seconds": round(seconds, 1),
        "slowest_case_seconds": round(max((o.seconds for o in outcomes), default=0.0), 1),
    }


def _verdict(summary: dict[str, Any]) -> str:
    return (
        f"{summary['date']}, commit {summary['commit']}, {summary['store']}, seed {summary['seed']}: "
        f"{summary['ok']} of {summary['cases']} cases held every promise, in {summary['seconds']:.0f} s; "
        f"the slowest case took {summary['slowest_case_seconds']} s"
        + (f" (PARTIAL: {summary['partial']} before the run was stopped)" if "partial" in summary else "")
    )


def _commit() -> str:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - git of the PATH
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def _cells(outcomes: Sequence[Outcome]) -> tuple[list[str], list[str], dict[tuple[str, str], str]]:
    points = list(dict.fromkeys(outcome.case.point for outcome in outcomes))
    kinds = list(dict.fromkeys(outcome.case.kind for outcome in outcomes))
    cells = {(o.case.point, o.case.kind): f"{o.seconds:.0f}" if o.ok else "FAIL" for o in outcomes}
    return points, kinds, cells


def _table(outcomes: Sequence[Outcome]) -> None:
    points, kinds, cells = _cells(outcomes)
    table = Table(title="Seconds from the fault's case to its audit; FAIL where a promise broke", box=None)
    table.add_column("point", no_wrap=True)
    for kind in kinds:
        table.add_column(kind.replace("-", "\n"), justify="right")
    for point in points:
        table.add_row(point, *(cells.get((point, kind), "") for kind in kinds))
    Console(width=160).print(table)


def _write(report: Path, outcomes: Sequence[Outcome], summary: dict[str, Any]) -> None:
    """Put the matrix between its marks in the file. Raises InvalidInputError when they are not there."""
    points, kinds, cells = _cells(outcomes)
    lines = [_verdict(summary) + ".", "", f"| point | {' | '.join(kinds)} |", "|---|" + "---:|" * len(kinds)]
    lines += [f"| `{point}` | " + " | ".join(cells.get((point, kind), "") for kind in kinds) + " |" for point in points]
    lines += ["", *(f"- {one['case']}: {'; '.join(one['problems'])}" for one in summary["broken"]), *_told(outcomes)]
    _put(report, BEGIN, END, lines)


def _told(outcomes: Sequence[Outcome]) -> list[str]:
    """Return by kind what the fault is, and who tells of it or why nobody does."""
    lines = ["", "| kind | the fault | told by |", "|---|---|---|"]
    for kind in KINDS.values():
        these = [outcome for outcome in outcomes if outcome.case.kind == kind.name]
        if not these:
            continue
        wanted = {one.name for one in kind.told}
        seen = sum(wanted <= set(outcome.told) for outcome in these)
        by = ", ".join(f"`{name}`" for name in sorted(wanted))
        said = f"{by}, in {seen} of {len(these)} cases" if wanted else f"nobody: {kind.untold}"
        lines.append(f"| {kind.name} | {kind.about} | {said} |")
    return lines


def _put(report: Path, begin: str, end: str, lines: Sequence[str]) -> None:
    """Put lines between two marks of a file, whole or not at all."""
    before, after = _around(report, begin, end)
    draft = report.with_name(f".{report.name}.draft")
    draft.write_text(before + "\n".join([begin, "", *lines, end]) + after)
    draft.replace(report)


def _around(report: Path, begin: str, end: str) -> tuple[str, str]:
    """Return what stands before and after two marks. Raises InvalidInputError when they are not there."""
    before, found, rest = report.read_text().partition(begin) if report.exists() else ("", "", "")
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise InvalidInputError("--report", str(report), f"a file with the lines {begin} and {end}")
    return before, after
