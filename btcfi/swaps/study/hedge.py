"""A hedge of the margin by a short of its own asset, over every path of a binomial lattice.

A short's profit is paid in the margin, so that after a week the holder is a little long or short: a cure sets its
margin back to the first. Source: the appendix, section 6; A.19 to A.21.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from btcfi.errors import InvalidInputError
from btcfi.pricing.domain import FloatArray
from btcfi.swaps.study.collar import weekly

MAX_WEEKS: Final = 16
"""65,536 paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """A price that goes up or down each week, by gross returns."""

    up: float
    down: float

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a lattice without a price that is fair."""
        if not 0.0 < self.down < 1.0 < self.up:
            raise InvalidInputError("lattice", f"up {self.up}, down {self.down}", "0 < down < 1 < up")

    @property
    def probability(self) -> float:
        """Of up, such that the expected return is nothing. Source: A.19."""
        return (1.0 - self.down) / (self.up - self.down)


def lognormal_lattice(volatility: float) -> Lattice:
    """Return the lattice of a yearly volatility: up and down by a week's standard deviation of the logarithm."""
    return Lattice(up=math.exp(weekly(volatility)), down=math.exp(-weekly(volatility)))


def short_profit(notional: float, gross: float) -> float:
    """Return a short's profit in the margin, of a week's gross return of the margin's own asset. Source: A.21."""
    return -notional * (gross - 1.0) / gross


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Every path of a lattice, each a column: its first step is the highest bit of its number, 1 for up."""

    probability: FloatArray
    price: FloatArray
    """At the end, in dollars."""
    unhedged: FloatArray
    """Profit of the coins alone, in dollars."""
    hedged: FloatArray
    """Profit of the coins, the short and what was cured, in dollars."""
    cures: FloatArray
    """How often the margin was set back."""
    weekly: FloatArray
    """Hedged profit of each week alone, a row a week."""

    def mean(self, values: FloatArray) -> float:
        """Return a mean over the paths."""
        return float(self.probability @ values)

    def deviation(self, values: FloatArray) -> float:
        """Return a standard deviation over the paths."""
        return math.sqrt(self.mean((values - self.mean(values)) ** 2))

    @property
    def reduction(self) -> float:
        """How much of the unhedged volatility is gone: 0.85 is 85 %."""
        return 1.0 - self.deviation(self.hedged) / self.deviation(self.unhedged)


def hedged_paths(
    lattice: Lattice, *, weeks: int, cure: float, leverage: float = 2.0, coins: float = 100.0, price: float = 100.0
) -> Paths:
    """Return what a holder of so many coins has on each path that is short as many, and cures by a rule.

    cure: how far the margin may be from its first amount before it is set back, as a part of it: 0 is each week,
    infinity never. leverage: what caps a week's profit at ``coins / leverage``. Raises InvalidInputError.
    """
    if not 1 <= weeks <= MAX_WEEKS:
        raise InvalidInputError("weeks", f"{weeks}", f"1 to {MAX_WEEKS}")
    if not cure >= 0.0:
        raise InvalidInputError("cure", f"{cure}", "0 or more")
    steps = (np.arange(2**weeks) >> np.arange(weeks - 1, -1, -1)[:, None]) & 1
    count = steps.shape[1]
    margin, cash, spot = np.full(count, coins), np.zeros(count), np.full(count, price)
    cures, profits, before = np.zeros(count), [], np.full(count, coins * price)
    for step in steps:
        gross = np.where(step == 1, lattice.up, lattice.down)
        spot = spot * gross
        margin = margin + np.clip(-coins * (gross - 1.0) / gross, -coins / leverage, coins / leverage)
        worth = margin * spot + cash
        profits.append(worth - before)
        before = worth
        off = np.abs(margin - coins) > cure * coins
        cash, cures = cash + np.where(off, (margin - coins) * spot, 0.0), cures + off
        margin = np.where(off, coins, margin)
    ups = steps.sum(axis=0)
    return Paths(
        probability=lattice.probability**ups * (1.0 - lattice.probability) ** (weeks - ups), price=spot,
        unhedged=coins * (spot - price), hedged=before - coins * price, cures=cures, weekly=np.array(profits),
    )  # fmt: skip
