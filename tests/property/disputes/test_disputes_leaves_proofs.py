"""Every leaf's bytes, proved by z3 for all digits and hints at once; and the programs that they are leaves of.

Three steps. The words that the compiler made compute what our steps do, for all prices. Every word of an honest claim
lies within its bounds. A leaf that is shown words within bounds holds exactly where its group is wrong: with the hints
of an honest disprover always, with any other never where the group is right. Hashes and signatures are Core's to judge.
"""

import pytest
import z3

from btcfi.disputes.claims import Ranges
from btcfi.disputes.leaves.judge import disprove_leaf
from btcfi.disputes.leaves.payoffs import (
    WORDS,
    binary_claim,
    knock_out_claim,
    mean_claim,
    median_claim,
    price_claim,
    step_claim,
)
from btcfi.disputes.leaves.words import CHECKSUM_DIGITS, TOP, derived_key
from btcfi.units import Sats
from tests.support.leaving import RANGES
from tests.support.symbolic import LIMIT, WIDE, run_script, run_words, step_word, wide

SECONDS = 60
"""That the solver may take for one question; a proof that it gives up is none, and fails."""
KEY = b"\x02" * 32
FEW = Ranges(starts=(0, 60_000, 61_000), payouts=(Sats(0), Sats(1_000), Sats(2_000)))
CONSTANTS = {
    "capped_call": (60_000, 16 << 6), "capped_put": (60_000, 16 << 6), "binary_call": (60_000,), "knock_out3": (80_000,)
}  # fmt: skip


def steps(number):
    return Sats(1_000_000 * number)


CLAIMS = {
    "price": price_claim(RANGES),
    "binary call": binary_claim(strike=60_000, paid=Sats(1_000)),
    **{
        f"{name}, {how}": make(reads)
        for how, reads in (("fused", None), ("step by step", 0))
        for name, make in {
            "call": lambda reads: step_claim("capped_call", strike=60_000, steps=16, payout=steps, reads=reads),
            "put": lambda reads: step_claim("capped_put", strike=60_000, steps=16, payout=steps, reads=reads),
            "median": lambda reads: median_claim(FEW, reads=reads),
            "knock-out": lambda reads: knock_out_claim(FEW, barrier=80_000, rebate=Sats(9_000), reads=reads),
            "mean of 2": lambda reads: mean_claim(FEW, 2, reads=reads),
            "mean of 8": lambda reads: mean_claim(FEW, 8, reads=reads),
        }.items()
    },
    **{f"mean of {events}, fused": mean_claim(FEW, events) for events in range(3, 8)},
}
NIGHT = {f"mean of {events}, fused" for events in range(3, 8)}
"""Between the least sum and the longest."""
IN_CI = {0, 1, 8, 16}
"""Of the ranges of a payoff that has 17: the rest differ in two constants alone, and are the night's."""
LEAVES = [
    pytest.param(
        name,
        place,
        number,
        id=f"{name}, group {place}" + (f", range {number}" if last else ""),
        marks=[pytest.mark.slow] if name in NIGHT or (len(claim.starts) == 17 and number not in IN_CI) else [],
    )
    for name, claim in CLAIMS.items()
    for place in range(len(claim.groups))
    for last in [place == len(claim.groups) - 1]
    for number in (range(len(claim.starts)) if last else [0])
]


def never(*conditions):
    """Whether no case meets the conditions. A solver that gives up proves nothing."""
    solver = z3.Solver()
    solver.set("timeout", 1_000 * SECONDS)
    solver.add(*conditions)
    return solver.check() == z3.unsat


def prices_of(program):
    prices = [z3.BitVec(name, 32) for name in program.inputs]
    return prices, [z3.ULT(one, 1 << 18) for one in prices]


def words_of(program, known):
    values = dict(known)
    for step in program.steps:
        values[step.name] = step_word(step, values)
    return values


