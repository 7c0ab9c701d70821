"""Realised volatility from the oracle's candles, annualised with 365 days.

Each estimator takes the candles of one market in order of time and returns one number per square-root year
(0.65 = 65 %). A missing minute must be left out by the caller, not filled: a filled candle halves the estimate.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from btcfi.errors import InvalidInputError
from btcfi.pricing.domain import SECONDS_PER_YEAR, ArrayLike, FloatArray, UnequalLengthsError, check

MINUTE: Final = 60.0
LOG_TWO: Final = math.log(2.0)


class TooFewCandlesError(InvalidInputError):
    """Fewer candles than the estimator can say anything from."""

    def __init__(self, *, candles: int, needed: int) -> None:
        super().__init__("candles", f"{candles} given", f"at least {needed}")
        self.candles, self.needed = candles, needed


class CandleShapeError(InvalidInputError):
    """A candle whose high is not its highest or whose low is not its lowest price."""

    def __init__(self, index: int) -> None:
        super().__init__("candles", f"candle {index} is not ordered", "low <= open, close <= high")
        self.index = index


def close_to_close(closes: ArrayLike, *, interval_seconds: float = MINUTE) -> float:
    """Return the annualised root mean square of log returns (zero mean).

    closes: USD per BTC, > 0, one per interval. The mean is taken as zero: over short windows an estimated drift is
    noise, larger than the bias that it removes. Raises PricingDomainError, TooFewCandlesError.
    """
    prices = _series(closes, needed=2)
    returns = np.diff(np.log(prices))
    return _annual(float(np.mean(returns * returns)), interval_seconds)


def close_to_close_with_gaps(times: ArrayLike, closes: ArrayLike, *, interval_seconds: int = 60) -> tuple[float, int]:
    """Return the annualised root mean square of the returns over exactly one interval, and how many there are.

    times: seconds, rising, one a close. A return across a gap is left out: taken for one interval it would count the
    move of several. Raises PricingDomainError, UnequalLengthsError, TooFewCandlesError when no two closes are adjacent.
    """
    at, prices = np.asarray(times, dtype=np.int64).reshape(-1), _series(closes, needed=2)
    if at.size != prices.size:
        raise UnequalLengthsError({"times": at.shape, "closes": prices.shape})
    returns = np.diff(np.log(prices))[np.diff(at) == interval_seconds]
    if not returns.size:
        raise TooFewCandlesError(candles=1, needed=2)
    return _annual(float(np.mean(returns * returns)), float(interval_seconds)), int(returns.size)


def parkinson(highs: ArrayLike, lows: ArrayLike, *, interval_seconds: float = MINUTE) -> float:
    """Return the annualised Parkinson (1980) estimate from the range of each candle.

    Five times close-to-close's efficiency while the price moves continuously.
    Raises PricingDomainError, UnequalLengthsError, CandleShapeError, TooFewCandlesError.
    """
    high, low = _series(highs, needed=1), _series(lows, needed=1)
    _ordered(low, low, high, high)
    ranges = np.log(high / low)
    return _annual(float(np.mean(ranges * ranges)) / (4.0 * LOG_TWO), interval_seconds)


def garman_klass(
    opens: ArrayLike, highs: ArrayLike, lows: ArrayLike, closes: ArrayLike, *, interval_seconds: float = MINUTE
) -> float:
    """Return the annualised Garman-Klass (1980) estimate from open, high, low and close; efficiency 7.4.

    Raises PricingDomainError, UnequalLengthsError, CandleShapeError, TooFewCandlesError.
    """
    first, high = _series(opens, needed=1), _series(highs, needed=1)
    low, last = _series(lows, needed=1), _series(closes, needed=1)
    _ordered(low, first, last, high)
    ranges, moves = np.log(high / low), np.log(last / first)
    variance = 0.5 * ranges * ranges - (2.0 * LOG_TWO - 1.0) * moves * moves
    return _annual(max(float(np.mean(variance)), 0.0), interval_seconds)


def ewma(closes: ArrayLike, *, half_life: float, interval_seconds: float = MINUTE) -> FloatArray:
    """Return the annualised volatility known after each return, old returns fading by half in ``half_life`` intervals.

    Shape: one less than closes. Raises PricingDomainError, TooFewCandlesError, InvalidInputError for half_life <= 0.
    """
    if not (math.isfinite(half_life) and half_life > 0.0):
        raise InvalidInputError("half_life", f"{half_life!r} is not a duration", "a number of intervals above 0")
    squares = np.diff(np.log(_series(closes, needed=2))) ** 2
    fade = 0.5 ** (1.0 / half_life)
    variances = np.empty_like(squares)
    level = float(np.mean(squares))  # starts at the sample's own level, so that the first values are not zero
    for i, square in enumerate(squares):
        level = fade * level + (1.0 - fade) * float(square)
        variances[i] = level
    return np.sqrt(variances * (SECONDS_PER_YEAR / interval_seconds))


def _series(values: ArrayLike, *, needed: int) -> FloatArray:
    prices = check("spot", values).reshape(-1)
    if prices.size < needed:
        raise TooFewCandlesError(candles=prices.size, needed=needed)
    return prices


def _ordered(low: FloatArray, first: FloatArray, last: FloatArray, high: FloatArray) -> None:
    if not low.size == first.size == last.size == high.size:
        named = {"low": low.shape, "open": first.shape, "close": last.shape, "high": high.shape}
        raise UnequalLengthsError(named)
    wrong = (low > np.minimum(first, last)) | (high < np.maximum(first, last))
    if wrong.any():
        raise CandleShapeError(int(np.argmax(wrong)))


def _annual(variance_per_interval: float, interval_seconds: float) -> float:
    if not (math.isfinite(interval_seconds) and interval_seconds > 0.0):
        raise InvalidInputError("interval_seconds", f"{interval_seconds!r} is no interval", "seconds above 0")
    return math.sqrt(variance_per_interval * (SECONDS_PER_YEAR / interval_seconds))
