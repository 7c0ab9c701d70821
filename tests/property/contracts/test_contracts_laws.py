"""Laws of the contract's money and of its buckets."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi import secp256k1
from btcfi.bitcoin import adaptor, taproot
from btcfi.contracts import leaves
from btcfi.contracts.buckets import (
    Rounding,
    SingleOutcomeError,
    StepRule,
    ToleranceRule,
    TooManyBucketsError,
    bucket_of,
    payout_buckets,
    round_payout,
)
from btcfi.contracts.execution import ANCHOR, CET_PATH
from btcfi.contracts.messages import CET_FEE
from btcfi.contracts.option import build_refund, build_release, split
from btcfi.contracts.settle import build_child, complete_cet
from btcfi.errors import InvalidInputError
from btcfi.units import BasisPoints, CentsPerBtc, Hash32, Sats
from tests.support.contracts import (
    COLLATERAL,
    PROOF_ROOT,
    SELLER,
    Scene,
    call_payouts,
    coin,
    event,
    put_payouts,
)

DUST = 330
TOLERANCE = 1_000
SATOSHIS = StepRule(step=Sats(1), rounding=Rounding.DOWN)


def test_ten_thousand_random_contracts_conserve_the_collateral_and_leave_no_dust():
    rng = random.Random(20261121)
    for _ in range(10_000):
        collateral = rng.choice([rng.randint(1_000, 50_000), rng.randint(50_000, 10**9), rng.randint(10**9, 10**13)])
        payout = rng.choice([0, collateral, rng.randint(0, collateral), rng.randint(0, min(collateral, 700))])
        fee = rng.choice([240, rng.randint(0, 660)])
        nearest = rng.random() < 0.5
        buyer, seller = split(Sats(collateral), Sats(payout), Sats(fee), nearest=nearest)
        assert buyer + seller + fee == collateral
        assert buyer == 0 or buyer >= DUST
        assert seller == 0 or seller >= DUST
        # nobody is off by more than dust, and the fee is the seller's while it has something
        off = abs(buyer - min(payout, collateral - fee))
        assert off < DUST
        assert off <= DUST // 2 or not nearest or collateral - fee < 2 * DUST


@given(
    digits=st.integers(3, 11),
    strike_dollars=st.integers(1, 2000),
    step=st.sampled_from([1, 7, 1_000, 10_000, 333_333]),
    rounding=st.sampled_from(list(Rounding)),
    payoff=st.sampled_from([call_payouts, put_payouts]),
)
@settings(max_examples=60, deadline=None)
def test_every_outcome_lies_in_one_bucket_that_pays_its_own_rounded_payout(
    digits, strike_dollars, step, rounding, payoff
):
    what, strike = event(digits), CentsPerBtc(strike_dollars * 100)

    def payouts(prices):
        return payoff(prices, strike=strike)

    try:
        buckets = payout_buckets(
            what,
            payouts,
            rule=StepRule(step=Sats(step), rounding=rounding),
            premium=Sats(0),
            collateral=COLLATERAL,
            breakpoints=[strike],
        )
    except SingleOutcomeError:
        exact = {
            round_payout(p, step=Sats(step), rounding=rounding, collateral=COLLATERAL) for p in _all(what, payouts)
        }
        assert len(exact) == 1
        return
    covered = 0
    for outcome, exact in enumerate(_all(what, payouts)):
        bucket = buckets[bucket_of(buckets, outcome, digits)]
        assert bucket.prefix == outcome >> (digits - bucket.length)
        assert bucket.payout == round_payout(exact, step=Sats(step), rounding=rounding, collateral=COLLATERAL)
        assert abs(bucket.payout - exact) < step
        assert (bucket.payout <= exact) if rounding is Rounding.DOWN else (bucket.payout >= exact)
        covered += 1
    assert covered == sum(1 << (digits - bucket.length) for bucket in buckets)
    # compressed: no two neighbours that could be one
    for first, second in pairwise(buckets):
        together = first.length == second.length and first.prefix ^ 1 == second.prefix and not first.prefix & 1
        assert not (together and first.payout == second.payout and first.length > 1)


def _all(what, payouts):
    return payouts([what.price_of(outcome) for outcome in range(1 << what.digits)])


def test_a_breakpoint_between_equal_ends_is_still_found():
    # 0 everywhere but on one dollar: both ends of every range around it pay 0
    what = event(8)

    def spike(prices):
        return [Sats(1_000_000 if price == 13_300 else 0) for price in prices]

    buckets = payout_buckets(
        what, spike, rule=SATOSHIS, premium=Sats(0), collateral=COLLATERAL, breakpoints=[CentsPerBtc(13_300)]
    )
    assert [b.payout for b in buckets if b.payout] == [1_000_000]
    assert buckets[bucket_of(buckets, 133, 8)].payout == 1_000_000


def test_a_condition_that_came_true_pays_nothing_at_every_price():
    what = event(8, condition="agreed price <= 9000 cents")
    buckets = payout_buckets(
        what, lambda prices: call_payouts(prices, strike=CentsPerBtc(10_000)), collateral=COLLATERAL,
        rule=ToleranceRule(tolerance=BasisPoints(200)), premium=Sats(50_000), breakpoints=[CentsPerBtc(10_000)],
    )  # fmt: skip
    for price in (1, 10_000, 25_500):
        touched = what.outcome(CentsPerBtc(price), condition=True)
        assert buckets[bucket_of(buckets, touched, what.signed_digits)].payout == 0
    alive = what.outcome(CentsPerBtc(25_500))
    assert buckets[bucket_of(buckets, alive, what.signed_digits)].payout > 0


def test_a_payout_that_never_changes_or_needs_too_many_buckets_is_refused():
    arguments = {"collateral": COLLATERAL, "premium": Sats(0)}
    with pytest.raises(SingleOutcomeError):
        payout_buckets(event(8), lambda prices: [Sats(0)] * len(prices), rule=SATOSHIS, **arguments)
    with pytest.raises(TooManyBucketsError):
        payout_buckets(event(12), put_payouts_of_100, rule=SATOSHIS, limit=100, **arguments)
    with pytest.raises(InvalidInputError):
        payout_buckets(event(8), lambda prices: [Sats(COLLATERAL + 1)] * len(prices), rule=SATOSHIS, **arguments)


def put_payouts_of_100(prices):
    return put_payouts(prices, strike=CentsPerBtc(400_000))


@pytest.fixture(scope="module")
def ready():
    scene = Scene(tolerance=TOLERANCE)
    agreement, accepted, signed, _ = scene.run()
    return scene, agreement.plan, scene.presignatures(accepted, signed)


@given(price=st.integers(1, 30_000_000))
@settings(max_examples=60, deadline=None)
def test_an_attestation_finishes_the_cet_of_its_price_within_the_tolerance_of_the_guests_payout(ready, price):
    scene, plan, signatures = ready
    scene.ledger.rows.clear()  # another world for each example: an oracle would attest one price only
    cet = complete_cet(plan, **signatures, attestations=scene.attestations(price))
    (exact,) = call_payouts([scene.event.price_of(scene.event.outcome(CentsPerBtc(price)))])
    assert cet.payout + cet.seller_return + ANCHOR.value + CET_FEE == COLLATERAL
    assert sum(output.value for output in cet.transaction.outputs) == COLLATERAL - CET_FEE
    assert abs(cet.payout - exact) * 20_000 <= TOLERANCE * max(exact, 50_000) + 20_000 * DUST
    assert all(output.value >= 240 for output in cet.transaction.outputs)


@given(price=st.integers(1, 30_000_000), other=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_an_attestation_is_useless_for_every_other_bucket(ready, price, other):
    scene, plan, signatures = ready
    scene.ledger.rows.clear()
    (attestation,) = scene.attestations(price)
    right = bucket_of(plan.buckets, attestation.outcome, scene.event.signed_digits)
    wrong = other % len(plan.buckets)
    if wrong == right:
        wrong = (wrong + 1) % len(plan.buckets)
    # every sum of first digits that the oracle has published, against the wrong bucket's pre-signature
    one = signatures["buyer"][wrong * 65 : wrong * 65 + 65]
    for length in range(1, scene.event.signed_digits + 1):
        finished = adaptor.adapt(one, attestation.prefix_secret(length))
        assert not secp256k1.schnorr_verify(plan.contract.buyer_key, plan.sighash(wrong), finished)


def test_the_prepared_signature_hash_equals_the_general_one_for_every_cet(ready):
    _, plan, _ = ready
    leaf = taproot.leaf_hash(leaves.leaf(CET_PATH, plan.contract.keys).script)
    spent = [plan.contract.funding_txout()]
    for bucket in range(len(plan.buckets)):
        transaction = plan.transaction(bucket)
        assert plan.sighash(bucket) == taproot.sighash(transaction, 0, spent, leaf=leaf)
        assert sum(output.value for output in transaction.outputs) == COLLATERAL - CET_FEE
        assert transaction.outputs[-1] == ANCHOR
        assert (transaction.version, transaction.lock_time) == (3, plan.contract.expiry_height)


@given(rate=st.integers(1_000, 50_000), value=st.integers(40_000, 10**8))
@settings(max_examples=30, deadline=None)
def test_the_child_pays_the_asked_rate_for_both_and_conserves_its_inputs(ready, rate, value):
    scene, plan, signatures = ready
    scene.ledger.rows.clear()
    cet = complete_cet(plan, **signatures, attestations=scene.attestations(12_000_000))
    child = build_child(
        cet, coin(9, value, SELLER.script), change_script=SELLER.script, rate=rate, proof_root=PROOF_ROOT
    )
    signed = child.transaction.with_witness(1, [SELLER.sign_input(child.transaction, 1, child.spent)])
    assert 240 + value == child.fee + sum(output.value for output in signed.outputs)
    both = child.fee + cet.fee
    assert both * 1000 >= rate * (signed.vsize + cet.transaction.vsize)
    assert child.fee * 1000 >= rate * signed.vsize  # alone it is no worse than asked, so that a package never is
    if cet.fee * 1000 <= rate * cet.transaction.vsize:
        assert both * 1000 < (rate + 20) * (signed.vsize + cet.transaction.vsize) + 2000


@given(payout=st.integers(0, COLLATERAL), rate=st.integers(1_000, 100_000))
@settings(max_examples=50, deadline=None)
def test_a_release_and_a_refund_conserve_the_collateral(ready, payout, rate):
    _, plan, _ = ready
    contract = replace(plan.contract, tree="proof_required", release_hash=Hash32(bytes(32)))
    settled = build_release(contract, plan.funding, payout=Sats(payout), proof_root=Hash32(bytes(32)), rate=rate)
    refund = build_refund(plan.contract, plan.funding, rate=rate)
    for one in (settled, refund):
        assert one.payout + one.seller_return + one.fee == COLLATERAL
        assert sum(output.value for output in one.transaction.outputs) == COLLATERAL - one.fee
