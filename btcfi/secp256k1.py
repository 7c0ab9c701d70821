"""The curve: the one module that touches coincurve, for keys, points and BIP340 signatures.

Secret operations run in libsecp256k1 (constant time). Public keys are 32-byte x-only (BIP340) or 33-byte compressed
points, always bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from coincurve import PrivateKey, PublicKey, PublicKeyXOnly
from coincurve._libsecp256k1 import ffi, lib  # type: ignore[import-not-found]  # compiled; the whole C interface
from coincurve.context import GLOBAL_CONTEXT

from btcfi.errors import InvalidInputError

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""The group order n of secp256k1. Source: SEC 2, section 2.4.1."""

ODD_Y: Final = 3
"""First byte of a compressed point with odd y. Source: SEC 1, section 2.3.3."""

CONTEXT = GLOBAL_CONTEXT.ctx

SCALAR_SIZE: Final = 32
"""Bytes of a secret, a tweak, a digest or an x coordinate. The library reads so many, however many there are."""


def check_secret(secret: bytes, what: str = "secret key") -> bytes:
    """Return ``secret`` once it is a scalar above 0 and below n. Raises InvalidInputError, which does not repeat it."""
    if len(secret) != SCALAR_SIZE or not lib.secp256k1_ec_seckey_verify(CONTEXT, secret):
        raise InvalidInputError(what, "not a scalar of secp256k1", "32 bytes, above 0 and below n")
    return secret


def check_size(value: bytes, what: str, expected: str = "32 bytes") -> bytes:
    """Return ``value`` once it has the 32 bytes that the library would read. Raises InvalidInputError."""
    if len(value) != SCALAR_SIZE:
        raise InvalidInputError(what, f"{len(value)} bytes", expected)
    return value


def public_key_xonly(secret: bytes) -> bytes:
    """Return the 32-byte x-only public key of a 32-byte secret. Raises InvalidInputError for 0 or >= n."""
    return PublicKeyXOnly.from_valid_secret(check_secret(secret)).format()


def public_key_compressed(secret: bytes) -> bytes:
    """Return the 33-byte compressed public key of a 32-byte secret. Raises InvalidInputError for 0 or >= n."""
    return PublicKey.from_valid_secret(check_secret(secret)).format()


def schnorr_sign(secret: bytes, message: bytes, aux: bytes = b"\x00" * 32) -> bytes:
    """Return the 64-byte BIP340 signature of a 32-byte message. ``aux`` is the 32 bytes of auxiliary randomness.

    Raises InvalidInputError for a secret of 0 or >= n, and for a message or ``aux`` of another size.
    """
    check_size(message, "message", "a 32-byte digest")
    return PrivateKey(check_secret(secret)).sign_schnorr(message, check_size(aux, "auxiliary randomness"))


def schnorr_verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether ``signature`` (64 bytes) is BIP340-valid for the x-only key; malformed input is just invalid."""
    if len(public_key) != 32 or len(signature) != 64:  # noqa: PLR2004 - BIP340's sizes
        return False
    key = _parsed_xonly(bytes(public_key))
    return key is not None and bool(lib.secp256k1_schnorrsig_verify(CONTEXT, signature, message, len(message), key))


@lru_cache(maxsize=4096)
def _parsed_xonly(public_key: bytes) -> Any:  # noqa: ANN401 - cffi has no types
    """Return libsecp256k1's form of an x-only key, None where it is no point: finding y costs a square root."""
    parsed = ffi.new("secp256k1_xonly_pubkey*")
    return parsed if lib.secp256k1_xonly_pubkey_parse(CONTEXT, parsed, public_key) else None


def scalar_add(first: bytes, second: bytes) -> bytes:
    """Return first + second mod n, 32 bytes, constant time; ``second`` may be 0.

    Raises InvalidInputError for a first of 0, a term >= n or of another size, and when the sum is 0.
    """
    scalar = ffi.new("unsigned char[32]", check_secret(first, "scalar"))
    check_size(second, "scalar", "32 bytes, below n")
    if not lib.secp256k1_ec_seckey_tweak_add(CONTEXT, scalar, second):
        raise InvalidInputError(
            "scalar", "the sum is zero or a term is not a scalar", "scalars below n with a sum above 0"
        )
    return bytes(ffi.buffer(scalar))


