"""Every number that the study takes, by default the appendix's. No numbers' library is imported here."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from btcfi.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyParameters:
    """Volatilities, rates and shares are parts of one: 0.7 is 70 %; a year's, unless a week is named."""

    margin_volatility: float = 1.0
    """Of the margin in dollars, for its own contract and the hedge. Source: Table 2, figure 5."""
    asset_volatility: float = 0.7
    cross_volatility: float = 0.7
    """Of the asset that is priced in the margin."""
    index_volatility: float = 0.15
    correlation: float = 0.9
    """Of the margin with the asset and the cross."""
    index_correlation: float = 0.2
    own_leverage: float = 2.0
    asset_leverage: float = 2.5
    cross_leverage: float = 2.5
    index_leverage: float = 10.0
    paths: int = 100_000
    """Of the simulated collars, a week each, and of strategies of leaving."""
    seed: int = 2019
    holding_volatility: float = 0.75
    """Of the margin in dollars, for providers. Source: Table 4."""
    target: float = 0.06
    gross_to_net: float = 5.0
    allocation: float = 0.25
    hedge_weeks: int = 10
    cure: float = 0.35
    stop: float = 0.0
    """Where a lying oracle leaves, in a week's standard deviations."""
    liar_books: int = 1_000
    """That a lying oracle is played through the ledger."""
    victims: int = 4
    rational: int = 3
    deviation: float = 1.0 / 3.0
    """A week's, as a part of the required margin."""
    walk_away: float = 1.0
    side_share: float = 0.5
    burn_share: float = 0.75
    closes: float = 6.0
    close_fee: float = 0.015
    discount: float = 0.09
    growth: float = 0.05

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a number beyond what any of it is meant for."""
        for one in fields(self):
            value, (low, high) = getattr(self, one.name), BOUNDS.get(one.name, (0.0, 1.0))
            if not math.isfinite(value) or not low <= value <= high:
                raise InvalidInputError(one.name.replace("_", "-"), f"{value}", f"{low:g} to {high:g}")


BOUNDS = {
    "margin_volatility": (0.01, 5.0), "asset_volatility": (0.01, 5.0), "cross_volatility": (0.01, 5.0),
    "index_volatility": (0.01, 5.0), "holding_volatility": (0.01, 5.0), "correlation": (-0.99, 0.99),
    "index_correlation": (-0.99, 0.99), "own_leverage": (0.01, 100.0), "asset_leverage": (0.01, 100.0),
    "cross_leverage": (0.01, 100.0), "index_leverage": (0.01, 100.0), "paths": (100, 2_000_000),
    "seed": (0, 2**63 - 1), "target": (0.0, 0.52), "gross_to_net": (1.0, 1_000.0), "allocation": (0.001, 1.0),
    "hedge_weeks": (1, 16), "cure": (0.0, 10.0), "stop": (-2.5, 2.0), "liar_books": (2, 5_000), "victims": (1, 30),
    "rational": (0, 30), "deviation": (0.01, 1.0), "walk_away": (0.0, 10.0), "closes": (0.0, 52.0),
    "discount": (0.0, 10.0), "growth": (-1.0, 10.0),
}  # fmt: skip
"""Shares and fees that are not here lie between 0 and 1."""
