"""What may be claimed: which range of payouts attested outcomes lead to, as a circuit and as whole numbers.

Each claim computes one *value* of its outcomes, an expression of ``disputes.payoffs``: the price itself, the mean, the
median, the last price unless a barrier was touched, or what is paid. Its ranges follow the rule by which contracts are
cut (``contracts.buckets.ToleranceRule``): who asserts says a range's number, and the circuit finds its bounds and
compares twice.

An outcome is a whole number of dollars, as oracles attest it. Two roads compute each claim: gates, and ``range_of`` in
numpy. Tests compare them at every outcome where there is one, and at corners and many random ones elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from btcfi.contracts.buckets import NOTHING, Bucket, ToleranceRule
from btcfi.disputes.circuit import Circuit, CircuitBuilder, Digit, Literal, Number, negate
from btcfi.disputes.payoffs import library
from btcfi.disputes.payoffs.expression import Expression, Operation, Outcomes, events_of, price, values_of
from btcfi.disputes.payoffs.gates import built, peeled
from btcfi.errors import InvalidInputError
from btcfi.units import Sats

RANGE: Final = "range"
"""The digit by which the asserting side says the range: one, however many there are.

Two digits could say one range by the signature that fixes the outputs, and another by a signature of their own.
"""

_BASIS: Final = 10_000

MAX_EVENTS: Final = 64
"""Outcomes that one claim is made of."""

MAX_RANGES: Final = 4_096
"""Of one claim: each is a signature and a gate."""


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

    @classmethod
    def within(
        cls, payouts: Sequence[Sats], rule: ToleranceRule, *, premium: Sats, collateral: Sats, own: Sats = NOTHING,
    ) -> Ranges:  # fmt: skip
        """Return the fewest ranges of a payoff that its rule allows, cut anywhere and not at digits alone.

        payouts: what each outcome pays, from 0 on. premium, collateral, own: as for ``payout_buckets``. A part of a
        range that the rule allows is allowed, so the longest one from each start makes the fewest. Raises
        InvalidInputError for more than ``MAX_RANGES``.
        """
        starts: list[int] = []
        paid: list[Sats] = []
        low = high = payouts[0] if payouts else NOTHING
        for outcome, payout in enumerate(payouts):
            if not 0 <= payout <= collateral:
                raise InvalidInputError("payout", f"{payout} sats", f"0 to the collateral, {collateral} sats")
            if starts and low <= payout <= high:
                continue
            wider = (min(low, payout), max(high, payout))
            found = rule.paid(*wider, premium=premium, collateral=collateral, own=own) if starts else None
            if found is None:
                starts.append(outcome)
                paid.append(payout)
                low = high = payout
            else:
                (low, high), paid[-1] = wider, found
        return cls(starts=tuple(starts), payouts=tuple(paid))

    def most_off(self, payouts: Sequence[Sats]) -> tuple[Sats, Sats]:
        """Return by how many satoshis an outcome is at most paid too little, and too much; payouts as ``within``."""
        exact = np.array(payouts, dtype=np.int64)
        off = np.array(self.payouts, dtype=np.int64)[self.at(np.arange(len(exact)))] - exact
        return Sats(max(0, -int(off.min()))), Sats(max(0, int(off.max())))

    @classmethod
    def of_values(cls, rule: ToleranceRule, *, premium: Sats, collateral: Sats) -> Ranges:
        """Return the ranges of a value that is itself what is computed to be paid, from 0 to the collateral."""
        starts, paid, low = [0], [NOTHING], 1
        while low < collateral:
            high = min(Sats(collateral - 1), Sats(low + max(1, rule.tolerance * max(premium, low) // _BASIS)))
            starts.append(low)
            paid.append(Sats((low + high) // 2))
            low = high + 1
        return cls(starts=(*starts, collateral), payouts=(*paid, collateral))

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
    return claim_of("price", price(0, shape.bits), ranges, shape)


def mean_claim(ranges: Ranges, events: int, shape: Shape = Shape()) -> Claim:
    """Return the claim of a payoff of the mean of outcomes, to the nearest dollar, half a dollar up.

    The circuit sums and never divides: the mean is at least m where the sum is at least n * m - n / 2, rounded up.
    """
    return claim_of(f"mean of {events}", library.mean(_outcomes(events, shape)), ranges, shape)


def median_claim(ranges: Ranges, events: int, shape: Shape = Shape()) -> Claim:
    """Return the claim of a payoff of the median of an odd number of outcomes. Raises InvalidInputError for an even."""
    return claim_of(f"median of {events}", library.median(_outcomes(events, shape)), ranges, shape)


def average_strike_claim(ranges: Ranges, events: int, *, call: bool, shape: Shape = Shape()) -> Claim:
    """Return the claim of a payoff of what the last outcome is above the mean of all, or for a put below it.

    ranges: of that many whole dollars. Raises InvalidInputError for one outcome: it is its own mean.
    """
    if events < 2:  # noqa: PLR2004 - the fewest that differ from their mean
        raise InvalidInputError("events", str(events), f"2 to {MAX_EVENTS}: one outcome is its own mean")
    value = library.average_strike(_outcomes(events, shape), call=call)
    return claim_of(f"average-strike {'call' if call else 'put'} over {events}", value, ranges, shape)


def knock_out_claim(
    ranges: Ranges, events: int, *, barrier: int, up: bool, rebate: Sats, shape: Shape = Shape(),
) -> Claim:  # fmt: skip
    """Return the claim of a payoff of the last outcome that ends when any touches a barrier, inclusive.

    rebate: what is paid then: one more range, the last. up: touched from below. Raises InvalidInputError.
    """
    if not 1 <= barrier < 1 << shape.bits:
        raise InvalidInputError("barrier", f"{barrier} dollars", f"1 to {(1 << shape.bits) - 1} dollars")
    outcomes = _outcomes(events, shape)
    ended = library.touched(outcomes, barrier, up=up)
    return claim_of(f"knock-out over {events}", outcomes[-1], ranges, shape, end=End(when=ended, rebate=rebate))


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What a contract pays instead, on a condition."""

    when: Expression
    """1 where it ended."""
    rebate: Sats


