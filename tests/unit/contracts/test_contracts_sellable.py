"""What both parties would refuse is known before it is sold, by its field."""

import pytest

from btcfi.contracts.buckets import Rounding, StepRule, ToleranceRule
from btcfi.contracts.sellable import unsellable
from btcfi.options.terms import OptionKind, OptionTerms, required_collateral
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Sats, Slot
from btcfi.vm.program import load_program

EXPIRY = Slot(1_800_000_000)
TOLERANCE = ToleranceRule(tolerance=BasisPoints(200))
STEPS = StepRule(step=Sats(50_000), rounding=Rounding.DOWN)


def said(kind=OptionKind.CALL, *, strike=6_000_000, quantity=10, barrier=None, last=None, rule=TOLERANCE):
    terms = OptionTerms(
        kind=kind, strike=CentsPerBtc(strike), quantity=CentiBtc(quantity), barrier=barrier, american=False,
        expiry=EXPIRY, premium=Cents(0), collateral=required_collateral(kind, CentiBtc(quantity)),
    )  # fmt: skip
    found = unsellable(terms, program=load_program("option_settlement"), rule=rule, last=last)
    return None if found is None else found.field


@pytest.mark.parametrize("kind", OptionKind)
def test_an_ordinary_option_is_sold(kind):
    assert said(kind) is None


def test_a_strike_or_a_barrier_that_no_attestation_reaches_is_refused_by_its_name():
    assert said(strike=26_000_000) is None
    assert said(strike=26_214_300) == "strike"
    assert said(barrier=CentsPerBtc(30_000_000)) == "barrier"


def test_a_size_of_more_payouts_than_the_parties_sign_is_refused():
    assert said(quantity=100_000, rule=STEPS) == "quantity"
    assert said(quantity=100_000) is None, "a tolerance has as many ranges whatever the size"


@pytest.mark.parametrize("rule", [TOLERANCE, STEPS])
def test_a_strike_at_which_every_price_pays_the_same_is_refused(rule):
    assert said(OptionKind.BINARY_PUT, strike=1, quantity=1, rule=rule) == "strike"


def test_an_expiry_that_a_recording_never_reaches_is_refused_and_its_last_minute_is_not():
    assert said(last=Slot(EXPIRY - 60)) == "expiry"
    assert said(last=EXPIRY) is None
