"""A simulated fee market: what is sent by the schedule is mined in time, and for less than what is sent at once."""

from random import Random

import pytest

from btcfi.bitcoin.fees import FeeRule
from btcfi.bitcoin.next_blocks import BLOCK_VSIZE
from btcfi.contracts.schedule import SETTLEMENT_VSIZE, SHARE, Due
from btcfi.contracts.simulated_market import Others, simulate
from btcfi.errors import InvalidInputError
from btcfi.units import Height, Sats

TIP = Height(900_000)
RULE = FeeRule()


def friday(many=20_000, *, left=1_008, together=20):
    size = together * SETTLEMENT_VSIZE
    return [
        Due(name=f"{n:05}", vsize=size, deadline=Height(TIP + left), value=Sats(1)) for n in range(many // together)
    ]


def run(due, *, rate=2_000, load=0.9, seed=1, **how):
    return simulate(due, Others(rate=rate, load=load), RULE, Random(seed), tip=TIP, **how)


@pytest.mark.parametrize("seed", range(1, 6))
def test_twenty_thousand_settlements_are_mined_before_their_refund_height_at_ten_times_todays_rate(seed):
    for rate in (2_000, 20_000):
        found = run(friday(), rate=rate, seed=seed)
        assert (found.missed, found.unmined, found.mined) == ((), (), 1_000)
        assert found.least_spare > 900
        assert found.peak_in_flight <= 3 * SHARE


def test_what_is_sent_at_once_bids_against_itself_and_pays_several_times_as_much():
    by_schedule, at_once = run(friday()), run(friday(), all_at_once=True)
    assert at_once.fees > 5 * by_schedule.fees
    assert at_once.bumps > by_schedule.bumps
    assert by_schedule.bumps == 0


def test_equal_seeds_give_equal_runs_and_other_seeds_others():
    assert run(friday(2_000), seed=7) == run(friday(2_000), seed=7)
    assert len({run(friday(2_000), seed=seed).fees for seed in range(5)}) > 1


def test_what_has_too_few_blocks_left_is_named_and_not_lost():
    found = run(friday(20_000, left=4))
    assert 0 < len(found.missed) < 1_000
    assert (found.mined, found.unmined) == (1_000, ())
    assert found.least_spare < 0


def test_an_empty_market_takes_everything_for_the_floor():
    found = run(friday(), load=0.0)
    assert found.highest_rate == RULE.floor
    assert found.fees == -(-20 * SETTLEMENT_VSIZE * RULE.floor // 1_000) * 1_000


def test_in_a_market_that_asks_more_than_the_cap_settlements_wait_and_pay_it_only_near_their_deadline():
    """Others pay 900 sat/vB and more comes than blocks hold: at 200 nothing of ours is taken."""
    found = run(friday(400), rate=900_000, load=1.5)
    assert found.highest_rate > RULE.cap
    assert found.least_spare < RULE.deadline_blocks


def test_wrong_demand_is_refused():
    for wrong in ({"rate": 999}, {"spread": 0.0}, {"load": -0.1}, {"load": float("nan")}):
        with pytest.raises(InvalidInputError):
            Others(**wrong)
    assert run([]).mined == 0
    assert BLOCK_VSIZE > 2 * SHARE - 2
