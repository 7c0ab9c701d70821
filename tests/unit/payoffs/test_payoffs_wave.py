"""The wave of Rubin's post: exact to the satoshi, by a sine that no float decides."""

import mpmath
import pytest

from btcfi.contracts.buckets import ToleranceRule, bucket_of
from btcfi.errors import InvalidInputError
from btcfi.payoffs.netted import netted
from btcfi.payoffs.shapes import SHAPES, Ask
from btcfi.payoffs.wave import Wave, floor_of_sine
from btcfi.units import BasisPoints, CentiBtc, CentsPerBtc, Sats
from tests.support.contracts import event

WAVE = Wave(middle=CentsPerBtc(5_000_000), period=CentsPerBtc(4_000_000), quantity=CentiBtc(100))


def exact(amplitude, part, whole):
    with mpmath.workdps(80):
        # sinpi is exact at the fractions of a turn, where sin(2 pi x) would be off in its last digit
        return int(mpmath.floor(amplitude * mpmath.sinpi(mpmath.mpf(2 * part) / whole)))


@pytest.mark.parametrize("amplitude", [1, 3, 10**8, 21 * 10**14])
def test_the_sine_is_rounded_down_as_80_digits_round_it(amplitude):
    for whole in (25_600, 25_601, 4_000_000, 9_999_991, 9_999_999):
        for part in {*range(0, whole, whole // 53), 1, whole - 1, whole // 4, whole // 2, 3 * whole // 4}:
            if (12 * part) % whole:
                assert floor_of_sine(amplitude, part, whole) == exact(amplitude, part, whole), (part, whole)


@pytest.mark.parametrize("amplitude", [1, 2, 7, 10**8, 21 * 10**14])
def test_where_the_sine_is_a_fraction_the_fraction_is_paid(amplitude):
    for twelfth, twice in {0: 0, 1: 1, 3: 2, 5: 1, 6: 0, 7: -1, 9: -2, 11: -1}.items():
        assert floor_of_sine(amplitude, twelfth * 1_000, 12_000) == amplitude * twice // 2


def test_a_sine_within_a_hair_of_a_satoshi_is_computed_with_more_bits_until_it_is_one_or_the_other():
    # 10**60 satoshis do not exist: they ask for 200 bits, more than the first try has
    for part in (1, 12_345, 33_333):
        assert floor_of_sine(10**60, part, 100_003) == exact(10**60, part, 100_003)


def test_a_contract_can_pay_a_wave_over_the_price_as_the_published_post_has_it():
    one = SHAPES["sinusoid"]
    payoff = one.payoff(Ask(strikes=(CentsPerBtc(5_000_000),), amounts={"period": CentsPerBtc(4_000_000)}))
    assert payoff == WAVE
    assert payoff.net([5_000_000, 6_000_000, 7_000_000, 8_000_000, 9_000_000]) == [0, 10**8, 0, -(10**8), 0]
    contract = netted(payoff, event())
    assert (contract.holder, contract.writer) == (10**8, 10**8)
    rule = ToleranceRule(tolerance=BasisPoints(200))
    buckets = contract.buckets(rule, premium=Sats(5_000_000))
    for dollars in (60_000, 80_000, 100_000):  # crests and troughs are paid whole
        paid = buckets[bucket_of(buckets, dollars, 18)].payout
        assert paid == (0 if dollars == 80_000 else 2 * 10**8)
    for dollars in range(50_000, 130_000, 333):
        paid = buckets[bucket_of(buckets, dollars, 18)].payout - 10**8
        net = payoff.net_at(CentsPerBtc(100 * dollars))
        assert abs(paid - net) * 10_000 <= 200 * max(5_000_000, abs(net))


def test_below_its_floor_a_wave_stands_still():
    held = Wave(middle=WAVE.middle, period=WAVE.period, quantity=WAVE.quantity, floor=CentsPerBtc(4_333_333))
    assert held.net([1, 4_333_332, 4_333_333]) == [WAVE.net_at(CentsPerBtc(4_333_333))] * 3
    assert held.turning_points(event())[:2] == (4_333_333, 6_000_000)


WRONG = {
    "quantity": {"quantity": 0}, "middle": {"middle": 0}, "period": {"period": 1 << 32}, "floor": {"floor": 1},
}  # fmt: skip


@pytest.mark.parametrize("field", WRONG)
def test_what_makes_no_wave_is_refused_by_its_field(field):
    with pytest.raises(InvalidInputError) as refused:
        Wave(**({"middle": 5_000_000, "period": 4_000_000, "quantity": 100} | WRONG[field]))
    assert refused.value.field == field