def scalar_multiply(first: bytes, second: bytes) -> bytes:
    """Return first * second mod n, 32 bytes, constant time. Raises InvalidInputError when either is 0 or >= n."""
    scalar = ffi.new("unsigned char[32]", check_secret(first, "scalar"))
    check_size(second, "scalar", "32 bytes, above 0 and below n")
    if not lib.secp256k1_ec_seckey_tweak_mul(CONTEXT, scalar, second):
        raise InvalidInputError("scalar", "a factor is not a scalar", "32 bytes, above 0 and below n")
    return bytes(ffi.buffer(scalar))


def scalar_negate(scalar: bytes) -> bytes:
    """Return n - scalar, 32 bytes, constant time. Raises InvalidInputError for 0 or >= n."""
    negated = ffi.new("unsigned char[32]", check_secret(scalar, "scalar"))
    lib.secp256k1_ec_seckey_negate(CONTEXT, negated)
    return bytes(ffi.buffer(negated))


def even_secret(secret: bytes) -> bytes:
    """Return the secret, or its negation, whose public key has an even y: the one that signs for the x-only key."""
    return scalar_negate(secret) if public_key_compressed(secret)[0] == ODD_Y else secret


def is_point(point: bytes) -> bool:
    """Return whether ``point`` is a compressed point (33 bytes) of the curve."""
    return len(point) == 33 and bool(lib.secp256k1_ec_pubkey_parse(CONTEXT, _new_point(), point, 33))  # noqa: PLR2004


def is_xonly_key(key: bytes) -> bool:
    """Return whether ``key`` is the x coordinate (32 bytes) of a point of the curve."""
    return len(key) == 32 and is_point(b"\x02" + key)  # noqa: PLR2004 - BIP340's size


def point_add(points: Sequence[bytes]) -> bytes:
    """Return the sum of compressed points, compressed. Raises InvalidInputError for a bad point or the sum infinity."""
    return serialize_point(sum_points([parse_point(point) for point in points]))


def point_multiply(point: bytes, scalar: bytes) -> bytes:
    """Return scalar * point, compressed. Not constant time: for public scalars only. Raises InvalidInputError."""
    parsed = parse_point(point)
    if len(scalar) != 32 or not lib.secp256k1_ec_pubkey_tweak_mul(CONTEXT, parsed, scalar):  # noqa: PLR2004
        raise InvalidInputError("scalar", "not a scalar of secp256k1", "32 bytes, above 0 and below n")
    return serialize_point(parsed)


def linear_combination(generator_scalar: int, key: bytes, key_scalar: int) -> Any:  # noqa: ANN401 - cffi has no types
    """Return generator_scalar * G + key_scalar * lift_x(key), in libsecp256k1's form. For public scalars only.

    One call of the library: ECDSA public key recovery computes (s*R - z*G) / r for the point R whose x is r, so with
    R = lift_x(key), s = key_scalar * r and z = -generator_scalar * r it computes just this sum, in half the time of
    two multiplications. Scalars are below n; raises InvalidInputError when the sum is infinity or the key is no point.
    """
    x = int.from_bytes(check_size(key, "point", "an x-only key of the curve, 32 bytes"))
    r = x % ORDER
    s = key_scalar * r % ORDER
    if r == 0 or s == 0:
        raise InvalidInputError("scalar", "zero", "1 to n - 1")
    signature, out = ffi.new("secp256k1_ecdsa_recoverable_signature*"), _new_point()
    compact = r.to_bytes(32) + s.to_bytes(32)
    message = (-generator_scalar * r % ORDER).to_bytes(32)
    # recovery id: bit 0 is the parity of R's y (even, as lift_x), bit 1 says that x was not below n
    if not (
        lib.secp256k1_ecdsa_recoverable_signature_parse_compact(CONTEXT, signature, compact, 2 if x >= ORDER else 0)
        and lib.secp256k1_ecdsa_recover(CONTEXT, out, signature, message)
    ):
        raise InvalidInputError("point", "not on the curve, or the sum is infinity", "an x-only key of the curve")
    return out


