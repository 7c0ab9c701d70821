"""``btcfi up``: the same parts as the demo's, kept running."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.machine.up import run_up


def up(
    *,
    live: Annotated[bool, typer.Option("--live", help="Prices of the live exchanges")] = False,
    pace: Annotated[float, typer.Option(help="Seconds that a replayed minute takes", min=0.05, max=60.0)] = 5.0,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Where store, chain and logs are kept.")] = None,
) -> None:
    """Start broker, chain, workers, beat and Flower, and keep them running until Ctrl-C."""
    run_up(live=live, pace=pace, data_dir=data_dir)
