"""What both sides are told of a payoff before they agree to it."""

import pytest

from btcfi.errors import InvalidInputError
from btcfi.payoffs.netted import netted
from btcfi.payoffs.report import report
from btcfi.payoffs.shapes import SHAPES, Ask
from btcfi.units import CentsPerBtc
from tests.support.contracts import event

CONDOR = netted(
    SHAPES["iron_condor"].payoff(Ask(strikes=(9_000_000, 9_500_000, 10_500_000, 11_000_000), floor=5_000_000)), event()
)


def test_an_iron_condor_is_paid_for_at_the_start_and_ends_between_its_break_evens():
    # 0.01 BTC received, lost again where (95,000 - S) / S or (S - 105,000) / S is that: at 94,059.41 and 106,060.61
    said = report(CONDOR, premium=-1_000_000)
    assert [one.sign for one in said.stretches] == [-1, 1, -1]
    assert said.break_evens == (9_406_000, 10_606_100)
    assert said.most.profit == 1_000_000
    assert said.least.profit == 1_000_000 - said.holder_collateral
    assert (said.holder_collateral, said.writer_collateral) == (10_000_000, 0)
    assert said.least.price <= 5_000_000


def test_what_both_sides_have_at_a_price_is_all_of_the_collateral():
    said = report(CONDOR, premium=0, prices=[1, 9_250_000, 10_000_000, 26_214_300])
    assert [one.holder + one.writer for one in said.at] == [CONDOR.collateral] * 4
    assert [one.net for one in said.at] == [-10_000_000, -2_702_703, 0, -1_907_356]


def test_without_a_premium_there_are_prices_at_which_nobody_gains():
    said = report(CONDOR, premium=0)
    assert [one.sign for one in said.stretches] == [-1, 0, -1]
    assert said.break_evens == (9_500_000, 10_500_100)


WRONG = {
    "premium": {"premium": 21 * 10**14 + 1},
    "prices": {"premium": 0, "prices": [100] * 1_001},
    "at_price": {"premium": 0, "prices": [26_214_301]},
}


@pytest.mark.parametrize("field", WRONG)
def test_what_cannot_be_reported_is_refused_by_its_field(field):
    with pytest.raises(InvalidInputError) as refused:
        report(CONDOR, **WRONG[field])
    assert refused.value.field == field
    with pytest.raises(InvalidInputError):
        report(CONDOR, premium=0, prices=[CentsPerBtc(0)])
