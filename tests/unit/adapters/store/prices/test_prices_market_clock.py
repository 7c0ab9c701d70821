"""The market's clock, one for every door: the end of the newest priced minute in a replay, else the wall's."""

import pytest

from btcfi.adapters.store.prices.rounds import market_now, market_time
from btcfi.oracle.quote import BTC_USD
from btcfi.units import Slot, UnixSeconds
from tests.support.rounds import priced_round
from tests.support.stores import store_on_sqlite

WALL = UnixSeconds(1_790_000_000)
RECORDED = 1_767_571_200


@pytest.fixture
def store(tmp_path):
    with store_on_sqlite(tmp_path) as made:
        yield made


def test_a_replay_s_market_is_at_the_end_of_its_newest_priced_minute(store):
    with store.transaction() as session:
        session.add(priced_round(RECORDED, 5_000_000))
        session.add(priced_round(RECORDED + 60, 5_000_000))
        session.add(priced_round(RECORDED + 600, 5_000_000, feed="ETH/USD"))
        unpriced = priced_round(RECORDED + 120, 5_000_000)
        unpriced.state = "void"
        session.add(unpriced)
    with store.reading() as session:
        assert market_now(session, BTC_USD, replay=True, now=WALL) == RECORDED + 120
        assert market_now(session, BTC_USD, replay=False, now=WALL) == WALL


def test_before_the_first_priced_minute_a_replay_s_market_has_the_wall_s_time(store):
    with store.reading() as session:
        assert market_now(session, BTC_USD, replay=True, now=WALL) == WALL
    assert market_time(None, replay=True, now=WALL) == WALL


def test_who_has_the_newest_minute_at_hand_computes_the_same_time():
    assert market_time(Slot(RECORDED), replay=True, now=WALL) == RECORDED + 60
    assert market_time(Slot(RECORDED), replay=False, now=WALL) == WALL