def claim_of(
    name: str, value: Expression, ranges: Ranges, shape: Shape = Shape(), *, end: End | None = None
) -> Claim:  # fmt: skip
    """Return the claim of the range in which a value of outcomes lies.

    end: one more range, the last and the one right one where its condition holds. What only moves the places where the
    value changes range costs no gates (``payoffs.gates.peeled``), nor does a last division by a price divide: a value
    is at least m where the dividend is at least m times the divisor. Raises InvalidInputError.
    """
    if value.low < 0 or ranges.starts[-1] > value.high:
        raise InvalidInputError("ranges", f"start at {ranges.starts[-1]}", f"{value.low} to {value.high}, from 0 on")
    events = max(events_of(value), events_of(end.when) if end else 0)
    making = _Making(shape, events=events)
    ended = built(making.builder, end.when, making.outcomes)[0] if end else None
    count = len(ranges.starts)

    def range_of(outcomes: Outcomes) -> NDArray[np.intp]:
        right = ranges.at(values_of(value, outcomes))
        return right if end is None else np.where(values_of(end.when, outcomes) == 1, count, right)

    payouts = ranges.payouts if end is None else (*ranges.payouts, end.rebate)
    return making.claim(name, payouts, making.out_of_range(value, ranges, ended=ended), range_of)


def _outcomes(events: int, shape: Shape) -> list[Expression]:
    if not 1 <= events <= MAX_EVENTS:
        raise InvalidInputError("events", str(events), f"1 to {MAX_EVENTS}")
    return library.prices(events, shape.bits)


class _Making:
    """A claim's circuit on its way: the outcomes first, then the range's number."""

    def __init__(self, shape: Shape, *, events: int) -> None:
        if not 1 <= events <= MAX_EVENTS:
            raise InvalidInputError("events", str(events), f"1 to {MAX_EVENTS}")
        self.builder, self.shape, self.events = CircuitBuilder(), shape, events
        self.outcomes = [self.builder.number(f"price{place}", shape.price, event=place) for place in range(events)]

    def out_of_range(self, value: Expression, ranges: Ranges, *, ended: Literal | None = None) -> Literal:
        """Return whether a value lies outside the claimed range. ended: where true, one after the last is right."""
        builder, count = self.builder, len(ranges.starts)
        if count + (ended is not None) < 2:  # noqa: PLR2004 - the fewest that one can be wrong about
            raise InvalidInputError("ranges", "one", "at least two: nothing can be claimed wrongly")
        inner, lows = peeled(value, ranges.starts)
        if inner.low < 0:
            inner, lows = inner - inner.low, [low - inner.low for low in lows]
        divided = inner.operation is Operation.DIVIDE
        parts = [built(builder, one, self.outcomes) for one in (inner.operands if divided else (inner,))]
        said = builder.decoded(self._range_number(count + (ended is not None)), count + (ended is not None))
        top = inner.high + 1 if divided else 1 << len(parts[0])
        lows = [min(max(low, 0), top) for low in lows]
        # above every value for the last, and 0 where no range is said: then each value is too high
        bounds = [builder.looked_up(said[:count], row, top.bit_length()) for row in (lows, [*lows[1:], top])]
        if divided:
            bounds = [builder.multiply(one, parts[1]) for one in bounds]
        low, high = bounds
        wrong = builder.either(builder.less(parts[0], low), negate(builder.less(parts[0], high)))
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
