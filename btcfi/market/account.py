"""An account of the market: a name and three public keys, vouched for by the first, and what each key signs.

The owner's identity key signs the registration and the mandate, and nothing else; it stays where its owner keeps it.
Day by day the party's own process signs requests, offers and takes with its *request key*, and opens letters with its
*box key*; the registration says whose they are. A registration of a higher number replaces those keys.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from btcfi import secp256k1
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import sha256, tagged_hash
from btcfi.oracle.report import canonical_json
from btcfi.records import Rule, hexadecimal, record, whole
from btcfi.units import Hash32, UnixSeconds

TYPE: Final = "btcfi/registration"
VERSION: Final = 1

REQUEST_SECONDS: Final = 30
"""By how much a signed request's time may differ from the clock of who reads it."""

NAME: Final = re.compile(r"[a-z][a-z0-9-]{1,30}[a-z0-9]")
"""Of an account: it stands in addresses, logs and tables."""

_TAG: Final = "BTCFi/registration/v1"
_REQUEST_TAG: Final = "BTCFi/request/v1"


class WrongRegistrationError(BtcfiError):
    """A registration that its identity has not signed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the registration of {name} is not signed by its identity; sign it again: `btcfi party join`")
        self.name = name


class WrongSignatureError(BtcfiError):
    """A request, an offer or a take that its account's request key has not signed, or of another time."""

    def __init__(self, what: str, problem: str, expected: str) -> None:
        super().__init__(f"{what}: {problem}; expected {expected}")
        self.what = what


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What an owner registers."""

    name: str
    identity: bytes
    """x-only, 32 bytes: the account."""
    request_key: bytes
    """x-only, 32 bytes: signs requests, offers, takes and letters."""
    box_key: bytes
    """X25519, 32 bytes: letters to the account are sealed to it."""
    desk: bytes
    """x-only request key of the service that it is for: no other service can use it."""
    number: int
    """Above every one before."""
    at: UnixSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRegistration:
    """A registration and its identity's signature."""

    registration: Registration
    signature: bytes


def registration_digest(registration: Registration) -> Hash32:
    """Return what the identity signs."""
    return tagged_hash(_TAG, canonical_json(encode_registration(registration)))


def sign_registration(registration: Registration, secret: bytes, aux: bytes = bytes(32)) -> SignedRegistration:
    """Return a registration signed by its identity's secret. aux: 32 fresh random bytes, or none."""
    signature = secp256k1.schnorr_sign(secret, registration_digest(registration), aux)
    return SignedRegistration(registration=registration, signature=signature)


def check_registration(signed: SignedRegistration) -> Registration:
    """Return what its identity has signed. Raises WrongRegistrationError."""
    registration = signed.registration
    if not secp256k1.schnorr_verify(registration.identity, registration_digest(registration), signed.signature):
        raise WrongRegistrationError(registration.name)
    return registration


def request_digest(*, desk: bytes, method: str, target: str, body: bytes, at: UnixSeconds) -> Hash32:
    """Return what a request key signs of one HTTP request.

    desk: x-only key of the service that it is for. target: path and query as sent, percent-encoded. at: the sender's
    clock; a reader refuses what is REQUEST_SECONDS off.
    """
    said = [desk.hex(), method.upper(), target, sha256(body).hex(), at]
    return tagged_hash(_REQUEST_TAG, canonical_json(said))


def check_time(what: str, at: UnixSeconds, now: UnixSeconds) -> None:
    """Refuse what was signed at another time. Raises WrongSignatureError."""
    if abs(now - at) > REQUEST_SECONDS:
        problem = f"signed {abs(now - at)} s {'ago' if at < now else 'ahead'}"
        raise WrongSignatureError(what, problem, f"a clock within {REQUEST_SECONDS} s of the service's")


# ---- writing and reading


def encode_registration(registration: Registration) -> dict[str, Any]:
    """Return the registration as JSON, not signed."""
    return {
        "type": TYPE,
        "version": VERSION,
        "name": registration.name,
        "identity": registration.identity.hex(),
        "request_key": registration.request_key.hex(),
        "box_key": registration.box_key.hex(),
        "desk": registration.desk.hex(),
        "number": registration.number,
        "at_unix": registration.at,
    }


def encode_signed_registration(signed: SignedRegistration) -> dict[str, Any]:
    """Return the registration and who vouches for it as JSON."""
    return encode_registration(signed.registration) | {"signature": signed.signature.hex()}


def _key(value: Any) -> bytes:  # noqa: ANN401 - JSON
    key = hexadecimal(32)(value)
    if not secp256k1.is_xonly_key(key):
        raise ValueError(value)
    return key


def _name(value: Any) -> str:  # noqa: ANN401 - JSON
    if not isinstance(value, str) or NAME.fullmatch(value) is None:
        raise ValueError(value)
    return value


XONLY: Final = Rule(_key, "an x-only key, 32 bytes as hex")
ACCOUNT_NAME: Final = Rule(_name, "3 to 32 of a-z, 0-9 and -, a letter first, no - last")

_REGISTRATION: Final = record(
    Registration, name=ACCOUNT_NAME, identity=XONLY, request_key=XONLY, box_key=hexadecimal(32), desk=XONLY,
    number=whole(1, (1 << 31) - 1), at="at_unix",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vouched:
    type: str
    version: int
    signature: bytes


_VOUCHED: Final = record(_Vouched, version=whole(VERSION, VERSION), signature=hexadecimal(64))


def decode_signed_registration(message: object) -> SignedRegistration:
    """Return a signed registration, its signature unchecked. Raises InvalidInputError naming the field."""
    vouched = _VOUCHED.read(message, TYPE)
    if vouched.type != TYPE:
        raise InvalidInputError(f"{TYPE}.type", repr(vouched.type), repr(TYPE))
    return SignedRegistration(registration=_REGISTRATION.read(message, TYPE), signature=vouched.signature)
