"""The week's clock: New York's time, the exchange's days, by the published rules and known holidays."""

import json
from datetime import UTC, date, datetime

import pytest

from btcfi.errors import InvalidInputError
from btcfi.swaps.calendar import (
    NEW_YORK,
    day_of,
    due_day,
    is_business_day,
    next_settlement_day,
    settlement_day,
    start_day,
    start_days,
)  # fmt: skip
from tests.support.paths import ROOT

VECTORS = [
    one
    for one in json.loads((ROOT / "tests/vectors/swaps/oracleswap.json").read_text())["vectors"]
    if one["id"].startswith("cal.")
]
TAKES = [one for one in VECTORS if "take" in one["inputs"]]


def at(text):
    """An instant of New York."""
    return int(datetime.fromisoformat(text.removesuffix(" ET")).replace(tzinfo=NEW_YORK).timestamp())


@pytest.mark.parametrize("one", TAKES, ids=lambda one: one["id"])
def test_a_take_before_a_quarter_to_four_has_that_days_close(one):
    assert start_day(at(one["inputs"]["take"])).isoformat() == one["recomputed"]


def test_settlement_is_wednesday_or_the_business_day_before():
    one = next(one for one in VECTORS if one["id"] == "cal.settle")
    weeks = [date.fromisoformat(day) for day in one["inputs"]["weeks_of"]]
    assert [settlement_day(day).isoformat() for day in weeks] == one["recomputed"]


def test_a_week_after_a_holiday_has_eight_days():
    one = next(one for one in VECTORS if one["id"] == "cal.gap")
    first, second = (date.fromisoformat(one["inputs"][name]) for name in ("frm", "to"))
    assert next_settlement_day(first) == second
    assert (second - first).days == one["recomputed"]


@pytest.mark.parametrize(
    "one", [one for one in VECTORS if one["id"].startswith("cal.starts")], ids=lambda one: one["id"]
)
def test_a_position_can_start_on_each_business_day_of_its_week(one):
    days = start_days(date.fromisoformat(one["inputs"]["prev"]), date.fromisoformat(one["inputs"]["settle"]))
    assert [day.isoformat() for day in days] == one["recomputed"]["days"]
    assert 2 * len(days) == one["recomputed"]["datapoints"] <= 10


def test_no_week_of_thirty_years_has_more_than_five_days_or_nine_nights():
    day = settlement_day(date(2010, 1, 6))
    while day < date(2039, 12, 1):
        after = next_settlement_day(day)
        assert 1 <= len(start_days(day, after)) <= 5
        assert (after - day).days in {5, 6, 7, 8, 9} - {5, 9}
        day = after


@pytest.mark.parametrize("day", ["2025-01-09", "2012-10-29", "2018-12-05", "2026-07-03", "2027-06-18"])
def test_mourning_storms_and_moved_holidays_are_no_business_days(day):
    assert not is_business_day(date.fromisoformat(day))


def test_on_a_half_day_the_index_closes_at_one_and_bitcoin_at_four():
    day = day_of(date(2026, 11, 27))
    assert datetime.fromtimestamp(day.index_close, UTC).astimezone(NEW_YORK).hour == 13
    assert datetime.fromtimestamp(day.reference, UTC).astimezone(NEW_YORK).hour == 16
    assert day.index_close < day.initialise < day.reference < day.post < day.attest < day.settle


def test_both_changes_of_the_clock_keep_new_yorks_time():
    winter, summer = day_of(date(2026, 3, 6)), day_of(date(2026, 3, 9))
    assert summer.post - winter.post == 3 * 86_400 - 3_600
    summer, winter = day_of(date(2026, 10, 30)), day_of(date(2026, 11, 2))
    assert winter.post - summer.post == 3 * 86_400 + 3_600
    assert start_day(at("2026-03-08T02:30:00")) == date(2026, 3, 9)


def test_a_closed_day_and_a_year_that_nobody_knows_are_refused():
    with pytest.raises(InvalidInputError, match="closed"):
        day_of(date(2026, 12, 25))
    with pytest.raises(InvalidInputError, match="2009 to 2040"):
        is_business_day(date(2041, 1, 2))


DUE = {
    "before a quarter to four the day before stands": ("2024-11-13", "2024-11-14 15:44", None),
    "from a quarter to four it is the day's": ("2024-11-13", "2024-11-14 15:45", "2024-11-14"),
    "a day that is posted is not due again": ("2024-11-14", "2024-11-14 23:00", None),
    "of days that were missed the newest": ("2024-11-13", "2024-11-18 16:00", "2024-11-18"),
    "a missed day before the next one's time": ("2024-11-14", "2024-11-16 12:00", "2024-11-15"),
    "a missed settlement day before any later day": ("2024-11-19", "2024-11-22 16:00", "2024-11-20"),
    "of missed settlement days the newest": ("2024-11-12", "2024-11-21 16:00", "2024-11-20"),
    "a silence of a month": ("2024-10-16", "2024-11-18 18:00", "2024-11-13"),
    "the settlement day itself from a quarter to four": ("2024-11-19", "2024-11-20 15:50", "2024-11-20"),
    "a Tuesday before a Wednesday that is a holiday": ("2024-12-23", "2024-12-24 16:20", "2024-12-24"),
    "the first post is a settlement day's": (None, "2024-11-14 09:00", "2024-11-13"),
    "the first of all on its own day": (None, "2024-11-20 15:45", "2024-11-20"),
    "the winter clock": ("2024-11-01", "2024-11-04 15:45", "2024-11-04"),
}


@pytest.mark.parametrize(("posted", "now", "expected"), DUE.values(), ids=DUE)
def test_the_day_that_is_posted_next(posted, now, expected):
    found = due_day(None if posted is None else date.fromisoformat(posted), at(now))
    assert (found and found.date.isoformat()) == expected
