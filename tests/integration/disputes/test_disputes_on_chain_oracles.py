"""Oracles, one of three at a time: silent, half-silent, with two prices for all, with a second one for one side alone.

Two of three settle, so the honest two do: whatever the third signs, both sides have what the honest price gives them,
and no digit of another price is taken by Core in any claim, answer or claim of silence.
"""

from itertools import product

import pytest

from btcfi.adapters.consensus import scripts_hold
from btcfi.disputes.garbled import presign
from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.garbled.setup import Verdict
from btcfi.disputes.stages import Stage
from btcfi.errors import InvalidInputError
from tests.support.dispute_games import (
    BLOCKS,
    CLAIM,
    REFUND,
    TEMPLATES,
    Liar,
    Player,
    best_of,
    contract_of,
    played,
    shortfalls,
    signed_by,
)
from tests.support.disputing import Dispute, with_child

pytestmark = pytest.mark.integration

P, V = Side.CLAIMANT, Side.VERIFIER
SHORT = ["call", "call-lazy", "knock-out3-lazy"]
LONG = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("median3", "mean8", "mean30-lazy", "knock-out30-lazy")
]  # fmt: skip
HOW = {
    "silent": lambda d, one, right, other: [],
    "half-silent": lambda d, one, right, other: [signed_by(d, one, right, digits=9)],
    "equivocating": lambda d, one, right, other: [signed_by(d, one, right), signed_by(d, one, other)],
    "corrupt": lambda d, one, right, other: [signed_by(d, one, other)],
}


def taken(dispute, attested):
    """What Core takes of all that these attestations could be shown in: a claim, an answer, a claim of silence."""
    graph, lazy = dispute.graph, dispute.terms.is_lazy
    open_value = graph.open_txouts[:1]
    silence = presign.build_silence(graph, dispute.of_silence, attested=attested, claim=dispute.v.claim)
    found = ["silence"] if scripts_hold(silence, open_value) else []
    if lazy:
        reveal = presign.build_reveal(
            graph, dispute.of_claims, dispute.garbler, (0, False), attested=attested, claim=dispute.p.claim,
            both=dispute.p.both,
        )  # fmt: skip
        return found + ["reveal"] * scripts_hold(reveal, graph.reveal_spent(0, silent=False))
    return found + ["claim"] * scripts_hold(dispute.claimed(0, attested), open_value)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", SHORT + LONG)
def test_one_bad_oracle_of_three_gives_nobody_another_price_and_takes_nothing_from_anybody(name, how):
    dispute, right, other = contract_of(name), TEMPLATES[name].outcomes, TEMPLATES[name].other
    assert dispute.right(right) != dispute.right(other)
    for bad in range(3):
        signed = {one: [signed_by(dispute, one, right)] for one in range(3)}
        signed[bad] = HOW[how](dispute, bad, right, other)
        for which, oracles in enumerate(dispute.terms.sets):
            whole = bad not in oracles or how == "equivocating"
            assert taken(dispute, best_of(dispute, which, right, signed)) == (
                (["silence", "reveal"] if dispute.terms.is_lazy else ["silence", "claim"]) if whole else []
            )
            assert not taken(dispute, best_of(dispute, which, other, signed))
    attested = dispute.attested(right, next(at for at, one in enumerate(dispute.terms.sets) if bad not in one))
    for side in Side:
        liar = Liar(dispute, side.other, attested, number=dispute.right(other))
        end = played(dispute, [Player(dispute, side, attested), liar])
        assert shortfalls(dispute, end, right)[side] == 0


@pytest.mark.parametrize("name", SHORT + LONG)
def test_no_digit_of_another_price_is_taken_although_one_oracle_signed_it(name):
    """Digit by digit, as who mixes would: the others are those of the price that all signed."""
    dispute, right, other = contract_of(name), TEMPLATES[name].outcomes, TEMPLATES[name].other
    signed = {one: [signed_by(dispute, one, right)] for one in range(3)}
    signed[0].append(signed_by(dispute, 0, other))
    which = next(at for at, one in enumerate(dispute.terms.sets) if 0 in one)
    good, bad = best_of(dispute, which, right, signed), best_of(dispute, which, other, signed)
    places = [place for place in good.values if good.values[place] != bad.values[place]][:8]
    assert places
    for place in places:
        mixed = presign.Attested(
            which=which, values={**good.values, place: bad.values[place]},
            secrets={**good.secrets, place: bad.secrets[place]},
        )  # fmt: skip
        assert not taken(dispute, mixed)


