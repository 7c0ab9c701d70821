"""What settles an option: which minutes of a window count, what is made of them, and what an event of it says."""

from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import OracleEvent, PriceRounding, announce, attested_price, check_announcement
from btcfi.oracle.fixing import (
    MINUTE,
    MINUTES_AFTER,
    MOST_MINUTES,
    Fixing,
    FixingKind,
    LeftOut,
    WrongFixingError,
    fix,
    parse_fixing,
)
from btcfi.units import CentsPerBtc, Hash32, Minutes, Slot

END = Slot(1_700_001_000)
TWAP = parse_fixing("twap:30")


def minutes(fixing, said):
    """What the minutes from the window's first on say: a price, a reason, or nothing yet."""
    first = fixing.window(END)[0]
    return {Slot(first + 60 * place): one for place, one in enumerate(said) if one is not None}


def fixed(fixing, said):
    return fix(fixing, END, minutes(fixing, said))


# ---- rules


def test_a_fixing_has_one_spelling_and_a_window_of_at_most_an_hour():
    for text in ("minute", "twap:2", "twap:30", "twap:60", "median:2", "median:60"):
        assert str(parse_fixing(text)) == text
    for wrong in (
        "", "minute:1", "minute:2", "twap", "twap:", "twap:1", "twap:0", "twap:-3", "twap:61", "twap:030", "twap:3.0",
        "TWAP:3", "twap: 3", "twap:٣", "median:1", "vwap:3", "twap:3:3", "twap:" + "9" * 5_000,
    ):  # fmt: skip
        with pytest.raises(WrongFixingError):
            parse_fixing(wrong)
    for kind, count in ((FixingKind.MINUTE, 2), (FixingKind.TWAP, 1), (FixingKind.TWAP, True), (FixingKind.MEDIAN, 61)):
        with pytest.raises(WrongFixingError):
            Fixing(kind, Minutes(count))


@pytest.mark.parametrize(
    ("text", "least"), [("minute", 1), ("twap:2", 2), ("twap:3", 2), ("twap:30", 20), ("twap:31", 21)]
)
def test_it_needs_two_thirds_of_its_window_rounded_up(text, least):
    assert parse_fixing(text).least == least


def test_the_window_ends_with_its_last_minute():
    assert list(parse_fixing("twap:3").window(END)) == [END - 120, END - 60, END]
    assert list(MINUTE.window(END)) == [END]


# ---- which minutes count


def test_eleven_silenced_minutes_of_thirty_delay_a_fixing_and_never_prevent_it():
    said = [LeftOut.VOID] * 11 + [6_000_000] * 19
    assert fixed(TWAP, said) is None
    found = fixed(TWAP, [*said, LeftOut.VOID, 6_000_200])
    assert found.price == (19 * 6_000_000 + 6_000_200) // 20
    assert found.late == (END + 120,)
    assert [at for at, _ in found.left_out] == [*TWAP.window(END)[:11], END + 60]


def test_ten_silenced_minutes_of_thirty_change_nothing_but_the_mean_of_the_others():
    found = fixed(TWAP, [*[6_000_000] * 10, *[LeftOut.THIN] * 10, *[6_000_001] * 10])
    assert (found.price, found.late, len(found.left_out)) == (6_000_000, (), 10)


def test_a_window_of_void_minutes_takes_the_next_ones_for_a_day_and_waits_for_one_that_is_open():
    for after in (1, 20, MINUTES_AFTER - 20):
        found = fixed(TWAP, [LeftOut.VOID] * (30 + after) + [6_000_000] * 20)
        assert found.price == 6_000_000
        assert found.late[0] == END + 60 * (after + 1)
        assert fixed(TWAP, [LeftOut.VOID] * (30 + after) + [6_000_000] * 19) is None
    assert fixed(TWAP, [LeftOut.VOID] * (30 + MINUTES_AFTER - 19) + [6_000_000] * 20) is None
    assert fixed(TWAP, [6_000_000] * 29) is None  # the last minute of the window is open
    assert fixed(TWAP, [6_000_000] * 10 + [None] + [6_000_000] * 40) is None


def test_one_minute_is_the_next_priced_one_where_its_own_has_no_price():
    assert fixed(MINUTE, [6_000_000, 7_000_000]).price == 6_000_000
    found = fixed(MINUTE, [LeftOut.VOID, LeftOut.NEVER_ASKED, 7_000_000])
    assert (found.price, found.last, found.end) == (7_000_000, END + 120, END)


