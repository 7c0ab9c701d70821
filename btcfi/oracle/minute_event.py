"""Minute events: every minute's price in cents, signed digit by digit, so that a dispute can read what an oracle said.

A price of 25 bits is four digits of 7, 6, 6 and 6 bits, each with a nonce and a message of its own, and a fifth
signature says that the price is published; it is made with the digits and never without them. Nonces are hashes of the
oracle's secret and the minute, so none is stored: what must survive is which minute was attested with which price, and
of old minutes only how far they go (``MinuteBook``). Source: the digits that a garbled circuit's labels are bound to,
shared findings "Disputes by a garbled circuit", section 2. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from btcfi import secp256k1
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import WrongAnnouncementError, anticipation_point
from btcfi.oracle.attestation import AlreadyAttestedError, WrongAttestationError, sign_with_nonce
from btcfi.oracle.fixing import LeftOut, Said
from btcfi.records import HASH, hexadecimal, listed, record, whole
from btcfi.units import CentsPerBtc, Hash32, Slot

DIGIT_BITS: Final = (7, 6, 6, 6)
"""Bits of each digit, the first one first: few digits keep the chain's part small, narrow ones the tables."""

PRICE_BITS: Final = sum(DIGIT_BITS)

MAX_CENTS: Final = CentsPerBtc((1 << PRICE_BITS) - 1)
"""$335,544.31: what is attested for everything above it, too."""

PUBLISHED: Final = len(DIGIT_BITS)
"""Place of the nonce that signs that the price is published."""

PLACES: Final = PUBLISHED + 1
"""Nonces of an event."""

VERSION: Final = 1

_EVENT_TAG: Final = "BTCFi/oracle/minute/event/v1"
_SERIES_TAG: Final = "BTCFi/oracle/minute/series/v1"
_NONCE_TAG: Final = "BTCFi/oracle/minute/nonce/v1"
_PROOF_TAG: Final = "BTCFi/oracle/minute/nonce-proof/v1"
_ANNOUNCEMENT_TAG: Final = "BTCFi/oracle/minute/announcement/v1"
_DIGIT_TAG: Final = "BTCFi/oracle/minute/digit/v1"
_PUBLISHED_TAG: Final = "BTCFi/oracle/minute/published/v1"
_ANNOUNCED: Final = "btcfi/minute-announcement"
_ATTESTED: Final = "btcfi/minute-attestation"
_SIGNATURE: Final = 64
_MAX_FEED: Final = 255
_NO_MINUTE: Final = Slot(0)


class MinuteForgottenError(ConflictError):
    """A minute at or below the ledger's mark: it may have been attested, and with which price is not kept."""

    def __init__(self, *, slot: Slot, mark: Slot) -> None:
        super().__init__(f"minute {slot} is at or below {mark}, up to which this oracle signs no minute again")
        self.slot, self.mark = slot, mark


class MinuteUnsignedError(ConflictError):
    """A minute that has no price to settle on. It stands in the ledger, so that no price is signed for it later."""

    def __init__(self, *, slot: Slot, why: LeftOut) -> None:
        super().__init__(f"minute {slot} is {why.value}: this oracle signs no price of it, now or later")
        self.slot, self.why = slot, why


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteEvent:
    """The agreed price of one minute of a feed. Two events that differ in anything have different ids."""

    feed: str
    slot: Slot
    preset_hash: Hash32
    """The rules by which the price is agreed."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a feed's name that is too long."""
        if len(self.feed.encode()) > _MAX_FEED:
            raise InvalidInputError("feed", f"{len(self.feed.encode())} bytes", f"at most {_MAX_FEED} bytes")

    @property
    def id(self) -> Hash32:
        """The event's identity."""
        return tagged_hash(_EVENT_TAG, self.series + self.slot.to_bytes(8))

    @property
    def series(self) -> Hash32:
        """What the minutes of one feed under one preset share: a ledger has a mark for each."""
        feed = self.feed.encode()
        return tagged_hash(_SERIES_TAG, bytes([len(feed)]) + feed + self.preset_hash)


def attested_cents(price: CentsPerBtc) -> CentsPerBtc:
    """Return the price that is signed: itself, at most the highest one that 25 bits hold."""
    return CentsPerBtc(min(price, MAX_CENTS))


