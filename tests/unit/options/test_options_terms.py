"""Terms that make no sense are refused, by name."""

from dataclasses import replace

import pytest

from btcfi.errors import InvalidInputError
from btcfi.options.expiry import SettlementInput, SettlementOutput, settlement_input
from btcfi.options.payoff import settle_in_python
from btcfi.options.terms import (
    MAX_QUANTITY,
    InvalidTermsError,
    OptionKind,
    OptionTerms,
    required_collateral,
    validate_terms,
)
from btcfi.units import MAX_MONEY_SATS

NOW = 1_700_000_000
TERMS = OptionTerms(
    kind=OptionKind.CALL, strike=6_000_000, quantity=100, barrier=None, american=False, expiry=NOW - NOW % 60 + 3600,
    premium=25_000, collateral=100_000_000,
)  # fmt: skip


@pytest.mark.parametrize("kind", OptionKind)
def test_sensible_terms_pass(kind):
    validate_terms(replace(TERMS, kind=kind, collateral=200_000_000), now=NOW, spot=6_000_000)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("strike", {"strike": 0}),
        ("strike", {"strike": 2**32}),
        ("quantity", {"quantity": 0}),
        ("quantity", {"quantity": MAX_QUANTITY + 1}),
        ("expiry", {"expiry": NOW - NOW % 60}),
        ("expiry", {"expiry": TERMS.expiry + 1}),
        ("expiry", {"expiry": 2**33 // 60 * 60}),
        ("expiry", {"american": True, "expiry": TERMS.expiry + 366 * 86400}),
        ("premium", {"premium": -1}),
        ("premium", {"premium": 2**32}),
        ("collateral", {"collateral": 0}),
        ("collateral", {"collateral": 99_999_999}),
        ("collateral", {"collateral": MAX_MONEY_SATS + 1}),
        ("barrier", {"barrier": 0}),
        ("barrier", {"barrier": 6_000_000}),
        ("barrier", {"barrier": 6_100_000}),
        ("barrier", {"barrier": 5_950_000}),
    ],
)
def test_a_wrong_field_is_named(field, change):
    spot = 5_900_000 if change.get("barrier", 0) == 5_950_000 else 6_100_000
    with pytest.raises(InvalidTermsError) as caught:
        validate_terms(replace(TERMS, **change), now=NOW, spot=spot)
    assert caught.value.field == field


def test_without_a_price_a_barrier_can_only_be_compared_with_the_strike():
    validate_terms(replace(TERMS, barrier=6_100_000), now=NOW, spot=None)
    with pytest.raises(InvalidTermsError):
        validate_terms(replace(TERMS, barrier=6_000_000), now=NOW, spot=None)


def test_only_binary_puts_need_twice_the_quantity():
    assert [required_collateral(kind, 100) for kind in OptionKind] == [10**8, 10**8, 10**8, 2 * 10**8]
    with pytest.raises(InvalidTermsError):
        required_collateral(OptionKind.BINARY_PUT, MAX_QUANTITY)


@pytest.mark.parametrize("kind", OptionKind)
@pytest.mark.parametrize("price", [3_000_000, 4_500_000, 5_999_999, 6_000_001, 9_000_000, 2**32 - 1])
def test_the_required_collateral_covers_every_payout_down_to_half_the_strike(kind, price):
    terms = replace(TERMS, kind=kind, collateral=required_collateral(kind, 100))
    given = settlement_input(terms, price=price, low=price, high=price, at=terms.expiry, volatility=0, rate=0)
    output = settle_in_python(given)
    difference = price - TERMS.strike if kind in (OptionKind.CALL, OptionKind.BINARY_CALL) else TERMS.strike - price
    per_bitcoin = 0 if difference < 0 else TERMS.strike if kind.is_binary else difference
    assert output.payout_sats == per_bitcoin * TERMS.quantity * 10**6 // price


def test_labels_are_the_names_users_type():
    assert [kind.label for kind in OptionKind] == ["call", "put", "binary_call", "binary_put"]
    assert OptionKind.from_label("binary_put") is OptionKind.BINARY_PUT
    with pytest.raises(InvalidTermsError):
        OptionKind.from_label("digital")


def test_the_settlement_price_is_part_of_what_was_observed():
    given = settlement_input(
        TERMS, price=6_500_000, low=6_600_000, high=6_400_000, at=TERMS.expiry, volatility=1, rate=1
    )
    assert (given.observed_low, given.observed_high, given.time_to_expiry) == (6_500_000, 6_500_000, 0)
    early = settlement_input(TERMS, price=1, low=1, high=1, at=TERMS.expiry - 600, volatility=1, rate=1)
    assert early.time_to_expiry == 10
    assert (
        settlement_input(TERMS, price=1, low=1, high=1, at=TERMS.expiry + 60, volatility=1, rate=1).time_to_expiry == 0
    )


def test_records_survive_their_bytes_and_refuse_others():
    given = settlement_input(TERMS, price=6_500_000, low=1, high=2**32 - 1, at=TERMS.expiry, volatility=1, rate=1)
    assert SettlementInput.from_bytes(given.to_bytes()) == given
    output = settle_in_python(given)
    assert SettlementOutput.from_bytes(output.to_bytes()) == output
    for bad in (b"", given.to_bytes()[:-1], given.to_bytes() + b"\0"):
        with pytest.raises(InvalidInputError):
            SettlementInput.from_bytes(bad)
    for place, value in ((8, 9), (12, 2), (36, 99), (24 + 7, 255)):
        data = bytearray(output.to_bytes())
        data[place] = value
        with pytest.raises(InvalidInputError):
            SettlementOutput.from_bytes(bytes(data))
    with pytest.raises(InvalidInputError):
        replace(given, spot=2**32).to_bytes()
