"""Buckets from the guest's runs at their ends only, against a run of the guest at every price."""

import pytest

from btcfi.contracts.buckets import Rounding, StepRule, ToleranceRule, bucket_of, payout_buckets, round_payout
from btcfi.contracts.payouts import (
    breakpoints_of,
    condition_of,
    decode_terms,
    encode_terms,
    guest_payouts,
    price_input,
)
from btcfi.errors import InvalidInputError
from btcfi.options.expiry import SettlementOutput
from btcfi.options.payoff import settle_in_python
from btcfi.options.terms import OptionKind, OptionTerms, required_collateral
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Sats, Slot
from btcfi.vm.interpreter import run_many
from btcfi.vm.program import load_program
from tests.support.contracts import event

DIGITS = 14  # up to $16,383, every price run


def option(kind, *, strike=800_050, barrier=None, quantity=7, american=False):
    return OptionTerms(
        kind=kind,
        strike=CentsPerBtc(strike),
        quantity=CentiBtc(quantity),
        barrier=None if barrier is None else CentsPerBtc(barrier),
        american=american,
        expiry=Slot(60 * 29_000_000),
        premium=Cents(100),
        collateral=required_collateral(kind, CentiBtc(quantity)),
    )


@pytest.fixture(scope="module")
def program():
    return load_program("option_settlement")


@pytest.mark.parametrize("kind", list(OptionKind))
@pytest.mark.parametrize("barrier", [None, 1_234_567, 432_100])
def test_every_price_pays_within_one_step_or_the_tolerance_of_its_own_run(program, kind, barrier):
    terms, what = option(kind, barrier=barrier), event(DIGITS)
    payouts = guest_payouts(terms, program)
    every = payouts([what.price_of(outcome) for outcome in range(1 << DIGITS)])
    for step, rounding in ((1_000, Rounding.DOWN), (25_000, Rounding.UP)):
        buckets = payout_buckets(
            what, payouts, rule=StepRule(step=Sats(step), rounding=rounding), premium=Sats(0),
            collateral=terms.collateral, breakpoints=breakpoints_of(terms),
        )  # fmt: skip
        assert len(buckets) < 1 << DIGITS
        for outcome, exact in enumerate(every):
            paid = buckets[bucket_of(buckets, outcome, DIGITS)].payout
            assert paid == round_payout(exact, step=Sats(step), rounding=rounding, collateral=terms.collateral), outcome

    for tolerance, premium in ((200, 30_000), (1, 1_000)):
        buckets = payout_buckets(
            what, payouts, rule=ToleranceRule(tolerance=BasisPoints(tolerance)), premium=Sats(premium),
            collateral=terms.collateral, breakpoints=breakpoints_of(terms),
        )  # fmt: skip
        for bucket in buckets:
            size = 1 << (DIGITS - bucket.length)
            inside = every[bucket.prefix * size :][:size]
            least, most = min(inside), max(inside)
            assert bucket.payout == (least + most) // 2
            assert (most - least) * 10_000 <= max(tolerance * max(premium, least), 10_000)
            assert (least > 0 and most < terms.collateral) or least == most


@pytest.mark.parametrize("barrier", [1_234_567, 432_100])
def test_a_touched_barrier_pays_nothing_whatever_the_price_and_the_condition_names_it(program, barrier):
    terms = option(OptionKind.CALL, barrier=barrier)
    inputs = [
        price_input(terms, CentsPerBtc(price), touched=True) for price in (1, 432_101, 800_100, 1_234_566, 2_000_000)
    ]
    for given, raw in zip(inputs, run_many(program, [one.to_bytes() for one in inputs]), strict=True):
        output = SettlementOutput.from_bytes(raw)
        assert (output.payout_sats, output.barrier_hit) == (0, True)
        assert settle_in_python(given) == output
    text = condition_of(terms, Slot(60))
    assert str(barrier) in text
    assert (">=" in text) == (barrier > terms.strike)
    assert condition_of(option(OptionKind.CALL), Slot(60)) == ""


def test_terms_go_through_json_unchanged_and_wrong_fields_are_named():
    terms = option(OptionKind.BINARY_PUT, barrier=1_000_000, american=True)
    fields = encode_terms(terms)
    assert decode_terms(fields) == terms
    for wrong in (
        fields | {"extra": 1},
        {k: v for k, v in fields.items() if k != "kind"},
        fields | {"american": 1},
        fields | {"kind": "swap"},
        fields | {"strike_cents": 0},
        fields | {"expiry_unix": 61},
    ):
        with pytest.raises(InvalidInputError):
            decode_terms(wrong)
