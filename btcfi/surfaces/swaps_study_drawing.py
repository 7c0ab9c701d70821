"""The study's pictures: the appendix's figures by the study's numbers. The same study, the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from btcfi.swaps.study.report import Study, Table

KINDS: Final = ("png", "svg")


def pictures(found: Study) -> dict[str, bytes]:
    """Return each picture's bytes by its file name."""
    import matplotlib as mpl  # noqa: PLC0415 - a second of import that only a picture needs
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    drawn = {}
    for name, draw in DRAWN.items():
        figure = Figure(figsize=(8.0, 4.8), layout="constrained")
        axes = figure.subplots()
        draw(axes, found)
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
        for kind in KINDS:
            out = io.BytesIO()
            with mpl.rc_context({"svg.hashsalt": "btcfi"}):
                figure.savefig(out, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            drawn[f"{name}.{kind}"] = out.getvalue()
    return drawn


def _lines(axes: Any, table: Table, x: str) -> None:  # noqa: ANN401 - of matplotlib, which has no types
    for name in table.columns:
        if name != x:
            axes.plot(table.column(x), table.column(name), label=name)
    axes.set(title=table.title, xlabel=x.replace("_", " "))
    axes.margins(x=0)


def _collar(axes: Any, found: Study) -> None:  # noqa: ANN401 - as above
    table = found.table("collar")
    for at, drift in enumerate(dict.fromkeys(table.column("zero_mean_of"))):
        rows = [row for row in table.rows if row[1] == drift]
        places = [one + 0.4 * at - 0.2 for one in range(len(rows))]
        axes.bar(places, [100 * float(row[2]) for row in rows], width=0.38, label=f"zero mean {drift}, closed form")
        axes.errorbar(
            places, [100 * float(row[3]) for row in rows], yerr=[100 * float(row[4]) for row in rows], fmt="o",
            color="black", markersize=3, capsize=3, label=None if at else "simulated, one standard error",
        )  # fmt: skip
    names = list(dict.fromkeys(table.column("contract")))
    axes.set_xticks(range(len(names)), names)
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    axes.set(title="What the cap is worth to a long", ylabel="% of notional a year")


def _sharpe(axes: Any, found: Study) -> None:  # noqa: ANN401 - as above
    _lines(axes, found.table("marginal_sharpe"), "allocation")
    axes.set_ylim(0.0, 10.0)  # small allocations have ratios without end


def _hedge(axes: Any, found: Study) -> None:  # noqa: ANN401 - as above
    paths = found.paths
    for name, profits in (("unhedged", paths.unhedged), ("hedged", paths.hedged)):
        weights: dict[tuple[float, float], float] = {}
        for price, profit, weight in zip(paths.price, profits, paths.probability, strict=True):
            place = round(float(price), 6), round(float(profit), 6) + 0.0
            weights[place] = weights.get(place, 0.0) + float(weight)
        prices, heights = zip(*weights, strict=True)
        axes.scatter(prices, heights, s=[4 + 600 * one for one in weights.values()], alpha=0.5, label=name)
    axes.set(
        title=f"{paths.price.size:,} paths: the hedge takes {paths.reduction:.0%} of the volatility",
        xlabel="price at the end, USD", ylabel="profit of 100 coins, USD",
    )  # fmt: skip


def _stopping(axes: Any, found: Study) -> None:  # noqa: ANN401 - as above
    table = found.table("stopping")
    for name in ("mean", "deviation", "ratio"):
        axes.plot(table.column("threshold"), table.column(name), label=name)
    axes.set(title=table.title, xlabel="threshold", ylim=(0.0, 8.0))
    axes.margins(x=0)


DRAWN: Final[dict[str, Callable[[Any, Study], None]]] = {
    "collar": _collar,
    "marginal_risk": lambda axes, found: _lines(axes, found.table("marginal_risk"), "allocation"),
    "marginal_sharpe": _sharpe,
    "hedge": _hedge,
    "stopping": _stopping,
    "burning": lambda axes, found: _lines(axes, found.table("burning"), "burn_share"),
}
