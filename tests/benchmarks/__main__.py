"""``python -m tests.benchmarks``: every measured figure of the project from one run, as JSON, a table, a document's."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.surfaces.cli import run
from tests.benchmarks import MODULES, PICTURES

CHECKOUT: Final = Path(__file__).resolve().parents[2]

BEGIN: Final = "<!-- bench:begin: rewritten by `python -m tests.benchmarks --write` -->"
END: Final = "<!-- bench:end -->"
"""What stands between these two lines of a document is the table."""


RENAMED: Final = {
    "pipeline.settlements_per_s (1 worker)": "pipeline.due_to_proven_per_s (1 process)",
    "pipeline.settlements_per_s (2 workers)": "pipeline.due_to_proven_per_s",
    "pipeline.settlements_per_s (4 workers)": "pipeline.due_to_proven_per_s (4 processes)",
    "pipeline.due_to_broadcast_per_s": "pipeline.price_to_broadcast_per_s",
}
"""What a row was called in the last release, and what it is called: JSON has it under both names for one release."""


class BenchmarkFailedError(BtcfiError):
    """Some areas could not be measured; the others were printed."""

    def __init__(self, areas: list[str]) -> None:
        super().__init__(f"not measured: {', '.join(areas)}; the reasons stand in the output under `failed`")
        self.areas = areas


def bench(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table and nothing else.")] = False,
    write: Annotated[
        Path | None, typer.Option(help="Also rewrite the table in this document, and copy the plots beside it.")
    ] = None,
    only: Annotated[str, typer.Option(help="One area, e.g. vm; default: all")] = "",
) -> None:
    """Measure the project on this machine: medians, one run, ratios against what was measured beside."""
    if as_json and as_markdown:
        raise InvalidInputError("--markdown", "given together with --json", "one of them")
    around = _around_table(write) if write is not None else None
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for area in _areas(only):
        try:
            # a benchmark may print; stdout is for the answer
            with contextlib.redirect_stdout(sys.stderr):
                rows += [asdict(row) for row in import_module(f"tests.benchmarks.{area}").rows()]
        except Exception as e:  # noqa: BLE001 - one area's failure must not lose the others' minutes of measuring
            failed[area] = f"{type(e).__name__}: {e}"
    said = {"rows": rows, "failed": failed, "machine": _machine(), "commit": _commit()}
    document = markdown(said, only=only)
    if write is not None and around is not None:
        before, after = around
        write.write_text(f"{before}{BEGIN}\n\n{document}\n{END}{after}", encoding="utf-8")
        _copy_plots(write.parent / "images")
    if as_json:
        old = under_old_names(rows)
        for row in old:
            typer.echo(f"{row['name']} is {row['renamed']} now; the old name goes with the next release", err=True)
        rows += old
        typer.echo(json.dumps(said))
    elif as_markdown:
        typer.echo(document, nl=False)
    else:
        _table(rows, failed)
    if failed:
        raise BenchmarkFailedError(sorted(failed))


def under_old_names(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the last release's names, each with its new one."""
    by_name = {row["name"]: row for row in rows}
    return [{**by_name[new], "name": old, "renamed": new} for old, new in RENAMED.items() if new in by_name]


def _areas(only: str) -> list[str]:
    known = [name for name in MODULES if find_spec(f"tests.benchmarks.{name}")]
    if only and only not in known:
        raise InvalidInputError("--only", repr(only), f"one of {', '.join(known)}")
    return [only] if only else known


def _machine() -> dict[str, Any]:
    try:
        cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in cpus if line.startswith("model name")), "")
    except OSError:  # another system than Linux
        model = ""
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _commit() -> str:
    """Return the commit that was measured, with a + when the tree has other changes; empty without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def markdown(said: dict[str, Any], *, only: str = "") -> str:
    """Return the table as a document shows it: machine, commit and command above it."""
    machine = said["machine"]
    command = "python -m tests.benchmarks" + (f" --only {only}" if only else "")
    commit = f"`{said['commit'][:12] or 'unknown'}`" + (" with changes" if said["commit"].endswith("+") else "")
    on = f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}"
    lines = [
        f"`{command}` on {on}; commit {commit}.",
        "",
        "| figure | median | middle half | unit | target or rival | ratio |",
        "| --- | ---: | ---: | --- | --- | ---: |",
    ]
    for row in said["rows"]:
        low, high, repeats = row.get("low"), row.get("high"), row.get("repeats")
        several = repeats is not None and repeats > 1
        cells = (
            f"`{row['name']}`",
            _short(row["value"]),
            f"{_short(low)} to {_short(high)} of {repeats}" if several and low is not None else "",
            row["unit"],
            row["against"] or "",
            "" if row["ratio"] is None else _short(row["ratio"]),
        )
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    lines += [f"\nNot measured: {area} ({reason})." for area, reason in said["failed"].items()]
    return "\n".join(lines) + "\n"


def _short(value: float) -> str:
    """Return three significant digits, thousands marked, never an exponent."""
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{float(f'{value:.3g}'):,.{digits}f}"


def _around_table(document: Path) -> tuple[str, str]:
    """Return what stands before and after the table. Raises NotFoundError, InvalidInputError, before any measuring."""
    try:
        text = document.read_text(encoding="utf-8")
    except OSError as e:
        raise NotFoundError("document", str(document)) from e
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InvalidInputError(str(document), "has no place for the table", f"the lines {BEGIN} and {END}")
    return before, after


def _copy_plots(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for plot in sorted(PICTURES.glob("*.png")):
        shutil.copyfile(plot, folder / plot.name)


def _table(rows: list[dict[str, Any]], failed: dict[str, str]) -> None:
    table = Table("name", box=None, header_style="bold")
    table.add_column("median", justify="right")
    table.add_column("middle half", justify="right")
    table.add_column("unit")
    table.add_column("against")
    table.add_column("ratio", justify="right")
    for row in rows:
        ratio = "" if row["ratio"] is None else _short(row["ratio"])
        spread = f"{_short(row['low'])} to {_short(row['high'])}" if (row["repeats"] or 0) > 1 else ""
        table.add_row(row["name"], _short(row["value"]), spread, row["unit"], row["against"] or "", ratio)
    Console(width=None if sys.stdout.isatty() else 160).print(table)  # a pipe has no width of its own
    for area, reason in failed.items():
        typer.echo(f"{area}: {reason}", err=True)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(bench)
    run(app, name="python -m tests.benchmarks")
