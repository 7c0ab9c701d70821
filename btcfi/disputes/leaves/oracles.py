"""An oracle's one-time key of an event: announced under its own key, used for the outcome that its ledger has.

The ledger is the one of its other attestation (``oracle.attestation``), so both say the same, and a second outcome is
refused across restarts: it would give the key away, and let anybody claim a price that was never agreed.
"""

from __future__ import annotations

from dataclasses import dataclass

from btcfi import secp256k1
from btcfi.disputes.leaves.program import OUTCOME_BITS
from btcfi.disputes.leaves.words import Signed, Word, WordKey, digits_for, has_signed
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import OracleEvent
from btcfi.oracle.attestation import AlreadyAttestedError, AttestationLedger, WrongAttestationError
from btcfi.units import Hash32

_KEY_TAG = "BTCFi/dispute/oracle-word-key/v1"
_WORD_TAG = "BTCFi/dispute/oracle-word/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedWord:
    """An oracle's promise to say one event's outcome by this one-time key."""

    oracle_key: bytes
    """x-only."""
    event: Hash32
    """The event's id."""
    word: Word
    signature: bytes
    """BIP340, by the oracle's key."""

    @property
    def digest(self) -> Hash32:
        """What the oracle signs."""
        return tagged_hash(_WORD_TAG, self.event + b"".join(self.word.ends))


def word_key(secret: bytes, event: OracleEvent) -> WordKey:
    """Return an oracle's one-time key of an event: it follows from its secret, so nothing must be stored."""
    seed = tagged_hash(_KEY_TAG, secret + event.id)
    return WordKey(seed=seed, digits=digits_for((1 << OUTCOME_BITS) - 1))


def announce_word(secret: bytes, event: OracleEvent) -> AnnouncedWord:
    """Return the announcement of an event's one-time key."""
    unsigned = AnnouncedWord(
        oracle_key=secp256k1.public_key_xonly(secret), event=event.id, word=word_key(secret, event).word, signature=b""
    )  # fmt: skip
    return AnnouncedWord(
        oracle_key=unsigned.oracle_key, event=unsigned.event, word=unsigned.word,
        signature=secp256k1.schnorr_sign(secret, unsigned.digest),
    )  # fmt: skip


def check_word(announced: AnnouncedWord) -> None:
    """Check whose key it is. Raises InvalidInputError."""
    if not secp256k1.schnorr_verify(announced.oracle_key, announced.digest, announced.signature):
        raise InvalidInputError(
            "one-time key", f"is not signed by {announced.oracle_key.hex()[:16]}", "an oracle's own announcement"
        )


def attest_word(secret: bytes, event: OracleEvent, outcome: int, ledger: AttestationLedger) -> Signed:
    """Return the one-time signature of an outcome, having written it down first.

    Raises AlreadyAttestedError where the event is attested with another outcome, InvalidInputError for one that does
    not fit.
    """
    key = word_key(secret, event)
    signed = key.sign(outcome)
    key_of = secp256k1.public_key_xonly(secret)
    recorded = ledger.claim(oracle_key=key_of, event=event.id, outcome=outcome)
    if recorded != outcome:
        raise AlreadyAttestedError(event=event.id, attested=recorded, asked=outcome)
    return signed


def check_attested(announced: AnnouncedWord, signed: Signed) -> None:
    """Check that a signature is by the announced key. Raises WrongAttestationError."""
    if not has_signed(announced.word, signed):
        raise WrongAttestationError(announced.event, "is not signed by the announced one-time key")
