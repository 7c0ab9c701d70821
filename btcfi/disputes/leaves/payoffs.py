"""The payoffs that leaves judge: words of the compiled functions of payoffs.c, and the claims that they make.

Each claim is one of ``disputes.claims`` computed a second way, by instructions instead of gates; ranges are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from btcfi.disputes.claims import Ranges
from btcfi.disputes.garbled.deal import Kind, Payoff
from btcfi.disputes.leaves.judge import LeafClaim, leaf_claim
from btcfi.disputes.leaves.program import OUTCOME_BITS, Operand, compile_words
from btcfi.errors import InvalidInputError
from btcfi.units import Sats

WORDS: Final[Mapping[str, tuple[int, ...]]] = {
    "price": (0x00008067,),
    "capped_call": (
        0x40B506B3,
        0x00A5B533,
        0x40A00533,
        0x00D57533,
        0x00C535B3,
        0x40B005B3,
        0x00C54533,
        0x00B57533,
        0x00C54533,
        0x00655513,
        0x00008067,
    ),
    "capped_put": (
        0x40A586B3,
        0x00B53533,
        0x40A00533,
        0x00D57533,
        0x00C535B3,
        0x40B005B3,
        0x00C54533,
        0x00B57533,
        0x00C54533,
        0x00655513,
        0x00008067,
    ),
    "binary_call": (
        0x00B53533,
        0x00154513,
        0x00008067,
    ),
    "sum2": (
        0x00A58533,
        0x00008067,
    ),
    "sum3": (
        0x00A58533,
        0x00C50533,
        0x00008067,
    ),
    "sum4": (
        0x00A58533,
        0x00D60633,
        0x00C50533,
        0x00008067,
    ),
    "sum5": (
        0x00A58533,
        0x00D60633,
        0x00C50533,
        0x00E50533,
        0x00008067,
    ),
    "sum6": (
        0x00A58533,
        0x00D60633,
        0x00C50533,
        0x00F70733,
        0x00E50533,
        0x00008067,
    ),
    "sum7": (
        0x00A58533,
        0x00D60633,
        0x00F70733,
        0x00C50533,
        0x01070733,
        0x00E50533,
        0x00008067,
    ),
    "sum8": (
        0x00A58533,
        0x00D60633,
        0x00F70733,
        0x00C50533,
        0x01070733,
        0x00E50533,
        0x01150533,
        0x00008067,
    ),
    "median3": (
        0x00B536B3,
        0x00A5C733,
        0x40D006B3,
        0x00E6F6B3,
        0x00B6C5B3,
        0x00A6C533,
        0x00C536B3,
        0x00C54533,
        0x40D006B3,
        0x00D57533,
        0x00C54533,
        0x00A5B633,
        0x40C00633,
        0x00B54533,
        0x00C57533,
        0x00B54533,
        0x00008067,
    ),
    "knock_out3": (
        0x00D53533,
        0x00D5B5B3,
        0x00D636B3,
        0x00A5F533,
        0x000405B7,
        0x00D57533,
        0x00B64633,
        0x40A00533,
        0x00C57533,
        0x00B54533,
        0x00008067,
    ),
}
"""By the function's name in payoffs.c; a test builds them again, byte for byte."""

STEP_BITS: Final = 6
"""A capped call's or put's step: 64 dollars."""

SUMS: Final = {1: "price", **{events: f"sum{events}" for events in range(2, 9)}}
MEDIAN_EVENTS: Final = 3
KNOCK_OUT_EVENTS: Final = 3


