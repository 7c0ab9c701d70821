"""A contract that leaves judge, on a node, ours and a real one: paid, disproved, silent, refunded."""

import pytest

from btcfi.disputes.leaves.graph import (
    build_payout,
    build_refund,
    build_silence,
    build_silent_end,
    read_claim,
    read_silence,
)
from btcfi.disputes.leaves.payoffs import knock_out_claim, mean_claim, median_claim, step_claim
from btcfi.units import Sats
from tests.support.disputing import with_child
from tests.support.leaving import RANGES, LeafDispute

pytestmark = pytest.mark.integration

SPOT = 60_500


def call(reads=None):
    return step_claim("capped_call", strike=60_000, steps=16, payout=lambda one: Sats(1_000_000 * one), reads=reads)


def refused(wallet, transaction):
    found = wallet.node.test_accept([transaction])[0]
    assert not found.allowed
    return found.reason


def ready(wallet, claim, **options):
    here = wallet.node.block_count()
    return LeafDispute(claim, silence=here + 4, refund=here + 20, blocks=3, fee=1_000, **options).opened(wallet)


def payout_of(dispute, number, **options):
    return build_payout(
        dispute.graph, number, secret=dispute.p["payout"], script=dispute.p_wallet.script, fee=Sats(400), **options
    )  # fmt: skip


CLAIMS = {
    "a call": (call(), [SPOT]),
    "a call, step by step": (call(0), [SPOT]),
    "a median": (median_claim(RANGES), [61_500, 64_000, 62_500]),
    "a knock-out": (knock_out_claim(RANGES, barrier=75_500, rebate=Sats(9_000)), [61_500, 75_500, 62_500]),
    "a mean of eight": (mean_claim(RANGES, 8), [61_500 + 100 * at for at in range(8)]),
}


@pytest.mark.parametrize("name", list(CLAIMS))
def test_a_right_claim_is_paid_and_a_wrong_one_is_disproved(wallet, name):
    claim, outcomes = CLAIMS[name]
    dispute = ready(wallet, claim)
    number = dispute.right(outcomes)
    made = dispute.claimed(number, outcomes, which=1)
    with_child(wallet, made, dispute.p_wallet)
    assert (made.outputs[0].value, made.outputs[0].script) == (claim.payouts[number], dispute.v_wallet.script)
    read = read_claim(dispute.graph, made)
    for place in range(len(claim.groups)):
        assert "script-verify-flag-failed" in refused(wallet, dispute.disproof(read, place))
    payout = payout_of(dispute, number)
    while wallet.confirmations(made.txid) < dispute.blocks:
        assert refused(wallet, payout) == "non-BIP68-final"
        wallet.mine()
    wallet.node.send(payout)
    wallet.mine()
    assert wallet.confirmations(payout.txid) == 1

    dispute = ready(wallet, claim)
    lie = dispute.claimed(0, outcomes, which=2)
    with_child(wallet, lie, dispute.p_wallet)
    read = read_claim(dispute.graph, lie)
    place = claim.first_wrong(read.said, read.number)
    disproof = dispute.disproof(read, place)
    with_child(wallet, disproof, dispute.v_wallet)
    assert disproof.outputs[0].script == dispute.v_wallet.script
    for _ in range(dispute.blocks):
        wallet.mine()
    assert refused(wallet, payout_of(dispute, 0)) in {"missing-inputs", "bad-txns-inputs-missingorspent"}


def test_a_wrong_word_between_groups_is_disproved_by_its_own_group(wallet):
    dispute = ready(wallet, call(0))
    honest = dispute.claim.signed_values([SPOT])
    name = dispute.claim.words[-1]
    lie = dispute.claimed(dispute.right([SPOT]), [SPOT], said={name: honest[name] ^ 64})
    with_child(wallet, lie, dispute.p_wallet)
    read = read_claim(dispute.graph, lie)
    place = dispute.claim.first_wrong(read.said, read.number)
    assert dispute.claim.groups[place].output == name
    with_child(wallet, dispute.disproof(read, place), dispute.v_wallet)


def silent(dispute, which=0):
    return build_silence(
        dispute.graph, dispute.of_silence, which=which, oracles=dispute.shown([SPOT], which), secret=dispute.v["claim"]
    )  # fmt: skip


def test_where_nobody_claims_the_verifier_shows_the_price_and_takes_all_but_not_too_early(wallet):
    dispute = ready(wallet, call())
    silence = silent(dispute)
    while wallet.node.block_count() < dispute.silence_height:
        assert refused(wallet, silence) == "non-final"
        wallet.mine()
    with_child(wallet, silence, dispute.v_wallet)
    end = build_silent_end(
        dispute.graph, secret=dispute.v["silence"], script=dispute.v_wallet.script, fee=Sats(400)
    )  # fmt: skip
    while wallet.confirmations(silence.txid) < dispute.blocks:
        assert refused(wallet, end) == "non-BIP68-final"
        wallet.mine()
    wallet.node.send(end)
    wallet.mine()
    assert wallet.confirmations(end.txid) == 1


def test_a_price_that_was_withheld_is_read_off_the_claim_of_silence_and_claimed_with(wallet):
    dispute = ready(wallet, call())
    while wallet.node.block_count() < dispute.silence_height:
        wallet.mine()
    silence = silent(dispute, which=2)
    with_child(wallet, silence, dispute.v_wallet)
    which, shown = read_silence(dispute.graph, silence)
    assert [list(row) for row in shown] == dispute.shown([SPOT], which)
    number = dispute.right([SPOT])
    claim = dispute.claimed(number, [SPOT], which=which, silent=True)
    with_child(wallet, claim, dispute.p_wallet)
    assert read_claim(dispute.graph, claim).silent
    for _ in range(dispute.blocks):
        wallet.mine()
    wallet.node.send(payout_of(dispute, number, silent=True))


def test_where_no_oracle_speaks_the_claimant_takes_all_back_late(wallet):
    dispute = ready(wallet, call())
    refund = build_refund(
        dispute.graph, secret=dispute.p["payout"], script=dispute.p_wallet.script, fee=Sats(400)
    )  # fmt: skip
    assert refused(wallet, refund) == "non-final"
    while wallet.node.block_count() < dispute.refund_height:
        wallet.mine()
    wallet.node.send(refund)
    wallet.mine()
    assert wallet.confirmations(refund.txid) == 1
