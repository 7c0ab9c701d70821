"""Two engines, one verdict: instructions and gates say the same of every claim, and Core's interpreter agrees.

A liar always loses: every wrong range and every wrong digit of a word is disproved by a leaf, or is never claimed.
"""

import numpy as np
import pytest

from btcfi.adapters.consensus import scripts_hold
from btcfi.disputes import claims as gates
from btcfi.disputes.claims import Ranges
from btcfi.disputes.garbled.deal import Barrier, Kind, Payoff
from btcfi.disputes.garbled.presign import read_claim as read_garbled
from btcfi.disputes.garbled.setup import Verdict
from btcfi.disputes.leaves import payoffs
from btcfi.disputes.leaves import words as w
from btcfi.disputes.leaves.graph import escrow_of, read_claim
from btcfi.errors import InvalidInputError
from btcfi.units import Sats, Txid
from tests.support.disputing import Dispute
from tests.support.leaving import RANGES, LeafDispute

STRIKE, STEPS, PAID = 60_000, 16, Sats(1_000)


def stepped(number):
    return Sats(1_000_000 * number)


CALL = Ranges(
    starts=(0, *range(STRIKE + 64, STRIKE + 64 * STEPS + 1, 64)), payouts=tuple(map(stepped, range(STEPS + 1)))
)
"""What a capped call of 16 steps of 64 dollars pays, as ranges of the price."""
PUT = Ranges(starts=(0, *range(STRIKE - 64 * STEPS + 1, STRIKE, 64)), payouts=tuple(map(stepped, range(STEPS, -1, -1))))
"""The same of a put: the range with the most steps is the first."""
BINARY = Ranges(starts=(0, STRIKE), payouts=(Sats(0), PAID))


def step(name, reads=None):
    return payoffs.step_claim(name, strike=STRIKE, steps=STEPS, payout=stepped, reads=reads)


PAIRS = {
    "price": (payoffs.price_claim(RANGES), gates.price_claim(RANGES)),
    "capped call": (step("capped_call"), gates.price_claim(CALL)),
    "capped call, step by step": (step("capped_call", 0), gates.price_claim(CALL)),
    "capped put": (step("capped_put"), gates.price_claim(PUT)),
    "capped put, step by step": (step("capped_put", 0), gates.price_claim(PUT)),
    "binary call": (payoffs.binary_claim(strike=STRIKE, paid=PAID), gates.price_claim(BINARY)),
    **{f"mean of {n}": (payoffs.mean_claim(RANGES, n), gates.mean_claim(RANGES, n)) for n in range(1, 9)},
    "median": (payoffs.median_claim(RANGES), gates.median_claim(RANGES, 3)),
    "knock-out": (
        payoffs.knock_out_claim(RANGES, barrier=75_500, rebate=Sats(9_000)),
        gates.knock_out_claim(RANGES, 3, barrier=75_500, up=True, rebate=Sats(9_000)),
    ),
}  # fmt: skip


def circuit_number(name, number):
    """A circuit's range that is a program's: of a put both count from the other end."""
    return STEPS - number if "put" in name else number


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
    assert (circuit_number(name, right) == circuit.range_of(outcomes)).all()
    for number in range(len(leaves.payouts)):
        said = circuit_number(name, number)
        assert leaves.payouts[number] == circuit.payouts[said]
        wrong = circuit.circuit.are_wrong(digits_of(circuit, outcomes, said))
        assert (wrong == (right != number)).all()


@pytest.mark.parametrize("name", list(PAIRS))
def test_core_s_interpreter_says_of_each_range_what_the_circuit_says(name):
    leaves, circuit = PAIRS[name]
    dispute = LeafDispute(leaves, oracles=1, threshold=1).signed()
    outcomes = np.random.default_rng(7).integers(59_000, 63_000, (circuit.events, 2 if circuit.events == 1 else 1))
    verdicts = set()
    for case in range(outcomes.shape[1]):
        prices = [int(one) for one in outcomes[:, case]]
        for number in range(len(leaves.payouts)):
            claim = dispute.claimed(number, prices)
            assert scripts_hold(claim, [dispute.graph.open_txout])
            read = read_claim(dispute.graph, claim)
            last = len(leaves.groups) - 1
            disproved = scripts_hold(dispute.disproof(read, last), [escrow_of(claim)[1]])
            said = digits_of(circuit, outcomes[:, case : case + 1], circuit_number(name, number))
            assert disproved == bool(circuit.circuit.are_wrong(said)[0])
            verdicts.add(disproved)
    assert verdicts == {True, False}


PRICES = [59_900, 60_000, 60_063, 60_064, 60_500, 61_023, 61_024, 250_000]


