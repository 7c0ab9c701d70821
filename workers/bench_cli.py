"""``btcfi bench``: every measured figure of the project from one run, as one JSON object or a table."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError

CHECKOUT: Final = Path(__file__).resolve().parents[1]


class BenchmarkFailedError(BtcfiError):
    """Some areas could not be measured; the others were printed."""

    def __init__(self, areas: list[str]) -> None:
        super().__init__(f"not measured: {', '.join(areas)}; the reasons stand in the output under `failed`")
        self.areas = areas


def bench(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    only: Annotated[str, typer.Option(help="One area, e.g. vm; default: all")] = "",
) -> None:
    """Measure the project on this machine: medians, one run, ratios against what was measured beside."""
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
    if as_json:
        typer.echo(json.dumps(said))
    else:
        _table(rows, failed)
    if failed:
        raise BenchmarkFailedError(sorted(failed))


def _areas(only: str) -> list[str]:
    if not (CHECKOUT / "tests" / "benchmarks" / "__init__.py").is_file():
        raise NotFoundError("benchmarks", "tests/benchmarks", "they are in a checkout of the project only")
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))  # the console script's path has no checkout
    known = [name for name in import_module("tests.benchmarks").MODULES if find_spec(f"tests.benchmarks.{name}")]
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
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],  # noqa: S607 - the user's git
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _table(rows: list[dict[str, Any]], failed: dict[str, str]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only when a table is drawn
    from rich.table import Table  # noqa: PLC0415 - as above

    table = Table("name", box=None, header_style="bold")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("against")
    table.add_column("ratio", justify="right")
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:,.3g}"
        table.add_row(row["name"], f"{row['value']:,.6g}", row["unit"], row["against"] or "", ratio)
    Console(width=None if sys.stdout.isatty() else 160).print(table)  # a pipe has no width of its own
    for area, reason in failed.items():
        typer.echo(f"{area}: {reason}", err=True)
