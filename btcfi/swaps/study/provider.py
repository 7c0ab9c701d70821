"""A provider's risk and reward: little of either a coin, much reward for the risk, as the side is chance.

A provider already holds the margin and its price risk; being one adds a position of random side, uncorrelated with
anything. Source: the appendix, section 5; A.18.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq

from btcfi.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What a provider holds and offers. Volatilities and the target a year: 0.06 is 6 %."""

    holding_volatility: float = 0.75
    """Of the margin in dollars. Source: Table 4."""
    volatility: float = 0.70
    """Of the asset. Source: section 5's numbers (C11)."""
    leverage: float = 2.5
    target: float = 0.06
    """That takers pay on their notional."""
    gross_to_net: float = 5.0
    """Both sides' required margins over their difference: 5 for 75 against 50 (C10)."""


def marginal_volatility(one: Provider, allocation: float) -> float:
    """Return what an allocation adds to the volatility of the whole holding, as a part of it. Source: A.18."""
    added = allocation * one.leverage * one.volatility
    # the difference of two nearly equal roots, without losing its digits where the allocation is small
    return added**2 / (math.hypot(one.holding_volatility, added) + one.holding_volatility)


def marginal_sharpe(one: Provider, allocation: float) -> float:
    """Return what an allocation earns over what it adds to the volatility. allocation: above 0. Source: section 5."""
    if not allocation > 0.0:
        raise InvalidInputError("allocation", f"{allocation}", "above 0")
    return one.gross_to_net * one.target * allocation * one.leverage / marginal_volatility(one, allocation)


def allocation_at(one: Provider, sharpe: float) -> float:
    """Return the allocation whose marginal Sharpe ratio is ``sharpe``: less has more.

    Raises InvalidInputError where no allocation up to ten times the holding has it.
    """
    low, high = 1e-9, 10.0
    if not marginal_sharpe(one, high) <= sharpe <= marginal_sharpe(one, low):
        raise InvalidInputError("sharpe", f"{sharpe}", "one that some allocation up to 10 has")
    return float(brentq(lambda w: marginal_sharpe(one, w) - sharpe, low, high, xtol=1e-14))
