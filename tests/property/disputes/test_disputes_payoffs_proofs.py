"""Gates are proved to be the expression's value at all outcomes of several minutes, where nobody could try each."""

import pytest
import z3

from btcfi.disputes.circuit import CircuitBuilder, negate
from btcfi.disputes.payoffs import expression as ex
from btcfi.disputes.payoffs import library as lib
from btcfi.disputes.payoffs.gates import built, width_of

WIDTH = 64
"""Of whole numbers here: every value of an expression is below 2^62."""

MINUTES = lib.prices(8)
VALUES = {
    "capped call": lib.capped(lib.call_gain(lib.cents(MINUTES[0]), 6_000_000), 1_500_000),
    "capped put": lib.capped(lib.put_gain(lib.cents(MINUTES[0]), 6_000_000), 1_500_000),
    "mean of 2": lib.mean(MINUTES[:2]),
    "mean of 4": lib.mean(MINUTES[:4]),
    "median of 3": lib.median(MINUTES[:3]),
    "median of 5": lib.median(MINUTES[:5]),
    "average strike of 2": lib.average_strike(MINUTES[:2], call=True),
    "knock-out of 8": lib.knocked_out(lib.touched(MINUTES, 75_000, up=True), lib.call_gain(MINUTES[7], 60_000), 5),
    "difference": MINUTES[0] - MINUTES[1] * 3,
    "larger of what has a sign": ex.most(MINUTES[0] - 70_000, 50_000 - MINUTES[1]),
}


def in_bit_vectors(value, prices):
    """An expression as the solver's whole numbers."""
    found = {}
    one, nothing = z3.BitVecVal(1, WIDTH), z3.BitVecVal(0, WIDTH)
    rules = {
        "add": lambda a, b: a + b,
        "subtract": lambda a, b: a - b,
        "above": lambda a, b: z3.If(a > b, a - b, nothing),
        "divide": z3.UDiv,
        "least": lambda a, b: z3.If(a < b, a, b),
        "most": lambda a, b: z3.If(a > b, a, b),
        "less": lambda a, b: z3.If(a < b, one, nothing),
        "choose": lambda c, a, b: z3.If(c == 1, a, b),
    }
    for node in ex.nodes_of(value):
        below = [found[id(other)] for other in node.operands]
        match node.operation:
            case "constant":
                found[id(node)] = z3.BitVecVal(node.number, WIDTH)
            case "price":
                found[id(node)] = z3.ZeroExt(WIDTH - ex.OUTCOME_BITS, prices[node.number])
            case "scale":
                found[id(node)] = below[0] * node.number
            case _:
                found[id(node)] = rules[node.operation](*below)
    return found[id(value)]


@pytest.mark.parametrize("name", list(VALUES))
def test_gates_are_the_expression_at_all_outcomes(name):
    value = VALUES[name]
    builder, width = CircuitBuilder(), width_of(value)
    events = [builder.number(f"price{at}", (9, 9), event=at) for at in range(ex.events_of(value))]
    said = builder.number("said", [min(13, width - at) for at in range(0, width, 13)])
    circuit = builder.finish(wrong=negate(builder.equal(built(builder, value, events), said)))
    prices = [z3.BitVec(f"price{at}", ex.OUTCOME_BITS) for at in range(len(events))]
    expected = in_bit_vectors(value, prices)
    sources = [(price, ex.OUTCOME_BITS) for price in prices] + [(expected, width)]
    wires = [z3.BoolVal(False), *(z3.Extract(bit, bit, of) == 1 for of, bits in sources for bit in range(bits))]
    for gate in circuit.gates:
        if gate.is_and:
            left, right = (z3.Xor(wires[one >> 1], bool(one & 1)) for one in (gate.left, gate.right))
            wires.append(z3.And(left, right))
        else:
            wires.append(z3.Xor(wires[gate.left], wires[gate.right]))
    solver = z3.Solver()
    solver.set("timeout", 300_000)
    solver.add(z3.Xor(wires[circuit.wrong >> 1], bool(circuit.wrong & 1)))
    assert solver.check() == z3.unsat
