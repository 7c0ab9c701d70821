"""What may be claimed: which range of payouts attested outcomes lead to, as a circuit and as whole numbers.

Each claim computes one *settling value* of its outcomes: the price itself, the mean, the median, the last price unless
a barrier was touched. The ranges of that value are those of the contract's own rule (``contracts.buckets``), so any
payoff of one value fits: who asserts says a range's number, and the circuit finds its bounds and compares twice.

An outcome is a whole number of dollars, as oracles attest it. Two roads compute each claim: gates, and ``range_of`` in
numpy. Tests compare them at every outcome where there is one, and at corners and many random ones elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from btcfi.contracts.buckets import Bucket
from btcfi.disputes.circuit import Circuit, CircuitBuilder, Digit, Literal, Number, negate
from btcfi.errors import InvalidInputError
from btcfi.units import Sats

RANGE: Final = "range"
"""The digit by which the asserting side says the range: one, however many there are.

Two digits could say one range by the signature that fixes the outputs, and another by a signature of their own.
"""

MAX_EVENTS: Final = 64
"""Outcomes that one claim is made of."""

MAX_RANGES: Final = 4_096

Outcomes = NDArray[np.int64]
"""Whole dollars, one row an event, one column a case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """What each range of the settling value pays, from 0 on without a gap."""

    starts: tuple[int, ...]
    """The least outcome of each range, ascending, the first 0."""
    payouts: tuple[Sats, ...]
    """What the holder is paid in it."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for ranges that leave an outcome out, or name one twice."""
        if not 1 <= len(self.starts) <= MAX_RANGES or len(self.starts) != len(self.payouts):
            raise InvalidInputError("ranges", f"{len(self.starts)} starts", f"1 to {MAX_RANGES}, a payout each")
        if self.starts[0] != 0 or any(low >= high for low, high in zip(self.starts, self.starts[1:], strict=False)):
            raise InvalidInputError("ranges", "starts not ascending from 0", "each outcome in exactly one range")

    @classmethod
    def of(cls, buckets: Iterable[Bucket], *, digits: int) -> Ranges:
        """Return the ranges of a contract's buckets, neighbours of one payout made one. Raises InvalidInputError."""
        starts: list[int] = []
        payouts: list[Sats] = []
        follows = 0
        for one in buckets:
            if one.prefix << (digits - one.length) != follows:
                raise InvalidInputError("buckets", str(one), f"the range from outcome {follows} on")
            if not payouts or payouts[-1] != one.payout:
                starts.append(follows)
                payouts.append(one.payout)
            follows += 1 << (digits - one.length)
        if follows != 1 << digits:
            raise InvalidInputError("buckets", f"end before outcome {follows}", f"all {1 << digits} outcomes")
        return cls(starts=tuple(starts), payouts=tuple(payouts))

    def at(self, outcomes: Outcomes) -> NDArray[np.intp]:
        """Return the range of each outcome."""
        return np.searchsorted(np.array(self.starts), outcomes, side="right") - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How numbers are parted into digits: wider ones are fewer signatures on the chain and more labels to set up."""

    price: tuple[int, ...] = (5, 5, 4, 4)
    """Wires of each digit of an outcome, least significant first."""

    @property
    def bits(self) -> int:
        """How many binary digits an outcome has."""
        return sum(self.price)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A circuit that says whether a claimed range is wrong, and the same in whole numbers."""

    name: str
    circuit: Circuit
    events: int
    """Outcomes that it is computed from."""
    payouts: tuple[Sats, ...]
    """By the range's number."""
    range_of: Callable[[Outcomes], NDArray[np.intp]]
    """The right range of many cases at once."""


def price_claim(ranges: Ranges, shape: Shape = Shape()) -> Claim:
    """Return the claim of a payoff of one outcome."""
    made = _Making(shape, events=1)
    wrong = made.out_of_range(made.outcomes[0], ranges, scale=lambda start: start)
    return made.claim("price", ranges.payouts, wrong, lambda outcomes: ranges.at(outcomes[0]))


