"""What a lying oracle can win and what it loses by it: its optimal stopping, the burn, the annuity of honest fees.

The oracle, or its friend, holds a side. It posts true prices until a week's true loss is beyond ``k`` standard
deviations, then lies; its victims burn. What it keeps is the sum of the weeks before. Source: the appendix, section 7
and its endnote; A.22.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from btcfi.errors import InvalidInputError

MAX_WEEKS: Final = 1 << 20
"""Of one simulated strategy."""


def _density(k: float) -> float:
    return float(norm.pdf(k))


@dataclass(frozen=True, slots=True)
class Stopping:
    """The strategy of leaving at the first week below ``k``. Amounts in standard deviations of a week's profit."""

    k: float

    @property
    def leaves(self) -> float:
        """The probability of a week that it leaves."""
        return float(norm.cdf(self.k))

    @property
    def weeks(self) -> float:
        """How many it expects to play, the one in which it leaves among them (C15)."""
        return 1.0 / self.leaves

    @property
    def weeks_before(self) -> float:
        """How many it expects to play and be paid."""
        return (1.0 - self.leaves) / self.leaves

    @property
    def week_mean(self) -> float:
        """What a week brings that it stays for."""
        return _density(self.k) / float(norm.sf(self.k))

    @property
    def mean(self) -> float:
        """What it expects to take away."""
        return _density(self.k) / self.leaves

    @property
    def deviation(self) -> float:
        """The exact standard deviation of it: a geometric number of truncated normals."""
        within = 1.0 + self.k * self.week_mean - self.week_mean**2
        return math.sqrt(self.weeks_before * within + self.week_mean**2 * self.weeks_before / self.leaves)

    @property
    def ratio(self) -> float:
        """Mean over standard deviation."""
        return self.mean / self.deviation


def best_stop() -> float:
    """Return the ``k`` with the largest ratio of mean to standard deviation."""
    found = minimize_scalar(lambda k: -Stopping(k).ratio, bounds=(-3.0, 1.0), method="bounded", options={"xatol": 1e-9})
    return float(found.x)


def simulated_stops(k: float, *, paths: int, generator: np.random.Generator) -> tuple[float, float, float]:
    """Return mean and standard deviation of what so many strategies took away, and the weeks that they played.

    Raises InvalidInputError where ``k`` is so low that strategies would not end.
    """
    if Stopping(k).weeks > MAX_WEEKS / 64:
        raise InvalidInputError("stop", f"{k}", "a threshold that a week falls below more often")
    sums, played, alive = np.zeros(paths), np.zeros(paths), np.arange(paths)
    while alive.size:
        drawn = generator.standard_normal(alive.size)
        played[alive] += 1.0
        stays = drawn >= k
        alive = alive[stays]
        sums[alive] += drawn[stays]
    return float(sums.mean()), float(sums.std(ddof=1)), float(played.mean())


def expected_overcharge(levels: int) -> float:
    """Return what a victim must fear of the last week after so many rounds of thought, in standard deviations.

    Each round adds the mean of a profit that cannot be a loss. Source: section 7.1.
    """
    return levels * _density(0.0)


def burns_at(*, burn: float, deviation: float) -> int:
    """Return after how many rounds of thought a burn is cheaper than to stay. Both as parts of the required margin."""
    return math.floor(burn / (_density(0.0) * deviation)) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scam:
    """The cost and the benefit of cheating, in parts of all required margins together. Source: section 7.3."""

    side_share: float = 0.5
    """Of the margins that the cheat's own side is against; friends of chance are on it too."""
    burn_share: float = 0.75
    """Of its victims that burn, so that it gets nothing of them."""
    deviation: float = 1.0 / 3.0
    """A week's standard deviation, as a part of a required margin: the leverage covers three."""
    walk_away: float = 1.0
    """What leaving at the first loss is worth, in standard deviations; ``Stopping(k).mean`` says it exactly."""
    closes: float = 6.0
    """A year, of each subcontract."""
    close_fee: float = 0.015
    discount: float = 0.09
    growth: float = 0.05

    def __post_init__(self) -> None:
        """Raise InvalidInputError for shares that are none and an annuity without a value."""
        for name in ("side_share", "burn_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidInputError(name, f"{getattr(self, name)}", "0 to 1")
        if not self.growth < self.discount:
            raise InvalidInputError("growth", f"{self.growth}", f"below the discount rate, {self.discount}")

    @property
    def last_week(self) -> float:
        """What a price that gives its side the whole margin brings."""
        return self.side_share * (1.0 - self.burn_share)

    @property
    def stopping(self) -> float:
        """What leaving at a loss brings."""
        return self.side_share * self.walk_away * self.deviation

    @property
    def benefit(self) -> float:
        """What cheating brings in all."""
        return self.last_week + self.stopping

    @property
    def dividend(self) -> float:
        """What honesty brings a year."""
        return self.closes * self.close_fee

    @property
    def annuity(self) -> float:
        """What honesty is worth, by Gordon's growth model: the next dividend over discount less growth."""
        return self.dividend / (self.discount - self.growth)

    @property
    def honesty_pays(self) -> bool:
        """Whether a rational oracle is an honest one."""
        return self.annuity > self.benefit
