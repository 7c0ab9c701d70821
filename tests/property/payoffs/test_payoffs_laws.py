"""Laws of random books of signed legs: the worst cases, both roads to a payoff, and the ranges that pay it."""

import os
import random

import numpy as np
import pytest

from btcfi.contracts.buckets import SingleOutcomeError, ToleranceRule, bucket_of, most_off
from btcfi.errors import InvalidInputError
from btcfi.payoffs import vector
from btcfi.payoffs.curve import Leg, curve_of
from btcfi.payoffs.netted import netted
from btcfi.payoffs.report import report
from btcfi.payoffs.wave import Wave
from btcfi.units import BasisPoints, CentiBtc, CentsPerBtc, Sats
from tests.support.books import random_book, random_legs, summed
from tests.support.contracts import event

SEED = int(os.environ.get("BTCFI_TEST_SEED", "18"))
WHAT = event()
CENTS = vector.prices_of(WHAT)
"""What the event can state: 262,144 prices."""
STANDARD = ToleranceRule(tolerance=BasisPoints(200))


def spans(buckets):
    """The first and the last outcome of every bucket."""
    sizes = np.array([1 << (18 - one.length) for one in buckets])
    first = np.array([one.prefix for one in buckets]) * sizes
    return first, first + sizes - 1


def check_ranges(book, every, *, premium, tolerance):
    """Hold the ranges against what every price pays: each in exactly one, half of least and most, the coarsest such."""
    buckets = book.buckets(ToleranceRule(tolerance=BasisPoints(tolerance)), premium=Sats(premium))
    paid = every + book.holder
    assert paid.min() >= 0
    assert paid.max() <= book.collateral
    first, last = spans(buckets)
    assert first[0] == 0
    assert last[-1] == len(every) - 1
    assert (first[1:] == last[:-1] + 1).all()
    least, most = np.minimum.reduceat(paid, first), np.maximum.reduceat(paid, first)
    payouts = np.array([one.payout for one in buckets])
    assert (payouts == (least + most) // 2).all()

    def close(least, most):
        # beyond what the holder put in, whichever way: nothing mixes with something, nor all with less
        low, high = least - book.holder, most - book.holder
        gained = np.where(low > 0, low, np.where(high < 0, -high, -1))
        near = (most - least <= 1) | ((most - least) * 10_000 <= tolerance * np.maximum(premium, gained))
        return (least == most) | (near & (least > 0) & (most < book.collateral) & (gained >= 0))

    assert close(least, most).all()
    lengths = np.array([one.length for one in buckets])
    for place in np.flatnonzero(lengths > 1):
        size = 2 * (last[place] - first[place] + 1)
        whole = paid[(buckets[place].prefix >> 1) * size :][:size]
        assert not close(whole.min(), whole.max())
    rule = ToleranceRule(tolerance=BasisPoints(tolerance))
    below, above = most_off(
        rule, buckets, premium=Sats(premium), collateral=book.collateral, own=book.holder
    )  # fmt: skip
    assert (payouts - least <= above).all()
    assert (most - payouts <= below).all()
    return buckets


def hold(draw, *, at=None):
    """One random book: its worst cases against all prices, and both roads against the formula, at some or at all."""
    legs, floor, curve = random_book(draw)
    every = vector.curve_net(curve, CENTS)
    book = netted(curve, WHAT)
    assert (book.holder, book.writer) == (max(0, -every.min()), max(0, every.max()))
    where = slice(None) if at is None else np.array(draw.sample(range(len(CENTS)), at))
    assert (every[where] == summed(legs, int(floor), CENTS[where])).all()
    some = [int(price) for price in draw.sample(range(1, 26_214_300), 20)]
    some += [int(floor) + extra for extra in (-1, 0, 1)]
    some += [max(1, int(leg.strike) + extra) for leg in legs[:5] for extra in (-1, 0, 1)]
    some.sort()
    assert curve.net(some) == vector.curve_net(curve, np.array(some, dtype=np.int64)).tolist()
    return legs, book, every


def test_the_turning_points_of_1_000_books_know_the_least_and_the_most_of_all_prices():
    draw = random.Random(SEED)
    for _ in range(1_000):
        hold(draw, at=100)


def test_both_roads_and_the_formula_agree_at_every_price():
    draw = random.Random(SEED + 1)
    for _ in range(10):
        hold(draw)


def test_the_largest_positions_there_are_and_the_highest_prices_stay_exact_in_both_roads():
    draw, held = random.Random(SEED), 0
    prices = np.unique(np.array([draw.randrange(1, (1 << 31) - 1) for _ in range(2_000)] + [1, (1 << 31) - 1]))
    for _ in range(300):
        most = 10 ** draw.randint(5, 9)
        legs = [
            Leg(kind=leg.kind, strike=CentsPerBtc(draw.randrange(1, 1 << 32)), cash=leg.cash,
                quantity=draw.choice((1, -1)) * draw.randrange(1, most))
            for leg in random_legs(draw)
        ]  # fmt: skip
        try:
            curve = curve_of(legs, floor=CentsPerBtc(draw.randrange(2, 1 << 32)))
        except InvalidInputError as e:
            assert e.field == "quantity"  # noqa: PT017 - most are more than all bitcoin, and say so
            continue
        held += 1
        assert vector.curve_net(curve, prices).tolist() == curve.net([int(price) for price in prices])
    assert held > 50


@pytest.mark.slow
def test_10_000_books_agree_with_their_formula_at_1_000_prices_and_1_000_of_them_at_all_and_pay_by_their_ranges():
    draw = random.Random(SEED)
    for number in range(10_000):
        tenth = number % 10 == 0
        legs, book, every = hold(draw, at=None if tenth else 1_000)
        if tenth and every.min() != every.max():
            check_ranges(book, every, premium=draw.choice([10_000, 1_000_000]) * len(legs), tolerance=200)


@pytest.mark.parametrize("tolerance", [100, 500])
def test_each_price_lies_in_one_range_that_pays_half_of_the_least_and_the_most_of_what_is_gained(tolerance):
    draw = random.Random(SEED + tolerance)
    seen = 0
    for _ in range(12):
        legs, _, curve = random_book(draw, most=8)
        every = vector.curve_net(curve, CENTS)
        book = netted(curve, WHAT)
        if every.min() == every.max():
            with pytest.raises(SingleOutcomeError):
                book.buckets(STANDARD, premium=Sats(1))
            continue
        seen += 1
        buckets = check_ranges(book, every, premium=100_000 * len(legs), tolerance=tolerance)
        rule = ToleranceRule(tolerance=BasisPoints(tolerance))
        for outcome in draw.sample(range(1 << 18), 5):
            paid = book.payout_at(outcome, rule, premium=Sats(100_000 * len(legs)))
            assert paid == buckets[bucket_of(buckets, outcome, 18)].payout
    assert seen >= 6


def test_a_book_and_its_opposite_are_one_contract_with_the_sides_exchanged():
    draw = random.Random(SEED)
    for _ in range(30):
        legs, floor, curve = random_book(draw)
        sold = type(legs[0])
        opposite = [sold(kind=x.kind, strike=x.strike, quantity=-x.quantity, cash=x.cash) for x in legs]
        mine, theirs = vector.curve_net(curve, CENTS), summed(opposite, int(floor), CENTS)
        # each is rounded down, so their sum is nothing, or the satoshi that the rounding leaves
        assert set(np.unique(mine + theirs)) <= {-1, 0}


def test_the_worst_of_a_net_book_is_never_more_than_the_sum_of_its_legs_alone():
    draw = random.Random(SEED)
    for _ in range(40):
        legs, floor, curve = random_book(draw)
        alone = [netted(curve_of([leg], floor=floor), WHAT) for leg in legs]
        # a satoshi a leg: each of them rounds by itself, the net book rounds once
        assert netted(curve, WHAT).collateral <= sum(one.collateral for one in alone) + len(legs)


def test_a_profit_begins_and_ends_at_the_prices_that_the_report_names_and_nowhere_else():
    draw = random.Random(SEED)
    for _ in range(40):
        _, _, curve = random_book(draw, most=6)
        every = vector.curve_net(curve, CENTS)
        premium = draw.choice([0, int(every[draw.randrange(len(every))]), draw.randrange(-10_000_000, 10_000_000)])
        said = report(netted(curve, WHAT), premium=premium)
        signs = np.sign(every - premium)
        changes = np.flatnonzero(np.diff(signs)) + 1
        # what lies on either side of a single price without profit or loss is one break-even, not two
        evens = [int(at) for at in changes if not (signs[at - 1] == 0 and (at == 1 or signs[at - 2] != 0))]
        assert said.break_evens == tuple(WHAT.price_of(at) for at in evens)
        assert [one.first for one in said.stretches[1:]] == [WHAT.price_of(int(at)) for at in changes]
        assert [one.sign for one in said.stretches] == [int(signs[0]), *signs[changes].tolist()]
        assert said.stretches[-1].last == WHAT.price_of(WHAT.max_price)
        assert (said.most.profit, said.least.profit) == (every.max() - premium, every.min() - premium)


def test_both_roads_to_a_wave_agree_and_it_turns_at_its_turning_points_alone():
    draw = random.Random(SEED)
    for _ in range(6):
        wave = Wave(
            middle=CentsPerBtc(draw.randrange(1, 20_000_000)), period=CentsPerBtc(draw.randrange(25_600, 9_000_000)),
            quantity=CentiBtc(draw.choice([1, 100, 20_000])),
            floor=draw.choice([None, CentsPerBtc(draw.randrange(2, 9_000_000))]),
        )  # fmt: skip
        every = vector.wave_net(wave, CENTS)
        some = sorted(draw.sample(range(len(CENTS)), 500))
        assert every[some].tolist() == wave.net([WHAT.price_of(outcome) for outcome in some])
        book = netted(wave, WHAT)
        assert (book.holder, book.writer) == (max(0, -every.min()), max(0, every.max()))


def test_a_wave_of_all_bitcoin_is_exact_in_both_roads_though_a_double_has_no_satoshi_of_it():
    draw = random.Random(SEED)
    wave = Wave(middle=CentsPerBtc(5_000_003), period=CentsPerBtc(2_999_999), quantity=CentiBtc(2_099_999_999))
    some = np.array(sorted(draw.sample(range(1, 26_214_300), 2_000)))
    assert vector.wave_net(wave, some).tolist() == wave.net([int(price) for price in some])


def test_legs_on_one_strike_are_one_leg_of_their_sum():
    draw = random.Random(SEED)
    legs = random_legs(draw, most=20)
    _, floor, _ = random_book(draw)
    halves = [type(x)(kind=x.kind, strike=x.strike, quantity=x.quantity, cash=x.cash) for x in legs for _ in range(3)]
    tripled = [type(x)(kind=x.kind, strike=x.strike, quantity=3 * x.quantity, cash=x.cash) for x in legs]
    assert curve_of(halves, floor=floor) == curve_of(tripled, floor=floor)
