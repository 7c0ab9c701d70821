"""The domain of the pricing functions: what they take, and the errors they refuse the rest with.

Every public pricing function takes scalars or arrays that broadcast against each other. ``admit`` checks all of them
once, names the field that is wrong and the range that would be right, and hands on contiguous float64 arrays; the
compiled kernels behind it trust what they get. Nothing returns a NaN: an input that would make one is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from btcfi.errors import InvalidInputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
ArrayLike = npt.ArrayLike
"""Anything that numpy reads as numbers: a float, a list, an array."""

CALL: Final = 0
PUT: Final = 1
BINARY_CALL: Final = 2
BINARY_PUT: Final = 3
"""The published option types (whitepaper 4.2). A binary pays its strike, in USD per BTC of quantity, when it ends
strictly in the money."""

KIND_LABELS: Final = ("call", "put", "binary_call", "binary_put")

SECONDS_PER_YEAR: Final = 365 * 86_400
"""Bitcoin trades every second of the year, so a year is 365 calendar days (findings: no convention was published)."""

DAYS_PER_YEAR: Final = 365


@dataclass(frozen=True, slots=True)
class Range:
    """The closed interval that a field must lie in."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"a finite number from {self.low:g} to {self.high:g}"


RANGES: Final[dict[str, Range]] = {
    "spot": Range(1e-6, 1e12),
    "strike": Range(1e-6, 1e12),
    "barrier": Range(1e-6, 1e12),
    "knock_out_barrier": Range(0.0, 1e12),
    "american_rate": Range(0.0, 1.0),
    "monitoring_years": Range(0.0, 1.0),
    "knock_in": Range(0.0, 1.0),
    "collateral_btc": Range(1e-6, 1e6),
    "collateral_ratio": Range(1.0, 1e9),
    "premium": Range(0.0, 1e12),
    "positive_tau_years": Range(1e-9, 100.0),
    "tau_years": Range(0.0, 100.0),
    "volatility": Range(0.0, 100.0),
    "rate": Range(-1.0, 1.0),
    "carry_yield": Range(-1.0, 1.0),
    "kind": Range(CALL, BINARY_PUT),
}
"""Wide enough for every stress that we draw (0.1 % to 500 % volatility, a minute, strike/spot 1e-4 to 1e4), narrow
enough that no double overflows on the way."""


class PricingDomainError(InvalidInputError):
    """A number that no pricing function takes: NaN, infinite, or outside the field's range."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(field, f"{value!r} is not priceable", expected)
        self.value = value


class UnequalLengthsError(InvalidInputError):
    """Arrays that do not broadcast against each other."""

    def __init__(self, lengths: dict[str, tuple[int, ...]]) -> None:
        shapes = ", ".join(f"{name} {shape}" for name, shape in lengths.items())
        super().__init__("arrays", f"shapes do not fit: {shapes}", "scalars, or arrays of one length")
        self.lengths = lengths


class NoConvergenceError(PricingDomainError):
    """A numerical method that did not reach its tolerance; never a silent half-result."""

    def __init__(self, field: str, value: object, iterations: int) -> None:
        super().__init__(field, value, f"a case that converges within {iterations} iterations")
        self.iterations = iterations


def check(field: str, value: ArrayLike) -> FloatArray:
    """Return ``value`` as a contiguous float64 array whose every entry lies in the field's range.

    Raises PricingDomainError with the first offending entry.
    """
    try:
        array = np.ascontiguousarray(value, dtype=np.float64).reshape(np.shape(value))
    except (TypeError, ValueError) as e:
        raise PricingDomainError(field, str(value)[:40], str(RANGES[field])) from e
    if array.size == 0:
        return array
    bounds = RANGES[field]
    # min and max hand a NaN on, and a comparison with NaN is false: one test for all four ways to be wrong
    if not (array.min() >= bounds.low and array.max() <= bounds.high):
        wrong = array[~((array >= bounds.low) & (array <= bounds.high))]
        raise PricingDomainError(field, float(wrong.flat[0]), str(bounds))
    return array


def admit(**fields: ArrayLike) -> tuple[tuple[int, ...], list[FloatArray]]:
    """Return the common shape of ``fields`` and each of them checked, broadcast and flattened, in the order given.

    Raises PricingDomainError for an entry outside its range, UnequalLengthsError when the shapes do not broadcast.
    """
    arrays = {name: check(name, value) for name, value in fields.items()}
    try:
        shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError as e:
        raise UnequalLengthsError({name: array.shape for name, array in arrays.items()}) from e
    return shape, [np.ascontiguousarray(np.broadcast_to(array, shape)).reshape(-1) for array in arrays.values()]


def shaped(flat: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return ``flat`` in the caller's shape; a scalar question gets a scalar answer (a numpy float64)."""
    scalar_or_array: FloatArray = flat.reshape(shape)[()]
    return scalar_or_array


def check_barrier(strike: FloatArray, barrier: FloatArray) -> None:
    """Raise PricingDomainError where a barrier lies on the strike: above it is up-and-out, below it is down-and-out."""
    on_strike = strike == barrier
    if on_strike.any():
        raise PricingDomainError(
            "barrier", float(barrier[on_strike][0]), "0 for none, or a level above or below the strike"
        )
