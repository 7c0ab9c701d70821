"""The whole pipeline as a user runs it: ``btcfi demo --json`` in a process of its own, install excluded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks import Row
from tests.support.paths import ROOT

LIMIT_SECONDS = 240
TARGET_SECONDS = 120


def rows() -> list[Row]:
    """Return demo.seconds, against the 120 s that it may take, and chord.round_ms, the median round."""
    with TemporaryDirectory(prefix="btcfi-bench-") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "workers.cli", "demo", "--json", "--data-dir", str(Path(folder, "demo"))],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            timeout=LIMIT_SECONDS,
            check=True,
        )
    said = json.loads(done.stdout)
    seconds = float(said["elapsed_seconds"])
    return [
        Row(name="demo.seconds", value=seconds, unit="s", against="target 120 s", ratio=TARGET_SECONDS / seconds),
        Row(name="chord.round_ms", value=float(said["round_ms"]), unit="ms, tick to closed, one at a time, median"),
    ]
