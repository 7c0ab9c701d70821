"""What is listed on a day, and that nothing listed vanishes while the price or the day moves."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from btcfi.errors import InvalidInputError
from btcfi.market.listing import ListingRule, Rung, day_start, expiries, ladder, listed
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE
from settings.market_preset import load_market_preset, market_preset_names

RULE = ListingRule(
    kinds=(OptionKind.CALL, OptionKind.PUT), dailies=2, weeklies=2, monthlies=2, quarterlies=2, strikes=2,
    ladder=(Rung(step=100_000, days=3), Rung(step=500_000, days=100), Rung(step=1_000_000, days=400)),
)  # fmt: skip


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def days(rule, now):
    return [datetime.fromtimestamp(one, UTC).strftime("%a %d %b %y %H:%M") for one in expiries(rule, at(now))]


def test_days_fridays_last_fridays_and_quarters_are_listed_at_eight():
    assert days(RULE, "2026-11-24T12:00") == [  # a Tuesday
        "Wed 25 Nov 26 08:00", "Thu 26 Nov 26 08:00", "Fri 27 Nov 26 08:00", "Fri 04 Dec 26 08:00",
        "Fri 25 Dec 26 08:00", "Fri 26 Mar 27 08:00",
    ]  # fmt: skip


def test_an_expiry_is_listed_until_its_minute_and_the_next_from_then_on():
    assert days(RULE, "2026-11-27T07:59")[0] == "Fri 27 Nov 26 08:00"
    assert days(RULE, "2026-11-27T08:00")[0] == "Sat 28 Nov 26 08:00"
    # the month's last Friday is over: the next two months
    assert "Fri 25 Dec 26 08:00" in days(RULE, "2026-11-27T08:00")
    assert "Fri 29 Jan 27 08:00" in days(RULE, "2026-11-27T08:00")


def test_a_month_whose_last_day_is_a_friday_ends_with_it():
    assert "Fri 30 Apr 27 08:00" in days(RULE, "2027-04-10T00:00")
    assert "Fri 31 Dec 27 08:00" in days(RULE, "2027-12-20T00:00")
    assert "Tue 29 Feb 28 08:00" in days(RULE, "2028-02-28T09:00")


def test_a_nearer_expiry_has_finer_strikes_and_all_of_the_farther_ones():
    now = at("2026-11-24T12:00")
    near, far = (
        ladder(RULE, 6_010_000, at("2026-11-25T08:00"), now),
        ladder(RULE, 6_010_000, at("2027-03-26T08:00"), now),
    )
    assert [s // 100 for s in near] == [
        50_000, 55_000, 59_000, 60_000, 61_000, 62_000, 65_000, 70_000, 80_000
    ]  # fmt: skip
    assert [s // 100 for s in far] == [50_000, 60_000, 70_000, 80_000]


def test_prices_seen_since_eight_keep_their_strikes():
    now, expiry = at("2026-11-24T12:00"), at("2026-11-25T08:00")
    before = set(ladder(RULE, 6_010_000, expiry, now))
    after = set(ladder(RULE, 6_700_000, expiry, now, low=5_900_000, high=6_700_000))
    assert before < after
    assert day_start(now) == at("2026-11-24T08:00")
    assert day_start(at("2026-11-24T07:59")) == at("2026-11-23T08:00")


def test_a_low_price_has_no_strike_at_or_below_nothing():
    assert min(ladder(RULE, 150_000, at("2026-11-25T08:00"), at("2026-11-24T12:00"))) == 100_000


def test_short_expiries_settle_on_their_own_window():
    rule = replace(RULE, short=(10, 30), short_count=2, dailies=1, weeklies=0, monthlies=0, quarterlies=0)
    now = at("2026-11-24T07:35")
    assert days(rule, "2026-11-24T07:35") == [
        "Tue 24 Nov 26 07:40", "Tue 24 Nov 26 07:50", "Tue 24 Nov 26 08:00", "Tue 24 Nov 26 08:30",
    ]  # fmt: skip
    by_expiry = {one.expiry: one.fixing for one in listed(rule, now, 6_010_000)}
    assert [str(by_expiry[end]) for end in sorted(by_expiry)] == ["minute", "minute", "twap:30", "minute"]
    assert by_expiry[at("2026-11-24T07:40")] == MINUTE


@pytest.mark.parametrize("name", market_preset_names())
@pytest.mark.parametrize("spot", [100, 150_000, 6_012_345, 50_000_000, 4_294_967_295])
def test_every_preset_lists_instruments_that_have_names_at_any_price(name, spot):
    many = listed(load_market_preset(name).listing, at("2026-11-24T12:00"), spot)
    assert len({one.name for one in many}) == len(many)


def test_a_range_that_would_list_half_of_all_numbers_is_refused():
    with pytest.raises(InvalidInputError):
        listed(RULE, at("2026-11-24T12:00"), 6_010_000, low=1, high=4_294_967_295)


@pytest.mark.parametrize(
    "ladder_", [(), (Rung(step=0, days=1),), (Rung(step=2, days=1), Rung(step=1, days=2)),
                (Rung(step=1, days=2), Rung(step=2, days=1))],
)  # fmt: skip
def test_a_ladder_that_contradicts_itself_is_refused(ladder_):
    with pytest.raises(InvalidInputError):
        replace(RULE, ladder=ladder_)
