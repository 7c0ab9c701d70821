"""``btcfi clauses``: one curve by trees of clauses and by flat contracts, built and counted. It needs no cluster."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Final, Optional

import typer

from btcfi.adapters.consensus import scripts_hold
from btcfi.adapters.miniscript import PACKAGES, check_compiled, compilers
from btcfi.clauses.compare import CURVE, FORMS, Measured, child_vbytes, measure
from btcfi.errors import InvalidInputError

app = typer.Typer(
    name="clauses", help="Trees of clauses beside flat contracts: what the same curve takes.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

STANDARD_LEVELS: Final = (5, 50)
MOST_LEVELS: Final = 500
"""A table of 500 levels takes a minute or two."""

_HEAD: Final = (
    "form", "signed before", "signatures a side", "bytes a side", "in a row", "vB", "shown", "statements", "answers",
)  # fmt: skip

_SATS: Final = 100_000_000


@app.callback()
def main() -> None:
    """Trees of clauses beside flat contracts: what the same curve takes."""


@app.command()
def compare(
    *,
    levels: Annotated[
        Optional[list[int]],  # noqa: UP045 - typer reads it at run time
        typer.Option("--levels", help="Levels of the curve, 2 to 500; may be given again. Default: 5 and 50."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else")] = False,
) -> None:
    """Build one curve in every form, sign all of it, finish every level, and print what that takes.

    The curve: a tenth of a bitcoin that keeps its dollars between $45,000 and $55,000. Every transaction of every
    level's road is checked by Bitcoin Core's own script code, every output by the miniscript packages that are found.
    """
    wanted = tuple(levels or STANDARD_LEVELS)
    for count in wanted:
        if not 2 <= count <= MOST_LEVELS:  # noqa: PLR2004 - a curve has two ends
            raise InvalidInputError("levels", str(count), f"2 to {MOST_LEVELS}")
    asked = compilers()
    tables: list[dict[str, Any]] = []
    for count in wanted:
        measured = [measure(form, count) for form in FORMS]
        tables.append(
            {
                "levels": count,
                "forms": [_row(one) for one in measured],
                "same_payouts": len({one.paid for one in measured}) == 1,
                "transactions_checked": _checked(measured),
                "outputs_compiled": _compiled(measured),
            }
        )
    said = {
        "amount_btc": f"{CURVE.amount / _SATS:.8f}",
        "child_vbytes": child_vbytes(),
        "compilers": sorted(asked),
        "tables": tables,
    }
    typer.echo(json.dumps(said) if as_json else _text(said))


def _row(one: Measured) -> dict[str, Any]:
    numbers = {name: value for name, value in asdict(one).items() if isinstance(value, int)}
    return {"form": one.form.name, **numbers}


def _checked(measured: list[Measured]) -> int:
    """Return how many transactions Core's code let spend what they spend. Raises InvalidInputError naming another."""
    count = 0
    for one in measured:
        for road in one.roads:
            for finished in road:
                if not scripts_hold(finished.transaction, finished.spent):
                    raise InvalidInputError(one.form.name, "a transaction that consensus refuses", "a valid one")
                count += 1
    return count


def _compiled(measured: list[Measured]) -> int:
    """Return how many outputs every package made the same script of. Raises CompilersDisagreeError."""
    asked = compilers()
    outputs = {text: script for one in measured for text, script in one.outputs} if asked else {}
    for text, script in outputs.items():
        check_compiled(text, script, asked)
    return len(outputs)


def _text(said: dict[str, Any]) -> str:
    lines = []
    for table in said["tables"]:
        rows = [_HEAD]
        rows += [
            (
                one["form"],
                f"{one['transactions']:,}",
                f"{one['plain'] + one['encrypted']:,}",
                f"{one['signature_bytes']:,}",
                f"{one['road_transactions']}",
                f"{one['road_vbytes']:,}",
                f"{one['shown_bytes']:,}",
                f"{one['statements']:,}{' shared' if one['shared_statements'] else ''}",
                f"{one['answers']}",
            )
            for one in table["forms"]
        ]
        widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
        lines.append(f"{table['levels']} levels")
        lines += [
            "  ".join(text.ljust(width) if at in {0, 7} else text.rjust(width) for at, (text, width) in enumerate(
                zip(row, widths, strict=True))).rstrip()
            for row in rows
        ]  # fmt: skip
        same = "the same payouts at every level" if table["same_payouts"] else "OTHER PAYOUTS"
        lines += [f"{same}; {table['transactions_checked']:,} transactions valid by Bitcoin Core's script code"]
        lines += [_compilers(table["outputs_compiled"], said["compilers"]), ""]
    lines.append(f"A child that raises a CET's fee and carries the proof root: {said['child_vbytes']} vB more.")
    return "\n".join(lines)


def _compilers(count: int, found: list[str]) -> str:
    if not found:
        return f"no second compiler of miniscript is installed ({', '.join(PACKAGES)})"
    return f"{count:,} outputs compiled to the same scripts by {' and '.join(found)}"
