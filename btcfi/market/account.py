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
from btcfi.market.signed_text import read_signed
from btcfi.oracle.report import canonical_json
from btcfi.records import Rule, hexadecimal, record, whole
from btcfi.units import Hash32, UnixSeconds

TYPE: Final = "btcfi/registration"
VERSION: Final = 1

REQUEST_SECONDS: Final = 30
"""By how much a signed request's time may differ from the clock of who reads it."""

NAME: Final = re.compile(r"[a-z][a-z0-9-]{1,30}[a-z0-9]")
"""Of an account: it stands in addresses, logs and tables."""

RESERVED: Final = frozenset({"admin", "anonymous", "btcfi", "desk", "operator", "oracle", "service", "system"})
"""Names of no account: in a table they would be read as the service's own word."""

_TAG: Final = "BTCFi/registration/v1"
_REQUEST_TAG: Final = "BTCFi/request/v1"

_FIELD_PRIME: Final = (1 << 255) - 19
_SMALL_ORDER: Final = frozenset({
    0, 1, _FIELD_PRIME - 1,
    0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
    0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
})  # fmt: skip
"""X25519 keys with which everybody shares the same secret; libraries refuse to seal to them, which a service would
find out only while it writes a letter. Source: Bernstein, https://cr.yp.to/ecdh.html."""


class WrongRegistrationError(BtcfiError):
    """A registration that its identity has not signed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the registration of {name} is not signed by its identity; sign it again: `btcfi party join`")
        self.name = name


class AnotherDeskError(BtcfiError):
    """Something that was signed for another service."""

    def __init__(self, what: str, desk: bytes, expected: bytes) -> None:
        super().__init__(f"{what} is for desk {desk.hex()[:16]}; expected {expected.hex()[:16]}: `btcfi party join`")
        self.what, self.desk = what, desk


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

    def __post_init__(self) -> None:
        """Check that three parties' keys are three. Raises InvalidInputError naming the field.

        With the identity's key the running party could sign a mandate; with the desk's, the desk's letters would be
        an account's.
        """
        if len({self.identity, self.request_key, self.desk}) < len(("identity", "request_key", "desk")):
            raise InvalidInputError("request_key", "is the identity's key, or the desk's", "a key of its own")


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


def check_registration(signed: SignedRegistration, *, desk: bytes | None = None) -> Registration:
    """Return what its identity has signed. desk: x-only key of the service that it must be for; None: any.

    Raises WrongRegistrationError, AnotherDeskError.
    """
    registration = signed.registration
    if desk is not None and registration.desk != desk:
        raise AnotherDeskError(f"the registration of {registration.name}", registration.desk, desk)
    if not secp256k1.schnorr_verify(registration.identity, registration_digest(registration), signed.signature):
        raise WrongRegistrationError(registration.name)
    return registration


def request_digest(
    *, desk: bytes, account: bytes, method: str, target: str, body: bytes, at: UnixSeconds
) -> Hash32:  # fmt: skip
    """Return what a request key signs of one HTTP request.

    desk: x-only key of the service that it is for. account: x-only identity that asks, as the header says it: who
    registers another's request key as its own cannot pass that one's requests off as its own. target: path and query
    as sent, percent-encoded. at: the sender's clock; a reader refuses what is REQUEST_SECONDS off.
    """
    said = [desk.hex(), account.hex(), method.upper(), target, sha256(body).hex(), at]
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
    if not isinstance(value, str) or NAME.fullmatch(value) is None or value in RESERVED:
        raise ValueError(value)
    return value


def _box_key(value: Any) -> bytes:  # noqa: ANN401 - JSON
    key = hexadecimal(32)(value)
    number = int.from_bytes(key, "little")
    if number >= _FIELD_PRIME or number in _SMALL_ORDER:
        raise ValueError(value)
    return key


XONLY: Final = Rule(_key, "an x-only key, 32 bytes as hex")
BOX_KEY: Final = Rule(_box_key, "an X25519 key, 32 bytes as hex, below the field's prime and of no small order")
ACCOUNT_NAME: Final = Rule(
    _name, "3 to 32 of a-z, 0-9 and -, a letter first, no - last, none of " + ", ".join(sorted(RESERVED))
)

_REGISTRATION: Final = record(
    Registration, exact=True, name=ACCOUNT_NAME, identity=XONLY, request_key=XONLY, box_key=BOX_KEY, desk=XONLY,
    number=whole(1, (1 << 31) - 1), at="at_unix",
)  # fmt: skip


def decode_signed_registration(message: object) -> SignedRegistration:
    """Return a signed registration, its signature unchecked. Raises InvalidInputError naming the field."""
    registration, signature = read_signed(_REGISTRATION, message, kind=TYPE, version=VERSION)
    return SignedRegistration(registration=registration, signature=signature)
