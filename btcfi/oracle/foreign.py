"""Oracles of other houses: their announcements and attestations as ours, and ours as theirs.

An imported announcement is one of ours in every use but two: it stands alone in a contract, and its digits are hashed
as its oracle hashes (``announcement.check_together``, ``Announcement.digit_hash``). Pure.
"""

from __future__ import annotations

from typing import Final

from btcfi import secp256k1
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import (
    DOLLAR_UNITS,
    FOREIGN,
    NO_PRESET,
    Announcement,
    OracleEvent,
    check_announcement,
    digit_values,
    dollar_number,
)
from btcfi.oracle.attestation import Attestation, WrongAttestationError, check_attestation
from btcfi.oracle.dlc_messages import (
    DigitDescriptor,
    DlcAnnouncement,
    DlcAttestation,
    DlcEvent,
    announcement_digest,
    decode_event,
    encode_event,
)
from btcfi.oracle.quote import BTC_USD
from btcfi.units import Hash32, UnixSeconds, slot

_BINARY: Final = ("0", "1")
"""The texts of a binary digit, in the order of their values."""


def import_announcement(theirs: DlcAnnouncement, *, program_hash: Hash32) -> Announcement:
    """Return an announcement on which a contract can be built, its signature, key and nonces checked.

    program_hash: the guest program that both parties agree on; the oracle knows of none. Raises InvalidInputError for
    what is no number of whole dollars at a whole minute, naming the field, WrongAnnouncementError for a forged one.
    """
    number, said = dollar_number(theirs.event), theirs.event
    event = OracleEvent(
        feed=str(BTC_USD), expiry=slot(said.maturity), program_hash=program_hash, preset_hash=NO_PRESET,
        digits=number.digits, version=FOREIGN, dlc_event=encode_event(said),
    )  # fmt: skip
    made = Announcement(
        oracle_key=theirs.oracle_key, event=event, nonces=said.nonces, proofs=(), signature=theirs.signature
    )
    check_announcement(made, expected=event)
    return made


def name_of(announcement: Announcement) -> str:
    """Return the ``event_id`` of an event in the specification's messages: another house's own, or our id as hex."""
    event = announcement.event
    return decode_event(event.dlc_event).name if event.version == FOREIGN else event.id.hex()


def import_attestation(theirs: DlcAttestation, announcement: Announcement) -> Attestation:
    """Return another house's attestation as one of ours, every signature checked. Raises WrongAttestationError."""
    event, name = announcement.event, name_of(announcement)
    if theirs.name != name:
        raise WrongAttestationError(event.id, f"is of the event {theirs.name[:40]!r}, not {name[:40]!r}")
    strange = next((one for one in theirs.outcomes if one not in _BINARY), None)
    if strange is not None:
        raise WrongAttestationError(event.id, f"attests {strange[:40]!r}, which is no binary digit")
    made = Attestation(
        oracle_key=theirs.oracle_key, event=event.id, outcome=int("".join(theirs.outcomes), 2),
        signatures=theirs.signatures,
    )  # fmt: skip
    check_attestation(made, announcement)
    return made


def export_announcement(announcement: Announcement, secret: bytes) -> DlcAnnouncement:
    """Return our announcement as the specification has it, signed once more: its bytes are others than ours.

    The event is named by our event's id. Raises InvalidInputError for a secret of another oracle, and for an event with
    a condition: its first digit is no part of a number.
    """
    event = announcement.event
    if event.version == FOREIGN:
        raise InvalidInputError("announcement", "is another house's", "one of ours")
    if event.condition:
        raise InvalidInputError("event.condition", "a barrier's digit stands first", "an event without one")
    _check_price(event)
    if secp256k1.public_key_xonly(secret) != announcement.oracle_key:
        raise InvalidInputError("oracle secret", "is another oracle's", "the secret of the announcing key")
    number = DigitDescriptor(base=2, signed=False, unit=DOLLAR_UNITS[0], precision=0, digits=event.digits)
    said = DlcEvent(
        nonces=announcement.nonces, maturity=UnixSeconds(event.expiry), descriptor=number, name=event.id.hex()
    )
    signature = secp256k1.schnorr_sign(secret, announcement_digest(said))
    return DlcAnnouncement(signature=signature, oracle_key=announcement.oracle_key, event=said)


def export_attestation(attestation: Attestation, announcement: Announcement) -> DlcAttestation:
    """Return our attestation as the specification has it: the same signatures. Raises WrongAttestationError."""
    event = announcement.event
    check_attestation(attestation, announcement)
    if event.condition:
        raise InvalidInputError("event.condition", "a barrier's digit stands first", "an event without one")
    _check_price(event)
    digits = digit_values(attestation.outcome, event.signed_digits)
    return DlcAttestation(
        name=name_of(announcement), oracle_key=attestation.oracle_key, signatures=attestation.signatures,
        outcomes=tuple(_BINARY[value] for value in digits),
    )  # fmt: skip


def _check_price(event: OracleEvent) -> None:
    if event.path is not None:  # the specification has a unit and no definition: an index would be read as dollars
        raise InvalidInputError("event.path", f"{event.path}, which the message cannot say", "an event of a price")
