"""A payoff as a picture: both sides' profit and what the contract pays each; and as signs for a terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from btcfi.errors import InvalidInputError

PICTURES: Final = (".png", ".svg")

COLUMNS: Final = 72
ROWS: Final = 17
POINTS: Final = 600
"""Of a line in a picture."""

_SATS: Final = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is drawn: the holder's profit at ascending prices, and where something happens."""

    title: str
    price_cents: Sequence[int]
    profit_sats: Sequence[int]
    """Of the holder; the other side's is the opposite."""
    holder_sats: Sequence[int]
    """What the contract pays the holder."""
    collateral_sats: int
    marks_cents: Sequence[int]
    """Strikes."""
    break_even_cents: Sequence[int]


def check_picture(path: Path) -> None:
    """Check that a path is one of a picture that can be drawn. Raises InvalidInputError."""
    if path.suffix.lower() not in PICTURES:
        raise InvalidInputError("out", f"{path.name} is no picture", "a path ending in .png or .svg")


def terminal(line: Line) -> list[str]:
    """Return the holder's profit in bitcoin over the price, in plain characters, a line each."""
    low, high = min(0, *line.profit_sats), max(0, *line.profit_sats)
    span = (high - low) or 1
    heights = [round((profit - low) * (ROWS - 1) / span) for profit in line.profit_sats]
    zero = round(-low * (ROWS - 1) / span)
    first, last = line.price_cents[0], line.price_cents[-1]
    signs = [["-" if row == zero else " " for _ in heights] for row in range(ROWS)]
    for mark in line.marks_cents:
        at = (mark - first) * (len(heights) - 1) // max(1, last - first)
        if 0 <= at < len(heights):
            for row in signs:
                row[at] = "|" if row[at] == " " else "+"
    before = heights[0]
    for column, height in enumerate(heights):
        # a jump is a column of signs: without them a line would have holes
        for between in range(min(height, before) + 1, max(height, before)):
            signs[between][column] = ":"
        signs[height][column] = "*"
        before = height
    edges = {ROWS - 1: high, 0: low, zero: 0}
    labels = [f"{edges[row] / _SATS:+.4f}" if row in edges else "" for row in range(ROWS)]
    wide = max(map(len, labels))
    drawn = [f"{labels[row]:>{wide}} {''.join(signs[row])}".rstrip() for row in reversed(range(ROWS))]
    left, right = f"${first / 100:,.0f}", f"${last / 100:,.0f}"
    gap = max(1, len(heights) - len(left) - len(right))
    return [f"{line.title}: the holder's profit in BTC", *drawn, f"{'':{wide}} {left}{'':{gap}}{right}"]


def picture(line: Line, suffix: str) -> bytes:
    """Return the picture's bytes, the same for the same line. suffix: .png or .svg."""
    import matplotlib as mpl  # noqa: PLC0415 - a second of import that only a picture needs
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    kind = suffix.lower().removeprefix(".")
    with mpl.rc_context({"svg.hashsalt": "btcfi"}):
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        price = [cents / 100 for cents in line.price_cents]
        profit = [sats / _SATS * dollars for sats, dollars in zip(line.profit_sats, price, strict=True)]
        left.plot(price, profit, label="holder")
        left.plot(price, [-one for one in profit], label="writer", linestyle="--")
        left.axhline(0.0, color="0.6", linewidth=0.8)
        left.set(title="Profit at expiry, its premium paid, USD", xlabel="price, USD per BTC")
        paid = [sats / _SATS for sats in line.holder_sats]
        whole = line.collateral_sats / _SATS
        right.stackplot(
            price, paid, [whole - one for one in paid], labels=["to the holder", "to the writer"],
            colors=["#4c72b0", "#c5cfe4"],
        )  # fmt: skip
        right.set(
            title=f"What the contract pays of {whole:,.8g} BTC", xlabel="price, USD per BTC", ylim=(0, whole or 1)
        )
        for axes in (left, right):
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.yaxis.set_major_formatter("{x:,.6g}")
            axes.margins(x=0)
            for mark in line.marks_cents:
                axes.axvline(mark / 100, color="0.6", linewidth=0.8, linestyle=":")
            axes.legend(frameon=False)
        for at in line.break_even_cents:
            left.plot([at / 100], [0.0], marker="o", color="black", markersize=4)
        figure.suptitle(line.title, parse_math=False)  # a dollar would begin a formula
        out = io.BytesIO()
        figure.savefig(out, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()
