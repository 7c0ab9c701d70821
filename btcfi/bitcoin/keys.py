"""Keys of wallets: BIP32 from a seed, BIP86 Taproot keys, WIF."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha512
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin import taproot
from btcfi.bitcoin.transaction import Transaction, TxOut
from btcfi.errors import InvalidInputError
from btcfi.hashes import hash256

HARDENED: Final = 1 << 31
"""Added to an index whose child cannot be derived from the public key. Source: BIP32."""

_INDEX_DIGITS: Final = 10
"""Of 2**31 - 1."""

_MIN_SEED, _MAX_SEED = 16, 64
_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_WIF_VERSION: Final = {"main": 0x80, "test": 0xEF, "testnet4": 0xEF, "signet": 0xEF, "regtest": 0xEF}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedKey:
    """A secret key with its chain code. Its repr shows neither."""

    secret: bytes = field(repr=False)
    chain_code: bytes = field(repr=False)

    def child(self, index: int) -> ExtendedKey:
        """Return child ``index``; add HARDENED for a hardened one. Raises InvalidInputError. Source: BIP32, CKDpriv."""
        if not 0 <= index < 2 * HARDENED:
            raise InvalidInputError("child index", f"{index:#x}", "0 to 2**32 - 1")
        secp256k1.check_secret(self.secret)
        data = b"\x00" + self.secret if index & HARDENED else secp256k1.public_key_compressed(self.secret)
        digest = hmac.digest(self.chain_code, data + index.to_bytes(4), sha512)
        return ExtendedKey(secret=secp256k1.scalar_add(self.secret, digest[:32]), chain_code=digest[32:])

    def derive(self, path: str) -> ExtendedKey:
        """Return the descendant at a path such as ``86'/1'/0'/0/7``. Raises InvalidInputError for a malformed one."""
        key = self
        for part in path.removeprefix("m/").split("/"):
            number, hardened = part.rstrip("'h"), part.endswith(("'", "h"))
            if not number.isdecimal() or len(number) > _INDEX_DIGITS or int(number) >= HARDENED:
                raise InvalidInputError("derivation path", f"{part!r}", "numbers below 2**31, hardened by '")
            key = key.child(int(number) + (HARDENED if hardened else 0))
        return key


def master_key(seed: bytes) -> ExtendedKey:
    """Return the master key of a 16 to 64 byte seed. Raises InvalidInputError. Source: BIP32."""
    if not _MIN_SEED <= len(seed) <= _MAX_SEED:
        raise InvalidInputError("seed", f"{len(seed)} bytes", f"{_MIN_SEED} to {_MAX_SEED} bytes")
    digest = hmac.digest(b"Bitcoin seed", seed, sha512)
    return ExtendedKey(secret=digest[:32], chain_code=digest[32:])


@dataclass(frozen=True, kw_only=True)
class TaprootKey:
    """A single-key Taproot wallet key (BIP86): signs its own outputs by the key path. Its repr hides the secret.

    What follows from the secret is computed once a key: a wallet signs hundreds of settlements of a minute with one.
    """

    secret: bytes = field(repr=False)

    @cached_property
    def internal_key(self) -> bytes:
        """x-only public key before the tweak; the key that contracts name."""
        return secp256k1.public_key_xonly(self.secret)

    @cached_property
    def script(self) -> bytes:
        """Output script of the key alone, without scripts behind it."""
        return taproot.taproot_output(self.internal_key).script

    @cached_property
    def _output_secret(self) -> bytes:
        return taproot.taproot_output(self.internal_key).tweak_secret(self.secret)

    def sign_input(self, transaction: Transaction, index: int, spent: Sequence[TxOut], aux: bytes = bytes(32)) -> bytes:
        """Return the SIGHASH_DEFAULT key-path signature of input ``index``, which must spend ``self.script``."""
        if spent[index].script != self.script:
            raise InvalidInputError(f"input {index}", "is not an output of this key", "an output of the signing key")
        return secp256k1.schnorr_sign(self._output_secret, taproot.sighash(transaction, index, spent), aux)


def wallet_key(seed: bytes, index: int, *, account: int = 0, change: int = 0, coin: int = 1) -> TaprootKey:
    """Return key ``index`` of a BIP86 wallet: m/86'/coin'/account'/change/index; coin 1 is every test network."""
    return TaprootKey(secret=master_key(seed).derive(f"86'/{coin}'/{account}'/{change}/{index}").secret)


def encode_wif(secret: bytes, network: str = "regtest") -> str:
    """Return the wallet import format of a secret whose public key is compressed. Raises InvalidInputError."""
    payload = bytes([_WIF_VERSION[network]]) + secp256k1.check_secret(secret) + b"\x01"
    number = int.from_bytes(payload + hash256(payload)[:4])
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return text


def decode_wif(text: str, network: str = "regtest") -> bytes:
    """Return the secret of a wallet import format. Raises InvalidInputError; the message never repeats the text."""
    expected = f"a {network} key of 52 base58 characters with a valid checksum"
    if any(letter not in _ALPHABET for letter in text):
        raise InvalidInputError("WIF", "has a character outside base58", expected)
    number = 0
    for letter in text:
        number = number * 58 + _ALPHABET.index(letter)
    raw = number.to_bytes(max(38, (number.bit_length() + 7) // 8))
    payload, checksum = raw[:-4], raw[-4:]
    if len(payload) != 34 or hash256(payload)[:4] != checksum:  # noqa: PLR2004 - version, secret, compressed flag
        raise InvalidInputError("WIF", "length or checksum does not match", expected)
    if payload[0] != _WIF_VERSION[network] or payload[-1] != 1:
        raise InvalidInputError("WIF", "is for another network or an uncompressed key", expected)
    return secp256k1.check_secret(payload[1:33], "WIF")
