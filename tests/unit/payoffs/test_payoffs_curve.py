"""A curve by itself: its legs, its pieces and what makes none."""

import pytest

from btcfi.errors import InvalidInputError, UnitOutOfRangeError
from btcfi.payoffs.curve import CentSats, Curve, FloorMissingError, Leg, LegKind, Piece, curve_of
from btcfi.payoffs.netted import netted
from btcfi.units import CentsPerBtc
from tests.support.contracts import event


def leg(kind=LegKind.CALL, strike=10_000_000, quantity=100, cash=None):
    return Leg(kind=kind, strike=strike, quantity=quantity, cash=cash)


def test_legs_are_summed_in_cents_times_satoshis_and_a_price_divides_the_sum_once():
    # rounded one by one, three thirds of a satoshi would be nothing
    third = [leg(LegKind.DIGITAL_CALL, strike=100, quantity=1, cash=1) for _ in range(3)]
    assert [curve_of(third[:n]).net_at(CentsPerBtc(3_000_000)) for n in (1, 2, 3)] == [0, 0, 1]


def test_what_cancels_is_no_payoff_and_a_position_and_its_opposite_are_nothing_at_every_price():
    flat = curve_of([leg(quantity=7), leg(quantity=-7)])
    assert flat.pieces == (Piece(start=CentsPerBtc(1), constant=0, numerator=CentSats(0)),)


def test_a_binary_pays_nothing_at_its_strike_and_all_of_it_a_cent_beyond():
    above, below = curve_of([leg(LegKind.BINARY_CALL)]), curve_of([leg(LegKind.BINARY_PUT)], floor=5_000_000)
    assert [above.net_at(price) for price in (9_999_999, 10_000_000, 10_000_001)] == [0, 0, 99_999_990]
    assert [below.net_at(price) for price in (9_999_999, 10_000_000, 10_000_001)] == [100_000_010, 0, 0]


def test_put_and_call_of_one_strike_are_a_forward_at_every_price():
    parity = curve_of([leg(), leg(LegKind.PUT, quantity=-100)], floor=100_000)
    assert parity == curve_of([leg(LegKind.FORWARD)], floor=100_000)


def test_a_put_spread_needs_a_floor_for_its_dollars_are_more_bitcoin_the_lower_the_price():
    spread = [leg(LegKind.PUT), leg(LegKind.PUT, strike=9_000_000, quantity=-100)]
    with pytest.raises(FloorMissingError) as refused:
        curve_of(spread)
    assert refused.value.owed > 0
    with pytest.raises(FloorMissingError) as sold:
        curve_of([leg(LegKind.PUT, quantity=-100)])
    assert sold.value.owed < 0
    floored = curve_of(spread, floor=5_000_000)
    assert floored.net_at(CentsPerBtc(1)) == floored.net_at(CentsPerBtc(5_000_000)) == 20_000_000


WRONG_LEGS = {
    "strike": {"strike": 0}, "quantity": {"quantity": 0}, "cash": {"cash": 5},
}  # fmt: skip


@pytest.mark.parametrize("field", WRONG_LEGS)
def test_what_makes_no_leg_is_refused_by_its_field(field):
    with pytest.raises(InvalidInputError) as refused:
        leg(**WRONG_LEGS[field])
    assert refused.value.field == field
    assert not isinstance(refused.value, UnitOutOfRangeError)


def test_a_digital_without_its_cash_and_one_beyond_a_word_are_refused():
    for cash in (None, 0, 1 << 32):
        with pytest.raises(InvalidInputError) as refused:
            leg(LegKind.DIGITAL_PUT, cash=cash)
        assert refused.value.field == "cash"


def test_more_legs_than_a_book_has_are_refused():
    assert curve_of([leg(strike=5_000_000 + n) for n in range(64)])
    for many in ([], [leg()] * 65):
        with pytest.raises(InvalidInputError) as refused:
            curve_of(many)
        assert refused.value.field == "legs"


WRONG_PIECES = {
    "none": ([], "pieces"),
    "a first one that starts later": ([(2, 0, 0)], "pieces[0].start"),
    "one that starts before the one before it": ([(1, 0, 0), (50, 1, 0), (50, 2, 0)], "pieces[2].start"),
    "one beyond every price": ([(1, 0, 0), ((1 << 32) + 1, 0, 0)], "pieces[1].start"),
    "more than fits at a single price": ([(1, 0, 0), (2, 1 << 62, -(2 << 62)), (3, 0, 0)], "pieces[1]"),
    "more dollars than fit": ([(1, 0, 0), (2, 0, 1 << 94)], "quantity"),
    "more than all bitcoin": ([(1, 0, 0), (2, 21 * 10**14 + 1, 0)], "quantity"),
    "no bound as the price falls": ([(1, 0, 1)], "floor"),
}


@pytest.mark.parametrize("case", WRONG_PIECES)
def test_what_makes_no_curve_is_refused_by_its_field(case):
    pieces, field = WRONG_PIECES[case]
    with pytest.raises(InvalidInputError) as refused:
        Curve(tuple(Piece(start=CentsPerBtc(a), constant=b, numerator=CentSats(c)) for a, b, c in pieces))
    assert refused.value.field == field


def test_a_price_of_nothing_has_no_payoff():
    with pytest.raises(InvalidInputError):
        curve_of([leg()]).net_at(CentsPerBtc(0))


def test_an_event_with_a_condition_is_refused_for_a_knock_out_is_a_second_payoff():
    with pytest.raises(InvalidInputError) as refused:
        netted(curve_of([leg()]), event(condition="agreed price >= 12000000 cents between 60 and 120"))
    assert refused.value.field == "event.condition"
