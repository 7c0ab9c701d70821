"""An instrument has one name, a name one instrument, and everything else is refused."""

import pytest

from btcfi.errors import InvalidInputError
from btcfi.market.instrument import Instrument, UnknownInstrumentError, instrument_of, parse_instrument
from btcfi.options.terms import InvalidTermsError, OptionKind
from btcfi.oracle.fixing import MINUTE, parse_fixing

EXPIRY = 1_795_766_400
"""27 November 2026, 08:00 UTC."""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BTC-27NOV26-60000-C", Instrument(kind=OptionKind.CALL, strike=6_000_000, expiry=EXPIRY)),
        ("BTC-27NOV26T0801-60000-C", Instrument(kind=OptionKind.CALL, strike=6_000_000, expiry=EXPIRY + 60)),
        ("BTC-27NOV26-60000d05-BP", Instrument(kind=OptionKind.BINARY_PUT, strike=6_000_005, expiry=EXPIRY)),
        ("BTC-27NOV26-0d50-P", Instrument(kind=OptionKind.PUT, strike=50, expiry=EXPIRY)),
        ("BTC-27NOV26-60000-C-KO70000", Instrument(
            kind=OptionKind.CALL, strike=6_000_000, expiry=EXPIRY, barrier=7_000_000)),
        ("BTC-27NOV26-60000-P-KO0d01-AM", Instrument(
            kind=OptionKind.PUT, strike=6_000_000, expiry=EXPIRY, barrier=1, american=True, fixing=MINUTE)),
        ("BTC-27NOV26-60000-BC-MINUTE", Instrument(
            kind=OptionKind.BINARY_CALL, strike=6_000_000, expiry=EXPIRY, fixing=MINUTE)),
        ("BTC-27NOV26-42949672d95-C-MEDIAN2", Instrument(
            kind=OptionKind.CALL, strike=4_294_967_295, expiry=EXPIRY, fixing=parse_fixing("median:2"))),
        ("BTC-31DEC99T2359-60000-C", Instrument(kind=OptionKind.CALL, strike=6_000_000, expiry=4_102_444_740)),
        ("BTC-1JAN00T0000-60000-C", Instrument(kind=OptionKind.CALL, strike=6_000_000, expiry=946_684_800)),
        ("BTC-29FEB28-60000-C", Instrument(kind=OptionKind.CALL, strike=6_000_000, expiry=1_835_424_000)),
    ],
)  # fmt: skip
def test_a_name_says_its_instrument_and_the_instrument_its_name(name, expected):
    assert parse_instrument(name) == expected
    assert expected.name == name
    assert instrument_of(expected.terms(10, 500)) == expected


@pytest.mark.parametrize(
    "name",
    [
        "", "BTC", "btc-27NOV26-60000-C", "BTC-27nov26-60000-C", "ETH-27NOV26-60000-C", " BTC-27NOV26-60000-C",
        "BTC-27NOV26-60000-C ", "BTC-27NOV26-60000-C\n", "BTC-27NOV26-60000", "BTC-27NOV26-60000-X",
        "BTC-07NOV26-60000-C", "BTC-0NOV26-60000-C", "BTC-31NOV26-60000-C", "BTC-29FEB27-60000-C",
        "BTC-27NOW26-60000-C", "BTC-27NOV2026-60000-C", "BTC-27NOV26T0800-60000-C", "BTC-27NOV26T2400-60000-C",
        "BTC-27NOV26T0960-60000-C", "BTC-27NOV26T9-60000-C", "BTC-27NOV26-060000-C", "BTC-27NOV26-60,000-C",
        "BTC-27NOV26-60000.50-C", "BTC-27NOV26-60000d5-C", "BTC-27NOV26-60000d00-C", "BTC-27NOV26-0-C",
        "BTC-27NOV26-0d00-C", "BTC-27NOV26-00d50-C", "BTC-27NOV26-42949672d96-C", "BTC-27NOV26-99999999-C",
        "BTC-27NOV26-123456789-C", "BTC-27NOV26--60000-C", "BTC-27NOV26-+60000-C", "BTC-27NOV26-6e4-C",
        "BTC-27NOV26-\uff16\uff10\uff10\uff10\uff10-C", "BTC-\u0662\u0667NOV26-60000-C",
        "BTC-27NOV26-60000-\u0421",  # these: full-width, Arabic, Cyrillic
        "BTC-27NOV26-60000-C-KO60000", "BTC-27NOV26-60000-C-KO0", "BTC-27NOV26-60000-C-KO", "BTC-27NOV26-60000-C-70000",
        "BTC-27NOV26-60000-C-AM-KO70000", "BTC-27NOV26-60000-C-AM-MINUTE", "BTC-27NOV26-60000-C-AM-TWAP30",
        "BTC-27NOV26-60000-C-TWAP30", "BTC-27NOV26-60000-C-TWAP1", "BTC-27NOV26-60000-C-TWAP05",
        "BTC-27NOV26-60000-C-TWAP61", "BTC-27NOV26-60000-C-MEDIAN", "BTC-27NOV26-60000-C-MINUTE1",
        "BTC-27NOV26-60000-C-twap:5", "BTC-27NOV26-60000-C-MINUTE-AM", "BTC-27NOV26-60000-C" + "-AM" * 40,
        None, 5, 60_000.0, ["BTC-27NOV26-60000-C"], b"BTC-27NOV26-60000-C",
    ],
)  # fmt: skip
def test_another_spelling_names_nothing(name):
    with pytest.raises(UnknownInstrumentError):
        parse_instrument(name)


