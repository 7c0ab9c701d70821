"""One contract of a payoff: what both sides lock, against the findings' table, and the ranges that pay it."""

import pytest

from btcfi.contracts.buckets import SingleOutcomeError, ToleranceRule, TooManyBucketsError, bucket_of, payout_buckets
from btcfi.errors import InvalidInputError
from btcfi.payoffs.book import contract_of
from btcfi.payoffs.curve import Curve, Leg, LegKind, curve_of
from btcfi.payoffs.netted import ANY_EVENT, netted
from btcfi.payoffs.shapes import SHAPES, Ask
from btcfi.units import MAX_MONEY_SATS, BasisPoints, CentsPerBtc, Sats
from tests.support.net_books import condors, event_of

FLOOR = CentsPerBtc(5_000_000)
RULE = ToleranceRule(tolerance=BasisPoints(200))
C, P = LegKind.CALL, LegKind.PUT


def book(*legs):
    """Legs of one bitcoin: (sign, kind, strike in thousands of dollars)."""
    return [Leg(kind=kind, strike=CentsPerBtc(100_000 * strike), quantity=100 * sign) for sign, kind, strike in legs]


IRON = [(-1, P, 95), (1, P, 90), (-1, C, 105), (1, C, 110)]
CALLS = [(1, C, 90), (-1, C, 95), (-1, C, 105), (1, C, 110)]
SPREAD = [(1, C, 100), (-1, C, 115)]
FOUND = {
    "call spread": ([(1, C, 100), (-1, C, 110)], 0.091, 7.6),
    "straddle": ([(1, C, 100), (1, P, 100)], 1.000, 62),
    "risk reversal": ([(1, C, 105), (-1, P, 95)], 1.50, 100),
    "iron condor, sold": (IRON, 0.100, 3.5),
    "10 legs of iron condors": (
        [*IRON, (-1, P, 98), (1, P, 85), (-1, C, 102), (1, C, 120), *SPREAD], 0.380, 5.5
    ),
    "10 legs of call condors": (
        [*CALLS, (1, C, 80), (-1, C, 90), (-1, C, 110), (1, C, 120), *SPREAD], 0.190, 3.1
    ),
}  # fmt: skip
"""Bitcoin locked at a floor of $50,000, and per cent of what the legs lock one by one: findings/payoffs, section 1."""


@pytest.mark.parametrize("name", FOUND)
def test_a_book_locks_what_was_found_and_the_share_of_its_legs_alone_that_was_found(name):
    legs, bitcoin, share = FOUND[name]
    whole = netted(curve_of(book(*legs), floor=FLOOR), ANY_EVENT)
    alone = sum(netted(curve_of([leg], floor=FLOOR), ANY_EVENT).collateral for leg in book(*legs))
    assert whole.collateral / 10**8 == pytest.approx(bitcoin, abs=0.005)
    assert 100 * whole.collateral / alone == pytest.approx(share, abs=0.6)


def test_what_neither_gains_is_paid_as_what_each_put_in_and_mixes_with_nothing():
    condor = SHAPES["iron_condor"].payoff(
        Ask(strikes=tuple(map(CentsPerBtc, (9_000_000, 9_500_000, 10_500_000, 11_000_000))), floor=FLOOR)
    )
    contract = netted(condor, ANY_EVENT)
    buckets = contract.buckets(RULE, premium=Sats(1_000_000))
    for dollars in (94_999, 95_000, 99_999, 105_000, 105_001):
        paid = buckets[bucket_of(buckets, dollars, 18)].payout
        assert (paid == contract.holder) == (95_000 <= dollars <= 105_000), dollars


