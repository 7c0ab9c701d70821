"""The builder's arithmetic is whole numbers' arithmetic, and a finished circuit holds what its output needs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from btcfi.disputes.circuit import FALSE, TRUE, CircuitBuilder, Digit, Literal, digits_of, negate
from btcfi.errors import InvalidInputError

WIDTH = 4
EVERY = np.array(list(product(range(1 << WIDTH), repeat=2)))


def outputs(make):
    """Return the number that ``make(builder, a, b)`` builds, for every pair of four-bit numbers."""
    place, columns = 0, []
    while True:
        builder = CircuitBuilder()
        left, right = builder.number("a", (2, 2)), builder.number("b", (4,))
        made = make(builder, left, right)
        if place == len(made):
            return sum(column.astype(int) << bit for bit, column in enumerate(columns))
        circuit = builder.finish(wrong=made[place])
        a, b = EVERY[:, 0], EVERY[:, 1]
        columns.append(circuit.are_wrong({"a.0": a & 3, "a.1": a >> 2, "b.0": b}))
        place += 1


A, B = EVERY[:, 0], EVERY[:, 1]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda c, a, b: c.add(a, b), A + B, id="sum"),
        pytest.param(lambda c, a, b: c.subtract(a, b)[0], (A - B) % 16, id="difference"),
        pytest.param(lambda c, a, b: (c.less(a, b),), A < B, id="less"),
        pytest.param(lambda c, a, b: (c.equal(a, b),), A == B, id="equal"),
        pytest.param(lambda c, a, b: c.multiply(a, b), A * B, id="product"),
        pytest.param(lambda c, a, b: c.choose(c.less(a, b), a, b), np.minimum(A, B), id="choice"),
        pytest.param(lambda c, a, b: c.masked(c.equal(a, b), a), np.where(A == B, A, 0), id="mask"),
        pytest.param(lambda c, a, b: c.ordered(a, b)[0], np.minimum(A, B), id="smaller"),
        pytest.param(lambda c, a, b: c.ordered(a, b)[1], np.maximum(A, B), id="larger"),
        pytest.param(lambda c, a, b: c.sum_of([a, b, a]), 2 * A + B, id="sum of three"),
        pytest.param(lambda c, a, b: c.looked_up(c.decoded(a, 11), [5, 9, 0, 15, 1, 2, 3, 4, 6, 7, 8], 4),
                     np.array([5, 9, 0, 15, 1, 2, 3, 4, 6, 7, 8, *[0] * 5])[A], id="row of a table"),
        pytest.param(lambda c, a, b: (c.either(a[0], b[1]),), (A & 1) | (B >> 1 & 1), id="either"),
        pytest.param(lambda c, a, b: c.add(c.constant(9), b), 9 + B, id="sum with what is known"),
    ],
)  # fmt: skip
def test_gates_compute_what_whole_numbers_do(make, expected):
    assert (outputs(make) == expected).all()


def test_what_is_known_costs_no_gate():
    builder = CircuitBuilder()
    wire = builder.number("a", (1,))[0]
    assert builder.xor(wire, wire) == FALSE
    assert builder.xor(wire, negate(wire)) == TRUE
    assert builder.both(wire, negate(wire)) == FALSE
    assert builder.both(wire, TRUE) == builder.both(wire, wire) == wire
    assert not builder.finish(wrong=wire).gates


def test_equal_gates_are_made_once_and_what_nothing_needs_is_left_out():
    builder = CircuitBuilder()
    a, b = builder.number("a", (1,))[0], builder.number("b", (1,))[0]
    first = builder.both(a, b)
    assert builder.both(b, a) == first
    builder.both(negate(a), b)
    assert len(builder.finish(wrong=first).gates) == 1


def test_each_gate_matters_to_the_output():
    """A gate changed in any way changes the circuit's hash, to which a set-up is bound."""
    builder = CircuitBuilder()
    a, b = builder.number("a", (4,)), builder.number("b", (4,))
    circuit = builder.finish(wrong=builder.less(a, b))
    ids = {circuit.id}
    for place, gate in enumerate(circuit.gates):
        for other in (replace(gate, is_and=not gate.is_and), replace(gate, left=gate.left ^ 1)):
            gates = (*circuit.gates[:place], other, *circuit.gates[place + 1 :])
            ids.add(replace(circuit, gates=gates).id)
    ids.add(replace(circuit, wrong=negate(circuit.wrong)).id)
    ids.add(replace(circuit, digits=(replace(circuit.digits[0], event=1), circuit.digits[1])).id)
    assert len(ids) == 2 * len(circuit.gates) + 3


def test_a_number_that_no_digit_can_say_is_refused():
    builder = CircuitBuilder()
    low = builder.digit(Digit(name="range.0", width=2, values=4))
    high = builder.digit(Digit(name="range.1", width=2, values=3))
    circuit = builder.finish(wrong=builder.all_of([*low, *high]))
    assert digits_of(circuit, "range", 11) == {"range.0": 3, "range.1": 2}
    for value in (12, 16, 1 << 40):
        with pytest.raises(InvalidInputError, match="range"):
            digits_of(circuit, "range", value)
    with pytest.raises(InvalidInputError, match="0 to 2"):
        circuit.is_wrong({"range.0": 0, "range.1": 3})
    with pytest.raises(InvalidInputError, match=r"range\.1"):
        circuit.is_wrong({"range.0": 0})


@pytest.mark.parametrize(
    "digit",
    [
        {"width": 0, "values": 1},
        {"width": 17, "values": 1},
        {"width": 2, "values": 5},
        {"width": 2, "values": 0},
        {"width": 2, "values": 3, "event": 0},
    ],
)
def test_a_digit_that_its_wires_cannot_say_is_refused(digit):
    with pytest.raises(InvalidInputError, match="digit"):
        Digit(name="x.0", **digit)


def test_two_digits_of_one_name_are_refused():
    builder = CircuitBuilder()
    builder.number("a", (1,))
    with pytest.raises(InvalidInputError, match="no other digit"):
        builder.number("a", (1,))
    assert builder.both(Literal(2), TRUE) == 2
