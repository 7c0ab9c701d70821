"""Every named shape at strikes of anybody's choice: what both sides lock and what each range pays, over all prices."""

import os
import random

import numpy as np
import pytest

from btcfi.contracts.buckets import SingleOutcomeError, ToleranceRule, TooManyBucketsError
from btcfi.errors import InvalidInputError
from btcfi.payoffs import vector
from btcfi.payoffs.netted import ANY_EVENT, netted
from btcfi.payoffs.shapes import SHAPES, Ask
from btcfi.units import MAX_MONEY_SATS, BasisPoints, CentiBtc, CentsPerBtc, Sats
from tests.support.shown import show

SEED = int(os.environ.get("BTCFI_TEST_SEED", "18"))
CENTS = vector.prices_of(ANY_EVENT)


def any_ask(shape, draw):
    """Strikes on cents, dollars or thousands; a floor that there is, that is low, or none; an amount of each kind."""
    unit = draw.choice([1, 100, 50_000])
    count = len(shape.strikes) + (draw.randrange(5) if shape.many else 0)
    strikes = [unit * one for one in sorted(draw.sample(range(3_000_000 // unit, 20_000_000 // unit), count))]
    if shape.equal_wings:
        strikes[-1] = strikes[-2] + strikes[1] - strikes[0]
    floor = draw.choice([None, strikes[0], 2, draw.randrange(2, strikes[0] + 1)])
    amounts = {name: draw.choice([25_600, draw.randrange(25_600, 30_000_000)]) for name in shape.amounts}
    return Ask(
        strikes=tuple(map(CentsPerBtc, strikes)), quantity=CentiBtc(draw.choice([1, 100, draw.randrange(1, 10**5)])),
        floor=None if floor is None else CentsPerBtc(floor),
        amounts={name: CentsPerBtc(one) for name, one in amounts.items()},
    )  # fmt: skip


def hold(payoff, draw):
    """Hold a payoff against itself at all 262,144 prices; returns whether it was divided into ranges."""
    contract, every = netted(payoff, ANY_EVENT), vector.net(payoff, CENTS)
    assert (contract.holder, contract.writer) == (max(0, -int(every.min())), max(0, int(every.max())))
    rule = ToleranceRule(tolerance=BasisPoints(draw.choice([100, 200, 10_000])))
    premium = Sats(draw.choice([1_000, 10**6, MAX_MONEY_SATS]))
    try:
        buckets = contract.buckets(rule, premium=premium)
    except (SingleOutcomeError, TooManyBucketsError):
        return False
    starts = np.array([one.prefix << (18 - one.length) for one in buckets], dtype=np.int64)
    sizes = np.array([1 << (18 - one.length) for one in buckets], dtype=np.int64)
    assert (np.cumsum(sizes) == np.append(starts[1:], 1 << 18)).all()
    least, most = (part.reduceat(every + contract.holder, starts) for part in (np.minimum, np.maximum))
    paid = np.array([one.payout for one in buckets], dtype=np.int64)
    assert (paid == (least + most) // 2).all()
    for edge in (0, contract.collateral, contract.holder):  # who is owed one of these is paid it to the satoshi
        assert ((least == most) | (least > edge) | (most < edge)).all()
    below, above = contract.most_off(rule, buckets, premium=premium)
    assert -below <= int((paid - most).min())
    assert int((paid - least).max()) <= above
    outcome = draw.randrange(1 << 18)
    place = int(np.searchsorted(starts, outcome, side="right")) - 1
    assert contract.payout_at(outcome, rule, premium=premium) == paid[place]
    return True


def lives(times):
    """Hold every shape so many times; returns how many were held, divided, refused."""
    draw, held = random.Random(SEED), {"shapes": 0, "shapes_divided": 0, "shapes_refused": 0}
    for shape in SHAPES.values():
        for _ in range(times):
            try:
                held["shapes_divided"] += hold(shape.payoff(any_ask(shape, draw)), draw)
                held["shapes"] += 1
            except InvalidInputError as e:
                if e.field not in {"floor", "quantity", "strikes", "turning_points"}:
                    raise
                held["shapes_refused"] += 1
    return held


def test_every_shape_locks_its_worst_and_pays_by_its_ranges_at_every_price():
    held = lives(1)
    assert held["shapes"] >= 12
    assert held["shapes_divided"] >= 10


@pytest.mark.slow
def test_630_shapes_lock_their_worst_and_pay_by_their_ranges_at_every_price():
    held = lives(30)
    assert held["shapes"] >= 400
    show(held, dict.fromkeys(held, "shapes"))
