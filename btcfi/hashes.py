"""SHA-256 and BIP340's tagged hash: every commitment of the project goes through here."""

from __future__ import annotations

from functools import cache
from hashlib import sha256 as _sha256

from btcfi.units import Hash32


def sha256(data: bytes) -> Hash32:
    """Return SHA-256 of ``data``, 32 bytes."""
    return Hash32(_sha256(data).digest())


def hash256(data: bytes) -> Hash32:
    """Return SHA-256 of SHA-256 of ``data``: Bitcoin's txid and block hash, internal byte order."""
    return Hash32(_sha256(_sha256(data).digest()).digest())


@cache
def tag_prefix(tag: str) -> bytes:
    """Return the 64 bytes that start every message under ``tag``: SHA-256(tag) twice. Source: BIP340."""
    digest = _sha256(tag.encode()).digest()
    return digest + digest


def tagged_hash(tag: str, data: bytes) -> Hash32:
    """Return BIP340's tagged hash: SHA-256(SHA-256(tag) || SHA-256(tag) || data), 32 bytes."""
    return Hash32(_sha256(tag_prefix(tag) + data).digest())
