"""Letters sealed to their recipient: HPKE (RFC 9180) of the ``cryptography`` library, wrapped once.

X25519, HKDF-SHA256 and ChaCha20-Poly1305; the recipient's identity and the letter's name are bound as ``info``. Sealing
draws its ephemeral key from the system's generator.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from btcfi.errors import BtcfiError

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_INFO: Final = b"BTCFi/sealed-letter/v1"

OVERHEAD: Final = 48
"""Bytes: the ephemeral key and the tag."""


class SealedToAnotherError(BtcfiError):
    """Bytes that were not sealed to this key for this purpose, or were changed."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} cannot be opened: it is sealed to another key, or was changed")
        self.what = what


class UnsealableError(BtcfiError):
    """A box key that nothing can be sealed to."""

    def __init__(self, to: bytes) -> None:
        super().__init__(f"nothing can be sealed to the box key {to.hex()[:64]}; its owner has to register another")
        self.to = to


def box_key(secret: bytes) -> bytes:
    """Return the public half, 32 bytes, of an X25519 secret."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def seal(plain: bytes, *, to: bytes, about: bytes) -> bytes:
    """Return bytes that only the holder of ``to``'s secret can open. about: what both sides know it to be.

    Raises UnsealableError for a key of small order, which no registration has (``market.account``).
    """
    try:
        return _SUITE.encrypt(plain, X25519PublicKey.from_public_bytes(to), info=_INFO + about)
    except ValueError as e:
        raise UnsealableError(to) from e


def unseal(sealed: bytes, *, secret: bytes, about: bytes) -> bytes:
    """Return what was sealed. Raises SealedToAnotherError."""
    try:
        return _SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(secret), info=_INFO + about)
    except (InvalidTag, ValueError) as e:
        raise SealedToAnotherError("a letter") from e
