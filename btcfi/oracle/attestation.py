"""An oracle's attestation: the signatures that complete the contracts of one outcome, and of no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from btcfi import secp256k1
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import FOREIGN, Announcement, digit_digest, digit_values, nonce_secret
from btcfi.secp256k1 import ORDER
from btcfi.units import Hash32


class AlreadyAttestedError(BtcfiError):
    """The event has been attested with another outcome: a second one would reveal the oracle's key."""

    def __init__(self, *, event: Hash32, attested: int, asked: int) -> None:
        super().__init__(f"event {event.hex()[:16]} is attested as {attested}; {asked} is refused for ever")
        self.event, self.attested, self.asked = event, attested, asked


class EventHeldError(BtcfiError):
    """After a restore: the event may have been attested since the backup, and nobody has said with which outcome."""

    def __init__(self, event: Hash32) -> None:
        super().__init__(
            f"event {event.hex()} may have been attested after the backup: `btcfi oracle import FILE` what was "
            f"published, or `btcfi oracle release {event.hex()} --none-published`"
        )
        self.event = event


class WrongAttestationError(BtcfiError):
    """An attestation that is not the announced oracle's."""

    def __init__(self, event: Hash32, problem: str) -> None:
        super().__init__(f"attestation of event {event.hex()[:16]}: {problem}")
        self.event, self.problem = event, problem


class AttestationLedger(Protocol):
    """Where the first outcome of each event is written down, durably, before anything is signed."""

    def claim(self, *, oracle_key: bytes, event: Hash32, outcome: int) -> int:
        """Record the outcome unless one stands there, atomically; return the one that stands there now.

        A ledger that was restored from a backup raises EventHeldError for what it may have forgotten.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """One BIP340 signature per digit of the outcome."""

    oracle_key: bytes
    event: Hash32
    """The event's id."""
    outcome: int
    signatures: tuple[bytes, ...]
    """64 bytes each, most significant digit first."""

    def prefix_secret(self, length: int) -> bytes:
        """Return the secret of the sum of the first ``length`` digits' points."""
        if not 1 <= length <= len(self.signatures):
            raise InvalidInputError("prefix", f"{length} digits", f"1 to {len(self.signatures)}")
        total = self.signatures[0][32:]
        for signature in self.signatures[1:length]:
            total = secp256k1.scalar_add(total, signature[32:])
        return total


def attest(
    secret: bytes,
    announcement: Announcement,
    outcome: int,
    ledger: AttestationLedger,
) -> Attestation:
    """Return the attestation of an outcome, having written it down first.

    The same outcome again gives the same bytes, after a crash or a retry, too. Raises AlreadyAttestedError for any
    other; EventHeldError as the ledger does; InvalidInputError for an outcome outside the event or a secret of another
    oracle.
    """
    if secp256k1.public_key_xonly(secret) != announcement.oracle_key:
        raise InvalidInputError("oracle secret", "is another oracle's", "the secret of the announcing key")
    event = announcement.event
    if event.version == FOREIGN:
        raise InvalidInputError("announcement", "is another house's, with nonces of its own", "one of ours")
    digits = digit_values(outcome, event.signed_digits)
    recorded = ledger.claim(oracle_key=announcement.oracle_key, event=event.id, outcome=outcome)
    if recorded != outcome:
        raise AlreadyAttestedError(event=event.id, attested=recorded, asked=outcome)
    signatures = []
    for place, value in enumerate(digits):
        nonce = nonce_secret(secret, event, place)
        if secp256k1.public_key_xonly(nonce) != announcement.nonces[place]:
            raise WrongAttestationError(event.id, f"nonce {place} is not the announced one")
        signatures.append(sign_with_nonce(secret, nonce, digit_digest(value)))
    return Attestation(
        oracle_key=announcement.oracle_key, event=event.id, outcome=outcome, signatures=tuple(signatures)
    )


def sign_with_nonce(secret: bytes, nonce: bytes, message: bytes) -> bytes:
    """Return the BIP340 signature of a 32-byte message whose nonce secret is given: R.x || k + e*x, 64 bytes."""
    key, even_nonce = secp256k1.even_secret(secret), secp256k1.even_secret(nonce)
    point, public = secp256k1.public_key_xonly(even_nonce), secp256k1.public_key_xonly(key)
    digest = int.from_bytes(tagged_hash("BIP0340/challenge", point + public + message)) % ORDER
    return point + secp256k1.scalar_add(even_nonce, secp256k1.scalar_multiply(key, digest.to_bytes(32)))


def check_attestation(attestation: Attestation, announcement: Announcement) -> None:
    """Check every signature against the announcement. Raises WrongAttestationError: which digit, what is wrong."""
    event, mode = announcement.event, announcement.digit_hash
    if attestation.event != event.id or attestation.oracle_key != announcement.oracle_key:
        raise WrongAttestationError(attestation.event, "is not of the announced event and oracle")
    if len(attestation.signatures) != event.signed_digits or not 0 <= attestation.outcome < 1 << event.signed_digits:
        raise WrongAttestationError(event.id, f"{len(attestation.signatures)} signatures, {event.signed_digits} digits")
    digits = digit_values(attestation.outcome, event.signed_digits)
    for place, (value, signature) in enumerate(zip(digits, attestation.signatures, strict=True)):
        if signature[:32] != announcement.nonces[place]:
            raise WrongAttestationError(event.id, f"digit {place} uses another nonce than the announced one")
        if not secp256k1.schnorr_verify(announcement.oracle_key, digit_digest(value, mode), signature):
            raise WrongAttestationError(event.id, f"digit {place} is not signed as {value}")
