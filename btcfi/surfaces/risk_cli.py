"""``btcfi risk``: Greeks, tail risk, stress grid and margin of a book of options in a CSV file, without a cluster.

The book has a header and a row an option: ``kind,strike,expiry,quantity`` and, where wanted, ``barrier,american,
collateral,fixing``. kind: call, put, binary_call or binary_put. strike and barrier: USD per BTC. expiry: ISO 8601 with
a zone, or seconds since 1970. quantity: BTC, below 0 for options written. american: true or false. collateral: BTC
locked by the writer, which no payout exceeds; empty for what the contract locks. fixing: minute (also when empty),
twap:N or median:N.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.options.terms import SATS_PER_CENTIBTC, OptionKind, required_collateral
from btcfi.oracle.fixing import MINUTE, MOST_MINUTES, Fixing, FixingKind, parse_fixing
from btcfi.surfaces.rest.times import parse_time
from btcfi.units import CentiBtc, Minutes, UnixSeconds, cents_per_btc

if TYPE_CHECKING:
    from btcfi.pricing.portfolio import Market, Positions, ScenarioGrid

app = typer.Typer(
    name="btcfi",
    help="Risk of a book of options.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

KINDS: Final = ("call", "put", "binary_call", "binary_put")
"""In the order of the published option types, as ``btcfi.options.terms`` labels them."""

NOT_GIVEN: Final = -1
"""Sats: the book file says nothing about the collateral."""

REQUIRED: Final = ("kind", "strike", "expiry", "quantity")
PLOT_FORMATS: Final = (".png", ".svg")
GRID_SPOTS: Final = tuple(round(-0.30 + 0.05 * i, 2) for i in range(13))
GRID_VOLATILITIES: Final = (-0.25, 0.0, 0.25)
GRID_DAYS: Final = (0.0, 1.0, 7.0)


class BookFileError(InvalidInputError):
    """One field of one row of a book file is wrong."""

    def __init__(self, *, file: str, line: int, field: str, problem: str, expected: str) -> None:
        super().__init__(f"{file} line {line}, {field}", problem, expected)
        self.file, self.line, self.column = file, line, field


@app.command("risk")
def risk(
    book: Annotated[Path, typer.Argument(help="CSV: kind,strike,expiry,quantity[,barrier,american,collateral,fixing]")],
    *,
    spot: Annotated[str, typer.Option(help="USD per BTC, e.g. 69000.50")],
    volatility: Annotated[float, typer.Option(help="Per year: 0.65 is 65 %")],
    rate: Annotated[float, typer.Option(help="Continuously compounded per year")] = 0.0,
    now: Annotated[str, typer.Option(help="ISO 8601 with a zone, or seconds since 1970; default: this moment")] = "",
    history: Annotated[Path | None, typer.Option(help="CSV with a close column, one row a day, for VaR")] = None,
    confidence: Annotated[float, typer.Option(help="Of VaR and expected shortfall")] = 0.99,
    plot: Annotated[Path | None, typer.Option(help="Write the picture to this .png or .svg")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else")] = False,
) -> None:
    """Print the risk of BOOK at one market, and draw it with --plot."""
    moment = parse_time(now, "now") if now else UnixSeconds(int(time.time()))
    report = assess(
        book, spot=spot, volatility=volatility, rate=rate, now=moment, history=history, confidence=confidence, plot=plot
    )
    if as_json:
        typer.echo(json.dumps(report))
    else:
        show(report)


def assess(
    book: Path,
    *,
    spot: str,
    volatility: float,
    rate: float,
    now: UnixSeconds,
    history: Path | None,
    confidence: float,
    plot: Path | None,
) -> dict[str, Any]:
    """Return the report that the command prints, and write the plot. Raises BtcfiError for any wrong input."""
    from btcfi.pricing import portfolio  # noqa: PLC0415 - compiled code that `btcfi --help` should not load

    if plot is not None and plot.suffix.lower() not in PLOT_FORMATS:
        raise InvalidInputError("plot", f"{plot.name} is no picture", "a path ending in .png or .svg")
    market = portfolio.Market(
        spot=cents_per_btc(_scaled(spot, "spot", digits=2)), volatility=volatility, rate=rate, now=now
    )  # fmt: skip
    positions = read_book(book)
    grid = portfolio.scenarios(
        positions, market, spot_moves=GRID_SPOTS, volatility_moves=GRID_VOLATILITIES, days=GRID_DAYS
    )
    tails: dict[str, Any] = {}
    if history is not None:
        closes = _closes(history)
        tails = {
            "historical": asdict(portfolio.historical_risk(positions, market, closes, confidence=confidence)),
            "filtered": asdict(portfolio.filtered_risk(positions, market, closes, confidence=confidence)),
        }
    if plot is not None:
        draw(positions, market, grid, plot)
    margin = asdict(portfolio.margin(positions, market))
    return {
        "options": len(positions.book),
        "spot_cents": market.spot,
        "volatility": volatility,
        "greeks": asdict(portfolio.aggregate(positions, market)),
        "tail_risk": tails,
        "scenarios": {
            "spot_moves": grid.spot_moves.tolist(),
            "volatility_moves": grid.volatility_moves.tolist(),
            "days": grid.days.tolist(),
            "profit_usd": [[[round(x, 2) for x in row] for row in plane] for plane in grid.profit.tolist()],
            "worst_usd": round(grid.worst, 2),
        },
        # JSON has no infinity: no requirement means no ratio
        "margin": {k: (v if not isinstance(v, float) or math.isfinite(v) else None) for k, v in margin.items()},
        "plot": str(plot) if plot else None,
    }


def read_book(path: Path) -> Positions:
    """Return the positions of a book file. Raises NotFoundError, BookFileError with file, line and field."""
    import numpy as np  # noqa: PLC0415 - as in assess

    from btcfi.pricing.portfolio import Positions  # noqa: PLC0415 - as in assess
    from btcfi.pricing.premium import Book, fixing_codes  # noqa: PLC0415 - as in assess

    columns: dict[str, list[int]] = {name: [] for name in FIELDS}
    ratios = []
    for line, row in _rows(path, REQUIRED, allowed=tuple(FIELDS)):
        for field, (default, parse) in FIELDS.items():
            try:
                columns[field].append(parse((row.get(field) or default).strip(), field))
            except InvalidInputError as e:
                raise BookFileError(
                    file=path.name, line=line, field=field, problem=e.problem, expected=e.expected
                ) from e  # fmt: skip
        kind, quantity = OptionKind(columns["kind"][-1]), abs(columns["quantity"][-1])
        locked = _locked(path.name, line, columns["collateral"][-1], kind, quantity)
        columns["collateral"][-1] = locked
        ratios.append(locked / (SATS_PER_CENTIBTC * quantity))
    if not columns["kind"]:
        raise InvalidInputError("book", f"{path.name} has no options", "a row an option below the header")
    return Positions(
        book=Book(
            kind=np.array(columns["kind"], dtype=np.int8),
            strike_cents=np.array(columns["strike"], dtype=np.int64),
            expiry_unix=np.array(columns["expiry"], dtype=np.int64),
            barrier_cents=np.array(columns["barrier"], dtype=np.int64),
            american=np.array(columns["american"], dtype=np.bool_),
            collateral_ratio=np.array(ratios),
            fixing=fixing_codes(FIXINGS[place] for place in columns["fixing"]),
        ),
        quantity_centi_btc=np.array(columns["quantity"], dtype=np.int64),
        collateral_sats=np.array(columns["collateral"], dtype=np.int64),
    )


def _locked(file: str, line: int, given: int, kind: OptionKind, quantity: int) -> int:
    """Return the collateral of one row in sats: the given one, or what the contract locks."""
    try:
        needed = required_collateral(kind, CentiBtc(quantity))
    except InvalidInputError as e:
        expected = "BTC in hundredths, not 0, at most 21 million"
        raise BookFileError(file=file, line=line, field="quantity", problem=e.problem, expected=expected) from e
    if given != NOT_GIVEN and given < needed:
        raise BookFileError(
            file=file, line=line, field="collateral", problem=f"{given} sats",
            expected=f"at least {needed} sats, or nothing for what the contract locks",
        )  # fmt: skip
    return needed if given == NOT_GIVEN else given


def show(report: dict[str, Any]) -> None:
    """Print the report as tables."""
    from rich.console import Console  # noqa: PLC0415 - only where something is shown
    from rich.table import Table  # noqa: PLC0415 - as above

    console = Console()
    greeks, margin = report["greeks"], report["margin"]
    table = Table(
        title=f"{report['options']} options at ${report['spot_cents'] / 100:,.2f}, {report['volatility']:.0%}"
    )
    for column in ("value, USD", "delta, BTC", "gamma, BTC per 1 %", "vega, USD/pt", "theta, USD/day", "rho, USD/pt"):
        table.add_column(column, justify="right")
    names = ("value", "delta_btc", "gamma_btc", "vega", "theta", "rho")
    digits = (2, 4, 4, 2, 2, 2)
    table.add_row(*(f"{greeks[name]:,.{n}f}" for name, n in zip(names, digits, strict=True)))
    console.print(table)
    for name, tail in report["tail_risk"].items():
        console.print(
            f"{name} 1-day VaR {tail['confidence']:.1%}: ${tail['value_at_risk']:,.2f}, expected shortfall "
            f"${tail['expected_shortfall']:,.2f} ({tail['observations']} returns)"
        )
    grid = report["scenarios"]
    stress = Table(title="Profit in USD, volatility as it is")
    stress.add_column("spot", justify="right")
    for day in grid["days"]:
        stress.add_column(f"in {day:g} days", justify="right")
    unmoved = grid["volatility_moves"].index(0.0)
    for i, move in enumerate(grid["spot_moves"]):
        stress.add_row(f"{move:+.0%}", *(f"{plane[unmoved][i]:,.2f}" for plane in grid["profit_usd"]))
    console.print(stress)
    console.print(
        f"Margin: required ${margin['required_cents'] / 100:,.2f}, "
        f"collateral ${margin['collateral_cents'] / 100:,.2f}, liability ${margin['liability_cents'] / 100:,.2f}"
    )
    if report["plot"]:
        console.print(f"Picture: {report['plot']}")


def draw(positions: Positions, market: Market, grid: ScenarioGrid, path: Path) -> None:
    """Write a picture of the book's profit by spot, time and volatility. Raises InvalidInputError."""
    import numpy as np  # noqa: PLC0415 - as in assess
    from matplotlib.figure import Figure  # noqa: PLC0415 - a second of import that only a picture needs

    from btcfi.pricing import portfolio  # noqa: PLC0415 - as in assess

    fine = np.linspace(-0.35, 0.35, 141)
    days = (0.0, 1.0, 7.0)
    lines = portfolio.scenarios(positions, market, spot_moves=fine, days=days)
    spots = market.spot / 100 * (1 + fine)
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for day, profit in zip(days, lines.profit[:, 0, :], strict=True):
        left.plot(spots, profit, label="now" if day == 0 else f"in {day:g} day{'s' if day > 1 else ''}")
    left.axhline(0.0, color="0.6", linewidth=0.8)
    left.axvline(market.spot / 100, color="0.6", linewidth=0.8, linestyle=":")
    left.set(title="Profit by spot and time", xlabel="spot, USD per BTC", ylabel="profit, USD")
    left.ticklabel_format(style="plain", useOffset=False)
    left.xaxis.set_major_formatter("{x:,.0f}")
    left.yaxis.set_major_formatter("{x:,.0f}")
    left.legend(frameon=False)
    plane = grid.profit[0]
    bound = float(np.abs(plane).max()) or 1.0
    image = right.imshow(plane, cmap="RdBu", vmin=-bound, vmax=bound, aspect="auto", origin="lower")
    right.set_xticks(range(0, plane.shape[1], 2), [f"{m:+.0%}" for m in grid.spot_moves[::2]])
    right.set_yticks(range(plane.shape[0]), [f"{m:+.0%}" for m in grid.volatility_moves])
    right.set(title="Profit now, USD", xlabel="spot move", ylabel="volatility move (relative)")
    figure.colorbar(image, ax=right, format="{x:,.0f}")
    try:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    except OSError as e:
        raise InvalidInputError("plot", f"{path} cannot be written ({e.strerror})", "a folder there") from e


