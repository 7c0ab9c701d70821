"""The oracle's messages of the DLC specification, as other wallets write them: announcements and attestations as TLV.

Bytes to records and back, and nothing else: every accepted message encodes to the very bytes that it was read from.
Source: discreetlogcontracts/dlcspecs, Oracle.md and Messaging.md. Where the text and what wallets write differ, this is
what they write, as the specification's own vectors have it: the base of a number is a u16 (the text says BigSize), and
an announcement may be signed over plain SHA-256 (the text says a tagged hash).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import Enum
from typing import Final, NoReturn

from btcfi import secp256k1
from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256, tagged_hash
from btcfi.units import Hash32, UnixSeconds

ANNOUNCEMENT: Final = 55_332
ATTESTATION: Final = 55_400
_EVENT: Final = 55_330
_ENUM: Final = 55_302
_DIGITS: Final = 55_306
"""TLV types. Source: Oracle.md."""

MAX_BYTES: Final = 1 << 16
"""Of one message: a number of 25 digits is announced in 1 kB, and a list of outcomes is no book."""

MAX_TEXT: Final = 1_024
"""Bytes of an event's name, a unit or an outcome."""

_MAX_U16: Final = 0xFFFF
_MAX_U32: Final = 0xFFFFFFFF
_HALF_U32: Final = 1 << 31
_SIGNATURE: Final = 64
_KEY: Final = 32
_BIGSIZES: Final = {0xFD: (2, 0xFD), 0xFE: (4, 0x1_0000), 0xFF: (8, 0x1_0000_0000)}
"""By first byte, how many follow, and the least number that is written so. Source: BOLT 1, appendix A."""

_ANNOUNCEMENT_TAG: Final = "DLC/oracle/announcement/v0"


class DigitHash(Enum):
    """How the text of a digit becomes the signed message."""

    TAGGED = "tagged"
    """Tagged hash, as Oracle.md says: ours."""
    PLAIN = "plain"
    """SHA-256, as the specification's published vectors have it."""


class WrongTlvError(InvalidInputError):
    """Bytes that are no message of the DLC specification: which field, what is wrong with it."""


def _refuse(field: str, problem: str, expected: str) -> NoReturn:
    raise WrongTlvError(field, problem, expected)


