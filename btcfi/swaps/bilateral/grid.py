"""The grid of a week's return: which number the oracles sign, what part of the required margin it stands for.

A return from -1 to 1 of the required margin is attested in steps of 1/h, h = 2**(digits - 1) - 1, as the number
2**(digits - 1) + step: 0 and 1 both stand for -1, and the middle is nothing owed. One grid for every asset and margin,
so a contract can be signed before the price exists at which it starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import NO_PROGRAM, OF_RETURN, OracleEvent
from btcfi.swaps.contract import Rates, SwapContract
from btcfi.swaps.returns import Side
from btcfi.units import Hash32, Sats, Slot

STANDARD_DIGITS: Final = 9
FINE_DIGITS: Final = 10
"""Steps of 0.39 % and 0.20 % of the required margin, 2,301 and 4,605 signatures a side at 2 of 3 oracles."""

_TERMS_TAG: Final = "BTCFi/swaps/returns/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """All numbers that begin with the same digits."""

    bits: int
    length: int
    """Digits, at least 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnGrid:
    """The steps of an attested return."""

    digits: int = STANDARD_DIGITS

    def __post_init__(self) -> None:
        """Raise InvalidInputError for digits that no preset has."""
        if self.digits not in {STANDARD_DIGITS, FINE_DIGITS}:
            raise InvalidInputError("digits", f"{self.digits}", f"{STANDARD_DIGITS} or {FINE_DIGITS}")

    @property
    def half(self) -> int:
        """How many steps are the whole required margin."""
        return (1 << (self.digits - 1)) - 1

    @property
    def steps(self) -> range:
        """Every step, from the taker's whole loss to its whole gain."""
        return range(-self.half, self.half + 1)

    def step(self, part: Fraction) -> int:
        """Return the step nearest to a return, the even one of two as near: a loss is rounded as the same gain is.

        part: of the required margin, -1 to 1. Raises InvalidInputError.
        """
        if abs(part) > 1:
            raise InvalidInputError("return", f"{part} of the required margin", "-1 to 1")
        return round(part * self.half)

    def number(self, step: int) -> int:
        """Return what the oracles sign for a step. Raises InvalidInputError for one outside the grid."""
        if step not in self.steps:
            raise InvalidInputError("step", f"{step}", f"-{self.half} to {self.half}")
        return (1 << (self.digits - 1)) + step

    def step_of(self, number: int) -> int:
        """Return the step that a signed number stands for. Raises InvalidInputError for one of more digits."""
        if not 0 <= number < 1 << self.digits:
            raise InvalidInputError("attested return", f"{number}", f"0 to {(1 << self.digits) - 1}")
        return max(-self.half, number - (1 << (self.digits - 1)))

    def profit(self, step: int, required: Sats) -> int:
        """Return the taker's profit at a step, to the nearest satoshi: h is odd, so no two are ever as near."""
        return round(Fraction(step * required, self.half))

    def prefix(self, step: int) -> Prefix:
        """Return the numbers of a step: one, but for the taker's whole loss."""
        number = self.number(step)
        if step == -self.half:
            return Prefix(bits=0, length=self.digits - 1)
        return Prefix(bits=number, length=self.digits)

    def covering(self, low: int, high: int) -> tuple[Prefix, ...]:
        """Return the fewest prefixes that hold the numbers ``low`` to ``high`` and no other, in their order."""
        return tuple(self._covering(low, high + 1))

    def _covering(self, low: int, end: int) -> Iterator[Prefix]:
        while low < end:
            size = self.digits - 1  # never the empty prefix, which would need no digit at all
            while low & ((1 << size) - 1) or low + (1 << size) > end:
                size -= 1
            yield Prefix(bits=low >> size, length=self.digits - size)
            low += 1 << size

    def free(self, *, taker: bool) -> tuple[Prefix, ...]:
        """Return the numbers at which the taker owes nothing, or the provider does."""
        middle, last = 1 << (self.digits - 1), (1 << self.digits) - 1
        return self.covering(middle, last) if taker else self.covering(0, middle)


def return_event(
    contract: SwapContract, side: Side, rates: Rates, *, start: Slot, end: Slot, price_rule: Hash32,
    program: Hash32 = NO_PROGRAM, digits: int = STANDARD_DIGITS,
) -> OracleEvent:  # fmt: skip
    """Return the event of one of a week's ten returns: of a start day and a side, by the rates that are live then.

    start, end: the minutes of both prices. price_rule: hash of the preset by which the oracles agree on prices.
    program: the guest that turns prices into the return, where the oracles prove it; its result is
    ``ReturnGrid.step`` of ``returns.taker_return``, exactly. Raises InvalidInputError.
    """
    if not start < end:
        raise InvalidInputError("start", f"{start}", f"a minute before the settlement price's, {end}")
    terms = f"{contract.name} {contract.asset}/{contract.quote} {contract.leverage_hundredths} "
    terms += f"{rates.target_ppm} {rates.basis_ppm}"
    return OracleEvent(
        feed=f"{contract.name} {side.name.lower()} since {start}", expiry=end, program_hash=program,
        preset_hash=tagged_hash(_TERMS_TAG, price_rule + terms.encode()), digits=ReturnGrid(digits=digits).digits,
        version=OF_RETURN,
    )  # fmt: skip
