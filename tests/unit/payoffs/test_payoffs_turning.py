"""Turning points, found by a run at every price or held against a claim: a payoff that lies is refused by a price."""

from dataclasses import dataclass

import numpy as np
import pytest

from btcfi.contracts.buckets import ToleranceRule
from btcfi.errors import InvalidInputError
from btcfi.options.expiry import GuestRefusedError
from btcfi.options.terms import OptionKind
from btcfi.payoffs.curve import Leg, LegKind, curve_of
from btcfi.payoffs.guest import GuestLeg, GuestPayoff, guest_payoff
from btcfi.payoffs.netted import netted
from btcfi.payoffs.turning import (
    NotMonotoneError,
    TooManyTurnsError,
    check_turns,
    every_net,
    found_turns,
)
from btcfi.payoffs.wave import Wave
from btcfi.units import BasisPoints, CentiBtc, CentsPerBtc, Sats
from btcfi.vm.program import load_program
from tests.support.contracts import event

SMALL = event(digits=10)
"""1,024 prices: what holds a run of the guest at each of them."""

FLOOR = CentsPerBtc(20_000)
CONDOR = ((1, 40_000), (-1, 50_000), (-1, 60_000), (1, 70_050))
"""Calls at $400 to $700.50, in bitcoin."""


def at_each(values, what=SMALL):
    """A payoff that gains these satoshis at the event's prices."""
    table = {what.price_of(outcome): int(value) for outcome, value in enumerate(values)}
    return lambda prices: [table[price] for price in prices]


def calls(signed=CONDOR, quantity=100):
    return [GuestLeg(quantity=quantity * sign, strike=CentsPerBtc(strike)) for sign, strike in signed]


def one_by_one(prices):
    """The condor of 0.01 BTC as four contracts of their own pay it: each rounded down by itself."""
    legs = [(sign, curve_of([Leg(kind=LegKind.CALL, strike=strike, quantity=1)])) for sign, strike in CONDOR]
    return [sum(sign * leg.net_at(price) for sign, leg in legs) for price in prices]


def test_a_sum_of_legs_that_a_guest_computes_is_the_curve_of_the_legs_at_every_price():
    signed = [*calls(quantity=7), GuestLeg(quantity=-3, strike=FLOOR + 12_345, option_type=OptionKind.BINARY_PUT)]
    payoff = guest_payoff(signed, load_program("option_settlement"), floor=FLOOR)
    legs = [Leg(kind=LegKind.CALL, strike=one.strike, quantity=one.quantity) for one in signed[:-1]]
    curve = curve_of(
        [*legs, Leg(kind=LegKind.BINARY_PUT, strike=signed[-1].strike, quantity=-3)], floor=FLOOR
    )  # fmt: skip
    every = every_net(payoff.net, SMALL)
    assert every.tolist() == curve.net([SMALL.price_of(outcome) for outcome in range(1 << 10)])
    rule, premium = ToleranceRule(tolerance=BasisPoints(200)), Sats(100_000)
    ranges = netted(payoff, SMALL).buckets(rule, premium=premium)
    assert ranges == netted(curve, SMALL).buckets(rule, premium=premium)


def test_turning_points_that_a_guest_s_author_names_are_held_against_every_price_and_missing_ones_refused():
    program = load_program("option_settlement")
    strikes = [CentsPerBtc(strike) for _, strike in CONDOR]
    told = guest_payoff(calls(), program, claimed=strikes)
    assert netted(told, SMALL).turns == tuple(strikes)
    with pytest.raises(NotMonotoneError) as refused:
        netted(guest_payoff(calls(), program, claimed=strikes[:1] + strikes[2:]), SMALL)
    # nothing turns at $500, where the condor has reached its height, before it falls again from $600 on
    assert refused.value.turned == 50_000
    assert refused.value.price == 50_100


def test_where_nobody_claims_anything_the_turning_points_are_found():
    program = load_program("option_settlement")
    spread = calls(signed=((1, 40_000), (-1, 60_000)))
    found = netted(guest_payoff(spread, program), SMALL)
    said = netted(guest_payoff(spread, program, claimed=[CentsPerBtc(40_000), CentsPerBtc(60_000)]), SMALL)
    assert found.turns == (CentsPerBtc(60_000),)
    rule = ToleranceRule(tolerance=BasisPoints(200))
    assert found.buckets(rule, premium=Sats(1_000_000)) == said.buckets(rule, premium=Sats(1_000_000))
    assert (found.holder, found.writer) == (said.holder, said.writer)


