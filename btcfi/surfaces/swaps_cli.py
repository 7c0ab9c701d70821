"""``btcfi swaps``: weekly swaps without a cluster: a ledger's history replayed, and the appendix studied."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from btcfi.adapters.files import read_untrusted_json
from btcfi.surfaces.cli import Once
from btcfi.surfaces.swaps_study_cli import study

app = typer.Typer(
    name="swaps", help="Weekly swaps: replay a ledger's history, study the appendix.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

MAX_FILE = 256 << 20
"""Bytes of a scenario: a million actions."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.callback()
def main() -> None:
    """Weekly swaps: replay a ledger's history, study the appendix."""


app.command(cls=Once)(study)


@app.command(cls=Once)
def replay(
    scenario: Annotated[Path, typer.Argument(help="JSON: contracts, then actions in order of time; docs/swaps.md.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Run a scenario's actions through the ledger, and print what became of each; a refused one changes nothing."""
    from btcfi.swaps.scenario import as_json as document  # noqa: PLC0415 - cattrs, when a scenario is read
    from btcfi.swaps.scenario import read_scenario, run  # noqa: PLC0415 - as above

    found = read_scenario(read_untrusted_json(scenario, at_most=MAX_FILE, what="a scenario", named=True))
    said = document(*run(found))
    typer.echo(json.dumps(said) if as_json else _text(said))


def _text(said: dict[str, Any]) -> str:
    lines = [_line(step) for step in said["steps"]]
    for book in said["books"]:
        states = Counter(one["status"] for one in book["subcontracts"])
        kinds = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"
        lines.append(
            f"book {book['provider']} of {book['contract']}: {book['status']}, margin {book['margin']:,} sat, "
            f"required {book['required']:,} sat; subcontracts: {kinds}"
        )
    lines += [f"balance {owner}: {amount:,} sat" for owner, amount in said["balances_sats"].items()]
    lines.append(
        f"paid in {said['paid_in_sats']:,} sat = held {said['held_sats']:,} + burned {said['burned_sats']:,} "
        f"+ paid out {said['paid_out_sats']:,}"
    )
    return "\n".join(lines)


def _line(step: dict[str, Any]) -> str:
    if "refused" in step:
        return f"{step['at']}  {step['action']}: refused, {step['problem']}"
    told = ", ".join(f"{key} {value}" for event in step["events"] for key, value in event.items() if key != "event")
    return f"{step['at']}  {' '.join(event['event'] for event in step['events'])}: {told}"
