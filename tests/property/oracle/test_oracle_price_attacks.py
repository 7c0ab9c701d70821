"""No attack moves a price beyond the table of docs/oracle.md; ``make night`` tries a hundred thousand a size."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.oracle.robustness import LARGEST_SIZE
from tests.support.price_attacks import Tally, draw_round, judge


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 2**64), st.integers(1, LARGEST_SIZE))
def test_no_attack_by_price_volume_low_high_leg_silence_or_timing_moves_a_price_beyond_the_table(seed, size) -> None:
    tally = Tally()
    for attempt in range(5):
        judge(draw_round(random.Random(f"{seed} {attempt}"), size), tally)
    assert tally.beyond == []
