"""``btcfi up``: the same parts as the demo's, kept running."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from btcfi.errors import InvalidInputError
from settings.deployment import refuse_tilde
from workers.machine.up import run_up


def up(
    *,
    live: Annotated[bool, typer.Option("--live", help="Prices of the live exchanges")] = False,
    recorded: Annotated[
        bool,
        typer.Option("--recorded", help="Play the recording of ninety minutes, which ends, not a market without end"),
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Of the simulated market: another one, another price", min=0, max=2**31)
    ] = 1,
    pace: Annotated[
        float, typer.Option(help="Seconds that a simulated or recorded minute takes", min=0.05, max=60.0)
    ] = 5.0,
    market: Annotated[
        bool,
        typer.Option("--market/--no-market", help="With SIMULATED makers and takers, each with keys of its own"),
    ] = False,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Where store, chain and logs are kept.")] = None,
) -> None:
    """Start broker, chain, workers, beat and Flower, and keep them running until Ctrl-C."""
    if live and recorded:
        raise InvalidInputError("--recorded", "with --live", "one of them: where the prices come from")
    if data_dir is not None:
        refuse_tilde("--data-dir", data_dir)
    run_up(live=live, recorded=recorded, seed=seed, pace=pace, data_dir=data_dir, market=market)
