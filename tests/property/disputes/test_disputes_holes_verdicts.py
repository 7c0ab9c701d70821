"""No honest claim is convicted and no lie is right: of each kind of claim, by each set of oracles, whatever some say.

A corrupt oracle is one that attests another outcome, to anybody, beside or instead of the agreed one.
"""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.adapters.consensus import scripts_hold
from btcfi.disputes.circuit import digits_of
from btcfi.disputes.claims import RANGE, knock_out_claim, mean_claim, median_claim, price_claim
from btcfi.disputes.garbled.graph import Graph
from btcfi.disputes.garbled.presign import attested_of, read_claim
from btcfi.disputes.garbled.setup import Verdict
from btcfi.errors import InvalidInputError
from btcfi.units import Sats, Txid
from tests.support.disputing import RANGES, Dispute

TOP = (1 << 18) - 1
OPENING = Txid(bytes(range(32)))

CLAIMS = {
    "price": lambda: price_claim(RANGES),
    "mean": lambda: mean_claim(RANGES, 2),
    "median": lambda: median_claim(RANGES, 3),
    "knock-out": lambda: knock_out_claim(RANGES, 2, barrier=70_000, up=False, rebate=Sats(3)),
}

EDGES = st.sampled_from([0, TOP, 70_000, 69_999, *RANGES.starts, *(one - 1 for one in RANGES.starts[1:])])
OUTCOME = st.one_of(EDGES, st.integers(0, TOP), st.integers(58_000, 77_000))


@pytest.fixture(scope="module", params=CLAIMS)
def dispute(request):
    made = Dispute(CLAIMS[request.param](), oracles=3, threshold=2)
    made.signed(OPENING)
    return made


def judged(dispute, outcomes, number):
    circuit = dispute.claim.circuit
    values = digits_of(circuit, RANGE, number)
    for event, outcome in enumerate(outcomes):
        values |= digits_of(circuit, f"price{event}", outcome)
    secrets = [dispute.garbler.label(place, values[digit.name]) for place, digit in enumerate(circuit.digits)]
    return dispute.kept.judge(values, secrets)


def test_an_honest_claim_is_right_and_a_lie_convicted_at_any_outcomes(dispute):
    @settings(max_examples=25, deadline=None)
    @given(st.lists(OUTCOME, min_size=dispute.claim.events, max_size=dispute.claim.events), st.integers(0, 1 << 20))
    def holds(outcomes, other):
        right = dispute.right(outcomes)
        assert judged(dispute, outcomes, right).verdict is Verdict.RIGHT
        lie = (right + 1 + other % (len(dispute.claim.payouts) - 1)) % len(dispute.claim.payouts)
        assert judged(dispute, outcomes, lie).verdict is Verdict.CONVICTED

    holds()


@pytest.mark.parametrize("which", range(3))
def test_each_set_of_two_oracles_gives_the_same_verdicts_on_the_chain(dispute, which):
    outcomes = [67_890, 61_234, 65_500][: dispute.claim.events]
    right, spent = dispute.right(outcomes), [dispute.graph.parent(silent=False)[1]]
    attested = dispute.attested(outcomes, which)
    for number in (right, 0, len(dispute.claim.payouts) - 1):
        claim = dispute.claimed(number, attested)
        assert scripts_hold(claim, spent)
        read = read_claim(dispute.graph, dispute.of_claims, claim)
        verdict = dispute.kept.judge(*read.named(dispute.graph)).verdict
        assert verdict is (Verdict.RIGHT if number == right else Verdict.CONVICTED)


def settled_by(dispute, said, words):
    """The outcomes that any set of oracles has attested. words: what each of them said; None is nothing."""
    spoken = {place: outcomes for place, outcomes in enumerate(words) if outcomes is not None}
    events = range(dispute.claim.events)
    known = [{place: said[outcomes][event][place] for place, outcomes in spoken.items()} for event in events]
    found = set()
    for which, outcomes in itertools.product(range(len(dispute.terms.sets)), set(spoken.values())):
        try:
            attested_of(dispute.graph, outcomes, known, which)
        except InvalidInputError:
            continue
        found.add(outcomes)
    return found


@pytest.mark.parametrize(("oracles", "threshold", "cases"), [(3, 2, 64), (5, 3, 60), (2, 2, 16), (1, 1, 4)])
def test_fewer_corrupt_oracles_than_a_set_has_move_nothing(oracles, threshold, cases):
    """Whoever is corrupt, silent or honest: the sets that settle have attested the agreed outcomes, and no others."""
    agreed, other, third = (67_890, 61_234), (67_891, 61_234), (90_000, 1)
    dispute = Dispute(mean_claim(RANGES, 2), oracles=oracles, threshold=threshold)
    dispute.graph = Graph(dispute.terms, dispute.commitments, OPENING)
    said = {outcomes: dispute.attestations(outcomes) for outcomes in (agreed, other, third)}
    every = list(itertools.product([agreed, None, other, third], repeat=oracles))
    settled = 0
    for words in random.Random(20).sample(every, cases):
        if sum(one in {other, third} for one in words) >= threshold:
            continue
        found = settled_by(dispute, said, words)
        assert found == ({agreed} if words.count(agreed) >= threshold else set())
        settled += bool(found)
    assert settled >= 1
