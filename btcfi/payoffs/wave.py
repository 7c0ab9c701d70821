"""A wave over the price: a holder gains quantity x sin(2 pi (S - middle) / period) bitcoin, to the satoshi.

The example of Rubin's post ("pays out on a sinusoidal wave"). No float decides a satoshi: the sine is a whole number
of 2**-128 with a bound on its error, and where the bound leaves two satoshis possible it is computed again with twice
the bits. That ends: where the sine is a fraction at all it is 0, 1/2 or 1 (Niven), which are answered by themselves,
and no other value times a whole number is whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.options.terms import SATS_PER_CENTIBTC
from btcfi.oracle.announcement import OracleEvent
from btcfi.payoffs.curve import LEAST_FLOOR, NetSats, check_quantity
from btcfi.units import MAX_U32, CentiBtc, CentsPerBtc

LEAST_PERIOD: Final = CentsPerBtc(25_600)
"""$256: a wave turns twice a period, and 2,048 turns in 262,144 prices can be contracted."""

_BITS: Final = 128
_GUARD: Final = 16
"""Bits below the last: a sum of 40 terms, each cut off, errs by less than 2**-122 of them."""

_TWELFTHS: Final = {0: 0, 1: 1, 3: 2, 5: 1, 6: 0, 7: -1, 9: -2, 11: -1}
"""Twice the sine of twelfths of a turn, where it is a fraction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """A payoff of one wave."""

    middle: CentsPerBtc
    """Where the wave crosses nothing on its way up."""
    period: CentsPerBtc
    """From one crest to the next."""
    quantity: CentiBtc
    """What the holder gains at a crest and loses in a trough, in hundredths of a bitcoin."""
    floor: CentsPerBtc | None = None
    """Below it the wave stands still."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError naming the field that makes no wave."""
        check_quantity(self.quantity)
        if not 1 <= self.middle <= MAX_U32:
            raise InvalidInputError("middle", f"{self.middle} cents", f"1 to {MAX_U32} cents per bitcoin")
        if not LEAST_PERIOD <= self.period <= MAX_U32:
            raise InvalidInputError("period", f"{self.period} cents", f"{LEAST_PERIOD} to {MAX_U32} cents per bitcoin")
        if self.floor is not None and not LEAST_FLOOR <= self.floor <= MAX_U32:
            raise InvalidInputError("floor", f"{self.floor} cents", f"{LEAST_FLOOR} to {MAX_U32} cents per bitcoin")

    @property
    def sats(self) -> int:
        """The height of a crest, in satoshis."""
        return self.quantity * SATS_PER_CENTIBTC

    def net_at(self, price: CentsPerBtc) -> NetSats:
        """Return what the holder gains at one price, rounded down to a satoshi."""
        at = max(price, self.floor or price)
        return NetSats(floor_of_sine(self.sats, (at - self.middle) % self.period, self.period))

    def net(self, prices: Sequence[CentsPerBtc]) -> list[NetSats]:
        """Return what the holder gains at each price."""
        return [self.net_at(price) for price in prices]

    def turning_points(self, event: OracleEvent) -> tuple[CentsPerBtc, ...]:
        """Return the cent at or below each crest and trough that the event can state, and the floor."""
        highest = event.price_of(event.max_price)
        # crests and troughs lie at middle + period / 4 + n * period / 2: counted in quarters of a cent
        first, step = 4 * self.middle + self.period, 2 * self.period
        lowest = 4 * (self.floor or 1)
        quarters = range(first + step * -((first - lowest) // step), 4 * highest + 4, step)
        turns = {CentsPerBtc(one // 4) for one in quarters if one >= lowest}
        if self.floor is not None and self.floor <= highest:
            turns.add(self.floor)
        return tuple(sorted(turns))


def floor_of_sine(amplitude: int, part: int, whole: int) -> int:
    """Return floor(amplitude * sin(2 pi part / whole)), exactly; 0 <= part < whole, any whole amplitude."""
    twelfth, rest = divmod(12 * part, whole)
    if not rest and twelfth in _TWELFTHS:
        return amplitude * _TWELFTHS[twelfth] // 2
    bits = _BITS
    while True:
        value, error = _sine(part, whole, bits + _GUARD), 1 << _GUARD
        low, high = sorted((amplitude * (value - error), amplitude * (value + error)))
        if low >> (bits + _GUARD) == high >> (bits + _GUARD):
            return low >> (bits + _GUARD)
        bits *= 2


def _sine(part: int, whole: int, bits: int) -> int:
    """Return sin(2 pi part / whole) in units of 2**-bits, off by far less than 2**_GUARD of them."""
    half, beyond = divmod(2 * part, whole)
    # on the half wave that is left, the first quarter says all: sin(pi - x) = sin(x)
    quarter = min(beyond, whole - beyond)
    angle = _pi(bits) * quarter // whole
    square = angle * angle >> bits
    total, term, n = angle, angle, 1
    while term:
        term = (term * square >> bits) // ((n + 1) * (n + 2))
        n += 2
        total += -term if n & 2 else term
    return -total if half else total


@lru_cache(maxsize=4)
def _pi(bits: int) -> int:
    """Return pi in units of 2**-bits, off by less than one: Machin's formula, with bits to spare."""
    one = 1 << (bits + 16)
    return (16 * _arctan(5, one) - 4 * _arctan(239, one)) >> 16


def _arctan(inverse: int, one: int) -> int:
    total, power, n = 0, one // inverse, 1
    while power:
        total += power // n if n & 2 == 0 else -(power // n)
        power //= inverse * inverse
        n += 2
    return total