def test_the_mean_is_rounded_down_to_the_cent_and_the_median_is_the_middle():
    assert fixed(parse_fixing("twap:3"), [1, 1, 3]).price == 1
    assert fixed(parse_fixing("median:3"), [9, 1, 5]).price == 5
    assert fixed(parse_fixing("median:4"), [9, 1, 5, 6]).price == 5
    assert fixed(parse_fixing("median:3"), [9, LeftOut.VOID, 5]).price == 7


FIXINGS = st.builds(
    Fixing, st.sampled_from([FixingKind.TWAP, FixingKind.MEDIAN]), st.integers(2, MOST_MINUTES).map(Minutes)
)
SAID = st.lists(
    st.one_of(st.integers(1, 2**32 - 1), st.integers(5_900_000, 6_100_000), st.sampled_from(LeftOut)),
    min_size=1, max_size=150,
)  # fmt: skip


@given(FIXINGS, SAID, SAID)
@settings(max_examples=300, deadline=None)
def test_what_comes_later_changes_no_fixing_that_is_known_and_it_lies_among_the_prices_that_count(fixing, said, later):
    found = fixed(fixing, said)
    if found is None:
        return
    assert fixed(fixing, said + later) == found
    prices = [price for _, price in found.used]
    assert min(prices) <= found.price <= max(prices)
    assert len(prices) >= fixing.least
    exact = sum(prices) / len(prices) if fixing.kind is FixingKind.TWAP else median(prices)
    assert found.price <= exact < found.price + 1 or abs(found.price - exact) < 1e-3
    assert len(found.late) in (0, fixing.least - sum(at <= END for at, _ in found.used))


# ---- the event


OLD = OracleEvent(feed="BTC/USD", expiry=END, program_hash=Hash32(b"\1" * 32), preset_hash=Hash32(b"\2" * 32))
NEW = replace(OLD, version=2, fixing=TWAP)


def test_an_event_of_version_1_keeps_its_bytes_and_one_of_version_2_says_its_fixing_and_rounding():
    head = bytes([18]) + END.to_bytes(8) + b"\1" * 32 + b"\2" * 32 + b"\x07BTC/USD" + b"\x00"
    assert OLD.to_bytes() == b"\1" + head
    assert NEW.to_bytes() == b"\2" + head + b"\x07twap:30" + b"\x07nearest"
    assert NEW.id == tagged_hash("BTCFi/oracle/event/v1", NEW.to_bytes())
    assert len({OLD.id, NEW.id, replace(OLD, version=2).id, replace(NEW, fixing=parse_fixing("median:30")).id}) == 4


def test_version_1_knows_one_minute_alone_and_there_is_no_version_3():
    for changes in ({"fixing": TWAP}, {"version": 3}, {"version": 0}):
        with pytest.raises(InvalidInputError):
            replace(OLD, **changes)


@pytest.mark.parametrize(
    ("cents", "down", "nearest"),
    [(6_000_049, 60_000, 60_000), (6_000_050, 60_000, 60_001), (6_000_149, 60_001, 60_001), (49, 0, 0), (50, 0, 1),
     (26_214_349, 262_143, 262_143), (26_214_350, 262_143, 262_143), (2**32 - 1, 262_143, 262_143)],
)  # fmt: skip
def test_the_rounding_of_the_version_makes_whole_dollars(cents, down, nearest):
    price = CentsPerBtc(cents)
    assert (OLD.outcome(price), NEW.outcome(price)) == (down, nearest)
    assert attested_price(price, PriceRounding.DOWN, 18) == OLD.price_of(down)
    assert attested_price(price, PriceRounding.NEAREST, 18) == NEW.price_of(nearest)


def test_an_announcement_of_another_fixing_is_of_another_event():
    made = announce(b"\3" * 32, NEW)
    check_announcement(made, expected=NEW)
    for other in (OLD, replace(OLD, version=2), replace(NEW, fixing=parse_fixing("twap:29"))):
        with pytest.raises(Exception, match="is for event"):
            check_announcement(made, expected=other)
        with pytest.raises(Exception, match="proof of knowledge"):
            check_announcement(replace(made, event=other), expected=other)


@pytest.mark.parametrize("text", ["twap", "median", "twap:0", "twap:1", "twap:61", "twap:-3", "minute:1", "TWAP:30"])
def test_a_wrong_fixing_is_refused_as_it_was_written(text):
    with pytest.raises(WrongFixingError) as e:
        parse_fixing(text)
    assert str(e.value).startswith(f"fixing: {text!r}; expected minute, twap:N or median:N")
