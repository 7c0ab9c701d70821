"""A letter between an account and the service: signed by who wrote it, and named, so that it is carried once.

What one party says to another goes by the service, which has to check it: it hands on the writer's own letter inside
one of its own, so the other side checks the writer's signature, not the carrier's word. A letter on its way is sealed
to its recipient (``adapters.sealed_letters``); the carrier sees who wrote, to whom, when, and how long it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from btcfi import secp256k1
from btcfi.documents import MAX_DEPTH
from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256, tagged_hash
from btcfi.market.account import XONLY, WrongSignatureError
from btcfi.oracle.report import canonical_json
from btcfi.records import OBJECT, Rule, hexadecimal, optional, record, whole
from btcfi.units import Hash32

TYPE: Final = "btcfi/letter"
VERSION: Final = 1

NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.~-]{0,180}")
"""Of a letter: ``OPTION.KIND``; it becomes a file's name."""

_TAG: Final = "BTCFi/letter/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What is said, by whom, to whom."""

    sender: bytes
    """x-only request key."""
    recipient: bytes
    """x-only: an account's identity, or the service's key."""
    name: str
    body: dict[str, Any]
    """JSON of integers, texts, lists and objects."""
    said: SignedLetter | None = None
    """Of another account, whose word this hands on: its body is that one's, and ours says only what we add."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedLetter:
    """A letter and its sender's signature."""

    letter: Letter
    signature: bytes


def letter_digest(letter: Letter) -> Hash32:
    """Return what the sender signs."""
    inner = "" if letter.said is None else sha256(canonical_json(encode_signed_letter(letter.said))).hex()
    body = sha256(canonical_json(letter.body)).hex()
    return tagged_hash(
        _TAG, canonical_json([letter.sender.hex(), letter.recipient.hex(), letter.name, body, inner])
    )  # fmt: skip


def sign_letter(letter: Letter, secret: bytes, aux: bytes = bytes(32)) -> SignedLetter:
    """Return a letter signed by its sender's request secret. aux: 32 fresh random bytes, or none."""
    return SignedLetter(letter=letter, signature=secp256k1.schnorr_sign(secret, letter_digest(letter), aux))


def check_letter(signed: SignedLetter, *, sender: bytes, recipient: bytes) -> Letter:
    """Return a letter that ``sender`` has written to ``recipient``. Raises WrongSignatureError."""
    letter = signed.letter
    for what, found, wanted in (("sender", letter.sender, sender), ("recipient", letter.recipient, recipient)):
        if found != wanted:
            raise WrongSignatureError(f"letter {letter.name}", f"its {what} is {found.hex()[:16]}", wanted.hex()[:16])
    if not secp256k1.schnorr_verify(sender, letter_digest(letter), signed.signature):
        raise WrongSignatureError(f"letter {letter.name}", "not signed by its sender", "its request key's signature")
    return letter


def check_said(letter: Letter, *, sender: bytes) -> Letter:
    """Return what a checked letter hands on, once ``sender`` wrote it to the carrier under the same name.

    sender: x-only request key of whose word it must be. A word about another contract is not handed on as one about
    this. Raises WrongSignatureError.
    """
    if letter.said is None:
        raise WrongSignatureError(f"letter {letter.name}", "hands nothing on", "the other side's own letter inside")
    said = check_letter(letter.said, sender=sender, recipient=letter.sender)
    if said.name != letter.name:
        raise WrongSignatureError(f"letter {letter.name}", f"hands on {said.name}", "a letter of the same name")
    return said


def encode_signed_letter(signed: SignedLetter) -> dict[str, Any]:
    """Return the letter and its signature as JSON."""
    letter = signed.letter
    return {
        "type": TYPE,
        "version": VERSION,
        "sender": letter.sender.hex(),
        "recipient": letter.recipient.hex(),
        "name": letter.name,
        "body": letter.body,
        "said": None if letter.said is None else encode_signed_letter(letter.said),
        "signature": signed.signature.hex(),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wire:
    """A letter as its JSON has it."""

    type: str
    version: int
    sender: bytes
    recipient: bytes
    name: str
    body: dict[str, Any]
    said: dict[str, Any] | None
    signature: bytes


def letter_name(value: Any) -> str:  # noqa: ANN401 - JSON
    """Return a letter's name. Raises ValueError for one that is no file's."""
    if not isinstance(value, str) or NAME.fullmatch(value) is None:
        raise ValueError(value)
    return value


def _body(value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    body = OBJECT.parse(value)
    _check_plain(body, MAX_DEPTH)
    return body


def _check_plain(value: Any, depth: int) -> None:  # noqa: ANN401 - JSON
    """Refuse what has no canonical text, before it is hashed. Raises ValueError."""
    if isinstance(value, float) or depth < 0:
        raise ValueError(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        _check_plain(one, depth - 1)


BODY: Final = Rule(_body, f"an object of texts, whole numbers, lists and objects, at most {MAX_DEPTH} deep")

LETTER_NAME: Final = Rule(letter_name, "1 to 181 letters, digits, and _ - . ~, neither . nor ~ first")

_WIRE: Final = record(
    _Wire, exact=True, version=whole(VERSION, VERSION), sender=XONLY, recipient=XONLY, name=LETTER_NAME, body=BODY,
    said=optional(OBJECT), signature=hexadecimal(64),
)  # fmt: skip


def decode_signed_letter(message: object, *, inside: bool = False) -> SignedLetter:
    """Return a signed letter, its signature unchecked. Raises InvalidInputError naming the field.

    inside: whether it is one that another hands on, and then hands on none itself.
    """
    where = f"{TYPE}.said" if inside else TYPE
    wire = _WIRE.read(message, where)
    if wire.type != TYPE:
        raise InvalidInputError(f"{where}.type", repr(wire.type)[:40], repr(TYPE))
    if inside and wire.said is not None:
        raise InvalidInputError(f"{where}.said", "a letter in a letter in a letter", "one inside another at most")
    letter = Letter(
        sender=wire.sender, recipient=wire.recipient, name=wire.name, body=wire.body,
        said=None if wire.said is None else decode_signed_letter(wire.said, inside=True),
    )  # fmt: skip
    return SignedLetter(letter=letter, signature=wire.signature)
