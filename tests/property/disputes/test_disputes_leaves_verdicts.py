"""Two engines, one verdict: instructions and gates say the same of every claim, and Core's interpreter agrees."""

import numpy as np
import pytest

from btcfi.adapters.consensus import scripts_hold
from btcfi.disputes import claims as gates
from btcfi.disputes.claims import Ranges
from btcfi.disputes.leaves import payoffs
from btcfi.disputes.leaves.graph import escrow_of, read_claim
from btcfi.units import Sats
from tests.support.leaving import RANGES, LeafDispute

STEPS = Ranges(
    starts=(0, *range(60_064, 60_065 + 15 * 64, 64)), payouts=tuple(Sats(1_000_000 * at) for at in range(17))
)
"""What a capped call of 16 steps of 64 dollars above 60,000 pays, as ranges of the price."""

PAIRS = {
    "price": (payoffs.price_claim(RANGES), gates.price_claim(RANGES)),
    "capped call": (
        payoffs.step_claim("capped_call", strike=60_000, steps=16, payout=lambda one: Sats(1_000_000 * one)),
        gates.price_claim(STEPS),
    ),
    "mean of 2": (payoffs.mean_claim(RANGES, 2), gates.mean_claim(RANGES, 2)),
    "mean of 8": (payoffs.mean_claim(RANGES, 8), gates.mean_claim(RANGES, 8)),
    "median": (payoffs.median_claim(RANGES), gates.median_claim(RANGES, 3)),
    "knock-out": (
        payoffs.knock_out_claim(RANGES, barrier=75_500, rebate=Sats(9_000)),
        gates.knock_out_claim(RANGES, 3, barrier=75_500, up=True, rebate=Sats(9_000)),
    ),
}  # fmt: skip


def cases_of(events):
    """Every outcome of one event; corners and many random ones of more."""
    if events == 1:
        return np.arange(1 << 18)[None, :]
    dice = np.random.default_rng(19)
    near = dice.choice([0, 1, 59_999, 60_000, 60_001, 61_000, 75_499, 75_500, 75_501, (1 << 18) - 1], (events, 20_000))
    return np.concatenate([near, dice.integers(55_000, 80_000, (events, 20_000))], axis=1)


def digits_of(claim, outcomes, number):
    """What a garbled circuit is given: each priced digit, and the range's."""
    found = {}
    said = number
    for digit in claim.circuit.digits:
        if digit.event is None:
            found[digit.name] = np.full(outcomes.shape[1], said & (1 << digit.width) - 1)
            said >>= digit.width
        else:
            found[digit.name] = outcomes[digit.event] >> digit.low_bit & (1 << digit.width) - 1
    return found


@pytest.mark.parametrize("name", list(PAIRS))
def test_the_range_and_the_verdict_on_every_range_are_those_of_the_circuit(name):
    leaves, circuit = PAIRS[name]
    outcomes = cases_of(circuit.events)
    right = leaves.range_of(outcomes)
    assert (right == circuit.range_of(outcomes)).all()
    assert leaves.payouts == circuit.payouts
    for number in range(len(leaves.payouts)):
        wrong = circuit.circuit.are_wrong(digits_of(circuit, outcomes, number))
        assert (wrong == (right != number)).all()


@pytest.mark.parametrize("name", list(PAIRS))
def test_core_s_interpreter_says_of_each_range_what_the_circuit_says(name):
    leaves, circuit = PAIRS[name]
    dispute = LeafDispute(leaves, oracles=1, threshold=1).signed()
    outcomes = np.random.default_rng(7).integers(59_000, 77_000, (circuit.events, 2))
    verdicts = set()
    for case in range(outcomes.shape[1]):
        prices = [int(one) for one in outcomes[:, case]]
        for number in range(len(leaves.payouts)):
            claim = dispute.claimed(number, prices)
            assert scripts_hold(claim, [dispute.graph.open_txout])
            read = read_claim(dispute.graph, claim)
            last = len(leaves.groups) - 1
            disproved = scripts_hold(dispute.disproof(read, last), [escrow_of(claim)[1]])
            one = outcomes[:, case : case + 1]
            assert disproved == bool(circuit.circuit.are_wrong(digits_of(circuit, one, number))[0])
            verdicts.add(disproved)
    assert verdicts == {True, False}
