"""A claim's circuit says wrong exactly where the range is another one: at every price where there is one price."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.contracts.buckets import Bucket, ToleranceRule, payout_buckets
from btcfi.disputes.claims import RANGE, Claim, Ranges, Shape, knock_out_claim, mean_claim, median_claim, price_claim
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import OracleEvent
from btcfi.units import BasisPoints, Hash32, Sats, Slot

BITS = 18
TOP = (1 << BITS) - 1


def ranges_of(count: int, seed: int = 1, bits: int = BITS) -> Ranges:
    found = np.random.default_rng(seed).choice(np.arange(1, 1 << bits), count - 1, replace=False)
    return Ranges(starts=(0, *sorted(found.tolist())), payouts=tuple(Sats(1_000 * one) for one in range(count)))


def said(claim: Claim, outcomes, number):
    """Return the digits' values of cases."""
    found, low = {}, 0
    for digit in claim.circuit.digits:
        if digit.event is None:
            found[digit.name] = (number >> low) & ((1 << digit.width) - 1)
            low += digit.width
        else:
            found[digit.name] = (outcomes[digit.event] >> digit.low_bit) & ((1 << digit.width) - 1)
    return found


def check(claim: Claim, outcomes, seed: int = 3):
    """The right range passes everywhere, and no other one does."""
    right, count = claim.range_of(outcomes), len(claim.payouts)
    assert not claim.circuit.are_wrong(said(claim, outcomes, right)).any()
    for step in {1, count - 1, *np.random.default_rng(seed).integers(1, count, 6).tolist()}:
        assert claim.circuit.are_wrong(said(claim, outcomes, (right + step) % count)).all()


@pytest.mark.parametrize("count", [2, 17, 257, 300])
def test_every_price_has_one_right_range(count):
    check(price_claim(ranges_of(count)), np.arange(1 << BITS)[None])


def test_every_range_is_wrong_but_one_at_every_price():
    claim = price_claim(ranges_of(17, bits=10), Shape(price=(4, 3, 3)))
    prices, numbers = (one.ravel() for one in np.meshgrid(np.arange(1 << 10), np.arange(17)))
    wrong = claim.circuit.are_wrong(said(claim, prices[None], numbers))
    assert (wrong == (numbers != claim.range_of(prices[None]))).all()


def near(events: int, seed: int, count: int = 4_000):
    """Outcomes of which half lie close to each other, where ties and half dollars are."""
    random = np.random.default_rng(seed)
    found = random.integers(0, 1 << BITS, (events, count))
    half = count // 2
    found[:, :half] = np.clip(found[:1, :half] + random.integers(-2, 3, (events, half)), 0, TOP)
    found[:, 0], found[:, 1] = 0, TOP
    return found


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30), st.integers(2, 300), st.integers(0, 1 << 30))
def test_a_mean_is_claimed_without_a_division(events, count, seed):
    check(mean_claim(ranges_of(count, seed), events), near(events, seed))


def test_a_mean_of_half_a_dollar_counts_up():
    ranges = Ranges(starts=(0, 101), payouts=(Sats(0), Sats(1)))
    claim = mean_claim(ranges, 2)
    below, above = np.array([[100], [100]]), np.array([[100], [101]])
    assert claim.range_of(below) == 0
    assert claim.range_of(above) == 1
    check(claim, np.hstack([below, above]))


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([1, 3, 5, 7]), st.integers(2, 100), st.integers(0, 1 << 30))
def test_a_median_is_the_middle_one(events, count, seed):
    check(median_claim(ranges_of(count, seed), events), near(events, seed))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30), st.booleans(), st.integers(1, TOP), st.integers(0, 1 << 30))
def test_a_knock_out_is_the_last_range_once_any_price_touched(events, up, barrier, seed):
    outcomes = near(events, seed)
    outcomes[:, 2] = barrier
    check(knock_out_claim(ranges_of(33, seed), events, barrier=barrier, up=up, rebate=Sats(0)), outcomes)


def test_the_ranges_of_a_contract_are_its_buckets_with_neighbours_made_one():
    none = Hash32(bytes(32))
    event = OracleEvent(feed="BTC/USD", expiry=Slot(1_800_000_000), program_hash=none, preset_hash=none, digits=BITS)
    strike, top = 6_000_000, Sats(50_000_000)

    def payouts(prices):
        return [Sats(min(top, max(0, one - strike) * 100_000_000 // one)) for one in prices]

    rule = ToleranceRule(tolerance=BasisPoints(200))
    buckets = payout_buckets(
        event, payouts, rule=rule, premium=Sats(2_000_000), collateral=top, breakpoints=[strike, 2 * strike]
    )  # fmt: skip
    ranges = Ranges.of(buckets, digits=BITS)
    assert len(ranges.starts) < len(buckets)
    for one in buckets:
        low, high = one.prefix << (BITS - one.length), ((one.prefix + 1) << (BITS - one.length)) - 1
        assert {ranges.payouts[at] for at in ranges.at(np.array([low, high]))} == {one.payout}
    check(price_claim(ranges), np.arange(1 << BITS)[None])


def test_ranges_that_leave_an_outcome_out_are_refused():
    one = Bucket(prefix=0, length=1, payout=Sats(0))
    other = Bucket(prefix=1, length=1, payout=Sats(1))
    assert Ranges.of([one, other], digits=4).starts == (0, 8)
    for wrong in ([one], [other], [other, one], [one, one], [one, other, other]):
        with pytest.raises(InvalidInputError, match="buckets"):
            Ranges.of(wrong, digits=4)
    for starts in ((), (1,), (0, 0), (0, 5, 4)):
        with pytest.raises(InvalidInputError, match="ranges"):
            Ranges(starts=starts, payouts=tuple(Sats(0) for _ in starts))


def test_one_range_alone_makes_no_claim():
    with pytest.raises(InvalidInputError, match="at least two"):
        price_claim(ranges_of(1))
    with pytest.raises(InvalidInputError, match="odd"):
        median_claim(ranges_of(3), 2)
    with pytest.raises(InvalidInputError, match="barrier"):
        knock_out_claim(ranges_of(3), 2, barrier=1 << BITS, up=True, rebate=Sats(0))


@pytest.mark.parametrize("count", [2, 17, 257, 300])
def test_one_digit_says_the_range_and_nothing_that_is_none(count):
    claim = price_claim(ranges_of(count))
    digits = {digit.name: digit.values for digit in claim.circuit.digits if digit.name.startswith(RANGE)}
    assert digits == {"range.0": count}
