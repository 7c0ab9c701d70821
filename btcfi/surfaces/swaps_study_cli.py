"""``btcfi swaps study``: the appendix's analysis by parameters of one's own, as tables, pictures and verdicts."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from btcfi.adapters.files import make_named, write_named
from btcfi.swaps.study.parameters import StudyParameters

if TYPE_CHECKING:
    from btcfi.swaps.study.report import Study, Table

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
APPENDIX: Final = StudyParameters()
"""Its numbers are the options' defaults."""

SHOWN: Final = 12
"""Rows of a long table in the terminal; the files and --json have all."""


def study(
    *,
    out: Annotated[Path | None, typer.Option(help="Folder for tables (CSV) and pictures (PNG, SVG).")] = None,
    margin_volatility: Annotated[
        float, typer.Option(help="A year's, of the margin in dollars.")
    ] = APPENDIX.margin_volatility,
    asset_volatility: Annotated[
        float, typer.Option(help="Of the asset that is priced in dollars.")
    ] = APPENDIX.asset_volatility,
    cross_volatility: Annotated[
        float, typer.Option(help="Of the asset that is priced in the margin.")
    ] = APPENDIX.cross_volatility,
    index_volatility: Annotated[float, typer.Option(help="Of the index.")] = APPENDIX.index_volatility,
    correlation: Annotated[
        float, typer.Option(help="Of the margin with the asset and the cross.")
    ] = APPENDIX.correlation,
    index_correlation: Annotated[
        float, typer.Option(help="Of the margin with the index.")
    ] = APPENDIX.index_correlation,
    own_leverage: Annotated[float, typer.Option(help="Of the margin's own contract.")] = APPENDIX.own_leverage,
    asset_leverage: Annotated[float, typer.Option(help="Of the asset's.")] = APPENDIX.asset_leverage,
    cross_leverage: Annotated[float, typer.Option(help="Of the cross's.")] = APPENDIX.cross_leverage,
    index_leverage: Annotated[float, typer.Option(help="Of the index's.")] = APPENDIX.index_leverage,
    paths: Annotated[int, typer.Option(help="Of the simulated collars and strategies.")] = APPENDIX.paths,
    seed: Annotated[int, typer.Option(help="Of all that is drawn by chance.")] = APPENDIX.seed,
    holding_volatility: Annotated[
        float, typer.Option(help="Of the margin, for a provider.")
    ] = APPENDIX.holding_volatility,
    target: Annotated[float, typer.Option(help="What takers pay on their notional a year.")] = APPENDIX.target,
    gross_to_net: Annotated[
        float, typer.Option(help="A provider's gross over its net required margin.")
    ] = APPENDIX.gross_to_net,
    allocation: Annotated[float, typer.Option(help="One more point of the provider's curves.")] = APPENDIX.allocation,
    hedge_weeks: Annotated[
        int, typer.Option(help="Of the hedge: 2 to its power are the paths.")
    ] = APPENDIX.hedge_weeks,
    cure: Annotated[float, typer.Option(help="How far the margin may be off before it is set back.")] = APPENDIX.cure,
    stop: Annotated[
        float, typer.Option(help="Where a lying oracle leaves, in a week's standard deviations.")
    ] = APPENDIX.stop,
    liar_books: Annotated[int, typer.Option(help="Books that it is played through.")] = APPENDIX.liar_books,
    victims: Annotated[int, typer.Option(help="Takers of each book.")] = APPENDIX.victims,
    rational: Annotated[int, typer.Option(help="Of them, that burn.")] = APPENDIX.rational,
    deviation: Annotated[float, typer.Option(help="A week's, as a part of the required margin.")] = APPENDIX.deviation,
    walk_away: Annotated[
        float, typer.Option(help="What leaving at a loss is worth, in standard deviations.")
    ] = APPENDIX.walk_away,
    side_share: Annotated[
        float, typer.Option(help="Of all margins that the cheat's side is against.")
    ] = APPENDIX.side_share,
    burn_share: Annotated[float, typer.Option(help="Of the victims that burn.")] = APPENDIX.burn_share,
    closes: Annotated[float, typer.Option(help="A year, of each subcontract.")] = APPENDIX.closes,
    close_fee: Annotated[float, typer.Option(help="Of the required margin.")] = APPENDIX.close_fee,
    discount: Annotated[float, typer.Option(help="A year.")] = APPENDIX.discount,
    growth: Annotated[float, typer.Option(help="A year, of the fees.")] = APPENDIX.growth,
    as_json: AsJson = False,
) -> None:
    """Print what the appendix argues with, by its own numbers or by others, and what each number it prints is worth."""
    given = locals()
    from btcfi.swaps.study.report import study as studied  # noqa: PLC0415 - numpy and scipy, when a study is asked for

    found = studied(StudyParameters(**{one.name: given[one.name] for one in fields(StudyParameters)}))
    written = [] if out is None else _written(out, found)
    tables = {one.name: [dict(zip(one.columns, row, strict=True)) for row in one.rows] for one in found.tables}
    if as_json:
        typer.echo(
            json.dumps({"parameters": asdict(found.parameters), "tables": tables, "files": written}, allow_nan=False)
        )
        return
    for table in found.tables:
        typer.echo("\n".join(_text(table)))
    counted = Counter(str(one) for one in found.table("verdicts").column("verdict"))
    typer.echo("printed numbers: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counted.items())))
    if out is not None:
        typer.echo(f"files: {len(written)} in {out}")


def _written(out: Path, found: Study) -> list[str]:
    from btcfi.surfaces.swaps_study_drawing import pictures  # noqa: PLC0415 - matplotlib, when it draws

    files: dict[str, bytes | str] = {f"{one.name}.csv": _csv(one) for one in found.tables}
    files |= pictures(found)
    make_named(out)
    for name, data in files.items():
        write_named(out / name, data)
    return [str(out / name) for name in files]


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([table.columns, *table.rows])
    return text.getvalue()


def _text(table: Table) -> list[str]:
    rows = table.rows
    if len(rows) > SHOWN and table.name != "verdicts":
        rows = rows[:: -(-len(rows) // SHOWN)]
    shown = [tuple(_cell(one) for one in row) for row in (table.columns, *rows)]
    if table.name == "verdicts":  # its notes are long: a line of their own
        return [f"\n{table.title}", *(line for row in shown[1:] for line in _verdict(row))]
    wide = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, wide, strict=True)) for row in shown]
    left = len(table.rows) - len(rows)
    return [f"\n{table.title}", *lines, *([f"({left} rows more)"] if left else [])]


def _verdict(row: tuple[str, ...]) -> list[str]:
    name, section, what, document, ours, verdict, note = row
    lines = [f"{name} ({section}): {what}", f"    printed {document}; ours {ours}; {verdict}"]
    return [*lines, f"    {note}"] if note else lines


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