def mean_claim(ranges: Ranges, events: int, shape: Shape = Shape()) -> Claim:
    """Return the claim of a payoff of the mean of outcomes, to the nearest dollar, half a dollar up.

    The circuit sums and never divides: the mean is at least m where the sum is at least n * m - n / 2, rounded up.
    """
    made = _Making(shape, events=events)

    def least_sum(start: int) -> int:
        return max(0, (2 * start * events - events + 1) // 2)

    wrong = made.out_of_range(made.builder.sum_of(made.outcomes), ranges, scale=least_sum)
    return made.claim(
        f"mean of {events}", ranges.payouts, wrong,
        lambda outcomes: ranges.at((2 * outcomes.sum(axis=0) + events) // (2 * events)),
    )  # fmt: skip


def median_claim(ranges: Ranges, events: int, shape: Shape = Shape()) -> Claim:
    """Return the claim of a payoff of the median of an odd number of outcomes. Raises InvalidInputError for an even."""
    if events % 2 == 0:
        raise InvalidInputError("events", str(events), "an odd number: of an even one the median is a mean of two")
    made = _Making(shape, events=events)
    row = list(made.outcomes)
    # as many passes as it takes until the middle is settled: the largest of what is left to the end each time
    for last in range(events - 1, events // 2 - 1, -1):
        for place in range(last):
            row[place], row[place + 1] = made.builder.ordered(row[place], row[place + 1])
    wrong = made.out_of_range(row[events // 2], ranges, scale=lambda start: start)
    return made.claim(
        f"median of {events}", ranges.payouts, wrong,
        lambda outcomes: ranges.at(np.sort(outcomes, axis=0)[events // 2]),
    )  # fmt: skip


def knock_out_claim(
    ranges: Ranges, events: int, *, barrier: int, up: bool, rebate: Sats, shape: Shape = Shape(),
) -> Claim:  # fmt: skip
    """Return the claim of a payoff of the last outcome that ends when any touches a barrier, inclusive.

    rebate: what is paid then: one more range, the last. up: touched from below. Raises InvalidInputError.
    """
    if not 1 <= barrier < 1 << shape.bits:
        raise InvalidInputError("barrier", f"{barrier} dollars", f"1 to {(1 << shape.bits) - 1} dollars")
    made = _Making(shape, events=events)
    level = made.builder.constant(barrier, shape.bits)
    away = [made.builder.less(one, level) if up else made.builder.less(level, one) for one in made.outcomes]
    touched = negate(made.builder.all_of(away))
    wrong = made.out_of_range(made.outcomes[-1], ranges, scale=lambda start: start, ended=touched)
    knocked_out = len(ranges.starts)

    def range_of(outcomes: Outcomes) -> NDArray[np.intp]:
        hit = (outcomes >= barrier).any(axis=0) if up else (outcomes <= barrier).any(axis=0)
        return np.where(hit, knocked_out, ranges.at(outcomes[-1]))

    return made.claim(f"knock-out over {events}", (*ranges.payouts, rebate), wrong, range_of)


class _Making:
    """A claim's circuit on its way: the outcomes first, then the range's number."""

    def __init__(self, shape: Shape, *, events: int) -> None:
        if not 1 <= events <= MAX_EVENTS:
            raise InvalidInputError("events", str(events), f"1 to {MAX_EVENTS}")
        self.builder, self.shape, self.events = CircuitBuilder(), shape, events
        self.outcomes = [self.builder.number(f"price{place}", shape.price, event=place) for place in range(events)]

    def out_of_range(
        self, value: Number, ranges: Ranges, *, scale: Callable[[int], int], ended: Literal | None = None
    ) -> Literal:
        """Return whether a value lies outside the claimed range.

        scale: from an outcome to what ``value`` counts. ended: where true, the one right range is one after the last.
        """
        if ranges.starts[-1] >= 1 << self.shape.bits:
            raise InvalidInputError("ranges", f"start at {ranges.starts[-1]}", f"below {1 << self.shape.bits}")
        builder, count = self.builder, len(ranges.starts)
        if count + (ended is not None) < 2:  # noqa: PLR2004 - the fewest that one can be wrong about
            raise InvalidInputError("ranges", "one", "at least two: nothing can be claimed wrongly")
        said = builder.decoded(self._range_number(count + (ended is not None)), count + (ended is not None))
        lows = [scale(start) for start in ranges.starts]
        width = len(value) + 1
        low = builder.looked_up(said[:count], lows, width)
        # above every value for the last, and 0 where no range is said: then each value is too high
        high = builder.looked_up(said[:count], [*lows[1:], 1 << len(value)], width)
        wrong = builder.either(builder.less(value, low), negate(builder.less(value, high)))
        if ended is None:
            return wrong
        return builder.choose(ended, (negate(said[count]),), (wrong,))[0]

    def _range_number(self, count: int) -> Number:
        return self.builder.digit(Digit(name=f"{RANGE}.0", width=(count - 1).bit_length(), values=count))

    def claim(
        self, name: str, payouts: Sequence[Sats], wrong: Literal, range_of: Callable[[Outcomes], NDArray[np.intp]]
    ) -> Claim:  # fmt: skip
        return Claim(
            name=name, circuit=self.builder.finish(wrong=wrong), events=self.events, payouts=tuple(payouts),
            range_of=range_of,
        )  # fmt: skip
