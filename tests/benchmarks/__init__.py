"""Benchmarks: one module an area, each with ``rows() -> list[Row]``. ``make bench`` runs them all."""

from __future__ import annotations

from dataclasses import dataclass

MODULES = ("pipeline", "vm", "contract", "oracle", "pricing", "console")
"""The modules beside this file, in the order in which they are run; one that does not exist yet is left out."""


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
