"""``btcfi demo``: the whole pipeline once, on real parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from btcfi.adapters.files import new_private
from btcfi.errors import InvalidInputError
from btcfi.oracle.quote import parse_venue
from btcfi.surfaces.oracle_cli import parse_slot
from settings.deployment import refuse_tilde
from workers.machine.demo import DemoRequest, run_demo


def demo(
    *,
    replay: Annotated[Path | None, typer.Option(help="Folder of candles, EXCHANGE-BASE-QUOTE.csv")] = None,
    start: Annotated[str, typer.Option(help="First minute of it: 2023-03-11T06:00Z, or unix seconds")] = "",
    minutes: Annotated[int | None, typer.Option(help="How many minutes", min=1, max=100_000)] = None,
    venue: Annotated[list[str] | None, typer.Option(help="exchange:BASE/QUOTE; may be given several times")] = None,
    live: Annotated[bool, typer.Option("--live", help="Prices of the live exchanges, in real time")] = False,
    preset: Annotated[
        str, typer.Option(help="Instead of the deployment's; replay-study settles on thin minutes, which one can bend")
    ] = "",
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Where store, chain and logs are kept.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the data afterwards")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Run the whole pipeline on real parts: prices in, options settled on a Bitcoin regtest chain, all verified."""
    if live and (replay is not None or start):
        raise InvalidInputError("--live", "given together with --replay or --start", "either live prices or a replay")
    if data_dir is not None:
        refuse_tilde("--data-dir", data_dir)
    request = DemoRequest(
        replay=replay,
        start=parse_slot(start) if start else None,
        minutes=minutes,
        venues=tuple(str(parse_venue(text)) for text in venue or ()),
        live=live,
        preset=preset,
        data_dir=_kept() if keep and data_dir is None else data_dir,
        as_json=as_json,
    )
    run_demo(request)


def _kept() -> Path:
    """Return a new folder that stays, and say where it is."""
    folder = new_private("btcfi-demo-")
    typer.echo(f"btcfi: the data stay in {folder}", err=True)
    return folder