@pytest.mark.parametrize("name", list(CLAIMS))
def test_the_compiler_s_words_compute_what_the_steps_do_and_stay_within_their_bounds(name):
    program = CLAIMS[name].program
    prices, inside = prices_of(program)
    values = words_of(program, dict(zip(program.inputs, prices, strict=True)))
    constants = [z3.BitVecVal(one, 32) for one in CONSTANTS.get(program.name, ())]
    assert never(*inside, run_words(WORDS[program.name], [*prices, *constants]) != values[program.result])
    for one in program.steps:
        bounds, value = program.bounds[one.name], values[one.name]
        assert never(*inside, z3.Not(z3.And(value >= bounds.low, value <= bounds.high)))


@pytest.mark.parametrize(("name", "place", "number"), LEAVES)
def test_a_leaf_holds_exactly_where_its_group_is_wrong(name, place, number):
    claim = CLAIMS[name]
    program, group = claim.program, claim.groups[place]
    keys = {one: derived_key(bytes(32), one, claim.digits(one)).word for one in claim.words}
    leaf = disprove_leaf(claim, place, keys, key=KEY, number=number)

    digits = {one: [z3.BitVec(f"{one}.{at}", 3) for at in range(len(keys[one].ends))] for one in leaf.words}
    terms = {one: [z3.ZeroExt(WIDE - 3, digit) for digit in row] for one, row in digits.items()}
    hints = [z3.BitVec(f"hint {one.name}", WIDE) for one in leaf.hints]
    ran = run_script(leaf.script[leaf.head :], hints, [digit for one in leaf.words for digit in terms[one]])
    assert len(ran.stack) == 1
    assert not ran.alt

    said = {one: sum(digit << 3 * at for at, digit in enumerate(row[:-CHECKSUM_DIGITS])) for one, row in terms.items()}
    known, given = {}, []
    for one in leaf.words:
        row, bounds = terms[one], program.bounds[one]
        given.append(sum(row[:-1]) + 8 * row[-1] == TOP * (len(row) - CHECKSUM_DIGITS))
        if one != group.output:
            given.append(said[one] <= bounds.high - bounds.low)
            known[one] = z3.Extract(31, 0, said[one] + bounds.low)
    for step in group.steps:
        known[step.name] = step_word(step, known)
    answer = known[group.result]
    if group.output is None:
        low, following = claim.limits(number)
        right = z3.And(z3.ULE(low, answer), z3.ULT(answer, following))
    else:
        right = z3.Extract(31, 0, said[group.output] + program.bounds[group.output].low) == answer
    holds = z3.And(*ran.verified, ran.stack[0] != 0)

    honest = [hint == z3.ZeroExt(WIDE - 32, known[step.name]) for hint, step in zip(hints, leaf.hints, strict=True)]
    assert never(*given, *honest, z3.Not(z3.And(*ran.inside)))
    assert never(*given, *honest, holds == right)
    anything = [z3.And(hint >= -LIMIT, hint <= LIMIT) for hint in hints]
    assert never(*given, *anything, *ran.inside, holds, right)
    assert not never(*given, *honest, holds), "no case is wrong: nothing was proved"
    assert not never(*given, *honest, right), "no case is right: nothing was proved"


@pytest.mark.parametrize("spoiled", ["the comparison", "a constant"])
def test_the_proof_fails_for_a_leaf_with_one_byte_wrong(spoiled):
    claim = CLAIMS["price"]
    keys = {"price0": derived_key(bytes(32), "price0", 6).word}
    code = disprove_leaf(claim, 0, keys, key=KEY, number=5).script
    leaf = disprove_leaf(claim, 0, keys, key=KEY, number=5)
    tail = bytearray(code[leaf.head :])
    at = tail.rindex((64_000).to_bytes(3, "little"))
    if spoiled == "a constant":
        tail[at] ^= 1
    else:
        tail[tail.rindex(0x91)] = 0x8F  # NOT becomes NEGATE
    row = [z3.ZeroExt(WIDE - 3, z3.BitVec(f"d{place}", 3)) for place in range(8)]
    ran = run_script(bytes(tail), [], row)
    value = sum(digit << 3 * place for place, digit in enumerate(row[:6]))
    right = z3.And(value >= wide(64_000), value < wide(65_000))
    given = [sum(row[:-1]) + 8 * row[-1] == 42]
    assert not never(*given, z3.And(*ran.verified, ran.stack[0] != 0) == right)
