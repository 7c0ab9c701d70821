"""Oracles of other houses: what of the DLC specification's messages a contract of ours is built on, and what is not."""

import json
from dataclasses import replace

import pytest

from btcfi import secp256k1
from btcfi.contracts.messages import decode_announcement, decode_attestation, encode_announcement, encode_attestation
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import sha256, tagged_hash
from btcfi.oracle import dlc_messages
from btcfi.oracle.announcement import (
    FOREIGN,
    DigitPoints,
    OracleEvent,
    WrongAnnouncementError,
    announce,
    check_announcement,
    check_together,
)
from btcfi.oracle.attestation import WrongAttestationError, attest, check_attestation
from btcfi.oracle.dlc_messages import DigitHash, EnumDescriptor, WrongTlvError
from btcfi.oracle.foreign import export_announcement, export_attestation, import_announcement, import_attestation
from btcfi.units import CentsPerBtc, Hash32
from tests.support.contracts import ORACLES, MemoryLedger, event
from tests.support.foreign_oracle import KEY, SECRET, ForeignOracle, nonce_secrets, number
from tests.support.paths import SHARED

PROGRAM = Hash32(b"\x01" * 32)
BOTH = pytest.mark.parametrize("mode", list(DigitHash))


def imported(**changes):
    return import_announcement(ForeignOracle(**changes).announcement(), program_hash=PROGRAM)


# ---- import


@BOTH
def test_a_foreign_announcement_becomes_an_event_of_its_minute_digits_and_oracle(mode):
    made = imported(mode=mode)
    assert (made.oracle_key, made.event.digits, made.event.expiry) == (KEY, 18, 60 * 29_000_000)
    assert (made.event.feed, made.event.version, made.proofs) == ("BTC/USD", FOREIGN, ())
    assert (made.digit_hash, made.event.rounding) == (mode, None)
    assert decode_announcement(json.loads(json.dumps(encode_announcement(made)))) == made


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"base": 10, "digits": 6}, "event_descriptor.base"),
        ({"signed": True}, "event_descriptor.is_signed"),
        ({"unit": "sats/sec"}, "event_descriptor.unit"),
        ({"unit": "eur/btc"}, "event_descriptor.unit"),
        ({"unit": "usd"}, "event_descriptor.unit"),
        ({"precision": -2}, "event_descriptor.precision"),
        ({"precision": 1}, "event_descriptor.precision"),
        ({"digits": 26}, "event_descriptor.nb_digits"),
    ],
)
def test_a_number_that_a_contract_has_no_use_for_is_refused_by_its_field(changes, field):
    with pytest.raises(InvalidInputError) as refused:
        imported(descriptor=number(**changes))
    assert refused.value.field == field


def test_a_list_of_outcomes_and_a_time_between_two_minutes_are_refused():
    with pytest.raises(InvalidInputError, match="list of outcomes"):
        imported(descriptor=EnumDescriptor(outcomes=("rain", "sun")))
    with pytest.raises(InvalidInputError, match="multiple of 60"):
        imported(maturity=60 * 29_000_000 + 1)


@BOTH
def test_an_announcement_that_its_oracle_did_not_sign_is_refused(mode):
    theirs = ForeignOracle(mode=mode).announcement()
    other = secp256k1.public_key_xonly(ORACLES[0])
    for forged in (
        replace(theirs, signature=theirs.signature[:-1] + bytes([theirs.signature[-1] ^ 1])),
        replace(theirs, oracle_key=other),
        replace(theirs, event=replace(theirs.event, name="another")),
        replace(theirs, event=replace(theirs.event, nonces=theirs.event.nonces[::-1])),
    ):
        with pytest.raises(WrongAnnouncementError):
            import_announcement(forged, program_hash=PROGRAM)


