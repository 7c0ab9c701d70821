"""A claim's circuit says wrong exactly where the range is another one: at every price where there is one price."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.contracts.buckets import Bucket, ToleranceRule, payout_buckets
from btcfi.disputes.claims import (
    RANGE,
    Claim,
    End,
    Ranges,
    Shape,
    average_strike_claim,
    claim_of,
    knock_out_claim,
    mean_claim,
    median_claim,
    price_claim,
)
from btcfi.disputes.payoffs import expression as ex
from btcfi.disputes.payoffs import library as lib
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


# ---- claims of what is paid, and how finely


SMALL = 5
RULE = ToleranceRule(tolerance=BasisPoints(200))
PREMIUM, COLLATERAL = Sats(400_000), Sats(9_000_000)
STRIKE, QUANTITY = 6_000_000, 37
MINUTES = lib.prices(30)
MEAN, LAST = lib.cents(lib.mean(MINUTES)), lib.cents(MINUTES[-1])


def paid(gain, spot):
    return lib.in_sats(gain, spot, QUANTITY, COLLATERAL)


COMPUTED = {
    "call": paid(lib.call_gain(lib.cents(ex.price(0)), STRIKE), lib.cents(ex.price(0))),
    "put": paid(lib.put_gain(lib.cents(ex.price(0)), STRIKE), lib.cents(ex.price(0))),
    "call on the mean": paid(lib.call_gain(MEAN, STRIKE), MEAN),
    "call struck at the mean": paid(lib.call_gain(LAST, MEAN), LAST),
    "put struck at the mean": paid(lib.put_gain(LAST, MEAN), LAST),
}
"""Claims of the satoshis themselves."""


def boundaries(claim: Claim, outcomes):
    """Outcomes at which the range changes, and the ones before them, when one price after another moves by a dollar."""
    found = [outcomes]
    for step in (-1, 1):
        moved = outcomes.copy()
        moved[-1] = np.clip(moved[-1] + step, 0, TOP)
        found.append(moved[:, claim.range_of(moved) != claim.range_of(outcomes)])
    return np.hstack(found)


@pytest.mark.parametrize("name", list(COMPUTED))
def test_what_is_paid_is_claimed_in_ranges_of_satoshis_and_no_other_range_passes(name):
    value, ranges = COMPUTED[name], Ranges.of_values(RULE, premium=PREMIUM, collateral=COLLATERAL)
    claim = claim_of(name, value, ranges)
    outcomes = near(claim.events, seed=len(name), count=3_000)
    outcomes[:, 1_500:] = np.random.default_rng(5).integers(50_000, 70_000, (claim.events, 1_500))
    check(claim, boundaries(claim, outcomes))
    assert len(set(claim.range_of(outcomes).tolist())) > 20
    exact = ex.values_of(value, outcomes)
    off = np.abs(np.array(claim.payouts)[claim.range_of(outcomes)] - exact)
    assert (10_000 * 2 * off <= 200 * np.maximum(PREMIUM, exact) + 20_000).all()
    assert not off[(exact == 0) | (exact == COLLATERAL)].any()


@pytest.mark.parametrize("name", ["call", "put"])
def test_at_every_price_the_claim_of_satoshis_and_the_claim_of_the_price_pay_alike(name):
    """Two circuits of one payoff: one computes it, the other looks the price up."""
    prices = np.arange(1 << BITS)[None]
    exact = ex.values_of(COMPUTED[name], prices)
    computed = claim_of(name, COMPUTED[name], Ranges.of_values(RULE, premium=PREMIUM, collateral=COLLATERAL))
    looked_up = price_claim(Ranges.within(exact.tolist(), RULE, premium=PREMIUM, collateral=COLLATERAL))
    for claim in (computed, looked_up):
        right = claim.range_of(prices)
        assert not claim.circuit.are_wrong(said(claim, prices, right)).any()
        assert claim.circuit.are_wrong(said(claim, prices, (right + 1) % len(claim.payouts))).all()
        off = np.abs(np.array(claim.payouts)[right] - exact)
        assert (10_000 * 2 * off <= 200 * np.maximum(PREMIUM, exact) + 20_000).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "scale", "divide", "least", "most", "above"]), st.integers(1, 40)), max_size=6
    ),
    st.sets(st.integers(1, 400), min_size=1, max_size=12),
    st.booleans(),
)
def test_what_is_taken_off_the_outside_of_a_value_changes_no_verdict(steps, starts, flip):
    shape = Shape(price=(SMALL,))
    value = ex.price(0, SMALL) if not flip else ex.most(20 - ex.price(0, SMALL), -3) + 3
    for word, number in steps:
        value = {
            "add": lambda one, n: one + n - 1, "scale": lambda one, n: one * n, "divide": lambda one, n: one // n,
            "least": ex.least, "most": ex.most, "above": ex.above,
        }[word](value, number)  # fmt: skip
    kept = [one for one in sorted(starts) if one <= value.high]
    if not kept or value.high >= 1 << 40:
        return
    claim = claim_of("tower", value, Ranges(starts=(0, *kept), payouts=tuple(map(Sats, range(len(kept) + 1)))), shape)
    prices, numbers = (one.ravel() for one in np.meshgrid(np.arange(1 << SMALL), np.arange(len(kept) + 1)))
    wrong = claim.circuit.are_wrong(said(claim, prices[None], numbers))
    assert (wrong == (numbers != np.searchsorted([0, *kept], ex.values_of(value, prices[None]), "right") - 1)).all()


def test_what_only_moves_where_a_value_changes_range_costs_no_gate():
    ranges = ranges_of(17)
    sums = tuple(max(0, (2 * start * 30 - 29) // 2) for start in ranges.starts)
    plain = claim_of("sum", ex.sum_of(MINUTES), Ranges(starts=sums, payouts=ranges.payouts))
    assert mean_claim(ranges, 30).circuit.id == plain.circuit.id
    assert plain.circuit.ands < 30 * 24


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 30), st.booleans(), st.integers(2, 100), st.integers(0, 1 << 30))
def test_an_average_strike_is_how_far_the_last_minute_is_from_the_mean(events, call, count, seed):
    outcomes = near(events, seed)
    claim = average_strike_claim(ranges_of(count, seed, bits=12), events, call=call)
    mean = outcomes.sum(axis=0) / events
    gain = np.floor(np.maximum(outcomes[-1] - mean if call else mean - outcomes[-1], 0) + 1e-9).astype(int)
    assert (claim.range_of(outcomes) == ranges_of(count, seed, bits=12).at(gain)).all()
    check(claim, outcomes)


def test_no_claim_of_thirty_minutes_divides():
    dividing = claim_of("divided", ex.most(LAST - lib.cents(lib.mean(MINUTES)), 0), ranges_of(17))
    claims = [mean_claim(ranges_of(17), 30), average_strike_claim(ranges_of(17), 30, call=True)]
    assert max(one.circuit.ands for one in claims) < 30 * 25 < dividing.circuit.ands


def test_a_knock_out_of_the_mean_ends_when_any_minute_touched():
    end = End(when=lib.touched(MINUTES, 75_000, up=True), rebate=Sats(5))
    claim = claim_of("out", lib.mean(MINUTES), ranges_of(33), end=end)
    outcomes = near(30, seed=4)
    outcomes[:, :500] = np.random.default_rng(6).integers(74_950, 75_002, (30, 500))
    assert 0 < (claim.range_of(outcomes) == 33).sum() < outcomes.shape[1]
    check(claim, outcomes)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from([100, 200, 1_000, 10_000]), st.booleans())
def test_ranges_are_the_fewest_that_the_rule_allows_and_each_pays_by_it(seed, tolerance, own):
    """Held against the definition, on a payoff that goes up and down; and never more than a contract's buckets."""
    dice = np.random.default_rng(seed)
    exact = np.clip(dice.integers(-400, 401, 120).cumsum() + 1_500, 0, 3_000).tolist()
    rule, held = ToleranceRule(tolerance=BasisPoints(tolerance)), Sats(1_500 if own else 0)
    found = Ranges.within(exact, rule, premium=Sats(700), collateral=Sats(3_000), own=held)

    def allowed(some):
        return rule.paid(min(some), max(some), premium=Sats(700), collateral=Sats(3_000), own=held)

    ends = [*found.starts[1:], len(exact)]
    for start, end, payout in zip(found.starts, ends, found.payouts, strict=True):
        assert payout == allowed(exact[start:end])
    fewest = [0]
    for end in range(1, len(exact) + 1):
        fewest.append(1 + min(fewest[start] for start in range(end) if allowed(exact[start:end]) is not None))
    assert len(found.starts) == fewest[-1]


