"""Minute events: what an oracle announces of every minute, and what nobody may build on."""

from dataclasses import replace

import pytest

from btcfi import secp256k1
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import WrongAnnouncementError
from btcfi.oracle.attestation import WrongAttestationError
from btcfi.oracle.minute_event import (
    DIGIT_BITS,
    PLACES,
    MinuteEvent,
    announce_minute,
    attest_minute,
    check_minute_announcement,
    check_minute_attestation,
    decode_minute_announcement,
    decode_minute_attestation,
    digit_message,
    encode_minute_announcement,
    encode_minute_attestation,
    published_message,
)
from btcfi.units import CentsPerBtc, Hash32, Slot
from tests.support.contracts import ORACLES
from tests.support.minutes import EVENT, MemoryMinutes

PRICE = CentsPerBtc(6_523_000)


def test_an_announcement_has_five_nonces_that_each_prove_their_secret_and_is_the_same_again():
    made = announce_minute(ORACLES[0], EVENT)
    check_minute_announcement(made, expected=EVENT)
    assert len(set(made.nonces)) == PLACES == len(DIGIT_BITS) + 1
    assert announce_minute(ORACLES[0], EVENT) == made
    for other in (
        announce_minute(ORACLES[1], EVENT), announce_minute(ORACLES[0], replace(EVENT, slot=Slot(EVENT.slot + 60))),
        announce_minute(ORACLES[0], replace(EVENT, feed="ETH/USD")),
        announce_minute(ORACLES[0], replace(EVENT, preset_hash=Hash32(bytes(32)))),
    ):  # fmt: skip
        assert not set(other.nonces) & set(made.nonces)


def test_an_announcement_that_is_not_sound_is_refused():
    made, other = announce_minute(ORACLES[0], EVENT), announce_minute(ORACLES[1], EVENT)
    forged = (
        replace(made, oracle_key=other.oracle_key),
        replace(made, nonces=other.nonces),
        replace(made, proofs=other.proofs),
        replace(made, nonces=made.nonces[::-1]),
        replace(made, nonces=made.nonces[:-1], proofs=made.proofs[:-1]),
        replace(made, nonces=(made.nonces[0],) * PLACES, proofs=(made.proofs[0],) * PLACES),
        replace(made, signature=other.signature),
    )
    for one in forged:
        with pytest.raises(WrongAnnouncementError):
            check_minute_announcement(one, expected=EVENT)
    with pytest.raises(WrongAnnouncementError, match="is for event"):
        check_minute_announcement(made, expected=replace(EVENT, slot=Slot(60)))


def test_a_nonce_whose_secret_its_oracle_does_not_know_is_refused_also_under_its_own_signature():
    honest, secret = announce_minute(ORACLES[0], EVENT), ORACLES[2]
    stolen = replace(honest, oracle_key=secp256k1.public_key_xonly(secret))
    resigned = replace(stolen, nonces=(honest.nonces[1], honest.nonces[0], *honest.nonces[2:]))
    resigned = replace(resigned, signature=secp256k1.schnorr_sign(secret, resigned.digest()))
    with pytest.raises(WrongAnnouncementError, match="nonce 0 has no valid proof"):
        check_minute_announcement(resigned, expected=EVENT)


def test_no_two_messages_of_an_event_or_of_two_events_are_the_same():
    other = replace(EVENT, slot=Slot(EVENT.slot + 60))
    messages = [
        digit_message(event, place, value)
        for event in (EVENT, other)
        for place, bits in enumerate(DIGIT_BITS)
        for value in range(1 << bits)
    ]
    messages += [published_message(EVENT), published_message(other)]
    assert len(set(messages)) == len(messages) == 2 * (128 + 3 * 64) + 2


@pytest.mark.parametrize(("place", "value"), [(-1, 0), (4, 0), (0, 128), (1, 64), (3, -1)])
def test_a_digit_that_a_price_has_not_has_no_message(place, value):
    with pytest.raises(InvalidInputError):
        digit_message(EVENT, place, value)


def test_another_oracles_secret_and_foreign_nonces_sign_nothing_and_claim_nothing():
    made, ledger = announce_minute(ORACLES[0], EVENT), MemoryMinutes()
    with pytest.raises(InvalidInputError):
        attest_minute(ORACLES[1], made, PRICE, ledger)
    with pytest.raises(WrongAttestationError, match="nonces"):
        attest_minute(ORACLES[0], replace(made, nonces=made.nonces[::-1]), PRICE, ledger)
    assert not ledger.books


def test_half_an_attestation_is_none():
    made = announce_minute(ORACLES[0], EVENT)
    said = attest_minute(ORACLES[0], made, PRICE, MemoryMinutes())
    for wrong in (replace(said, digits=said.digits[:-1]), replace(said, published=bytes(64)), replace(said, price=-1)):
        with pytest.raises(WrongAttestationError):
            check_minute_attestation(wrong, made)


@pytest.mark.parametrize("field", ["type", "version", "oracle_key", "event", "nonces", "proofs", "signature"])
def test_a_minutes_announcement_without_a_field_is_refused_by_its_name(field):
    message = encode_minute_announcement(announce_minute(ORACLES[0], EVENT))
    del message[field]
    with pytest.raises(InvalidInputError, match=field):
        decode_minute_announcement(message)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("type", "btcfi/attestation"), ("version", 2), ("price_cents", 1 << 25), ("price_cents", -1), ("digits", []),
     ("published", "00"), ("event_id", "00"), ("oracle_key", None)],
)  # fmt: skip
def test_a_minutes_attestation_with_a_wrong_field_is_refused(field, wrong):
    announced = announce_minute(ORACLES[0], EVENT)
    message = encode_minute_attestation(attest_minute(ORACLES[0], announced, PRICE, MemoryMinutes()))
    message[field] = wrong
    with pytest.raises((InvalidInputError, WrongAttestationError)):
        check_minute_attestation(decode_minute_attestation(message), announced)


def test_a_feeds_name_has_at_most_255_bytes():
    with pytest.raises(InvalidInputError):
        MinuteEvent(feed="é" * 128, slot=Slot(60), preset_hash=Hash32(bytes(32)))
