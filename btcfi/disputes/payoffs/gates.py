"""An expression as gates: numbers in two's complement, each as wide as its bounds need and no wider.

A value that is never below 0 has no sign. ``peeled`` takes off the outside of an expression what only moves the places
where its value reaches a number, so a circuit that compares needs no gates for it: a mean is compared as a sum.
"""

from __future__ import annotations

from collections.abc import Sequence

from btcfi.disputes.circuit import FALSE, CircuitBuilder, Literal, Number, negate
from btcfi.disputes.payoffs.expression import Expression, Operation, nodes_of
from btcfi.errors import InvalidInputError


def width_of(expression: Expression) -> int:
    """Return how many wires its value has."""
    if expression.low >= 0:
        return max(expression.high.bit_length(), 1)
    return 1 + max((-expression.low - 1).bit_length(), expression.high.bit_length())


def built(builder: CircuitBuilder, expression: Expression, prices: Sequence[Number]) -> Number:
    """Return the value's wires, ``width_of`` many. prices: of each event. Raises InvalidInputError for other widths."""
    found: dict[int, Number] = {}
    for one in nodes_of(expression):
        made = _built(builder, one, [found[id(node)] for node in one.operands], prices)
        found[id(one)] = made[: width_of(one)]
    return found[id(expression)]


def _built(  # noqa: C901, PLR0911 - one case an operation
    builder: CircuitBuilder, one: Expression, below: Sequence[Number], prices: Sequence[Number]
) -> Number:
    if one.operation is Operation.PRICE:
        if one.number >= len(prices) or len(prices[one.number]) != width_of(one):
            raise InvalidInputError("price", f"event {one.number} of {width_of(one)} bits", "one of the claim's")
        return prices[one.number]
    if one.operation is Operation.CONSTANT:
        return tuple(Literal(one.number >> bit & 1) for bit in range(width_of(one)))
    if one.operation is Operation.DIVIDE:
        return _divided(builder, below[0], below[1])
    signed = any(node.low < 0 for node in one.operands)
    # a number without a sign beside one with has a wire more, or its highest would be taken for the sign
    width = max(width_of(one), *(width_of(node) + (signed and node.low >= 0) for node in one.operands))
    wires = [
        (*number, *[number[-1] if node.low < 0 else FALSE] * (width - len(number)))
        for number, node in zip(below, one.operands, strict=True)
    ]
    match one.operation:
        case Operation.ADD:
            return builder.add(wires[0], wires[1])
        case Operation.SUBTRACT:
            return builder.subtract(wires[0], wires[1])[0]
        case Operation.ABOVE:
            known = negate(_less(builder, wires[0], wires[1], signed=signed))
            return builder.masked(known, builder.subtract(wires[0], wires[1])[0])
        case Operation.SCALE:
            return _scaled(builder, wires[0], one.number)
        case Operation.LESS:
            return (_less(builder, wires[0], wires[1], signed=signed),)
        case Operation.CHOOSE:
            return builder.choose(below[0][0], wires[1], wires[2])
    return _extreme(builder, one, wires, signed=signed)


def _less(builder: CircuitBuilder, left: Number, right: Number, *, signed: bool) -> Literal:
    if signed:
        left, right = ((*one[:-1], negate(one[-1])) for one in (left, right))
    return builder.less(left, right)


def _extreme(builder: CircuitBuilder, one: Expression, wires: Sequence[Number], *, signed: bool) -> Number:
    left, right = wires
    if all(node.is_bit for node in one.operands):
        join = builder.both if one.operation is Operation.LEAST else builder.either
        return (join(left[0], right[0]),)
    low = builder.choose(_less(builder, right, left, signed=signed), right, left)
    if one.operation is Operation.LEAST:
        return low
    # the larger one is the one that the smaller is not: free
    return tuple(builder.xor(builder.xor(a, b), c) for a, b, c in zip(left, right, low, strict=True))


def _scaled(builder: CircuitBuilder, number: Number, factor: int) -> Number:
    """Return the product modulo 2 ** width: a sum for each bit of the factor."""
    width = len(number)
    found: Number = (FALSE,) * width
    for place in range(abs(factor).bit_length()):
        if abs(factor) >> place & 1:
            found = builder.add(found, (*[FALSE] * place, *number)[:width])[:width]
    return found if factor >= 0 else builder.subtract((FALSE,) * width, found)[0]


def _divided(builder: CircuitBuilder, dividend: Number, divisor: Number) -> Number:
    """Return the quotient by long division: of each bit of the dividend a subtraction and a choice."""
    rest: Number = ()
    found: list[Literal] = []
    for bit in reversed(dividend):
        rest = (bit, *rest)[: len(divisor) + 1]
        reduced, below = builder.subtract(rest, divisor)
        rest = builder.choose(below, rest, reduced[: len(rest)])
        found.append(negate(below))
    return tuple(reversed(found))


# ---- what needs no gates


def peeled(expression: Expression, levels: Sequence[int]) -> tuple[Expression, list[int]]:
    """Return what is inside an expression that it only rises with, and what that reaches where it reaches a level.

    The value is at least ``levels[k]`` where the inner one is at least the k-th number returned, at every outcome.
    """
    one, found = expression, list(levels)
    while (step := _peel(one, found)) is not None:
        one, found = step
    return one, found


def _peel(  # noqa: PLR0911 - one case an operation
    one: Expression, levels: Sequence[int]
) -> tuple[Expression, list[int]] | None:
    if not one.operands or one.operation in {Operation.PRICE, Operation.LESS, Operation.CHOOSE}:
        return None
    inner = one.operands[0]
    if one.operation is Operation.SCALE:
        return (inner, [-(-level // one.number) for level in levels]) if one.number > 0 else None
    by = one.operands[1]
    if by.operation is not Operation.CONSTANT:
        return None
    match one.operation:
        case Operation.ADD:
            return inner, [level - by.number for level in levels]
        case Operation.ABOVE:
            return inner, [level + by.number if level > 0 else inner.low for level in levels]
        case Operation.SUBTRACT:
            return inner, [level + by.number for level in levels]
        case Operation.DIVIDE:
            return inner, [level * by.number for level in levels]
        case Operation.LEAST:
            return inner, [level if level <= by.number else inner.high + 1 for level in levels]
        case Operation.MOST:
            return inner, [level if level > by.number else inner.low for level in levels]
    return None