@pytest.mark.parametrize("name", ["capped call", "capped put", "binary call"])
def test_a_garbled_circuit_convicts_exactly_whom_a_leaf_disproves(name):
    """Both contracts whole: signed claims, read off the chain, judged by what the verifier keeps and by Core."""
    leaves, circuit = PAIRS[name]
    judge, garbled = LeafDispute(leaves, oracles=1, threshold=1).signed(), Dispute(circuit)
    garbled.signed(Txid(bytes(range(32))))
    dice = np.random.default_rng(3)
    for price in PRICES:
        attested, right = garbled.attested([price]), judge.right([price])
        others = [one for one in range(len(leaves.payouts)) if one != right]
        for number in {right, *(int(one) for one in dice.choice(others, min(3, len(others)), replace=False))}:
            claim = judge.claimed(number, [price])
            disproved = scripts_hold(
                judge.disproof(read_claim(judge.graph, claim), len(leaves.groups) - 1), [escrow_of(claim)[1]]
            )
            made = garbled.claimed(circuit_number(name, number), attested)
            read = read_garbled(garbled.graph, garbled.of_claims, made)
            verdict = garbled.kept.judge(*read.named(garbled.graph)).verdict
            assert verdict is (Verdict.CONVICTED if disproved else Verdict.RIGHT)
            assert disproved == (number != right)
            assert [one.value for one in made.outputs[:-2]] == [one.value for one in claim.outputs[:-2]]


# ---- a liar always loses

LIED = {
    "a call, step by step": (step("capped_call", 0), [60_500]),
    "a put, step by step": (step("capped_put", 0), [59_700]),
    "a median": (payoffs.median_claim(RANGES, reads=0), [61_500, 64_000, 62_500]),
    "a mean of 8": (payoffs.mean_claim(RANGES, 8), [61_500 + 100 * at for at in range(8)]),
}  # fmt: skip


@pytest.mark.parametrize("name", list(LIED))
def test_every_wrong_digit_of_every_word_between_groups_is_disproved(name):
    claim, outcomes = LIED[name]
    dispute = LeafDispute(claim, oracles=1, threshold=1).signed()
    honest, right, lies = claim.signed_values(outcomes), dispute.right(outcomes), 0
    assert len(claim.words) > len(claim.program.inputs)
    for word in claim.words[len(claim.program.inputs) :]:
        for place in range(claim.digits(word)):
            for digit in range(8):
                said = honest[word] & ~(7 << 3 * place) | digit << 3 * place
                if said == honest[word]:
                    continue
                lie = dispute.claimed(right, outcomes, said={word: said})
                read = read_claim(dispute.graph, lie)
                group = claim.first_wrong(read.said, right)
                assert claim.groups[group].output == word
                assert scripts_hold(lie, [dispute.graph.open_txout])
                assert scripts_hold(dispute.disproof(read, group), [escrow_of(lie)[1]])
                lies += 1
    assert lies >= 7 * 6


@pytest.mark.parametrize("events", [1, 2])
def test_no_digit_of_a_price_can_be_claimed_as_another(events):
    """With every link of the claimant's own, and the oracle's as far as anybody can raise them."""
    outcomes = [60_500, 71_234][:events]
    dispute = LeafDispute(payoffs.mean_claim(RANGES, events), oracles=1, threshold=1).signed()
    claim = dispute.claimed(dispute.right(outcomes), outcomes)
    stack = list(claim.inputs[0].witness)
    assert scripts_hold(claim, [dispute.graph.open_txout])
    at, tried = len(stack) - 5, 0
    for event, name in enumerate(dispute.claim.words[:events]):
        own, oracle = dispute.words[name].chains, dispute.oracles[event][0].chains
        for chain, digit in enumerate(w.digits_of(outcomes[event], 6)):
            assert stack[at] == w.number_item(digit)
            for other in set(range(8)) - {digit}:
                made = list(stack)
                made[at], made[at - 1] = w.number_item(other), own[chain][other]
                made[at - 2] = oracle[chain][max(other, digit)]
                assert not scripts_hold(claim.with_witness(0, made), [dispute.graph.open_txout])
                tried += 1
            at -= 3
    assert tried == 7 * 8 * events


# ---- one payoff, both engines


def test_a_payoff_is_claimed_by_circuit_and_by_program_from_the_same_record():
    for payoff, events in (
        (Payoff(kind=Kind.PRICE, ranges=CALL), 1), (Payoff(kind=Kind.MEAN, ranges=RANGES), 5),
        (Payoff(kind=Kind.MEDIAN, ranges=RANGES), 3),
        (Payoff(kind=Kind.KNOCK_OUT, ranges=RANGES, barrier=Barrier(level=75_500, up=True, rebate=Sats(9_000))), 3),
    ):  # fmt: skip
        leaves, circuit = payoffs.claim_of(payoff, events), payoff.claim(events)
        outcomes = cases_of(events)[:, :2_000] if events > 1 else cases_of(1)[:, ::64]
        assert (leaves.range_of(outcomes) == circuit.range_of(outcomes)).all()
        assert leaves.payouts == circuit.payouts


@pytest.mark.parametrize(
    ("payoff", "events"),
    [
        (Payoff(kind=Kind.PRICE, ranges=CALL), 2), (Payoff(kind=Kind.MEAN, ranges=CALL), 9),
        (Payoff(kind=Kind.MEDIAN, ranges=CALL), 5),
        (Payoff(kind=Kind.KNOCK_OUT, ranges=CALL, barrier=Barrier(level=1, up=True, rebate=Sats(0))), 2),
        (Payoff(kind=Kind.KNOCK_OUT, ranges=CALL, barrier=Barrier(level=1, up=False, rebate=Sats(0))), 3),
    ],
)  # fmt: skip
def test_a_payoff_that_no_program_computes_is_refused(payoff, events):
    with pytest.raises(InvalidInputError):
        payoffs.claim_of(payoff, events)
