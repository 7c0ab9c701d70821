"""Laws of minute events: a price is its digits, a signature fits its minute, its place and its value alone."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi import secp256k1
from btcfi.errors import InvalidInputError
from btcfi.oracle.attestation import AlreadyAttestedError, WrongAttestationError
from btcfi.oracle.fixing import LeftOut
from btcfi.oracle.minute_event import (
    DIGIT_BITS,
    MAX_CENTS,
    PUBLISHED,
    MinuteBook,
    MinuteEvent,
    MinuteForgottenError,
    announce_minute,
    attest_minute,
    attested_cents,
    check_minute_attestation,
    decode_minute_announcement,
    decode_minute_attestation,
    digit_point,
    digits_of,
    encode_minute_announcement,
    encode_minute_attestation,
    published_point,
)
from btcfi.units import MAX_U32, CentsPerBtc, Hash32, Slot
from tests.support.contracts import ORACLES
from tests.support.minutes import EVENT, MemoryMinutes

prices = st.integers(1, MAX_U32).map(CentsPerBtc)
words = st.one_of(prices, st.sampled_from(LeftOut))
slots = st.integers(1, MAX_U32 // 60).map(lambda minute: Slot(60 * minute))
events = st.builds(
    MinuteEvent, feed=st.sampled_from(["BTC/USD", "ETH/USD", ""]), slot=slots,
    preset_hash=st.binary(min_size=32, max_size=32).map(Hash32),
)  # fmt: skip


@given(prices)
def test_a_price_of_25_bits_is_its_four_digits_and_the_highest_stands_for_all_above(price):
    wanted = attested_cents(price)
    assert wanted == min(price, MAX_CENTS)
    value = 0
    for digit, bits in zip(digits_of(wanted), DIGIT_BITS, strict=True):
        assert 0 <= digit < 1 << bits
        value = value << bits | digit
    assert value == wanted
    with pytest.raises(InvalidInputError):
        digits_of(CentsPerBtc(MAX_CENTS + price))


@settings(max_examples=40, deadline=None)
@given(events, prices)
def test_an_attestation_reveals_the_points_of_its_digits_and_comes_back_from_json(event, price):
    announced = announce_minute(ORACLES[0], event)
    said = attest_minute(ORACLES[0], announced, price, MemoryMinutes())
    check_minute_attestation(said, announced)
    for place, value in enumerate(digits_of(said.price)):
        revealed = secp256k1.public_key_compressed(said.digit_secret(place))
        assert revealed == digit_point(announced, place, value)
        assert revealed != digit_point(announced, place, value ^ 1)
    assert secp256k1.public_key_compressed(said.published_secret) == published_point(announced)
    assert decode_minute_announcement(encode_minute_announcement(announced)) == announced
    assert decode_minute_attestation(encode_minute_attestation(said)) == said


@settings(max_examples=30, deadline=None)
@given(events, events, prices, prices)
def test_a_signature_of_another_minute_price_or_place_never_verifies(event, other, price, another):
    announced, elsewhere = announce_minute(ORACLES[0], event), announce_minute(ORACLES[0], other)
    said = attest_minute(ORACLES[0], announced, price, MemoryMinutes())
    theirs = attest_minute(ORACLES[0], elsewhere, price, MemoryMinutes())
    forged = [replace(said, digits=said.digits[::-1]), replace(said, published=said.digits[0])]
    if event != other:
        forged += [theirs, replace(said, digits=theirs.digits), replace(said, published=theirs.published)]
        forged += [replace(said, digits=(*said.digits[:place], theirs.digits[place], *said.digits[place + 1 :]))
                   for place in range(PUBLISHED)]  # fmt: skip
    if attested_cents(another) != said.price:
        forged.append(replace(said, price=attested_cents(another)))
    for one in forged:
        with pytest.raises(WrongAttestationError):
            check_minute_attestation(one, announced)


@given(st.data())
def test_one_flipped_bit_of_a_minutes_attestation_is_seen(data):
    announced = announce_minute(ORACLES[0], EVENT)
    said = attest_minute(ORACLES[0], announced, CentsPerBtc(6_523_000), MemoryMinutes())
    place, byte = data.draw(st.integers(0, PUBLISHED)), data.draw(st.integers(0, 63))
    signatures = [bytearray(one) for one in (*said.digits, said.published)]
    signatures[place][byte] ^= 1 << data.draw(st.integers(0, 7))
    wrong = replace(said, digits=tuple(map(bytes, signatures[:PUBLISHED])), published=bytes(signatures[PUBLISHED]))
    with pytest.raises(WrongAttestationError):
        check_minute_attestation(wrong, announced)


@given(st.lists(st.tuples(st.sampled_from(["claim", "prune"]), st.integers(1, 12), words), max_size=40))
def test_a_minute_has_one_price_for_ever_whatever_is_pruned_and_however_often_it_starts_again(steps):
    book, first = MinuteBook(), {}
    for what, minute, price in steps:
        at = Slot(60 * minute)
        if what == "prune":
            before, book = book.mark, book.pruned(at)
            assert book.mark == max(before, at)
            # all that a restart needs: the mark, and the prices above it
            book = MinuteBook(mark=book.mark, said=dict(book.said))
            continue
        try:
            book, standing = book.claim(at, price)
        except MinuteForgottenError:
            assert at <= book.mark
            continue
        assert standing == first.setdefault(at, price)
    assert all(at > book.mark for at in book.said)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), prices), min_size=2, max_size=8))
def test_an_oracle_signs_the_first_price_of_a_minute_and_no_second_one(asked):
    ledger, first = MemoryMinutes(), {}
    for minute, price in asked:
        announced = announce_minute(ORACLES[0], replace(EVENT, slot=Slot(60 * minute)))
        standing = first.setdefault(minute, attested_cents(price))
        if standing != attested_cents(price):
            with pytest.raises(AlreadyAttestedError):
                attest_minute(ORACLES[0], announced, price, ledger)
        else:
            assert attest_minute(ORACLES[0], announced, price, ledger).price == standing