def _within(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        _refuse(field, f"{value}", f"{low} to {high}")


def _sized(field: str, value: bytes, size: int) -> None:
    if len(value) != size:
        _refuse(field, f"{len(value)} bytes", f"{size} bytes")


def _readable(field: str, text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        _refuse(field, "has half a surrogate pair", "UTF-8 text")
    _within(f"{field} (bytes)", size, 0, MAX_TEXT)
    if unicodedata.normalize("NFC", text) != text:
        _refuse(field, "is not in its one normal form", "UTF-8 text in NFC")


# ---- records


@dataclass(frozen=True, slots=True, kw_only=True)
class EnumDescriptor:
    """One of a list of outcomes is signed."""

    outcomes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise WrongTlvError for no outcomes, too many, or one that stands twice."""
        _within("num_outcomes", len(self.outcomes), 1, _MAX_U16)
        for outcome in self.outcomes:
            _readable("outcome", outcome)
        if len(set(self.outcomes)) != len(self.outcomes):
            _refuse("outcomes", "one stands twice", "each once: an outcome is signed by its text")

    @property
    def nonces(self) -> int:
        """How many nonces its event has."""
        return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitDescriptor:
    """A number is signed digit by digit, the first one first; beyond its range the highest or the lowest is."""

    base: int
    signed: bool
    """Whether one more nonce stands first, for + or -."""
    unit: str
    precision: int
    """The number that the digits make is multiplied by the base to this power."""
    digits: int

    def __post_init__(self) -> None:
        """Raise WrongTlvError for what no number has."""
        _within("base", self.base, 2, _MAX_U16)
        _readable("unit", self.unit)
        _within("precision", self.precision, -_HALF_U32, _HALF_U32 - 1)
        _within("nb_digits", self.digits, 1, _MAX_U16 - self.signed)

    @property
    def nonces(self) -> int:
        """How many nonces its event has."""
        return self.digits + self.signed


@dataclass(frozen=True, slots=True, kw_only=True)
class DlcEvent:
    """What an oracle will attest, when, and with which nonces."""

    nonces: tuple[bytes, ...]
    """x-only, 32 bytes each."""
    maturity: UnixSeconds
    """The earliest time at which it attests."""
    descriptor: EnumDescriptor | DigitDescriptor
    name: str
    """The oracle's own, ``event_id``."""

    def __post_init__(self) -> None:
        """Raise WrongTlvError unless there is one nonce a signature, each once."""
        for nonce in self.nonces:
            _sized("oracle_nonces", nonce, _KEY)
        if len(self.nonces) != self.descriptor.nonces:
            _refuse("nb_nonces", f"{len(self.nonces)}", f"{self.descriptor.nonces}, one for each signature")
        if len(set(self.nonces)) != len(self.nonces):
            _refuse("oracle_nonces", "one stands twice", "each once: two signatures with one would reveal the key")
        _within("event_maturity_epoch", self.maturity, 0, _MAX_U32)
        _readable("event_id", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class DlcAnnouncement:
    """An event under its oracle's signature, which nobody has checked yet (``signed_as``)."""

    signature: bytes
    oracle_key: bytes
    """x-only, 32 bytes."""
    event: DlcEvent

    def __post_init__(self) -> None:
        """Raise WrongTlvError for another size."""
        _sized("announcement_signature", self.signature, _SIGNATURE)
        _sized("oracle_public_key", self.oracle_key, _KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class DlcAttestation:
    """The signatures of an outcome, in the order of the event's nonces, unchecked."""

    name: str
    """Of the event, ``event_id``."""
    oracle_key: bytes
    signatures: tuple[bytes, ...]
    outcomes: tuple[str, ...]
    """The text under each signature."""

    def __post_init__(self) -> None:
        """Raise WrongTlvError unless every signature has its outcome."""
        _readable("event_id", self.name)
        _sized("oracle_public_key", self.oracle_key, _KEY)
        _within("nb_signatures", len(self.signatures), 1, _MAX_U16)
        for signature in self.signatures:
            _sized("signature", signature, _SIGNATURE)
        for outcome in self.outcomes:
            _readable("outcome", outcome)
        if len(self.outcomes) != len(self.signatures):
            _refuse("outcomes", f"{len(self.outcomes)}", f"{len(self.signatures)}, one for each signature")


# ---- writing


def _bigsize(value: int) -> bytes:
    for first in sorted(_BIGSIZES, reverse=True):
        size, least = _BIGSIZES[first]
        if value >= least:
            return bytes([first]) + value.to_bytes(size)
    return bytes([value])


ANNOUNCEMENT_HEAD: Final = _bigsize(ANNOUNCEMENT)
ATTESTATION_HEAD: Final = _bigsize(ATTESTATION)
"""How each message begins."""


def _text(text: str) -> bytes:
    return _bigsize(len(text.encode())) + text.encode()


def _tlv(kind: int, value: bytes) -> bytes:
    return _bigsize(kind) + _bigsize(len(value)) + value


def _descriptor(one: EnumDescriptor | DigitDescriptor) -> bytes:
    if isinstance(one, EnumDescriptor):
        return _tlv(_ENUM, len(one.outcomes).to_bytes(2) + b"".join(map(_text, one.outcomes)))
    head = one.base.to_bytes(2) + bytes([one.signed]) + _text(one.unit)
    return _tlv(_DIGITS, head + one.precision.to_bytes(4, signed=True) + one.digits.to_bytes(2))


def _event_value(event: DlcEvent) -> bytes:
    nonces = len(event.nonces).to_bytes(2) + b"".join(event.nonces)
    return nonces + event.maturity.to_bytes(4) + _descriptor(event.descriptor) + _text(event.name)


def encode_event(event: DlcEvent) -> bytes:
    """Return the TLV of an event, type 55330: what its oracle signs."""
    return _tlv(_EVENT, _event_value(event))


def encode_announcement(announcement: DlcAnnouncement) -> bytes:
    """Return the TLV of an announcement, type 55332."""
    return _tlv(ANNOUNCEMENT, announcement.signature + announcement.oracle_key + encode_event(announcement.event))


def encode_attestation(attestation: DlcAttestation) -> bytes:
    """Return the TLV of an attestation, type 55400."""
    head = _text(attestation.name) + attestation.oracle_key + len(attestation.signatures).to_bytes(2)
    return _tlv(ATTESTATION, head + b"".join(attestation.signatures) + b"".join(map(_text, attestation.outcomes)))


# ---- reading


class _Reader:
    """Bytes, taken from the front to the last one; a field that ends too early is named."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._at, self._what = data, 0, what

    def take(self, field: str, size: int) -> bytes:
        if size > len(self._data) - self._at:
            _refuse(field, f"{self._what} ends {size - len(self._data) + self._at} bytes too early", "all of it")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, field: str, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(field, size), signed=signed)

    def bigsize(self, field: str) -> int:
        first = self.number(field, 1)
        if first not in _BIGSIZES:
            return first
        size, least = _BIGSIZES[first]
        value = self.number(field, size)
        if value < least:
            _refuse(field, f"{value} in {size + 1} bytes", "the shortest form of a BigSize")
        return value

    def text(self, field: str) -> str:
        try:
            return self.take(field, self.bigsize(field)).decode()
        except UnicodeDecodeError:
            _refuse(field, "is no UTF-8", "UTF-8 text in NFC")

    def tlv(self, field: str, kinds: tuple[int, ...]) -> tuple[int, _Reader]:
        kind = self.bigsize(field)
        if kind not in kinds:
            _refuse(field, f"type {kind}", " or ".join(f"type {one}" for one in kinds))
        return kind, _Reader(self.take(field, self.bigsize(field)), field)

    def many(self, field: str, size: int) -> tuple[bytes, ...]:
        count = self.number(f"nb_{field}", 2)
        return tuple(self.take(field, size) for _ in range(count))

    def end(self) -> None:
        if self._at != len(self._data):
            _refuse(self._what, f"{len(self._data) - self._at} bytes after its end", "nothing after it")


def _whole(data: bytes, kind: int, what: str) -> _Reader:
    if len(data) > MAX_BYTES:
        _refuse(what, f"{len(data)} bytes", f"at most {MAX_BYTES} bytes")
    outer = _Reader(data, "the message")
    _, body = outer.tlv(what, (kind,))
    outer.end()
    return body


def decode_event(data: bytes) -> DlcEvent:
    """Return the event of its TLV. Raises WrongTlvError naming the field."""
    return _read_event(_whole(data, _EVENT, "oracle_event"))


def _read_event(body: _Reader) -> DlcEvent:
    nonces = body.many("nonces", _KEY)
    maturity = UnixSeconds(body.number("event_maturity_epoch", 4))
    descriptor, name = _read_descriptor(body), body.text("event_id")
    body.end()
    return DlcEvent(nonces=nonces, maturity=maturity, descriptor=descriptor, name=name)


def _read_descriptor(event: _Reader) -> EnumDescriptor | DigitDescriptor:
    kind, body = event.tlv("event_descriptor", (_ENUM, _DIGITS))
    made: EnumDescriptor | DigitDescriptor
    if kind == _ENUM:
        made = EnumDescriptor(outcomes=tuple(body.text("outcome") for _ in range(body.number("num_outcomes", 2))))
    else:
        base, signed, unit = body.number("base", 2), body.number("is_signed", 1), body.text("unit")
        _within("is_signed", signed, 0, 1)
        precision, digits = body.number("precision", 4, signed=True), body.number("nb_digits", 2)
        made = DigitDescriptor(base=base, signed=bool(signed), unit=unit, precision=precision, digits=digits)
    body.end()
    return made


def decode_announcement(data: bytes) -> DlcAnnouncement:
    """Return the announcement of its TLV, its signature unchecked. Raises WrongTlvError naming the field."""
    body = _whole(data, ANNOUNCEMENT, "oracle_announcement")
    signature, key = body.take("announcement_signature", _SIGNATURE), body.take("oracle_public_key", _KEY)
    _, event = body.tlv("oracle_event", (_EVENT,))
    made = DlcAnnouncement(signature=signature, oracle_key=key, event=_read_event(event))
    body.end()
    return made


def decode_attestation(data: bytes) -> DlcAttestation:
    """Return the attestation of its TLV, unchecked. Raises WrongTlvError naming the field."""
    body = _whole(data, ATTESTATION, "oracle_attestation")
    name, key = body.text("event_id"), body.take("oracle_public_key", _KEY)
    signatures = body.many("signatures", _SIGNATURE)
    outcomes = tuple(body.text("outcome") for _ in signatures)
    body.end()
    return DlcAttestation(name=name, oracle_key=key, signatures=signatures, outcomes=outcomes)


def tlv_in(file: bytes) -> bytes | None:
    """Return the message of a file, in bytes or as hex on one line; None where the file begins as no message does."""
    heads = (ANNOUNCEMENT_HEAD, ATTESTATION_HEAD)
    if file.startswith(heads):
        return file
    if not file.lower().startswith(tuple(head.hex().encode() for head in heads)):
        return None
    try:
        return bytes.fromhex(file.decode())
    except ValueError:
        _refuse("message", "begins as hex and goes on as something else", "hex, or the bytes themselves")


# ---- the signature of an announcement


def announcement_digest(event: DlcEvent) -> Hash32:
    """Return what the specification has an oracle sign: the tagged hash of the event's TLV."""
    return tagged_hash(_ANNOUNCEMENT_TAG, encode_event(event))


def signed_as(announcement: DlcAnnouncement) -> DigitHash | None:
    """Return how an announcement is signed, and its digits will be; None when its signature is not its oracle's.

    Two families of wallets hash in two ways, and nothing in a message says which: the signature does. Of the tagged
    family some leave the TLV's head out of what they sign; the published vectors of the plain one do.
    """
    value = _event_value(announcement.event)
    known = (
        (DigitHash.TAGGED, announcement_digest(announcement.event)),
        (DigitHash.TAGGED, tagged_hash(_ANNOUNCEMENT_TAG, value)),
        (DigitHash.PLAIN, sha256(value)),
    )
    for mode, digest in known:
        if secp256k1.schnorr_verify(announcement.oracle_key, digest, announcement.signature):
            return mode
    return None
