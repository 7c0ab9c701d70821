"""``btcfi bench``: for one release, another name of ``python -m tests.benchmarks``, which stands in a checkout only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from btcfi.errors import NotFoundError

CHECKOUT: Final = Path(__file__).resolve().parents[2]


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
    if not (CHECKOUT / "tests" / "benchmarks" / "__main__.py").is_file():
        raise NotFoundError("benchmarks", "tests/benchmarks", "they are only in a checkout of the project")
    typer.echo(
        "btcfi: `btcfi bench` goes with the next release; use `python -m tests.benchmarks` or make bench", err=True
    )
    given = ["--json"] * as_json + ["--markdown"] * as_markdown
    given += ["--write", str(write)] if write is not None else []
    given += ["--only", only] if only else []
    # -P: not a `tests` of the folder that the user stands in
    command = [sys.executable, "-P", "-m", "tests.benchmarks", *given]
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(  # noqa: S603 - the module above, with the options above
        command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, check=False
    )
    raise typer.Exit(done.returncode)
