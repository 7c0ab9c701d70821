"""The roads from outcomes to a payoff's value, side by side; and expressions that nobody thought of."""

import numpy as np

from btcfi.disputes.circuit import CircuitBuilder, negate
from btcfi.disputes.payoffs import expression as ex
from btcfi.disputes.payoffs.gates import built, width_of

AT_ONCE = 1 << 15
"""Cases of one run of a circuit: each of its gates holds one bit of each."""


def digits_at(circuit, outcomes, **numbers):
    """Values of a circuit's digits: of events their outcomes, of other numbers theirs, by name."""
    found, low = {}, dict.fromkeys(numbers, 0)
    for digit in circuit.digits:
        name, mask = digit.name.rpartition(".")[0], (1 << digit.width) - 1
        if digit.event is None:
            found[digit.name] = (numbers[name] >> low[name]) & mask
            low[name] += digit.width
        else:
            found[digit.name] = (outcomes[digit.event] >> digit.low_bit) & mask
    return found


def gates_say(value, outcomes, said, *, bits=ex.OUTCOME_BITS):
    """Whether the gates of an expression compute these numbers, at each of many outcomes."""
    builder, width = CircuitBuilder(), width_of(value)
    events = [builder.number(f"price{at}", (min(bits, 9), bits - 9) if bits > 9 else (bits,), event=at)
              for at in range(ex.events_of(value))]  # fmt: skip
    number = builder.number("said", [min(13, width - at) for at in range(0, width, 13)])
    circuit = builder.finish(wrong=negate(builder.equal(built(builder, value, events), number)))
    found = []
    for at in range(0, outcomes.shape[1], AT_ONCE):
        some = outcomes[:, at : at + AT_ONCE]
        found.append(~circuit.are_wrong(digits_at(circuit, some, said=said[at : at + AT_ONCE] & (1 << width) - 1)))
    return np.concatenate(found)


_MAKERS = (
    lambda one, other, _: one + other,
    lambda one, other, _: one - other,
    lambda one, other, _: ex.above(one, other),
    lambda one, _, number: ex.above(number, one),
    lambda one, _, number: one * number,
    lambda one, _, number: one + number,
    lambda one, _, number: number - one,
    lambda one, other, _: ex.least(one, other),
    lambda one, other, _: ex.most(one, other),
    lambda one, _, number: ex.most(one, number),
    lambda one, _, number: ex.least(one, number),
    lambda one, other, _: ex.less(one, other),
    lambda one, other, number: ex.choose(ex.less(one, number), other, number),
    lambda one, _, number: ex.most(one, 0) // abs(number or 7),
    lambda one, other, _: ex.most(one, 0) // ex.most(other, 1),
    lambda one, other, _: ex.negated(ex.less(one, other)),
    lambda one, other, number: ex.choose(ex.least(ex.less(one, other), ex.less(number, one)), one, other),
    lambda one, other, number: ex.most(ex.less(other, one), ex.less(one, number)),
)


def random_expression(dice, events=2, bits=4, depth=9):
    """An expression of small outcomes that may use every operation; what cannot be written is not."""
    known = [ex.price(event, bits) for event in range(events)]
    while len(known) < events + depth:
        made = dice.choice(_MAKERS)(dice.choice(known), dice.choice(known), dice.randint(-20, 20))
        if max(abs(made.low), abs(made.high)) < 1 << 34:
            known.append(made)
    return known[-1]


def in_whole_numbers(value, outcomes):
    """What an expression is at one case, in Python's integers: a road of its own, without bounds."""
    found = {}
    rules = {
        "add": lambda a, b: a + b,
        "subtract": lambda a, b: a - b,
        "above": lambda a, b: max(a - b, 0),
        "divide": lambda a, b: a // b,
        "least": min,
        "most": max,
        "less": lambda a, b: int(a < b),
        "choose": lambda c, a, b: a if c else b,
    }
    for one in ex.nodes_of(value):
        below = [found[id(node)] for node in one.operands]
        match one.operation:
            case "constant":
                found[id(one)] = one.number
            case "price":
                found[id(one)] = int(outcomes[one.number])
            case "scale":
                found[id(one)] = below[0] * one.number
            case _:
                found[id(one)] = rules[one.operation](*below)
    return found[id(value)]