@pytest.mark.parametrize("name", SHORT + LONG)
def test_of_what_nobody_attested_nobody_gains(name):
    """Digits that are withheld: the refund, and whoever claims without them loses all that it locked."""
    dispute = contract_of(name)
    for side in Side:
        end = played(dispute, [Player(dispute, side, None), Liar(dispute, side.other, None)])
        assert shortfalls(dispute, end, None)[side] == 0
    both = played(dispute, [Player(dispute, P, None), Player(dispute, V, None)])
    assert both.stage is Stage.REFUNDED
    if dispute.terms.is_lazy:
        end = played(dispute, [Player(dispute, V, None), Liar(dispute, P, None)])
        assert (end.stage, end.claimant) == (Stage.OVERDUE, 0)


def test_a_lazy_claim_before_the_oracles_spoke_is_challenged_and_answered_as_soon_as_they_did():
    """A claimant that is right has nothing to fear, the verifier loses its bond; one that is not loses all."""
    dispute, outcomes = contract_of("call-lazy"), TEMPLATES["call-lazy"].outcomes
    attested, right = dispute.attested(outcomes), dispute.right(outcomes)
    for since in (CLAIM, CLAIM + BLOCKS // 2, CLAIM + BLOCKS, REFUND):
        lied = played(dispute, [Player(dispute, V, attested, since), Liar(dispute, P, None, number=right - 1)])
        assert shortfalls(dispute, lied, outcomes)[V] == 0
    silent = played(dispute, [Player(dispute, V, None), Player(dispute, P, attested)])
    assert silent.stage is Stage.PAID
    bond = dispute.terms.challenge_bond
    assert shortfalls(dispute, silent, outcomes, bond_spent=bond) == {P: 0, V: 0}


def test_a_claimant_that_is_honest_is_not_slashed_where_two_prices_are_attested():
    """Two of three are corrupt and sign another price as well: each side may use either, nobody is convicted."""
    for name in ("call", "call-lazy"):
        dispute, right, other = contract_of(name), TEMPLATES[name].outcomes, TEMPLATES[name].other
        ours, theirs = dispute.attested(right, 0), dispute.attested(other, 0)
        for wanted in (ours, theirs):
            end = played(dispute, [Player(dispute, P, ours), Liar(dispute, V, wanted), Player(dispute, V, wanted)])
            assert end.stage in {Stage.PAID, Stage.RELEASED}
            assert shortfalls(dispute, end, right)[P] == 0


def test_what_one_side_was_told_alone_is_read_off_the_chain_by_the_other():
    for name, which in product(("call", "call-lazy"), range(3)):
        dispute, outcomes = contract_of(name), TEMPLATES[name].outcomes
        attested = dispute.attested(outcomes, which)
        only_v = played(dispute, [Player(dispute, P, None), Player(dispute, V, attested)])
        assert shortfalls(dispute, only_v, outcomes) == {P: 0, V: 0}
        only_p = played(dispute, [Player(dispute, P, attested), Player(dispute, V, None)])
        bond = dispute.terms.challenge_bond
        assert shortfalls(dispute, only_p, outcomes, bond_spent=bond) == {P: 0, V: 0}


def test_two_oracles_that_fail_in_two_different_minutes_leave_no_set_and_the_refund():
    """The limit of sets: one of three may fail in any minute, and not another one in another."""
    dispute, outcomes = contract_of("knock-out3-lazy"), TEMPLATES["knock-out3-lazy"].outcomes
    attestations = dispute.attestations(outcomes)
    del attestations[0][0], attestations[1][1]
    for which in range(3):
        with pytest.raises(InvalidInputError, match="none of oracle"):
            presign.attested_of(dispute.graph, outcomes, attestations, which)


# ---- on both nodes


def test_an_oracle_with_two_prices_and_one_that_keeps_its_digits_on_a_node(wallet):
    here = wallet.node.block_count()
    dispute = Dispute(silence=here + 20, refund=here + 40)
    dispute.opened(wallet)
    right, other = (67_890,), (60_500,)
    signed = {0: [signed_by(dispute, 0, right), signed_by(dispute, 0, other)], 2: [signed_by(dispute, 2, right)]}
    for which, oracles in enumerate(dispute.terms.sets):
        for outcomes in (right, other):
            claim = dispute.claimed(dispute.right(outcomes), best_of(dispute, which, outcomes, signed))
            found = wallet.node.test_accept([claim])[0]
            assert found.allowed == (oracles == (0, 2) and outcomes == right)
    claim = dispute.claimed(dispute.right(right), best_of(dispute, 1, right, signed))
    with_child(wallet, claim, dispute.p.wallet)
    read = presign.read_claim(dispute.graph, dispute.of_claims, claim)
    assert dispute.kept.judge(*read.named(dispute.graph)).verdict is Verdict.RIGHT
