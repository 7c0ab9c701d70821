"""Benchmarks: one module an area, each with ``rows() -> list[Row]``. ``make bench`` runs them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from tests.support.paths import ROOT

MODULES = (
    "pipeline",
    "vm",
    "contract",
    "book",
    "oracle",
    "pricing",
    "console",
    "flood",
    "desk",
    "market",
    "throughput",
    "dispute",
    "bilateral",
    "fanout",
    "swaps",
    "up",
)
"""The modules beside this file, in the order in which they are run; one that does not exist yet is left out."""

PICTURES = ROOT / "var" / "benchmarks"
"""Where a benchmark leaves its plots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured figure: the median of several repeats in one run."""

    name: str
    value: float
    unit: str
    against: str | None = None
    """What it is compared with, measured in the same run."""
    ratio: float | None = None
    """How many times better than ``against`` (larger is better)."""
    low: float | None = None
    """First quartile of the repeats: with ``high``, half of them lie between."""
    high: float | None = None
    """Third quartile."""
    repeats: int | None = None


def seconds_of(work: Callable[[], object], repeats: int) -> list[float]:
    """The times of ``repeats`` runs of ``work``, after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return times


def row_of(
    name: str,
    samples: Sequence[float],
    *,
    unit: str,
    against: str | None = None,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    """A row with median and quartiles of ``samples``; its ratio is against the target, at_most or at_least."""
    value = median(samples)
    low, _, high = quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else (value, value, value)
    ratio = at_most / value if at_most is not None else value / at_least if at_least is not None else None
    return Row(
        name=name, value=value, unit=unit, against=against, ratio=ratio, low=low, high=high, repeats=len(samples)
    )