def test_a_refused_spelling_says_the_right_one():
    with pytest.raises(UnknownInstrumentError) as e:
        parse_instrument("BTC-27NOV26T0800-60000d00-C-TWAP30")
    assert e.value.expected == "BTC-27NOV26-60000-C"


@pytest.mark.parametrize(
    "wrong",
    [
        {"expiry": EXPIRY + 1}, {"expiry": 0}, {"expiry": -60}, {"strike": 0}, {"strike": 1 << 32}, {"barrier": 0},
        {"barrier": 6_000_000},
        {"expiry": 946_684_740},  # 1999: its name would be that of 2099
        {"expiry": 4_102_444_800},  # 2100: its name would be that of 2000
    ],
)  # fmt: skip
def test_an_instrument_that_no_name_says_cannot_be_made(wrong):
    with pytest.raises(UnknownInstrumentError):
        Instrument(**{"kind": OptionKind.CALL, "strike": 6_000_000, "expiry": EXPIRY} | wrong)


def test_an_american_option_on_a_window_is_no_instrument():
    with pytest.raises(InvalidTermsError):
        Instrument(kind=OptionKind.CALL, strike=6_000_000, expiry=EXPIRY, american=True)


def test_the_terms_of_an_instrument_lock_what_their_kind_needs():
    terms = parse_instrument("BTC-27NOV26-60000-BP").terms(10, 500)
    assert (terms.collateral, terms.premium, str(terms.window)) == (20_000_000, 500, "twap:30")
    with pytest.raises(InvalidInputError):
        parse_instrument("BTC-27NOV26-60000-BP").terms(0, 500)


@pytest.mark.parametrize("written", [
    "btc-27nov26-60000-c", "BTC-27NOV26-60,000-C", "BTC-27NOV26-60000-CALL", " BTC-27NOV26-60000-C ",
    "BTC-27NOV26-60000.00-C",
    "BTC-27NOV26-60000-C-TWAP30", "BTC-27NOV26T0800-60000-C",
])  # fmt: skip
def test_a_name_in_another_spelling_is_refused_with_the_right_one(written):
    with pytest.raises(UnknownInstrumentError, match=r"expected BTC-27NOV26-60000-C$"):
        parse_instrument(written)


@pytest.mark.parametrize(("written", "right"), [
    ("BTC-05JAN27-60000.50-p", "BTC-5JAN27-60000d50-P"), ("btc-5jan27-60000d50-bput", "BTC-5JAN27-60000d50-BP"),
    ("btc-30feb27-60000-c", "an instrument such as"), ("BTC-PERPETUAL", "an instrument such as"),
])  # fmt: skip
def test_what_was_meant_is_named_only_where_it_is_an_instrument(written, right):
    with pytest.raises(UnknownInstrumentError, match=f"expected {right}"):
        parse_instrument(written)
