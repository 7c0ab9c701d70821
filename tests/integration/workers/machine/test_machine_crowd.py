"""Owners in processes of their own trade at one desk over HTTP: nothing lost, doubled, or read by another.

The whole size, three makers and twenty takers until 500 options are funded, is a part of the night
(``python -m tests.benchmarks.market``); this is a small one.
"""

import pytest

from tests.benchmarks.market import trade
from workers.machine.trading import Crowd

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

SMALL = Crowd(makers=2, takers=4, maker_coins=30, taker_coins=15, takes_per_minute=20.0)


def test_owners_apart_trade_thirty_options_of_which_some_settle_and_each_sees_its_own_alone(tmp_path):
    said = trade(tmp_path / "up", SMALL, options=30, seconds=120, pace=2.0, settled=1)
    assert said["owners"] == 6
    assert said["funded"] >= 30, said["faults"]
    assert said["settled"] >= 1
    assert said["pending"] == 0
    assert said["miscounted"] == []
    assert said["broken"] == []
    assert said["overheard"] == []
    assert said["trespasses"] == []
