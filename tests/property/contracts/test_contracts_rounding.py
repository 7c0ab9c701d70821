"""The rule of version 3 against every one of the 262,144 prices, and what it costs a buyer."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.contracts.buckets import (
    Rounding,
    SingleOutcomeError,
    StepRule,
    ToleranceRule,
    bucket_of,
    payout_at,
    payout_buckets,
)
from btcfi.contracts.payouts import price_input
from btcfi.errors import InvalidInputError
from btcfi.options.expiry import SettlementInput, SettlementOutput
from btcfi.options.payoff import settle_in_python
from btcfi.options.terms import OptionKind, OptionTerms
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Sats
from btcfi.vm.interpreter import run_many
from btcfi.vm.program import load_program
from tests.support.contracts import event
from tests.support.rounding import CENTS, HOURS, SIZES, TOP, Payoff, cost, table

STANDARD = ToleranceRule(tolerance=BasisPoints(200))
WHAT = event()


def spans(buckets):
    """The first and the last outcome of every bucket, as arrays."""
    sizes = np.array([1 << (18 - one.length) for one in buckets])
    first = np.array([one.prefix for one in buckets]) * sizes
    return first, first + sizes - 1


def check(buckets, every, *, premium, collateral, tolerance):
    """Hold the rule against what every price pays: what each range pays, that it is small enough, and no smaller."""
    first, last = spans(buckets)
    assert first[0] == 0
    assert last[-1] == TOP - 1
    assert (first[1:] == last[:-1] + 1).all()
    least, most = np.minimum.reduceat(every, first), np.maximum.reduceat(every, first)
    assert (np.array([one.payout for one in buckets]) == (least + most) // 2).all()

    def close(least, most):
        near = (most - least <= 1) | ((most - least) * 10_000 <= tolerance * np.maximum(premium, least))
        return (least == most) | (near & (least > 0) & (most < collateral))

    assert close(least, most).all()
    lengths = np.array([one.length for one in buckets])
    parent = np.where(lengths > 1, np.array([one.prefix >> 1 for one in buckets]), -1)
    for place in np.flatnonzero(parent >= 0):  # the partition is the coarsest: the range twice as large is too wide
        size = 2 * (last[place] - first[place] + 1)
        whole = every[parent[place] * size : (parent[place] + 1) * size]
        assert not close(whole.min(), whole.max())


DOLLAR = st.integers(2, 250_000).map(lambda dollars: dollars * 100)
LEVEL = DOLLAR | st.integers(100, 26_000_000)
"""Strikes and barriers in cents: on a dollar, and anywhere."""


@given(
    payoff=st.builds(
        lambda kind, strike, barrier, quantity: Payoff(
            kind=kind, strike=strike, quantity=quantity, barrier=None if barrier == strike else barrier
        ),
        st.sampled_from(OptionKind), LEVEL, st.none() | LEVEL, st.integers(1, 300),
    ),
    premium=st.sampled_from([0, 330, 2_537, 250_000, 30_000_000]), tolerance=st.sampled_from([100, 200, 1_000, 10_000]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_ends_and_turns_know_the_least_and_the_most_of_every_range(payoff, premium, tolerance):
    every = payoff.at(CENTS)
    try:
        buckets = payoff.buckets(ToleranceRule(tolerance=BasisPoints(tolerance)), premium)
    except SingleOutcomeError:
        assert every.min() == every.max()
        return
    check(buckets, every, premium=premium, collateral=payoff.collateral, tolerance=tolerance)


def guest_at_every_price(terms):
    """The payouts of the guest itself at all 262,144 prices: a run each."""
    base = np.frombuffer(price_input(terms, CentsPerBtc(1)).to_bytes(), dtype="<u4")
    changing = np.frombuffer(price_input(terms, CentsPerBtc(2)).to_bytes(), dtype="<u4") != base
    inputs = np.repeat(base[np.newaxis], TOP, axis=0)
    inputs[:, changing] = CENTS[:, np.newaxis]
    raw, size = inputs.astype("<u4").tobytes(), 4 * len(base)
    for price in (1, 100, 26_214_300):
        given = price_input(terms, CentsPerBtc(price)).to_bytes()
        assert raw[size * (price // 100) :][:size] == given
    outputs = run_many(load_program("option_settlement"), [raw[at : at + size] for at in range(0, len(raw), size)])
    return np.array([SettlementOutput.from_bytes(one).payout_sats for one in outputs])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "barrier"), [(OptionKind.CALL, 13_000_000), (OptionKind.PUT, None)], ids=["knock-out", "put"]
)
def test_the_ranges_of_the_guest_are_those_of_its_runs_at_all_prices(kind, barrier):
    payoff = Payoff(kind=kind, strike=9_937_741, quantity=7, barrier=barrier)
    terms = OptionTerms(
        kind=kind, strike=CentsPerBtc(payoff.strike), quantity=CentiBtc(7), barrier=barrier and CentsPerBtc(barrier),
        american=False, expiry=WHAT.expiry, premium=Cents(100), collateral=payoff.collateral,
    )  # fmt: skip
    every = guest_at_every_price(terms)
    asked = []

    def payouts(prices):
        asked.extend(prices)
        return [Sats(int(every[price // 100])) for price in prices]

    buckets = payoff.buckets(STANDARD, 20_000, payouts)
    check(buckets, every, premium=20_000, collateral=payoff.collateral, tolerance=200)
    assert len(asked) == len(set(asked)) < 2_800  # of 262,144
    for place in range(0, TOP, 9_973):
        given_price = SettlementInput.from_bytes(price_input(terms, WHAT.price_of(place)).to_bytes())
        assert settle_in_python(given_price).payout_sats == every[place]


@cache
def _of(kind, barrier):
    payoff = Payoff(kind=kind, strike=9_937_741, quantity=7, barrier=barrier)
    return payoff, payoff.buckets(STANDARD, 20_000)


@given(
    kind=st.sampled_from(OptionKind), barrier=st.sampled_from([None, 13_000_000, 8_000_050]),
    outcome=st.integers(0, TOP - 1) | st.integers(99_000, 100_000) | st.integers(129_900, 130_100),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_what_one_outcome_is_paid_is_found_without_the_partition(kind, barrier, outcome):
    payoff, buckets = _of(kind, barrier)
    asked = []

    def payouts(prices):
        asked.append(len(prices))
        return payoff.payouts(prices)

    arguments = {"premium": Sats(20_000), "collateral": payoff.collateral, "breakpoints": payoff.breakpoints}
    paid = payout_at(WHAT, payouts, outcome, rule=STANDARD, **arguments)
    assert paid == buckets[bucket_of(buckets, outcome, 18)].payout
    assert sum(asked) <= 2 * 18 + 6


@pytest.mark.parametrize("rounding", Rounding)
def test_a_step_s_payout_is_found_alike_and_a_true_condition_pays_nothing(rounding):
    rule, what = StepRule(step=Sats(7_777), rounding=rounding), event(12, condition="agreed price >= 300000 cents")
    payoff = Payoff(kind=OptionKind.PUT, strike=200_000, quantity=3)
    arguments = {
        "rule": rule, "premium": Sats(0), "collateral": payoff.collateral, "breakpoints": payoff.breakpoints,
    }  # fmt: skip
    buckets = payout_buckets(what, payoff.payouts, **arguments)
    for outcome in range(0, 1 << 13, 7):
        paid = payout_at(what, payoff.payouts, outcome, **arguments)
        assert paid == buckets[bucket_of(buckets, outcome, 13)].payout
        assert outcome < 1 << 12 or paid == 0
    with pytest.raises(InvalidInputError, match="outcome"):
        payout_at(what, payoff.payouts, 1 << 13, **arguments)


@pytest.mark.parametrize("kind", [OptionKind.CALL, OptionKind.PUT])
@pytest.mark.parametrize("quantity", SIZES)
@pytest.mark.parametrize("life", HOURS)
def test_the_standard_tolerance_costs_a_buyer_nothing_on_average_and_little_at_once(kind, quantity, life):
    """The attested whole dollar and dust are in it; 50,000 sat steps took 100 to 0.08 % of these premiums."""
    found = cost(Payoff(kind=kind, strike=10_000_000, quantity=quantity), HOURS[life], STANDARD)
    assert abs(found.bias) <= 0.05
    assert found.rms <= 1
    assert found.signatures <= 550


def test_who_is_out_of_the_money_is_paid_nothing_and_who_is_owed_all_is_paid_all():
    for kind in OptionKind:
        payoff = Payoff(kind=kind, strike=9_937_741, quantity=10)
        every, paid = payoff.at(CENTS), table(payoff.buckets(STANDARD, 25_000))
        assert ((paid == 0) == (every == 0)).all()
        assert ((paid == payoff.collateral) == (every == payoff.collateral)).all()