def test_what_is_said_beside_the_signed_event_must_be_what_the_oracle_said():
    made = imported()
    turned = replace(made, nonces=made.nonces[1:] + made.nonces[:1])
    with pytest.raises(WrongAnnouncementError, match="nonces"):
        check_announcement(turned, expected=made.event)
    proving = replace(made, proofs=tuple(bytes(64) for _ in made.nonces))
    with pytest.raises(WrongAnnouncementError):
        check_announcement(proving, expected=made.event)
    for change in (
        {"digits": 17}, {"expiry": made.event.expiry + 60}, {"feed": "ETH/USD"}, {"preset_hash": Hash32(b"\x02" * 32)},
        {"condition": "agreed price >= 1 cents between 0 and 60"}, {"dlc_event": b""}, {"version": 2},
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            replace(made.event, **change)


def test_two_foreign_events_that_differ_in_anything_have_different_ids():
    ids = {
        imported(**changes).event.id
        for changes in ({}, {"name": "another"}, {"maturity": 60 * 29_000_001}, {"descriptor": number(digits=17)})
    }
    assert len(ids) == 4
    first = imported().event
    assert replace(first, program_hash=Hash32(b"\x02" * 32)).id != first.id


# ---- no sum of points whose nonces nobody vouches for


def test_a_foreign_oracle_stands_alone_because_its_nonces_prove_nothing():
    ours, theirs = announce(ORACLES[0], event()), imported()
    check_together([theirs])
    check_together([ours, announce(ORACLES[1], event())])
    twin = ForeignOracle(secret=ORACLES[1]).announcement()  # another key over the very same nonces
    for pair in ([ours, theirs], [theirs, ours], [theirs, import_announcement(twin, program_hash=PROGRAM)]):
        with pytest.raises(InvalidInputError, match="alone"):
            check_together(pair)


def test_whoever_announces_last_without_proofs_could_settle_alone_were_points_summed():
    """The attack itself: R2 is chosen as r*G less the honest oracle's point, and the sum is known to the liar."""
    honest = DigitPoints(announcement=imported()).pairs[0][1]
    known = nonce_secrets(1, of=b"known")[0]
    liar_secret, one = ORACLES[2], tagged_hash("DLC/oracle/attestation/v0", b"1")
    wanted = secp256k1.sum_points([secp256k1.generator_multiple(known), secp256k1.negate_point(honest)])
    chosen = secp256k1.serialize_point(wanted)
    while chosen[0] != 2:  # an x-only nonce is the even point
        known = sha256(known)
        wanted = secp256k1.sum_points([secp256k1.generator_multiple(known), secp256k1.negate_point(honest)])
        chosen = secp256k1.serialize_point(wanted)
    key = secp256k1.public_key_xonly(liar_secret)
    challenge = tagged_hash("BIP0340/challenge", chosen[1:] + key + one)
    scaled = secp256k1.parse_point(secp256k1.point_multiply(b"\x02" + key, challenge))
    total = secp256k1.sum_points([honest, wanted, scaled])
    secret = secp256k1.scalar_add(known, secp256k1.scalar_multiply(secp256k1.even_secret(liar_secret), challenge))
    assert secp256k1.public_key_compressed(secret) == secp256k1.serialize_point(total)


# ---- attestations


@BOTH
@pytest.mark.parametrize("dollars", [0, 1, 125_000, (1 << 18) - 1])
def test_a_foreign_attestation_opens_the_points_of_its_outcome_and_of_no_other(mode, dollars):
    oracle, made = ForeignOracle(mode=mode), imported(mode=mode)
    found = import_attestation(oracle.attestation(dollars), made)
    assert found.outcome == dollars
    assert decode_attestation(encode_attestation(found)) == found
    points = DigitPoints(announcement=made)
    for length in (1, 7, 18):
        opened = secp256k1.public_key_compressed(found.prefix_secret(length))
        assert opened == secp256k1.serialize_point(points.of_prefix(dollars >> (18 - length), length))
        assert opened != secp256k1.serialize_point(points.of_prefix((dollars >> (18 - length)) ^ 1, length))


def test_an_attestation_of_another_event_oracle_hash_or_number_is_refused():
    oracle, made = ForeignOracle(), imported()
    good = oracle.attestation(125_000)
    flipped = (("1" if good.outcomes[0] == "0" else "0"), *good.outcomes[1:])
    for forged in (
        replace(good, name="another"),
        replace(good, oracle_key=secp256k1.public_key_xonly(ORACLES[0])),
        replace(good, outcomes=flipped),
        replace(good, outcomes=("2", *good.outcomes[1:])),
        replace(good, outcomes=("01", *good.outcomes[1:])),
        replace(good, signatures=good.signatures[:-1], outcomes=good.outcomes[:-1]),
        replace(good, signatures=good.signatures[::-1], outcomes=good.outcomes[::-1]),
        ForeignOracle(mode=DigitHash.PLAIN).attestation(125_000),
    ):
        with pytest.raises(WrongAttestationError):
            import_attestation(forged, made)


def test_our_ledger_signs_nothing_for_a_foreign_announcement():
    made, ledger = imported(), MemoryLedger()
    with pytest.raises(InvalidInputError):
        attest(SECRET, made, 125_000, ledger)
    assert not ledger.rows


# ---- export


def test_our_announcement_and_attestation_leave_as_the_specifications_and_come_back():
    ours = announce(ORACLES[0], event())
    tlv = dlc_messages.encode_announcement(export_announcement(ours, ORACLES[0]))
    theirs = dlc_messages.decode_announcement(tlv)
    assert dlc_messages.signed_as(theirs) is DigitHash.TAGGED
    assert (theirs.event.name, theirs.event.nonces) == (ours.event.id.hex(), ours.nonces)
    attested = attest(ORACLES[0], ours, ours.event.outcome(CentsPerBtc(12_345_678)), MemoryLedger())
    said = dlc_messages.decode_attestation(dlc_messages.encode_attestation(export_attestation(attested, ours)))
    assert int("".join(said.outcomes), 2) == 123_456
    assert import_attestation(said, ours) == attested  # the service's own oracle, read back by one of ours
    abroad = import_announcement(theirs, program_hash=PROGRAM)  # and read as any stranger's
    check_attestation(import_attestation(said, abroad), abroad)


def test_a_barriers_event_and_another_oracles_secret_are_not_exported():
    ours = announce(ORACLES[0], event(condition="agreed price >= 1 cents between 0 and 60"))
    with pytest.raises(InvalidInputError, match="condition"):
        export_announcement(ours, ORACLES[0])
    with pytest.raises(InvalidInputError, match="condition"):
        export_attestation(attest(ORACLES[0], ours, 1, MemoryLedger()), ours)
    with pytest.raises(InvalidInputError, match="secret"):
        export_announcement(announce(ORACLES[0], event()), ORACLES[1])
    with pytest.raises(InvalidInputError, match="another house"):
        export_announcement(imported(), SECRET)


# ---- what was there before stays


def test_events_of_earlier_releases_keep_their_ids_and_say_nothing_of_foreign_ones():
    old = event()
    assert (old.version, old.dlc_event) == (1, b"")
    assert old.id.hex() == tagged_hash("BTCFi/oracle/event/v1", old.to_bytes()).hex()
    assert "dlc_event" not in encode_announcement(announce(ORACLES[0], old))["event"]
    for wrong in ({"version": FOREIGN}, {"dlc_event": b"\x00"}, {"version": 4}):
        with pytest.raises(BtcfiError):
            replace(old, **wrong)


def test_an_event_of_the_foreign_kind_is_read_strictly():
    message = encode_announcement(imported())
    message["event"]["dlc_event"] += "00"
    with pytest.raises(InvalidInputError):
        decode_announcement(message)
    with pytest.raises(WrongTlvError):
        OracleEvent(
            feed="BTC/USD", expiry=60, program_hash=PROGRAM, preset_hash=Hash32(bytes(32)), version=FOREIGN,
            dlc_event=b"\xfd\xd8\x22\x00",
        )  # fmt: skip


# ---- the published vector


@pytest.mark.skipif(not (SHARED / "dlc").is_dir(), reason=f"needs the DLC vectors in {SHARED / 'dlc'}")
def test_the_announcement_in_the_published_offer_is_read_byte_for_byte_and_its_signature_is_plain():
    published = json.loads((SHARED / "dlc" / "single_oracle_numerical_test.json").read_text())["offer_message"]
    info = published["message"]["contractInfo"]["singleContractInfo"]["contractInfo"]
    said = info["oracleInfo"]["single"]["oracleAnnouncement"]
    raw = bytes.fromhex(published["serialized"])
    start = raw.index(b"\xfd\xd8\x24")
    tlv = raw[start : start + 6 + int.from_bytes(raw[start + 4 : start + 6])]
    read = dlc_messages.decode_announcement(tlv)
    assert dlc_messages.encode_announcement(read) == tlv
    assert read.oracle_key.hex() == said["oraclePublicKey"]
    assert [nonce.hex() for nonce in read.event.nonces] == said["oracleEvent"]["oracleNonces"]
    assert (read.event.maturity, read.event.name) == (said["oracleEvent"]["eventMaturityEpoch"], "Test")
    assert (read.event.descriptor.base, read.event.descriptor.digits) == (2, 10)
    assert dlc_messages.signed_as(read) is DigitHash.PLAIN
    with pytest.raises(InvalidInputError, match="sats/sec"):
        import_announcement(read, program_hash=PROGRAM)
