"""What a week's attested return means between two parties, and the event that states it.

The oracles attest one number a start day and side: the taker's return as a part of its required margin, in steps of
the grid (``onchain.ReturnGrid``), after funding and cap. One grid for every asset and margin, so a contract can be
signed before the price exists at which it starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import NO_PROGRAM, OF_RETURN, OracleEvent
from btcfi.swaps.contract import Rates, SwapContract
from btcfi.swaps.onchain import ReturnGrid, prefixes
from btcfi.swaps.returns import Side
from btcfi.units import Hash32, Sats, Slot

STANDARD_DIGITS: Final = 9
FINE_DIGITS: Final = 10
"""Steps of 0.39 % and 0.20 % of the required margin, 2,301 and 4,605 signatures a side at 2 of 3 oracles."""

Prefix = tuple[int, int]
"""The first digits of a number, and how many they are: at least 1."""

_TERMS_TAG: Final = "BTCFi/swaps/returns/v1"


def profit_at(grid: ReturnGrid, outcome: int, required: Sats) -> int:
    """Return the taker's profit at an attested number, to the nearest satoshi; the provider's is the exact opposite.

    A grid has an odd number of steps on either side, so no two satoshis are ever as near. Raises InvalidInputError for
    a number of more digits.
    """
    return round(grid.part(outcome) * required)


def buckets(grid: ReturnGrid) -> Iterator[tuple[int, Prefix]]:
    """Yield every return with the digits that state it: one number, but for the taker's whole loss, which has two."""
    for outcome in grid.outcomes[1:]:
        yield outcome, prefixes(0 if outcome == 1 else outcome, outcome, grid.digits)[0]


def owes_nothing(grid: ReturnGrid, *, taker: bool) -> list[Prefix]:
    """Return the digits of all numbers at which the taker owes nothing, or the provider does: one, and two."""
    low, high = (grid.middle, grid.outcomes[-1]) if taker else (0, grid.middle)
    return prefixes(low, high, grid.digits)


def begins_with(outcome: int, prefix: Prefix, grid: ReturnGrid) -> bool:
    """Return whether a number begins with these digits."""
    bits, length = prefix
    return outcome >> (grid.digits - length) == bits


def return_event(
    contract: SwapContract, side: Side, rates: Rates, *, start: Slot, end: Slot, price_rule: Hash32,
    program: Hash32 = NO_PROGRAM, digits: int = STANDARD_DIGITS,
) -> OracleEvent:  # fmt: skip
    """Return the event of one of a week's ten returns: of a start day and a side, by the rates that are live then.

    start, end: the minutes of both prices. price_rule: hash of the preset by which the oracles agree on prices.
    program: the guest that turns prices into the return, where the oracles prove it; its result is
    ``ReturnGrid.outcome`` of ``returns.taker_return``, exactly. Raises InvalidInputError.
    """
    if digits not in {STANDARD_DIGITS, FINE_DIGITS}:
        raise InvalidInputError("digits", f"{digits}", f"{STANDARD_DIGITS} or {FINE_DIGITS}")
    if not start < end:
        raise InvalidInputError("start", f"{start}", f"a minute before the settlement price's, {end}")
    terms = f"{contract.name} {contract.asset}/{contract.quote} {contract.leverage_hundredths} "
    terms += f"{rates.target_ppm} {rates.basis_ppm}"
    return OracleEvent(
        feed=f"{contract.name} {side.name.lower()} since {start}", expiry=end, program_hash=program,
        preset_hash=tagged_hash(_TERMS_TAG, price_rule + terms.encode()), digits=digits, version=OF_RETURN,
    )  # fmt: skip