def _rows(
    path: Path, required: tuple[str, ...], *, allowed: tuple[str, ...] | None
) -> list[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            missing = [name for name in required if name not in header]
            unknown = [name for name in header if allowed is not None and name not in allowed]
            if missing or unknown:
                what = f"no column {missing[0]}" if missing else f"unknown column {unknown[0]!r}"
                raise BookFileError(
                    file=path.name, line=1, field="header", problem=what, expected=", ".join(allowed or required)
                )
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise BookFileError(
                        file=path.name,
                        line=reader.line_num,
                        field="row",
                        problem="another number of fields than the header",
                        expected=f"{len(header)} fields",
                    )
                rows.append((reader.line_num, row))
            return rows
    except FileNotFoundError as e:
        raise NotFoundError("file", str(path)) from e
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise InvalidInputError(path.name, f"cannot be read ({e})", "a CSV file in UTF-8") from e


def _closes(path: Path) -> list[float]:
    closes = []
    for line, row in _rows(path, ("close",), allowed=None):
        try:
            closes.append(float(row["close"]))
        except ValueError as e:
            raise BookFileError(
                file=path.name, line=line, field="close", problem=repr(row["close"]), expected="USD per BTC"
            ) from e
    return closes


def _scaled(text: str, field: str, *, digits: int) -> int:
    """Return a decimal text as a whole number of 10**-digits. Raises InvalidInputError."""
    expected = f"a number with at most {digits} decimals"
    try:
        number = Decimal(text.strip()).scaleb(digits)
    except InvalidOperation as e:
        raise InvalidInputError(field, repr(text), expected) from e
    if not number.is_finite() or number != number.to_integral_value() or abs(number) >= 2**62:
        raise InvalidInputError(field, repr(text), expected)
    return int(number)


def _collateral(text: str, field: str) -> int:
    return _scaled(text, field, digits=8) if text else NOT_GIVEN


FIXINGS: Final = (
    MINUTE,
    *(Fixing(kind, Minutes(n)) for kind in (FixingKind.TWAP, FixingKind.MEDIAN) for n in range(2, MOST_MINUTES + 1)),
)
"""Every fixing there is, so that a column of a book file stays one of numbers."""


def _fixing(text: str, field: str) -> int:
    """Return the place in FIXINGS of a fixing's text. Raises InvalidInputError."""
    try:
        return FIXINGS.index(parse_fixing(text))
    except InvalidInputError as e:
        raise InvalidInputError(field, e.problem, e.expected) from e


def _one_of(names: tuple[str, ...]) -> Callable[[str, str], int]:
    """Return a parser of one of ``names`` to its place."""

    def parse(text: str, field: str) -> int:
        if text.lower() not in names:
            raise InvalidInputError(field, repr(text), "one of " + ", ".join(names))
        return names.index(text.lower())

    return parse


FIELDS: Final[dict[str, tuple[str, Callable[[str, str], int]]]] = {
    "kind": ("", _one_of(KINDS)),
    "strike": ("", partial(_scaled, digits=2)),
    "expiry": ("", parse_time),
    "quantity": ("", partial(_scaled, digits=2)),
    "barrier": ("0", partial(_scaled, digits=2)),
    "american": ("false", _one_of(("false", "true"))),
    "collateral": ("", _collateral),
    "fixing": ("minute", _fixing),
}
"""Each column of a book file: what an empty or absent field means, and its parser."""