def digits_of(price: CentsPerBtc) -> tuple[int, ...]:
    """Return the four digits of a price, the most significant first. Raises InvalidInputError beyond 25 bits."""
    if not 0 <= price <= MAX_CENTS:
        raise InvalidInputError("price", f"{price} cents", f"0 to {MAX_CENTS}")
    found, rest = [], int(price)
    for bits in reversed(DIGIT_BITS):
        found.append(rest & ((1 << bits) - 1))
        rest >>= bits
    return tuple(reversed(found))


def digit_message(event: MinuteEvent, place: int, value: int) -> Hash32:
    """Return what is signed for a digit: it names the event, the place and the value, so it fits nothing else.

    Raises InvalidInputError for a value that the place has not.
    """
    if not 0 <= place < PUBLISHED or not 0 <= value < 1 << DIGIT_BITS[place]:
        raise InvalidInputError("digit", f"{value} at place {place}", f"{DIGIT_BITS} bits")
    return tagged_hash(_DIGIT_TAG, event.id + bytes([place, value]))


def published_message(event: MinuteEvent) -> Hash32:
    """Return what is signed to say that the minute's price is published."""
    return tagged_hash(_PUBLISHED_TAG, event.id)


# ---- announcing


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteAnnouncement:
    """An oracle's promise to sign one minute's price with these nonces."""

    oracle_key: bytes
    """x-only, 32 bytes."""
    event: MinuteEvent
    nonces: tuple[bytes, ...]
    """x-only: one a digit, the most significant first, and that of "published" last."""
    proofs: tuple[bytes, ...]
    """BIP340 signatures by each nonce's key over the event and its place: several oracles' points may be summed."""
    signature: bytes
    """BIP340 by the oracle's key over event, nonces and proofs."""

    def digest(self) -> Hash32:
        """Return what the oracle signs."""
        return tagged_hash(_ANNOUNCEMENT_TAG, self.event.id + b"".join(self.nonces) + b"".join(self.proofs))


def announce_minute(secret: bytes, event: MinuteEvent) -> MinuteAnnouncement:
    """Return the announcement of a minute. The same secret and event give the same one, so none need be kept."""
    secrets = [_nonce_secret(secret, event, place) for place in range(PLACES)]
    nonces = tuple(map(secp256k1.public_key_xonly, secrets))
    proofs = tuple(secp256k1.schnorr_sign(k, _proof_digest(event, place)) for place, k in enumerate(secrets))
    key = secp256k1.public_key_xonly(secret)
    unsigned = MinuteAnnouncement(oracle_key=key, event=event, nonces=nonces, proofs=proofs, signature=b"")
    signature = secp256k1.schnorr_sign(secret, unsigned.digest())
    return MinuteAnnouncement(oracle_key=key, event=event, nonces=nonces, proofs=proofs, signature=signature)


def check_minute_announcement(announcement: MinuteAnnouncement, *, expected: MinuteEvent) -> None:
    """Check that an announcement is of this minute and that its key, nonces and proofs are sound.

    Raises WrongAnnouncementError: another event, wrong number of nonces, one twice or without proof, a wrong signature.
    """
    event, nonces = announcement.event, announcement.nonces
    name = f"{event.feed} at minute {event.slot}"
    if event != expected:
        raise WrongAnnouncementError(name, f"is for event {event.id.hex()[:16]}, not {expected.id.hex()[:16]}")
    if not len(nonces) == len(announcement.proofs) == PLACES or len(set(nonces)) != PLACES:
        raise WrongAnnouncementError(name, f"has not {PLACES} different nonces, each with a proof")
    for place, (nonce, proof) in enumerate(zip(nonces, announcement.proofs, strict=True)):
        if not secp256k1.schnorr_verify(nonce, _proof_digest(event, place), proof):
            raise WrongAnnouncementError(name, f"nonce {place} has no valid proof of knowledge")
    if not secp256k1.schnorr_verify(announcement.oracle_key, announcement.digest(), announcement.signature):
        raise WrongAnnouncementError(name, "the oracle's signature is not valid")


def digit_point(announcement: MinuteAnnouncement, place: int, value: int) -> bytes:
    """Return the point, compressed, whose secret the signature of this digit's value reveals. Raises as its message."""
    message = digit_message(announcement.event, place, value)
    return _point(announcement, place, message)


