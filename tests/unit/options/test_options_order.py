"""One reader of an order's numbers: what it takes it takes exactly, and every other spelling by no value at all."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btcfi.errors import InvalidInputError
from btcfi.options.order import (
    MAX_MINUTES,
    Number,
    parse_amount,
    parse_distance,
    parse_dollars,
    parse_expiry,
    parse_quantity,
    parse_sats,
    parse_time,
    read_body,
    refuse_twice,
)
from btcfi.options.terms import MAX_QUANTITY, InvalidTermsError
from btcfi.units import MAX_U32

PLAIN = re.compile(r"[0-9]+(\.[0-9]{1,2})?")


@given(st.integers(1, MAX_U32))
def test_a_price_is_read_back_however_it_is_written_out(cents):
    amount = Decimal(cents).scaleb(-2)
    for text in (f"{amount}", f"{amount:,}", f"${amount:,}", f"{amount} USD", f" {amount}usd ", Number(f"{amount}")):
        assert parse_dollars(text, "strike") == cents
    assert parse_amount(f"{amount:,}", "max-premium") == cents


@given(st.integers(1, MAX_QUANTITY))
def test_a_quantity_is_read_back_however_it_is_written_out(hundredths):
    amount = Decimal(hundredths).scaleb(-2)
    for text in (f"{amount}", f"{amount:,}", f"{amount} BTC", f"{amount}btc"):
        assert parse_quantity(text) == hundredths


@given(st.text("0123456789,._+-eE \u0663\uff13'x$", max_size=12))
def test_whatever_is_read_as_a_price_is_the_number_that_a_person_reads(text):
    try:
        cents = parse_dollars(text, "strike")
    except InvalidTermsError:
        return
    digits = text.strip(" ").removeprefix("$")
    whole = digits.partition(".")[0]
    assert "," not in whole or (len(whole.partition(",")[0]) <= 3 and f"{int(whole.replace(',', '')):,}" == whole)
    assert PLAIN.fullmatch(digits.replace(",", ""))
    assert Decimal(digits.replace(",", "")).scaleb(2) == cents


@pytest.mark.parametrize("value", [True, False, None, [], {}, b"1", 0, -1, 1.005, 1e300, float("nan"), 10**60])
def test_a_value_that_is_no_number_of_ours_is_refused_by_its_field(value):
    with pytest.raises(InvalidTermsError) as caught:
        parse_dollars(value, "barrier")
    assert caught.value.field == "barrier"


def test_satoshis_are_whole_and_in_our_digits():
    assert parse_sats("129090", "premium-sats") == parse_sats("129,090", "premium-sats") == 129_090
    assert parse_sats("0", "premium-sats") == 0
    for text in ("1_000", "\u0661\u0660", "12,90", "1.0", "1e3", "+5", "-5", "", "0x1", "1" * 41):
        with pytest.raises(InvalidTermsError) as caught:
            parse_sats(text, "premium-sats")
        assert caught.value.field == "premium-sats"


def test_a_distance_to_the_expiry_is_whole_minutes():
    assert parse_distance("1.5", "hours").after == 90
    assert parse_distance(f"{MAX_MINUTES}", "minutes").after == MAX_MINUTES
    for count, unit in (("0.01", "hours"), ("1.5", "minutes"), (f"{MAX_MINUTES + 1}", "minutes"), ("1", "years")):
        with pytest.raises(InvalidTermsError) as caught:
            parse_distance(count, unit)
        assert caught.value.field == "expiry"


@pytest.mark.parametrize(
    "text",
    [
        "+\u0663\u0660", "+1_0", "+ 5", "+0", "+-5", "2026-12-31T08:00\u2009Z", "\u0662\u0660\u0662\u0666-12-31T08:00Z",
        "1_790_000_040", "+123456789",
    ],
)  # fmt: skip
def test_an_expiry_in_other_digits_is_refused_by_its_field(text):
    with pytest.raises(InvalidInputError) as caught:
        parse_expiry(text)
    assert caught.value.field == "expiry"


def test_a_time_is_read_as_it_was_in_earlier_releases():
    assert parse_time("2027-01-01T08:00:00Z", "expiry") == parse_time("1798790400", "expiry") == 1_798_790_400
    assert parse_time("2027-01-01 09:00+01:00", "expiry") == 1_798_790_400


@pytest.mark.parametrize("text", ["12:00:00.9Z", "12:00:00,9Z", "12:00:00.000000001Z", "12:00:00.5+01:00"])
def test_a_fraction_of_a_second_is_refused_and_not_cut_off(text):
    with pytest.raises(InvalidInputError) as caught:
        parse_time(f"2030-01-01T{text}", "expiry")
    assert caught.value.field == "expiry"
    assert parse_time("2030-01-01T12:00:00.000Z", "expiry") == parse_time("2030-01-01T12:00:00Z", "expiry")


def test_a_body_keeps_its_fractions_as_they_were_written_and_names_the_key_that_stands_twice():
    body = read_body(b'{"a": 1.50, "b": 6e4, "c": 7, "d": "1.5"}')
    assert {name: (type(value), value) for name, value in body.items()} == {
        "a": (Number, "1.50"), "b": (Number, "6e4"), "c": (int, 7), "d": (str, "1.5"),
    }  # fmt: skip
    with pytest.raises(InvalidInputError) as caught:
        read_body(b'{"x": {"strike": 1, "strike": 2}}')
    assert caught.value.field == "strike"
    with pytest.raises(InvalidInputError) as caught:
        refuse_twice({"a": 1, "strike": 2})
    assert caught.value.field == "strike"
