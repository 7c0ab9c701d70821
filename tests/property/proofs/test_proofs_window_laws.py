"""Any window: what its minutes make is what a second hand makes of them, and no change of a minute goes unseen."""

from dataclasses import replace
from fractions import Fraction
from statistics import median

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import PRICE_DIGITS, OracleEvent, PriceRounding
from btcfi.oracle.fixing import MOST_MINUTES, Fixing, FixingKind, LeftOut, fix
from btcfi.proofs.errors import ProofWindowError
from btcfi.proofs.window import WINDOW, encode_window, settled_price, window_of
from btcfi.units import CentsPerBtc, Hash32, Minutes, Slot

PRICES = st.integers(1, 40_000_000).map(CentsPerBtc)
FIXINGS = st.one_of(
    st.just(Fixing(FixingKind.MINUTE, Minutes(1))),
    st.builds(Fixing, st.sampled_from([FixingKind.TWAP, FixingKind.MEDIAN]), st.integers(2, MOST_MINUTES).map(Minutes)),
)
SAID = st.one_of(PRICES, PRICES, PRICES, st.sampled_from(LeftOut))
END = Slot(1_700_001_000)


@st.composite
def windows(draw):
    fixing = draw(FIXINGS)
    first = fixing.window(END)[0]
    said = draw(st.lists(SAID, min_size=3 * MOST_MINUTES, max_size=3 * MOST_MINUTES))
    fixed = fix(fixing, END, {Slot(first + 60 * place): one for place, one in enumerate(said)})
    assume(fixed is not None)
    rounding = draw(st.sampled_from([None, *PriceRounding]))
    return window_of(fixing, fixed, rounding=rounding)


def by_hand(window):
    """What the rule says, in fractions."""
    counted = [one.price for one in window.minutes if one.price is not None]
    exact = {
        FixingKind.MINUTE: Fraction(counted[-1]),
        FixingKind.TWAP: Fraction(sum(counted), len(counted)),
        FixingKind.MEDIAN: Fraction(median(map(Fraction, counted))),
    }[window.fixing.kind]
    cents = exact.numerator // exact.denominator
    if window.rounding is None:
        return cents
    half = Fraction(1, 2) if window.rounding is PriceRounding.NEAREST else 0
    dollars = (Fraction(cents, 100) + half).__floor__()
    return max(100 * min(dollars, 2**PRICE_DIGITS - 1), 1)


@given(windows())
@settings(max_examples=150, deadline=None)
def test_the_price_of_a_window_is_what_a_second_hand_makes_of_its_minutes_and_its_json_is_read_as_it_was(window):
    assert settled_price(window) == by_hand(window)
    assert WINDOW(encode_window(window)) == window
    count = sum(one.price is not None for one in window.minutes)
    assert count >= window.fixing.least
    inside = [one for one in window.minutes if one.slot <= END]
    assert len(inside) == window.fixing.minutes


@given(windows(), st.data())
@settings(max_examples=150, deadline=None)
def test_a_window_that_lost_doubled_moved_or_gained_a_minute_settles_nothing(window, data):
    at = data.draw(st.integers(0, len(window.minutes) - 1))
    minutes, one = list(window.minutes), window.minutes[at]
    after = replace(window.minutes[-1], slot=Slot(window.minutes[-1].slot + 60))
    other = data.draw(st.sampled_from(["lost", "doubled", "moved", "gained"]))
    changed = {
        "lost": minutes[:at] + minutes[at + 1 :],
        "doubled": minutes[: at + 1] + minutes[at:],
        "moved": [*minutes[:at], replace(one, slot=Slot(one.slot + 60)), *minutes[at + 1 :]],
        "gained": [*minutes, after],
    }[other]
    with pytest.raises(ProofWindowError):
        settled_price(replace(window, minutes=tuple(changed)))


@given(windows())
@settings(max_examples=100, deadline=None)
def test_what_a_window_settles_at_is_what_its_event_attests(window):
    assume(window.rounding is not None)
    version = 2 if window.rounding is PriceRounding.NEAREST else 1
    try:
        event = OracleEvent(
            feed="BTC/USD", expiry=END, program_hash=Hash32(bytes(32)), preset_hash=Hash32(bytes(32)),
            version=version, fixing=window.fixing,
        )  # fmt: skip
    except InvalidInputError:
        return  # version 1 knows no window
    exact = settled_price(replace(window, rounding=None))
    assert event.price_of(event.outcome(exact)) == settled_price(window)