def test_legs_that_are_rounded_one_by_one_flicker_and_are_refused_by_the_first_price_that_runs_back():
    every = every_net(one_by_one, SMALL)
    with pytest.raises(NotMonotoneError) as refused:
        check_turns(every, SMALL, [CentsPerBtc(strike) for _, strike in CONDOR])
    at = refused.value.price // 100
    before = every[at - 1]
    assert every[at] != before
    summed = curve_of([Leg(kind=LegKind.CALL, strike=strike, quantity=sign) for sign, strike in CONDOR])
    check_turns(every_net(summed.net, SMALL), SMALL, summed.turning_points(SMALL))


@pytest.mark.parametrize("place", [1, 300, 511, 512, 1_022])
def test_a_spike_at_a_single_price_is_found_wherever_it_is(place):
    values = np.minimum(np.arange(1 << 10), 600)
    values[place] += 5_000
    with pytest.raises(NotMonotoneError) as refused:
        check_turns(every_net(at_each(values), SMALL), SMALL, [CentsPerBtc(70_000 if place < 600 else 30_000)])
    assert refused.value.turned == SMALL.price_of(place)
    assert refused.value.price == SMALL.price_of(place + 1)
    assert SMALL.price_of(place) in found_turns(every_net(at_each(values), SMALL), SMALL)


def test_a_turn_is_known_by_any_price_on_its_flat_top_and_by_none_beside_it():
    values = np.minimum(np.minimum(np.arange(1 << 10), 300), 900 - np.arange(1 << 10))
    every = every_net(at_each(values), SMALL)
    for claimed in (30_000, 45_000, 60_000):
        check_turns(every, SMALL, [CentsPerBtc(claimed)])
    for claimed in (29_800, 60_200):
        with pytest.raises(NotMonotoneError):
            check_turns(every, SMALL, [CentsPerBtc(claimed)])


def test_a_payoff_that_never_turns_and_one_that_never_moves_need_no_turning_point():
    for values in (np.arange(1 << 10), -np.arange(1 << 10), np.zeros(1 << 10)):
        every = every_net(at_each(values), SMALL)
        check_turns(every, SMALL, [])
        assert found_turns(every, SMALL) == ()


@dataclass
class Theirs:
    """Somebody's own payoff in Python: at each price what a table says, and turning points that it claims."""

    values: np.ndarray
    claimed: tuple | None

    def net(self, prices):
        return at_each(self.values)(prices)

    def turning_points(self, event):
        return self.claimed


def test_nobody_s_own_word_is_taken_for_where_their_payoff_turns():
    values = np.minimum(np.arange(1 << 10), 600)
    assert netted(Theirs(values, ()), SMALL).writer == 600
    values[77] = 100_000
    with pytest.raises(NotMonotoneError) as refused:
        netted(Theirs(values, ()), SMALL)
    assert (refused.value.turned, refused.value.price) == (7_700, 7_800)
    assert netted(Theirs(values, None), SMALL).writer == 100_000


def test_a_wave_that_turns_more_often_than_can_be_contracted_is_refused_at_more_digits():
    wave = Wave(middle=CentsPerBtc(5_000_000), period=CentsPerBtc(25_600), quantity=CentiBtc(1))
    assert len(netted(wave, event()).turns) == 2_048
    with pytest.raises(TooManyTurnsError) as refused:
        netted(wave, event(digits=20))
    assert refused.value.count == 8_192


def test_noise_is_refused_by_how_often_it_turns():
    wide = event(digits=13)
    with pytest.raises(TooManyTurnsError) as refused:
        found_turns(every_net(at_each(np.arange(1 << 13) % 2, wide), wide), wide)
    assert refused.value.count == (1 << 13) - 2


def test_a_guest_that_refuses_a_price_is_no_payoff():
    payoff = guest_payoff(calls(((1, 0),)), load_program("option_settlement"))
    with pytest.raises(GuestRefusedError):
        netted(payoff, SMALL)


WRONG = {
    "legs": {"legs": ()},
    "legs[0].quantity": {"legs": (GuestLeg(quantity=0, strike=FLOOR),)},
    "floor": {"floor": CentsPerBtc(1)},
}


@pytest.mark.parametrize("field", WRONG)
def test_what_makes_no_guest_s_payoff_is_refused_by_its_field(field):
    with pytest.raises(InvalidInputError) as refused:
        GuestPayoff(**({"legs": tuple(calls()), "outputs_of": list} | WRONG[field]))
    assert refused.value.field == field