def claim_of(payoff: Payoff, events: int, *, reads: int | None = None) -> LeafClaim:
    """Return the claim of a payoff, the same as its circuit's (``Payoff.claim``). Raises InvalidInputError.

    Not there: a median of other than three, and a knock-out of other than three or from above.
    """
    needed = {Kind.PRICE: 1, Kind.MEDIAN: MEDIAN_EVENTS, Kind.KNOCK_OUT: KNOCK_OUT_EVENTS}.get(payoff.kind, events)
    if events != needed:
        raise InvalidInputError("events", f"{events} of a {payoff.kind}", str(needed))
    if payoff.barrier is not None:
        if not payoff.barrier.up:
            raise InvalidInputError("barrier", "from above", "from below: no other is compiled")
        one = payoff.barrier
        return knock_out_claim(payoff.ranges, barrier=one.level, rebate=one.rebate, reads=reads)
    if payoff.kind is Kind.MEAN:
        return mean_claim(payoff.ranges, events, reads=reads)
    return price_claim(payoff.ranges) if payoff.kind is Kind.PRICE else median_claim(payoff.ranges, reads=reads)


def price_claim(ranges: Ranges) -> LeafClaim:
    """Return the claim of a payoff of one price."""
    return _ranged("price", 1, ranges, ranges.starts)


def mean_claim(ranges: Ranges, events: int, *, reads: int | None = None) -> LeafClaim:
    """Return the claim of a payoff of the mean of 1 to 8 prices, to the nearest dollar, half a dollar up.

    reads: as of ``groups_of``. Raises InvalidInputError for another number: more would not be in registers.
    """
    if events not in SUMS:
        raise InvalidInputError("events", str(events), "1 to 8")
    starts = tuple(max(0, (2 * one * events - events + 1) // 2) for one in ranges.starts)
    return _ranged(SUMS[events], events, ranges, starts, reads=reads)


def median_claim(ranges: Ranges, *, reads: int | None = None) -> LeafClaim:
    """Return the claim of a payoff of the median of three prices."""
    return _ranged("median3", MEDIAN_EVENTS, ranges, ranges.starts, reads=reads)


def knock_out_claim(ranges: Ranges, *, barrier: int, rebate: Sats, reads: int | None = None) -> LeafClaim:
    """Return the claim of a payoff of the last of three prices that ends when any is at a barrier or above it."""
    if not 1 <= barrier < 1 << OUTCOME_BITS:
        raise InvalidInputError("barrier", f"{barrier} dollars", f"1 to {(1 << OUTCOME_BITS) - 1} dollars")
    ended = Ranges(starts=(*ranges.starts, 1 << OUTCOME_BITS), payouts=(*ranges.payouts, rebate))
    return _ranged("knock_out3", KNOCK_OUT_EVENTS, ended, ended.starts, barrier, reads=reads)


def step_claim(
    name: str, *, strike: int, steps: int, payout: Callable[[int], Sats], reads: int | None = None
) -> LeafClaim:  # fmt: skip
    """Return the claim of a ``capped_call`` or ``capped_put``: a number of 64-dollar steps beyond a strike.

    steps: what it is capped at. payout: of a number of steps.
    """
    if name not in {"capped_call", "capped_put"}:
        raise InvalidInputError("payoff", name, "capped_call or capped_put")
    ranges = Ranges(starts=tuple(range(steps + 1)), payouts=tuple(payout(one) for one in range(steps + 1)))
    return _ranged(name, 1, ranges, ranges.starts, strike, steps << STEP_BITS, reads=reads)


def binary_claim(*, strike: int, paid: Sats) -> LeafClaim:
    """Return the claim of a binary call: all at or above a strike, nothing below."""
    ranges = Ranges(starts=(0, 1), payouts=(Sats(0), paid))
    return _ranged("binary_call", 1, ranges, ranges.starts, strike)


def _ranged(
    name: str, events: int, ranges: Ranges, starts: tuple[int, ...], *constants: int, reads: int | None = None
) -> LeafClaim:  # fmt: skip
    arguments: list[Operand] = [*[f"price{place}" for place in range(events)], *constants]
    program = compile_words(name, WORDS[name], arguments)
    return leaf_claim(program, starts=starts, payouts=ranges.payouts, reads=reads)