def test_a_tolerance_is_of_what_is_gained_and_not_of_what_was_put_in():
    # a risk reversal puts nine tenths of a bitcoin in: 2 % of that would be $1,800 at the strike
    reversal = SHAPES["risk_reversal"].payoff(
        Ask(strikes=(CentsPerBtc(9_500_000), CentsPerBtc(10_500_000)), floor=FLOOR)
    )
    contract, premium = netted(reversal, ANY_EVENT), Sats(2_000_000)
    buckets = contract.buckets(RULE, premium=premium)
    for dollars in range(80_000, 130_000, 97):
        net = reversal.net_at(CentsPerBtc(100 * dollars))
        paid = buckets[bucket_of(buckets, dollars, 18)].payout - contract.holder
        assert abs(paid - net) * 10_000 <= 200 * max(premium, abs(net)), dollars
    coarse = payout_buckets(
        ANY_EVENT, contract.payouts, rule=RULE, premium=premium, collateral=contract.collateral,
        breakpoints=contract.turns,
    )  # fmt: skip
    off = max(
        abs(
            coarse[bucket_of(coarse, dollars, 18)].payout
            - contract.holder
            - reversal.net_at(CentsPerBtc(100 * dollars))
        )
        for dollars in range(95_000, 106_000, 97)
    )
    assert off > 200 * premium // 10_000


def test_what_a_party_put_in_is_at_most_the_collateral():
    with pytest.raises(InvalidInputError) as refused:
        payout_buckets(
            ANY_EVENT,
            lambda prices: [Sats(0)] * len(prices),
            rule=RULE,
            premium=Sats(1),
            collateral=Sats(10),
            own=Sats(11),
        )
    assert refused.value.field == "own"


def test_a_payoff_of_one_amount_needs_no_oracle_and_one_of_too_many_ranges_no_contract():
    flat = curve_of(book((1, C, 100), (-1, C, 100)))
    with pytest.raises(SingleOutcomeError):
        netted(flat, ANY_EVENT).buckets(RULE, premium=Sats(1))
    straddle = netted(curve_of(book((1, C, 100), (1, P, 100)), floor=FLOOR), ANY_EVENT)
    with pytest.raises(TooManyBucketsError):
        straddle.buckets(RULE, premium=Sats(1_000), limit=100)


def test_two_worst_cases_that_are_more_than_all_bitcoin_together_are_refused():
    forward = curve_of([Leg(kind=LegKind.FORWARD, strike=CentsPerBtc(10_000_000), quantity=1_500_000_000)], floor=FLOOR)
    with pytest.raises(InvalidInputError) as refused:
        netted(forward, ANY_EVENT)
    assert refused.value.field == "quantity"


def test_a_curve_of_somebody_s_own_class_is_run_at_every_price_like_any_stranger_s():
    class Mine(Curve):
        def net(self, prices):
            return [one + (price == 12_345_600) * 10**9 for one, price in zip(super().net(prices), prices, strict=True)]

    honest = curve_of(book((1, C, 100)))
    with pytest.raises(InvalidInputError) as refused:
        netted(Mine(honest.pieces), ANY_EVENT)
    assert refused.value.field == "turning_points"


@pytest.mark.parametrize("said", [1_000_000, 10**8, MAX_MONEY_SATS])
def test_a_premium_that_nobody_pays_makes_no_range_that_pays_half_of_everything(said):
    """Whoever proposes a book names the premiums of its legs; a tolerance is of them, and they cost it nothing."""
    contract = contract_of(book := condors(10), event_of(book))
    buckets = contract.buckets(RULE, premium=Sats(said))
    below, above = contract.untouched.most_off(RULE, buckets, premium=Sats(said))
    assert 100 * max(below, above) <= contract.collateral + 100  # half of the tolerance, of the collateral
    for one in buckets:
        shift = contract.event.digits - one.length
        ends = (one.prefix << shift, ((one.prefix + 1) << shift) - 1)
        for exact in contract.untouched.payouts([contract.event.price_of(end) for end in ends]):
            assert -below <= one.payout - exact <= above
            assert contract.payout_at(ends[0], RULE, premium=Sats(said)) == one.payout