def published_point(announcement: MinuteAnnouncement) -> bytes:
    """Return the point, compressed, whose secret the signature of "published" reveals."""
    return _point(announcement, PUBLISHED, published_message(announcement.event))


def _point(announcement: MinuteAnnouncement, place: int, message: Hash32) -> bytes:
    found = anticipation_point(announcement.oracle_key, announcement.nonces[place], message)
    return secp256k1.serialize_point(found)


def _nonce_secret(secret: bytes, event: MinuteEvent, place: int) -> bytes:
    # one value a place and event is ever signed with it: the ledger of attest_minute sees to it
    return secp256k1.even_secret(tagged_hash(_NONCE_TAG, secret + event.id + bytes([place])))


def _proof_digest(event: MinuteEvent, place: int) -> Hash32:
    return tagged_hash(_PROOF_TAG, event.id + bytes([place]))


# ---- attesting


class MinuteLedger(Protocol):
    """Where the first word on each minute is written down, durably, before anything is signed."""

    def claim(self, *, oracle_key: bytes, series: Hash32, slot: Slot, said: Said) -> Said:
        """Record a price, or why none is signed, unless a word stands there, atomically; return what stands there now.

        Raises MinuteForgottenError for a minute that the ledger keeps no more.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteBook:
    """What a ledger knows of one oracle's series: how far it has forgotten, and what was said since."""

    mark: Slot = _NO_MINUTE
    """No minute at or below it is signed again; a restored oracle raises it to now."""
    said: Mapping[Slot, Said] = field(default_factory=dict)
    """Prices, and of the minutes that are never signed why not."""

    def claim(self, slot: Slot, said: Said) -> tuple[MinuteBook, Said]:
        """Return the book with this word in it unless one stands there, and the one that stands there.

        Raises MinuteForgottenError.
        """
        if slot <= self.mark:
            raise MinuteForgottenError(slot=slot, mark=self.mark)
        known = self.said.get(slot)
        if known is not None:
            return self, known
        return MinuteBook(mark=self.mark, said={**self.said, slot: said}), said

    def pruned(self, mark: Slot) -> MinuteBook:
        """Return the book without what was said up to ``mark``; a mark never goes down."""
        mark = max(self.mark, mark)
        return MinuteBook(mark=mark, said={at: said for at, said in self.said.items() if at > mark})


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteAttestation:
    """A minute's price: one BIP340 signature a digit, and that of "published"."""

    oracle_key: bytes
    event: Hash32
    """The event's id."""
    price: CentsPerBtc
    """As it is signed: at most ``MAX_CENTS``."""
    digits: tuple[bytes, ...]
    """64 bytes each, the most significant digit's first."""
    published: bytes

    def digit_secret(self, place: int) -> bytes:
        """Return the secret of the point of a digit's value (``digit_point``)."""
        return self.digits[place][32:]

    @property
    def published_secret(self) -> bytes:
        """The secret of ``published_point``."""
        return self.published[32:]


def attest_minute(
    secret: bytes, announcement: MinuteAnnouncement, price: CentsPerBtc, ledger: MinuteLedger
) -> MinuteAttestation:
    """Return the attestation of a minute's agreed price, having written it down first. All signatures or none.

    The same price again gives the same bytes. Raises AlreadyAttestedError for another, MinuteUnsignedError where the
    ledger says that none is signed, MinuteForgottenError as it does, InvalidInputError for another oracle's secret,
    WrongAttestationError for nonces that are not its own.
    """
    event, key = announcement.event, secp256k1.public_key_xonly(secret)
    if key != announcement.oracle_key:
        raise InvalidInputError("oracle secret", "is another oracle's", "the secret of the announcing key")
    nonces = [_nonce_secret(secret, event, place) for place in range(PLACES)]
    if tuple(map(secp256k1.public_key_xonly, nonces)) != announcement.nonces:
        raise WrongAttestationError(event.id, "the announced nonces are not this oracle's")
    wanted = attested_cents(price)
    digits = digits_of(wanted)
    recorded = ledger.claim(oracle_key=key, series=event.series, slot=event.slot, said=wanted)
    if isinstance(recorded, LeftOut):
        raise MinuteUnsignedError(slot=event.slot, why=recorded)
    if recorded != wanted:
        raise AlreadyAttestedError(event=event.id, attested=recorded, asked=wanted)
    signed = tuple(
        sign_with_nonce(secret, nonces[place], digit_message(event, place, value)) for place, value in enumerate(digits)
    )
    published = sign_with_nonce(secret, nonces[PUBLISHED], published_message(event))
    return MinuteAttestation(oracle_key=key, event=event.id, price=wanted, digits=signed, published=published)


