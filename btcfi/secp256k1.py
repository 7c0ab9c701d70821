"""The curve: the one module that touches coincurve, for keys, points and BIP340 signatures.

Secret operations run in libsecp256k1 (constant time). Public keys are 32-byte x-only (BIP340) or 33-byte compressed
points, always bytes.
"""

from __future__ import annotations

from coincurve import PrivateKey, PublicKey, PublicKeyXOnly

from btcfi.errors import InvalidInputError

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""The group order n of secp256k1. Source: SEC 2, section 2.4.1."""


def public_key_xonly(secret: bytes) -> bytes:
    """Return the 32-byte x-only public key of a 32-byte secret. Raises InvalidInputError for 0 or >= n."""
    return PublicKeyXOnly.from_valid_secret(_valid_secret(secret)).format()


def public_key_compressed(secret: bytes) -> bytes:
    """Return the 33-byte compressed public key of a 32-byte secret. Raises InvalidInputError for 0 or >= n."""
    return PublicKey.from_valid_secret(_valid_secret(secret)).format()


def schnorr_sign(secret: bytes, message: bytes, aux: bytes = b"\x00" * 32) -> bytes:
    """Return the 64-byte BIP340 signature of a 32-byte message. ``aux`` is the 32 bytes of auxiliary randomness."""
    return PrivateKey(_valid_secret(secret)).sign_schnorr(message, aux)


def schnorr_verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether ``signature`` (64 bytes) is BIP340-valid for the x-only key; malformed input is just invalid."""
    if len(public_key) != 32 or len(signature) != 64:  # noqa: PLR2004 - BIP340's sizes
        return False
    try:
        return bool(PublicKeyXOnly(public_key).verify(signature, message))
    except ValueError:
        return False


def _valid_secret(secret: bytes) -> bytes:
    if len(secret) != 32 or not 0 < int.from_bytes(secret) < ORDER:  # noqa: PLR2004 - a scalar
        # the value itself must not reach a message
        raise InvalidInputError("secret key", "not a scalar of secp256k1", "32 bytes, above 0 and below n")
    return secret
