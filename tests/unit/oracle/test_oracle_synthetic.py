"""The simulated market: the same from its seed, without an end, and one on which a price can be agreed."""

from decimal import Decimal
from itertools import pairwise
from statistics import pstdev

import pytest

from btcfi.oracle.venues.synthetic import FIRST_SLOT, LEVELS, MARKETS, common_price, simulated_market
from btcfi.units import Slot


def candles(seed=1, newest=FIRST_SLOT):
    return simulated_market(seed, lambda: Slot(newest))


def test_a_seed_gives_the_same_candles_whoever_asks_in_whatever_order_and_another_seed_others():
    asked = [Slot(FIRST_SLOT + 60 * n) for n in range(50)]
    one = {venue: [rows[at] for at in asked] for venue, rows in candles().items()}
    again = {venue: [rows[at] for at in reversed(asked)][::-1] for venue, rows in candles().items()}
    assert one == again
    assert one != {venue: [rows[at] for at in asked] for venue, rows in candles(seed=2).items()}
    kraken = next(rows for venue, rows in one.items() if str(venue) == "kraken:BTC/USD")
    assert (kraken[0].slot, kraken[0].open, kraken[0].close) == (FIRST_SLOT, "59999.48", "59893.43")


@pytest.mark.parametrize("years", [0, 1, 10, 31, 32, 100])
def test_it_goes_on_for_ever_and_a_candle_opens_where_the_last_one_closed(years):
    begin = FIRST_SLOT + years * 525_600 * 60
    for rows in candles().values():
        many = [rows[Slot(begin + 60 * n)] for n in range(20)]
        assert all(before.close == after.open for before, after in pairwise(many))
        for one in many:
            low, high = Decimal(one.low), Decimal(one.high)
            assert 0 < low <= min(Decimal(one.open), Decimal(one.close)) <= max(Decimal(one.open), Decimal(one.close))
            assert max(Decimal(one.open), Decimal(one.close)) <= high


def test_the_end_of_a_round_trip_is_its_beginning_without_a_jump():
    begin = FIRST_SLOT // 60
    lap = begin + (1 << LEVELS)
    assert common_price(1, lap) == common_price(1, begin) == 6_000_000
    assert abs(common_price(1, lap - 1) - common_price(1, lap)) < 6_000_000 // 100


def test_no_price_comes_near_the_highest_that_an_oracle_attests():
    begin = FIRST_SLOT // 60
    every_day = [common_price(seed, begin + 1_440 * day) for seed in range(5) for day in range(730)]
    assert 1_000_000 < min(every_day) < max(every_day) < 20_000_000


def test_the_price_moves_as_a_market_of_fifty_per_cent_a_year_does():
    minute = FIRST_SLOT // 60
    prices = [common_price(1, minute + n) for n in range(2_001)]
    moves = [float(Decimal(b / a).ln()) for a, b in pairwise(prices)]
    assert 0.000_60 < pstdev(moves) < 0.000_78
    assert abs(sum(x * y for x, y in pairwise(moves)) / sum(x * x for x in moves)) < 0.1  # no trend in its steps


def test_the_venues_stand_within_a_few_hundredths_of_a_percent_of_each_other():
    for n in range(200):
        at = Slot(FIRST_SLOT + 60 * n)
        closes = [Decimal(candles()[market.venue][at].close) for market in MARKETS]
        assert (max(closes) - min(closes)) / min(closes) < Decimal("0.0015")


def test_who_asks_for_the_newest_minutes_gets_those_up_to_the_one_that_is_over():
    for rows in candles(newest=FIRST_SLOT + 6_000).values():
        assert max(rows) == FIRST_SLOT + 6_000
        assert rows[max(rows)].slot == FIRST_SLOT + 6_000
        with pytest.raises(KeyError):
            rows[Slot(FIRST_SLOT + 1)]
