"""A payoff as an expression over whole numbers, written once, and its value in numpy: the twin of its C and its gates.

The language is total: an expression has one value at every outcome, and knows before it is computed between which two
numbers that lies. What could divide by nothing, or leave 62 bits, cannot be written.

    spot = most(price(0) * 100, 1)                     # cents
    sats = least(above(spot, 6_000_000) * 10**8 // spot, 50_000_000)
    values_of(sats, np.array([[60_000, 75_000]]))      # [0, 20_000_000]

``guest_c`` writes it as a C function, ``gates`` as a circuit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from btcfi.errors import InvalidInputError

OUTCOME_BITS: Final = 18
"""Of an attested price: whole dollars below 262,144."""

MAX_SIZE: Final = 1 << 62
"""No value is as large: sums and differences of two fit 64 bits with a sign, in C and in numpy."""

MAX_NODES: Final = 1 << 12
"""Of one expression: a bound on what a description makes a reader do."""

Outcomes = NDArray[np.int64]
"""Whole dollars, one row an event, one column a case."""


class Operation(StrEnum):
    """What one node does with the values below it."""

    CONSTANT = "constant"
    PRICE = "price"
    ADD = "add"
    SUBTRACT = "subtract"
    ABOVE = "above"
    """How far the first is above the second, at least 0: a difference without a sign."""
    SCALE = "scale"
    DIVIDE = "divide"
    """Rounded down; what is divided is never below 0, and what divides never below 1."""
    LEAST = "least"
    MOST = "most"
    LESS = "less"
    """1 or 0."""
    CHOOSE = "choose"
    """The second where the first is 1, the third where it is 0."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Expression:
    """One node; two of them are the same where they are one object. Made by the functions below, which know bounds."""

    operation: Operation
    operands: tuple[Expression, ...] = ()
    number: int = 0
    """The constant, the factor, or the price's event."""
    low: int
    """No value is less."""
    high: int
    """No value is more."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a value that could leave 62 bits."""
        if not -MAX_SIZE < self.low <= self.high < MAX_SIZE:
            raise InvalidInputError(self.operation, f"{self.low} to {self.high}", "below 2^62, of either sign")

    @property
    def is_bit(self) -> bool:
        """Whether it is 0 or 1."""
        return self.low >= 0 and self.high <= 1

    def __add__(self, other: Expression | int) -> Expression:
        right = expressed(other)
        return _made(Operation.ADD, self, right, low=self.low + right.low, high=self.high + right.high)

    __radd__ = __add__

    def __sub__(self, other: Expression | int) -> Expression:
        right = expressed(other)
        return _made(Operation.SUBTRACT, self, right, low=self.low - right.high, high=self.high - right.low)

    def __rsub__(self, other: int) -> Expression:
        return expressed(other) - self

    def __mul__(self, factor: int) -> Expression:
        ends = sorted((self.low * factor, self.high * factor))
        return Expression(operation=Operation.SCALE, operands=(self,), number=factor, low=ends[0], high=ends[1])

    __rmul__ = __mul__

    def __floordiv__(self, other: Expression | int) -> Expression:
        """Return the quotient, rounded down. Raises InvalidInputError where one could be below nothing, or by 0."""
        divisor = expressed(other)
        if self.low < 0:
            raise InvalidInputError("dividend", f"{self.low} or more", "never below 0: most(…, 0) says what it is then")
        if divisor.low < 1:
            raise InvalidInputError("divisor", f"{divisor.low} or more", "at least 1: most(…, 1) says what it is then")
        return _made(Operation.DIVIDE, self, divisor, low=self.low // divisor.high, high=self.high // divisor.low)


def _made(operation: Operation, *operands: Expression, low: int, high: int) -> Expression:
    return Expression(operation=operation, operands=operands, low=low, high=high)


def expressed(value: Expression | int) -> Expression:
    """Return a number as an expression; one that is one as it is."""
    if isinstance(value, Expression):
        return value
    return Expression(operation=Operation.CONSTANT, number=value, low=value, high=value)


def price(event: int, bits: int = OUTCOME_BITS) -> Expression:
    """Return an attested outcome, in whole dollars; events count from 0. Raises InvalidInputError."""
    if event < 0 or bits < 1:
        raise InvalidInputError("price", f"of event {event}, {bits} bits", "an event from 0 on, of at least a bit")
    return Expression(operation=Operation.PRICE, number=event, low=0, high=(1 << bits) - 1)


def least(left: Expression, right: Expression | int) -> Expression:
    """Return the smaller of two; of two conditions: both."""
    other = expressed(right)
    return _made(Operation.LEAST, left, other, low=min(left.low, other.low), high=min(left.high, other.high))


def most(left: Expression, right: Expression | int) -> Expression:
    """Return the larger of two; of two conditions: either."""
    other = expressed(right)
    return _made(Operation.MOST, left, other, low=max(left.low, other.low), high=max(left.high, other.high))


def above(left: Expression | int, right: Expression | int) -> Expression:
    """Return how far the left one is above the right one, 0 where it is not."""
    one, other = expressed(left), expressed(right)
    return _made(
        Operation.ABOVE, one, other, low=max(one.low - other.high, 0), high=max(one.high - other.low, 0)
    )  # fmt: skip


def less(left: Expression | int, right: Expression | int) -> Expression:
    """Return 1 where the left one is smaller, else 0."""
    return _made(Operation.LESS, expressed(left), expressed(right), low=0, high=1)


def negated(condition: Expression) -> Expression:
    """Return 1 where a condition is 0, and 0 where it is 1. Raises InvalidInputError for a number."""
    return choose(condition, 0, 1)


def choose(condition: Expression, then: Expression | int, otherwise: Expression | int) -> Expression:
    """Return one of two numbers. Raises InvalidInputError for a condition that can be another number than 0 and 1."""
    if not condition.is_bit:
        raise InvalidInputError("condition", f"{condition.low} to {condition.high}", "0 or 1")
    one, other = expressed(then), expressed(otherwise)
    return _made(Operation.CHOOSE, condition, one, other, low=min(one.low, other.low), high=max(one.high, other.high))


def sum_of(values: Sequence[Expression]) -> Expression:
    """Return a sum, added by twos. Raises InvalidInputError for none."""
    if not values:
        raise InvalidInputError("sum", "of nothing", "at least one value")
    row = list(values)
    while len(row) > 1:
        pairs = [row[place : place + 2] for place in range(0, len(row), 2)]
        row = [pair[0] + pair[1] if len(pair) > 1 else pair[0] for pair in pairs]
    return row[0]


def nodes_of(expression: Expression) -> tuple[Expression, ...]:
    """Return all nodes, each once and after those below it. Raises InvalidInputError for too many."""
    found: list[Expression] = []
    done: set[int] = set()
    waiting = [expression]
    while waiting:
        one = waiting[-1]
        below = [] if id(one) in done else [node for node in one.operands if id(node) not in done]
        if below:
            waiting += reversed(below)
            continue
        waiting.pop()
        if id(one) not in done:
            done.add(id(one))
            found.append(one)
        if len(found) > MAX_NODES:
            raise InvalidInputError("expression", f"more than {MAX_NODES} nodes", f"at most {MAX_NODES}")
    return tuple(found)


def events_of(expression: Expression) -> int:
    """Return how many outcomes it is computed from: one more than the last that it names, and 0 of a constant."""
    return max((one.number + 1 for one in nodes_of(expression) if one.operation is Operation.PRICE), default=0)


def values_of(expression: Expression, outcomes: Outcomes) -> NDArray[np.int64]:
    """Return the value at each of many cases. Raises InvalidInputError for too few events, or an outcome too large."""
    found: dict[int, NDArray[np.int64]] = {}
    for one in nodes_of(expression):
        found[id(one)] = _value(one, [found[id(node)] for node in one.operands], outcomes)
    return found[id(expression)]


def _chosen(
    condition: NDArray[np.int64], then: NDArray[np.int64], otherwise: NDArray[np.int64]
) -> NDArray[np.int64]:  # fmt: skip
    return np.where(condition == 1, then, otherwise)


_RULES: Final[Mapping[Operation, Callable[..., NDArray[np.int64]]]] = {
    Operation.ADD: np.add,
    Operation.SUBTRACT: np.subtract,
    Operation.ABOVE: lambda a, b: np.maximum(a - b, 0),
    Operation.DIVIDE: np.floor_divide,
    Operation.LEAST: np.minimum,
    Operation.MOST: np.maximum,
    Operation.LESS: lambda a, b: (a < b).astype(np.int64),
    Operation.CHOOSE: _chosen,
}


def _value(one: Expression, below: Sequence[NDArray[np.int64]], outcomes: Outcomes) -> NDArray[np.int64]:
    if one.operation is Operation.CONSTANT:
        return np.full(outcomes.shape[1:], one.number, dtype=np.int64)
    if one.operation is Operation.PRICE:
        return _outcome(one, outcomes)
    if one.operation is Operation.SCALE:
        return below[0] * one.number
    return _RULES[one.operation](*below)


def _outcome(one: Expression, outcomes: Outcomes) -> NDArray[np.int64]:
    if one.number >= len(outcomes):
        raise InvalidInputError("outcomes", f"of {len(outcomes)} events", f"{one.number + 1} or more")
    row: NDArray[np.int64] = outcomes[one.number].astype(np.int64)
    if len(row) and not (one.low <= row.min() and row.max() <= one.high):
        raise InvalidInputError("outcomes", f"{row.min()} to {row.max()}", f"{one.low} to {one.high} dollars")
    return row
