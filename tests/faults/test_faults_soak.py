"""What a soak stands on: a recording as long as it has to be, and a report that is there however it ends."""

import pytest

from btcfi.adapters.venues.candle_folder import read_candle_folder, venues_for_replay
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.errors import InvalidInputError
from workers.chaos.cluster import long_recording
from workers.chaos.soak import Minute, run_soak, slots_needed
from workers.commands.chaos import SOAK_BEGIN, SOAK_END, _put, _soak_lines, _soak_verdict


def test_a_soak_of_half_an_hour_has_a_minute_of_the_market_for_each_of_its_slots(tmp_path):
    folder = read_candle_folder(long_recording(tmp_path / "candles", slots_needed(30)))
    slots = folder.slots(None, None)
    assert len(slots) >= slots_needed(30) > 30 * 4
    assert all(sorted(rows) == slots for rows in folder.candles.values())
    short = read_candle_folder(SYNTHETIC_CANDLES)
    assert venues_for_replay(folder, None, None) == venues_for_replay(short, None, None)
    again = slots[len(short.slots(None, None))]
    assert {v: rows[again].close for v, rows in folder.candles.items()} == {
        v: rows[slots[0]].close for v, rows in short.candles.items()
    }


def minute(number, *, struck=True):
    return Minute(
        number=number, fault="kill-child at settlement.built:after", struck=struck, sold=20 * number, settled=3,
        backlog=4, rss_mb=3_000,
    )  # fmt: skip


def said(**changes):
    return {
        "date": "2026-11-21", "commit": "abc", "seed": 1, "store": "SQLite", "minutes": 2, "asked": 2, "sold": 40,
        "refused": 0, "struck": 1, "drained_seconds": 61.0, "seconds": 250.0, "broken": [], **changes,
    }  # fmt: skip


def test_the_report_says_of_each_minute_what_was_broken_and_what_was_open(tmp_path):
    file = tmp_path / "page.md"
    file.write_text(f"before\n{SOAK_BEGIN}\nearlier\n{SOAK_END}\nafter\n")
    _put(file, SOAK_BEGIN, SOAK_END, _soak_lines([minute(1), minute(2, struck=False)], said()))
    text = file.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{SOAK_END}\nafter\n")
    assert "earlier" not in text
    assert "| 1 | kill-child at settlement.built:after | 20 | 3 | 17 | 4 | 3,000 |" in text
    assert "settlement.built:after (not reached) | 40 |" in text
    assert "every promise held" in text


def test_a_soak_that_was_stopped_or_broke_a_promise_does_not_say_that_all_held():
    assert "PARTIAL" in _soak_verdict(said(broken=None))
    assert "held" not in _soak_verdict(said(broken=None))
    broken = said(broken=["soak-1: not settled"])
    assert "1 BROKEN" in _soak_verdict(broken)
    assert "held" not in _soak_verdict(broken)
    assert "- soak-1: not settled" in _soak_lines([minute(1)], broken)


def test_sales_are_spread_evenly_over_the_market_minutes_of_a_wall_minute():
    with pytest.raises(InvalidInputError, match="multiple of 4"):
        run_soak(None, None, minutes=1, per_minute=21, seed=1, said=print)
