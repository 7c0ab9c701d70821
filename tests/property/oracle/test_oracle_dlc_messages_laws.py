"""Laws of the DLC specification's messages: one byte form, every byte counts, nothing but a refusal for rubbish."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from btcfi.oracle import dlc_messages as tlv
from btcfi.oracle.dlc_messages import (
    DigitDescriptor,
    DlcAnnouncement,
    DlcAttestation,
    DlcEvent,
    EnumDescriptor,
    WrongTlvError,
)
from btcfi.units import UnixSeconds
from tests.support.foreign_oracle import ForeignOracle

texts = st.text("ab1 /-é€漢😀\x00", max_size=40)
"""In NFC whatever their order; the whole of Unicode is slow to draw from."""
keys = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=64, max_size=64)
numbers = st.builds(
    DigitDescriptor, base=st.integers(2, 65_535), signed=st.booleans(), unit=texts,
    precision=st.integers(-(1 << 31), (1 << 31) - 1), digits=st.integers(1, 30),
)  # fmt: skip
lists = st.builds(EnumDescriptor, outcomes=st.lists(texts, min_size=1, max_size=8, unique=True).map(tuple))
READERS = (tlv.decode_announcement, tlv.decode_attestation, tlv.decode_event)


@st.composite
def announcements(draw):
    descriptor = draw(st.one_of(numbers, lists))
    count = descriptor.nonces
    nonces = draw(st.lists(keys, min_size=count, max_size=count, unique=True))
    event = DlcEvent(
        nonces=tuple(nonces), maturity=UnixSeconds(draw(st.integers(0, 2**32 - 1))), descriptor=descriptor,
        name=draw(texts),
    )  # fmt: skip
    return DlcAnnouncement(signature=draw(signatures), oracle_key=draw(keys), event=event)


@st.composite
def attestations(draw):
    count = draw(st.integers(1, 30))
    return DlcAttestation(
        name=draw(texts), oracle_key=draw(keys),
        signatures=tuple(draw(st.lists(signatures, min_size=count, max_size=count))),
        outcomes=tuple(draw(st.lists(texts, min_size=count, max_size=count))),
    )  # fmt: skip


@given(announcements())
def test_an_announcement_is_read_as_it_was_written(made):
    assert tlv.decode_announcement(tlv.encode_announcement(made)) == made
    assert tlv.decode_event(tlv.encode_event(made.event)) == made.event


@given(attestations())
def test_an_attestation_is_read_as_it_was_written(made):
    assert tlv.decode_attestation(tlv.encode_attestation(made)) == made


@given(st.one_of(announcements().map(tlv.encode_announcement), attestations().map(tlv.encode_attestation)), st.data())
def test_a_message_that_was_cut_or_continued_is_refused(raw, data):
    cut = data.draw(st.integers(0, len(raw) - 1))
    for wrong in (raw[:cut], raw + b"\x00", raw + raw):
        for reader in READERS:
            with pytest.raises(WrongTlvError):
                reader(wrong)


@given(announcements(), st.data())
def test_whatever_is_accepted_after_a_change_has_the_one_form_of_what_it_says(made, data):
    raw = bytearray(tlv.encode_announcement(made))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = tlv.decode_announcement(bytes(raw))
    except WrongTlvError:
        return
    assert tlv.encode_announcement(read) == raw


@given(st.binary(max_size=400))
@example(bytes.fromhex("fdd824"))
@example(bytes.fromhex("fdd824ffffffffffffffffff"))
@example(bytes.fromhex("fdd868fe00000001ff"))
def test_rubbish_is_refused_and_nothing_else_happens(raw):
    for reader in READERS:
        with pytest.raises(WrongTlvError):
            reader(raw)


@given(st.integers(0, 2**64 - 1))
def test_a_bigsize_has_one_form_and_no_longer_one_is_read(value):
    shortest = tlv._bigsize(value)
    reader = tlv._Reader(shortest, "test")
    assert reader.bigsize("value") == value
    reader.end()
    for first, (size, least) in tlv._BIGSIZES.items():
        if value < min(least, 1 << 8 * size):
            with pytest.raises(WrongTlvError):
                tlv._Reader(bytes([first]) + value.to_bytes(size), "test").bigsize("value")


@given(st.integers(0, 460), st.integers(0, 7))
def test_one_flipped_bit_of_an_announcement_breaks_its_form_or_its_signature(place, bit):
    raw = bytearray(tlv.encode_announcement(ForeignOracle().announcement()))
    raw[place] ^= 1 << bit
    try:
        read = tlv.decode_announcement(bytes(raw))
    except WrongTlvError:
        return
    assert tlv.signed_as(read) is None