def test_ranges_cut_anywhere_are_fewer_than_a_contract_s_buckets_and_rise_with_the_payoff():
    none = Hash32(bytes(32))
    event = OracleEvent(feed="BTC/USD", expiry=Slot(1_800_000_000), program_hash=none, preset_hash=none, digits=BITS)

    def payouts(prices):
        return [Sats(min(COLLATERAL, max(0, one - STRIKE) * QUANTITY * 1_000_000 // one)) for one in prices]

    terms = {"premium": PREMIUM, "collateral": COLLATERAL}
    buckets = payout_buckets(event, payouts, rule=RULE, breakpoints=[STRIKE, 8_000_000], **terms)
    whole = payouts([event.price_of(outcome) for outcome in range(1 << BITS)])
    assert whole == ex.values_of(COMPUTED["call"], np.arange(1 << BITS)[None]).tolist()
    ranges = Ranges.within(whole, RULE, **terms)
    assert 50 < len(ranges.starts) < len(Ranges.of(buckets, digits=BITS).starts)
    assert list(ranges.payouts) == sorted(set(ranges.payouts))
    fine = Ranges.within(whole, ToleranceRule(tolerance=BasisPoints(20)), **terms)
    assert len(fine.starts) > 257
    check(price_claim(fine), np.arange(0, 1 << BITS, 7)[None])


def test_more_ranges_than_a_claim_may_have_and_a_payout_above_the_collateral_are_refused():
    rule = ToleranceRule(tolerance=BasisPoints(1))
    steps = [Sats(1_000 * one) for one in range(5_000)]
    with pytest.raises(InvalidInputError, match="ranges"):
        Ranges.within(steps, rule, premium=Sats(1), collateral=Sats(10**8))
    with pytest.raises(InvalidInputError, match="payout"):
        Ranges.within(steps, rule, premium=Sats(1), collateral=Sats(1_000))
    with pytest.raises(InvalidInputError, match="ranges"):
        claim_of("low", ex.price(0) - 5, ranges_of(3))
