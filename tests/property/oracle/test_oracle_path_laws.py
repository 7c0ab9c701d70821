"""Laws of paths: whole numbers equal a twin in numpy, order and later minutes change nothing, evidence comes back."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from btcfi.oracle.fixing import LeftOut
from btcfi.oracle.own_minutes import Lacking, compute
from btcfi.oracle.path import INDEX_UNIT, Asian, Cliquet, Ladder, parse_path
from btcfi.oracle.path_evidence import check_evidence, decode_evidence, encode_evidence, evidence_of
from btcfi.units import CentsPerBtc, Minutes
from tests.support.path_events import END, minutes_of, path_event, said_and_touched

ASIANS = st.builds(Asian, st.integers(1, 60).map(Minutes), st.integers(2, 60))
CLIQUETS = st.builds(
    Cliquet, st.integers(1, 60).map(Minutes), st.integers(2, 30), st.integers(-300, 0), st.integers(1, 500)
)

LOADED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A machine that does other work is slow; that is no law of a path."""


def numpy_value(path, prices):
    """What ``value`` is, another way: all at once, in 64 bits."""
    p = np.array(prices, dtype=np.int64)
    if isinstance(path, Asian):
        return int(p.sum() // len(p))
    move = np.floor_divide(2 * INDEX_UNIT * (p[1:] - p[:-1]) + p[:-1], 2 * p[:-1])
    return INDEX_UNIT + int(np.clip(move, path.floor_bps * 1_000, path.cap_bps * 1_000).sum())


@LOADED
@given(path=ASIANS | CLIQUETS, seed=st.integers(0, 2**32), wide=st.booleans())
def test_a_value_in_whole_numbers_equals_the_one_in_numpy_and_lies_between_its_bounds(path, seed, wide):
    low, high = (1, 2**32) if wide else (5_000_000, 7_000_000)
    drawn = np.random.default_rng(seed).integers(low, high, len(path.times(END)))
    prices = [CentsPerBtc(int(one)) for one in drawn]
    value = path.value(prices)
    assert value == numpy_value(path, prices)
    assert parse_path(str(path)) == path
    if isinstance(path, Asian):
        assert min(prices) <= value <= max(prices)
        assert value == path.value(prices[::-1])
    else:
        assert path.lowest * 100 <= value <= path.highest * 100
        assert path_event(str(path)).outcome(value) in range(path.lowest, path.highest + 1)


@LOADED
@given(
    up=st.booleans(), rungs=st.sets(st.integers(50_000, 70_000), min_size=1, max_size=8),
    seed=st.integers(0, 2**32), last=st.integers(5_000_000, 7_000_000),
)  # fmt: skip
def test_a_ladder_s_rung_is_that_of_the_extreme_of_its_minutes(up, rungs, seed, last):
    draw = np.random.default_rng(seed)
    spans = [(int(draw.integers(5_000_000, 7_000_000)), int(draw.integers(0, 500_000))) for _ in range(9)]
    levels = tuple(sorted(rungs, reverse=not up))
    ladder = Ladder(up, END - 540, levels)
    one = path_event(str(ladder))
    minutes = [END - 480 + 60 * n for n in range(9)]
    known = minutes_of(dict.fromkeys(minutes, last), {
        at: (low, low + width) for at, (low, width) in zip(minutes, spans, strict=True)
    })  # fmt: skip
    found = compute(one, *said_and_touched(known))
    far = max(low + width for low, width in spans) if up else min(low for low, _ in spans)
    held = [100 * rung for rung in levels if (100 * rung <= far if up else 100 * rung >= far)]
    expected = (max if up else min)([last, *held])
    assert found.outcome == one.outcome(CentsPerBtc(expected))
    assert found.reached == len(held)


@LOADED
@given(path=ASIANS | CLIQUETS, fixing=st.sampled_from(["minute", "twap:2", "median:3"]), seed=st.integers(0, 2**32),
       thin=st.floats(0.0, 0.6))  # fmt: skip
def test_what_is_known_never_changes_by_a_later_minute_and_its_evidence_says_the_same(path, fixing, seed, thin):
    if int(fixing.partition(":")[2] or 1) > path.every:
        fixing = "minute"
    one, draw = path_event(str(path), fixing=fixing), np.random.default_rng(seed)
    first = path.times(END)[0] - 3_600
    said = {at: LeftOut.VOID if draw.random() < thin else int(draw.integers(5_000_000, 7_000_000))
            for at in range(first, END + 7_200, 60)}  # fmt: skip
    known, until = minutes_of(said), END - 120
    found = compute(one, *said_and_touched({at: row for at, row in known.items() if at <= until}))
    while isinstance(found, Lacking):
        assert all(at > until for at in found.slots)  # nothing lacks but what has not come
        until += 60
        found = compute(one, *said_and_touched({at: row for at, row in known.items() if at <= until}))
    seen = {}

    def looked(at):
        seen[at] = known[at]
        return known[at]

    assert compute(one, *said_and_touched(known, looked)) == found
    again = decode_evidence(encode_evidence(evidence_of(one, found, seen)))
    assert check_evidence(again, expected=one) == found
