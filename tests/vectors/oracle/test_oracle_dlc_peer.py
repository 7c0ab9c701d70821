"""Announcements and attestations through somebody else's code: btclib-wallet, a kept implementation in pure Python."""

import contextlib
import random
from dataclasses import replace

import pytest

from btcfi import secp256k1
from btcfi.oracle import dlc_messages
from btcfi.oracle.announcement import announce
from btcfi.oracle.attestation import attest
from btcfi.oracle.dlc_messages import DigitHash, EnumDescriptor, WrongTlvError
from btcfi.oracle.foreign import export_announcement, export_attestation, import_announcement, import_attestation
from btcfi.units import CentsPerBtc, Hash32
from tests.support.contracts import ORACLES, MemoryLedger, event
from tests.support.foreign_oracle import SECRET, ForeignOracle, nonce_secrets, number

peer = pytest.importorskip("btclib_wallet.dlc.oracle", reason="needs btclib-wallet: `pip install btclib-wallet`")
PROGRAM = Hash32(b"\x01" * 32)
SCHEMES = {DigitHash.TAGGED: peer.TAGGED, DigitHash.PLAIN: peer.PLAIN_SHA256}


def test_the_peer_takes_what_our_oracle_announces_and_attests():
    ours = announce(ORACLES[0], event())
    tlv = dlc_messages.encode_announcement(export_announcement(ours, ORACLES[0]))
    read = peer.OracleAnnouncement.parse(tlv)
    assert peer.verify_announcement(read)
    assert read.serialize() == tlv
    attested = attest(ORACLES[0], ours, ours.event.outcome(CentsPerBtc(12_345_678)), MemoryLedger())
    raw = dlc_messages.encode_attestation(export_attestation(attested, ours))
    said = peer.OracleAttestation.parse(raw)
    assert peer.verify_attestation(read, said)
    assert said.serialize() == raw
    assert int("".join(said.outcomes), 2) == 123_456


def test_we_take_what_the_peer_announces_and_attests():
    descriptor = peer.DigitDecompositionEventDescriptor(
        base=2, is_signed=False, unit="usd/btc", precision=0, nb_digits=20
    )  # fmt: skip
    secrets = nonce_secrets(20)
    said = peer.OracleEvent(
        nonces=tuple(map(secp256k1.public_key_xonly, secrets)), maturity_epoch=60 * 29_000_000, descriptor=descriptor,
        event_id="peer's",
    )  # fmt: skip
    announced = peer.sign_announcement(said, SECRET)
    ours = import_announcement(dlc_messages.decode_announcement(announced.serialize()), program_hash=PROGRAM)
    outcomes = tuple(f"{345_678:020b}")
    attested = peer.sign_attestation(announced, outcomes, SECRET, tuple(secrets))
    found = import_attestation(dlc_messages.decode_attestation(attested.serialize()), ours)
    assert found.outcome == 345_678


@pytest.mark.parametrize("mode", list(DigitHash))
def test_both_sign_an_announcement_the_same_two_ways(mode):
    made = ForeignOracle(mode=mode).announcement()
    read = peer.OracleAnnouncement.parse(dlc_messages.encode_announcement(made))
    for scheme in SCHEMES.values():
        assert peer.verify_announcement(read, scheme=scheme) is (scheme == SCHEMES[mode])
    theirs = peer.sign_announcement(read.event, SECRET, scheme=SCHEMES[mode])
    assert dlc_messages.signed_as(dlc_messages.decode_announcement(theirs.serialize())) is mode


def _samples():
    lists = EnumDescriptor(outcomes=("rain", "sun", "Zürich"))
    for descriptor in (number(digits=3), number(digits=2, signed=True, base=300, precision=-7), lists):
        oracle = ForeignOracle(descriptor=descriptor)
        yield dlc_messages.encode_announcement(oracle.announcement())
    yield dlc_messages.encode_attestation(ForeignOracle(descriptor=number(digits=3)).attestation(5))


def test_of_twenty_thousand_spoiled_messages_both_refuse_the_same():
    """Bytes changed, put in, taken out. Points off the curve are refused there at reading, here at checking."""
    dice, samples, taken = random.Random(15), list(_samples()), 0
    for _ in range(20_000):
        raw = bytearray(dice.choice(samples))
        for _ in range(dice.randint(1, 3)):
            place = dice.randrange(len(raw))
            match dice.randrange(4):
                case 0:
                    raw[place] = dice.randrange(256)
                case 1:
                    raw.insert(place, dice.randrange(256))
                case 2:
                    del raw[place]
                case _:
                    raw[-40:] = raw[-40:].translate(bytes(255 - one for one in range(256)))[: dice.randint(1, 40)]
        ours, theirs = _read_by_us(bytes(raw)), _read_by_peer(bytes(raw))
        assert (ours is None) == (theirs is None), raw.hex()
        if ours is not None:
            assert ours == theirs == raw
            taken += 1
    assert taken > 500


def _read_by_us(raw):
    with contextlib.suppress(WrongTlvError):
        made = dlc_messages.decode_announcement(raw)
        points = (made.oracle_key, *made.event.nonces)
        return dlc_messages.encode_announcement(made) if all(map(secp256k1.is_xonly_key, points)) else None
    with contextlib.suppress(WrongTlvError):
        attested = dlc_messages.decode_attestation(raw)
        return dlc_messages.encode_attestation(attested) if secp256k1.is_xonly_key(attested.oracle_key) else None
    return None


def _read_by_peer(raw):
    for kind in (peer.OracleAnnouncement, peer.OracleAttestation):
        with contextlib.suppress(ValueError, TypeError, RuntimeError, EOFError):
            return kind.parse(raw).serialize()
    return None


def test_a_peers_attestation_of_another_number_is_not_ours():
    oracle = ForeignOracle(descriptor=number(digits=3))
    read = peer.OracleAnnouncement.parse(dlc_messages.encode_announcement(oracle.announcement()))
    good = oracle.attestation(5)
    assert peer.verify_attestation(read, peer.OracleAttestation.parse(dlc_messages.encode_attestation(good)))
    wrong = replace(good, outcomes=("1", "1", "1"))
    assert not peer.verify_attestation(read, peer.OracleAttestation.parse(dlc_messages.encode_attestation(wrong)))