def check_minute_attestation(attestation: MinuteAttestation, announcement: MinuteAnnouncement) -> None:
    """Check every signature against the announcement. Raises WrongAttestationError: which one, what is wrong."""
    event = announcement.event
    if attestation.event != event.id or attestation.oracle_key != announcement.oracle_key:
        raise WrongAttestationError(attestation.event, "is not of the announced minute and oracle")
    if len(attestation.digits) != PUBLISHED or not 0 <= attestation.price <= MAX_CENTS:
        raise WrongAttestationError(event.id, f"{len(attestation.digits)} digits of {attestation.price} cents")
    messages = [digit_message(event, place, value) for place, value in enumerate(digits_of(attestation.price))]
    messages.append(published_message(event))
    for place, (message, signature) in enumerate(
        zip(messages, (*attestation.digits, attestation.published), strict=True)
    ):
        what = "published" if place == PUBLISHED else f"digit {place}"
        if signature[:32] != announcement.nonces[place]:
            raise WrongAttestationError(event.id, f"{what} uses another nonce than the announced one")
        if not secp256k1.schnorr_verify(announcement.oracle_key, message, signature):
            raise WrongAttestationError(event.id, f"{what} is not signed as the price says")


# ---- JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    type: str
    version: int


_HEAD: Final = record(_Head)
record(MinuteEvent, slot="slot_unix")
_ANNOUNCEMENT: Final = record(
    MinuteAnnouncement,
    oracle_key=hexadecimal(32),
    nonces=listed(hexadecimal(32), PLACES),
    proofs=listed(hexadecimal(_SIGNATURE), PLACES),
    signature=hexadecimal(_SIGNATURE),
)
_ATTESTATION: Final = record(
    MinuteAttestation,
    oracle_key=hexadecimal(32),
    event=("event_id", HASH),
    price=("price_cents", whole(0, MAX_CENTS)),
    digits=listed(hexadecimal(_SIGNATURE), PUBLISHED),
    published=hexadecimal(_SIGNATURE),
)


def _check_head(message: object, kind: str) -> None:
    head = _HEAD.read(message, kind)
    if (head.type, head.version) != (kind, VERSION):
        raise InvalidInputError("message", f"{head.type!r} version {head.version}", f"{kind!r} version {VERSION}")


def encode_minute_announcement(announcement: MinuteAnnouncement) -> dict[str, Any]:
    """Return an announcement as JSON."""
    event = announcement.event
    return {
        "type": _ANNOUNCED,
        "version": VERSION,
        "oracle_key": announcement.oracle_key.hex(),
        "event": {"feed": event.feed, "slot_unix": event.slot, "preset_hash": event.preset_hash.hex()},
        "nonces": [nonce.hex() for nonce in announcement.nonces],
        "proofs": [proof.hex() for proof in announcement.proofs],
        "signature": announcement.signature.hex(),
    }


def decode_minute_announcement(message: object) -> MinuteAnnouncement:
    """Return the announcement of a JSON value, unchecked. Raises InvalidInputError naming the field."""
    _check_head(message, _ANNOUNCED)
    return _ANNOUNCEMENT.read(message, _ANNOUNCED)


def encode_minute_attestation(attestation: MinuteAttestation) -> dict[str, Any]:
    """Return an attestation as JSON."""
    return {
        "type": _ATTESTED,
        "version": VERSION,
        "oracle_key": attestation.oracle_key.hex(),
        "event_id": attestation.event.hex(),
        "price_cents": attestation.price,
        "digits": [signature.hex() for signature in attestation.digits],
        "published": attestation.published.hex(),
    }


def decode_minute_attestation(message: object) -> MinuteAttestation:
    """Return the attestation of a JSON value, unchecked. Raises InvalidInputError naming the field."""
    _check_head(message, _ATTESTED)
    return _ATTESTATION.read(message, _ATTESTED)
