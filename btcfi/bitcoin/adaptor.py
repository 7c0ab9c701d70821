"""Schnorr adaptor signatures: signatures that lack one secret, which publishing the finished one reveals.

For key P, message m and adaptor point T = t*G, a pre-signature is (R', s') with s'*G = R + e*P, R' = R + T and
e = BIP340's challenge over R'. Whoever learns t finishes it into a plain BIP340 signature; whoever sees that
signature computes t. When R' has an odd y the pre-signer negates its nonce, and t is subtracted instead of added.

Encoding, version 1 (there is no published standard): R' compressed (33 bytes) || s' (32 bytes).
Sources: BIP340; Aumayr et al., "Generalized Bitcoin-Compatible Channels" (2020), section 3.2.
"""

from __future__ import annotations

from typing import Any, Final

from btcfi import secp256k1
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.secp256k1 import ODD_Y, ORDER

ADAPTOR_SIZE: Final = 65
"""Bytes of a pre-signature."""

_SIGNATURE_SIZE: Final = 64
"""Of a finished signature. Source: BIP340."""

_NONCE_TAG: Final = "BTCFi/adaptor/nonce/v1"
_AUX_TAG: Final = "BTCFi/adaptor/aux/v1"


class WrongAdaptorError(BtcfiError):
    """A pre-signature does not hold for this key, message and adaptor point."""

    def __init__(self, what: str) -> None:
        super().__init__(f"adaptor signature of {what} is not valid; nothing was signed after it")
        self.what = what


class AdaptorKey:
    """A signing key, prepared once for many pre-signatures. Its repr shows only the public key."""

    __slots__ = ("_mask", "_secret", "public")

    def __init__(self, secret: bytes, aux: bytes = bytes(32)) -> None:
        """Prepare a secret; ``aux`` masks it in the nonces. Raises InvalidInputError for 0 or >= n, or other sizes."""
        secp256k1.check_size(aux, "auxiliary randomness")
        self.public = secp256k1.public_key_xonly(secret)
        """x-only key, 32 bytes."""
        self._secret = secp256k1.even_secret(secret)
        self._mask = int.from_bytes(self._secret) ^ int.from_bytes(tagged_hash(_AUX_TAG, aux))

    def __repr__(self) -> str:
        return f"AdaptorKey({self.public.hex()})"

    def presign(self, message: bytes, point: Any) -> bytes:  # noqa: ANN401 - cffi has no types
        """Return the 65-byte pre-signature of a 32-byte message under an adaptor point (libsecp256k1's form).

        The nonce is a hash of the masked secret, the point, the key and the message, as BIP340 derives its own: the
        same call gives the same bytes, another message or point another nonce. Secret operations are the library's.
        Raises InvalidInputError for a message of another size.
        """
        secp256k1.check_size(message, "message", "a 32-byte digest")
        adaptor = secp256k1.serialize_point(point)
        nonce = tagged_hash(_NONCE_TAG, self._mask.to_bytes(32) + adaptor + self.public + message)
        total = secp256k1.serialize_point(secp256k1.sum_points([secp256k1.generator_multiple(nonce), point]))
        signed_nonce = secp256k1.scalar_negate(nonce) if total[0] == ODD_Y else nonce
        challenge = _challenge(total, self.public, message)
        return total + secp256k1.scalar_add(signed_nonce, secp256k1.scalar_multiply(self._secret, challenge))


def _challenge(total: bytes, public: bytes, message: bytes) -> bytes:
    digest = tagged_hash("BIP0340/challenge", total[1:] + public + message)
    return (int.from_bytes(digest) % ORDER).to_bytes(32)


def presignature_is_valid(public: bytes, message: bytes, point: Any, presignature: bytes) -> bool:  # noqa: ANN401
    """Return whether the pre-signature will finish to a BIP340 signature of ``public`` with the point's secret.

    public: x-only key. point: libsecp256k1's form. Malformed input is just invalid.
    """
    if len(presignature) != ADAPTOR_SIZE or presignature[0] not in (2, ODD_Y):
        return False
    total, scalar = presignature[:33], int.from_bytes(presignature[33:])
    if not 0 < scalar < ORDER:
        return False
    challenge = int.from_bytes(tagged_hash("BIP0340/challenge", total[1:] + public + message)) % ORDER
    try:
        nonce_point = secp256k1.linear_combination(scalar, public, -challenge)
        if total[0] == ODD_Y:
            nonce_point = secp256k1.negate_point(nonce_point)
        return secp256k1.serialize_point(secp256k1.sum_points([nonce_point, point])) == total
    except InvalidInputError:
        return False


def adapt(presignature: bytes, secret: bytes) -> bytes:
    """Return the finished 64-byte BIP340 signature; ``secret`` is the adaptor point's, above 0 and below n.

    Raises InvalidInputError.
    """
    _check_size(presignature)
    secp256k1.check_secret(secret, "adaptor secret")
    added = secp256k1.scalar_negate(secret) if presignature[0] == ODD_Y else secret
    return presignature[1:33] + secp256k1.scalar_add(presignature[33:], added)


def extract(presignature: bytes, signature: bytes) -> bytes:
    """Return the adaptor point's secret from a pre-signature and its finished signature. Raises InvalidInputError."""
    _check_size(presignature)
    if len(signature) != _SIGNATURE_SIZE:
        raise InvalidInputError("signature", f"{len(signature)} bytes", f"{_SIGNATURE_SIZE} bytes")
    if signature[:32] != presignature[1:33]:
        raise InvalidInputError("signature", "finishes another pre-signature", "the same nonce")
    difference = secp256k1.scalar_add(signature[32:], secp256k1.scalar_negate(presignature[33:]))
    return secp256k1.scalar_negate(difference) if presignature[0] == ODD_Y else difference


def _check_size(presignature: bytes) -> None:
    if len(presignature) != ADAPTOR_SIZE:
        raise InvalidInputError("adaptor signature", f"{len(presignature)} bytes", f"{ADAPTOR_SIZE} bytes")