def sum_points(parsed: Sequence[Any]) -> Any:  # noqa: ANN401 - cffi has no types
    """Return the sum of points in libsecp256k1's form, in that form. Raises InvalidInputError for infinity."""
    total = _new_point()
    # the library ends the process for no points at all
    if not parsed or not lib.secp256k1_ec_pubkey_combine(CONTEXT, total, parsed, len(parsed)):
        raise InvalidInputError("points", "their sum is the point at infinity", "a sum that is a point of the curve")
    return total


def negate_point(parsed: Any) -> Any:  # noqa: ANN401 - cffi has no types
    """Return the negation of a point in libsecp256k1's form; the argument stays as it was."""
    negated = _new_point()
    ffi.memmove(negated, parsed, ffi.sizeof("secp256k1_pubkey"))
    lib.secp256k1_ec_pubkey_negate(CONTEXT, negated)
    return negated


def generator_multiple(secret: bytes) -> Any:  # noqa: ANN401 - cffi has no types
    """Return secret * G in libsecp256k1's form, constant time. Raises InvalidInputError for 0 or >= n."""
    out = _new_point()
    if len(secret) != 32 or not lib.secp256k1_ec_pubkey_create(CONTEXT, out, secret):  # noqa: PLR2004
        raise InvalidInputError("secret key", "not a scalar of secp256k1", "32 bytes, above 0 and below n")
    return out


def point_negate(point: bytes) -> bytes:
    """Return -point: the other of the two points with this x. Raises InvalidInputError for a bad point."""
    return serialize_point_checked(bytes([point[0] ^ 1]) + point[1:] if point else point)


def serialize_point_checked(point: bytes) -> bytes:
    """Return ``point`` unchanged once it is known to lie on the curve. Raises InvalidInputError."""
    return serialize_point(parse_point(point))


def xonly_tweak_add(key: bytes, tweak: bytes) -> tuple[bytes, int]:
    """Return (x-only key, parity of y) of lift_x(key) + tweak*G. Raises InvalidInputError. Source: BIP341."""
    point = parse_point(b"\x02" + key)
    if len(tweak) != 32 or not lib.secp256k1_ec_pubkey_tweak_add(CONTEXT, point, tweak):  # noqa: PLR2004
        raise InvalidInputError("tweak", "not a scalar of secp256k1", "32 bytes, below n")
    tweaked = serialize_point(point)
    return tweaked[1:], tweaked[0] & 1


def parse_point(point: bytes) -> Any:  # noqa: ANN401 - cffi has no types
    """Return libsecp256k1's form of a compressed point. Raises InvalidInputError when it is not on the curve."""
    parsed = _new_point()
    if len(point) != 33 or not lib.secp256k1_ec_pubkey_parse(CONTEXT, parsed, point, 33):  # noqa: PLR2004 - SEC1
        raise InvalidInputError("point", f"{point.hex()[:66]} is not on the curve", "33 bytes, a compressed point")
    return parsed


def serialize_point(parsed: Any) -> bytes:  # noqa: ANN401 - cffi has no types
    """Return the 33-byte compressed form of libsecp256k1's form of a point."""
    out, size = ffi.new("unsigned char[33]"), ffi.new("size_t*", 33)
    lib.secp256k1_ec_pubkey_serialize(CONTEXT, out, size, parsed, lib.SECP256K1_EC_COMPRESSED)
    return bytes(ffi.buffer(out))


def _new_point() -> Any:  # noqa: ANN401 - cffi has no types
    return ffi.new("secp256k1_pubkey*")
