"""What a payoff of a path's value is worth before its expiry, in dollars, and how sure that is.

Observations are priced as single minutes: a fixing of several averages a little more, within the window that it names.
No Greeks: of a sampled premium a difference is, at the same seed, and whoever needs one takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from btcfi.errors import InvalidInputError
from btcfi.options.terms import SATS_PER_CENTIBTC
from btcfi.oracle.announcement import CENTS_PER_DOLLAR
from btcfi.oracle.path import INDEX_START, Asian, Cliquet, Path
from btcfi.payoffs.curve import Curve, Payoff
from btcfi.payoffs.participation import Participation
from btcfi.pricing import paths
from btcfi.pricing.domain import FloatArray
from btcfi.pricing.paths import Gain, PathMarket, Worth
from btcfi.units import CentsPerBtc

MINUTES_PER_YEAR: Final = 365 * 1_440

SEED: Final = 1
"""Of a premium that nobody seeds: asked twice, it is the same."""

_SATS: Final = 100_000_000


def path_value(
    payoff: Payoff, path: Path, *, spot: CentsPerBtc, tau_years: float, volatility: float, rate: float = 0.0,
    observed: Sequence[CentsPerBtc] = (), reached: int = 0, seed: int = SEED,
) -> Worth:  # fmt: skip
    """Return what a payoff of a path is worth for its holder, in USD of the whole.

    tau_years: to the expiry. observed: of a mean the prices of the observations that lie behind, in their order.
    reached: of a ladder how many rungs were. Raises PricingDomainError, and InvalidInputError for a payoff that is
    neither curve nor participation, for observations that are missing, and for a cliquet that has begun.
    """
    market = PathMarket(spot=spot / CENTS_PER_DOLLAR, tau_years=tau_years, volatility=volatility, rate=rate)
    gain, borders = gain_of(payoff)
    match path:
        case Asian():
            times = tau_years - path.every / MINUTES_PER_YEAR * np.arange(path.count - 1, -1, -1)
            # an observation of this minute, or of rounding, is at the spot
            times[np.abs(times) < 1e-12] = 0.0  # noqa: PLR2004 - years: 30 microseconds
            behind = int((times < 0.0).sum())
            if behind != len(observed):
                raise InvalidInputError("observed", f"{len(observed)} prices", f"{behind}, the observations so far")
            known = np.array(observed, dtype=np.float64) / CENTS_PER_DOLLAR
            return paths.asian(gain, market, times=times[behind:], known=known, borders=borders, seed=seed)
        case Cliquet():
            years = path.every / MINUTES_PER_YEAR
            if tau_years < path.count * years * (1.0 - 1e-9):
                raise InvalidInputError("tau_years", f"{tau_years:g}", f"{path.count * years:g}, all of its periods")
            return paths.cliquet(
                lambda index: gain(index * INDEX_START), market, every_years=years, count=path.count,
                floor_bps=path.floor_bps, cap_bps=path.cap_bps,
            )  # fmt: skip
        case _:
            return paths.ladder(
                gain, market, rungs=np.array(path.rungs, dtype=np.float64), up=path.up, reached=reached, borders=borders
            )  # fmt: skip


def gain_of(payoff: Payoff) -> tuple[Gain, FloatArray]:
    """Return the bitcoin that a payoff gains at values in dollars or points, and where it bends."""
    if isinstance(payoff, Participation):
        low, high = payoff.strike / 100, payoff.cap / 100
        whole = payoff.quantity * SATS_PER_CENTIBTC / _SATS
        return lambda at: (np.clip(at, low, high) - low) * (whole / INDEX_START), np.array([low, high])
    if not isinstance(payoff, Curve):
        raise InvalidInputError("payoff", type(payoff).__name__, "a curve, or a participation")
    starts = np.array([one.start for one in payoff.pieces], dtype=np.float64) / CENTS_PER_DOLLAR
    constant = np.array([float(one.constant) for one in payoff.pieces]) / _SATS
    dollars = np.array([float(one.numerator) for one in payoff.pieces]) / (_SATS * CENTS_PER_DOLLAR)

    def gain(at: FloatArray) -> FloatArray:
        piece = np.maximum(np.searchsorted(starts, at, side="right") - 1, 0)
        found: FloatArray = constant[piece] + dollars[piece] / np.maximum(at, 1.0 / CENTS_PER_DOLLAR)
        return found

    return gain, starts[1:]
