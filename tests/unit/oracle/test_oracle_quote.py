from __future__ import annotations

import json
from decimal import Decimal

import pytest

from btcfi.errors import InvalidInputError
from btcfi.oracle.quote import (
    MalformedNumberError,
    MalformedObservationError,
    MalformedVenueError,
    MissingReason,
    decode_observation,
    encode_observation,
    parse_json,
    parse_venue,
    price_of,
    rate_of,
    read_observation,
    volume_of,
)
from tests.support.oracle_support import COINBASE, KRAKEN, leg, missing, quote


@pytest.mark.parametrize(
    ("text", "cents"),
    [
        ("60000", 60_000_00),
        ("60000.005", 60_000_00),
        ("60000.015", 60_000_02),
        ("60000.0050000000000001", 60_000_01),
        ("6.0000125E4", 60_000_12),
        (Decimal("20371.04"), 20_371_04),
        (61234, 61_234_00),
    ],
)
def test_prices_round_half_even_to_a_cent_and_never_pass_through_a_float(text, cents) -> None:
    assert price_of("close", text) == cents


@pytest.mark.parametrize(
    "text",
    [
        "NaN", "sNaN", "Infinity", "-Infinity", "-60000", "0", "0.00", "999.99", "42949672.96", "1e999999999",
        "1e-9999", "", " 60000", "60_000", "6\u0660000", "0x10", "1" * 41, 10**30, 60000.0, True,
        None, ["60000"], {},
    ],
)  # fmt: skip
def test_what_is_no_sane_price_is_refused(text) -> None:
    with pytest.raises(MalformedNumberError):
        price_of("close", text)


@pytest.mark.parametrize("text", ["-0.1", "1e30", "21000000.00000001", "NaN"])
def test_what_is_no_volume_is_refused(text) -> None:
    with pytest.raises(MalformedNumberError):
        volume_of("volume", text)


def test_a_legs_rate_keeps_eight_digits() -> None:
    assert rate_of("close", "0.99957") == 99_957_000
    with pytest.raises(MalformedNumberError):
        rate_of("close", "3.1")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b'{"a": NaN}',
        b"[1, Infinity]",
        b'[[1,"2"',
        b"\xff\xfe",
        b"[" * 100_000,
        b"1" * 5000,
        b"[1e99999999999999999999]",
    ],
)
def test_what_is_no_json_is_refused_with_one_error(raw: bytes) -> None:
    with pytest.raises(MalformedObservationError):
        parse_json(raw)


def test_json_numbers_stay_exact_decimals() -> None:
    assert parse_json(b"[60000.123456789012345678]") == [Decimal("60000.123456789012345678")]


@pytest.mark.parametrize(
    "text", ["kraken", "kraken:BTC", "Kraken:BTC/USD", "kraken:btc/USD", ":BTC/USD", "kr aken:BTC/USD", "k:B/U/S", ""]
)
def test_a_malformed_venue_is_refused(text: str) -> None:
    with pytest.raises(MalformedVenueError):
        parse_venue(text)


def test_a_venue_round_trips_through_its_text_and_knows_whether_it_is_a_leg() -> None:
    assert str(parse_venue("kraken:USDT/USD")) == "kraken:USDT/USD"
    assert parse_venue("kraken:USDT/USD").is_leg
    assert not KRAKEN.is_leg


@pytest.mark.parametrize("observation", [quote(COINBASE, 60_000_00), leg(99_990_000), missing(KRAKEN)])
def test_an_observation_round_trips_through_json(observation) -> None:
    assert decode_observation(encode_observation(observation)) == observation
    assert read_observation(json.dumps(encode_observation(observation))) == observation


@pytest.mark.parametrize(
    "change",
    [
        {"close_cents": 0}, {"close_cents": 60_000_00.0}, {"volume_sats": 0}, {"volume_sats": 10**30}, {"slot": 61},
        {"evidence": "00"}, {"evidence": None}, {"kind": "rumour"}, {"venue": 7}, {"low_cents": 60_000_01},
        {"high_cents": None}, {"observed_at_unix": -1},
    ],
)  # fmt: skip
def test_a_stored_quote_with_a_wrong_field_is_refused(change) -> None:
    with pytest.raises(InvalidInputError):
        decode_observation({**encode_observation(quote(COINBASE, 60_000_00)), **change})


def test_every_missing_reason_is_plain_text() -> None:
    assert all(r.value == r.value.lower() and " " not in r.value for r in MissingReason)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "NaN", "{} {}", '{"kind": "quote"}', "[" * 100_000])
def test_a_stored_text_that_is_no_observation_is_refused(text):
    with pytest.raises(MalformedObservationError):
        read_observation(text)
