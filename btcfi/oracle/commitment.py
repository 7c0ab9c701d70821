"""Commit first, reveal later, so that no node can copy another's price.

The published scheme hashes a double with a nonce and shows eight bytes of the nonce as the oracle's name. Here the
price is the observation's canonical integers, the hash is tagged, and the nonce stays secret until the reveal.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.quote import Observation
from btcfi.oracle.submission import observation_bytes
from btcfi.secp256k1 import schnorr_sign, schnorr_verify
from btcfi.units import Hash32, Slot

COMMIT_TAG: Final = "BTCFi/oracle/commitment"
COMMIT_SIGN_TAG: Final = "BTCFi/oracle/commitment/signature"
NONCE_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceCommitment:
    """A node's promise of a price for a slot, signed, that shows nothing about the price."""

    node_id: str
    slot: Slot
    commitment: Hash32
    signature: bytes


def commitment_of(node_id: str, observation: Observation, nonce: bytes) -> Hash32:
    """Return the commitment to ``observation`` by ``node_id``. ``nonce``: 32 fresh random bytes.

    The node's name is inside, so that one node's commitment is no use to another. Raises InvalidInputError for another
    nonce length.
    """
    if len(nonce) != NONCE_BYTES:
        raise InvalidInputError("nonce", f"{len(nonce)} bytes", f"{NONCE_BYTES} random bytes")
    name = node_id.encode()
    return tagged_hash(COMMIT_TAG, struct.pack("<B", len(name)) + name + nonce + observation_bytes(observation))


def sign_commitment(node_id: str, slot: Slot, commitment: Hash32, secret: bytes, *, aux: bytes) -> PriceCommitment:
    """Return the signed commitment. ``aux``: 32 bytes of fresh randomness (BIP340)."""
    signature = schnorr_sign(secret, _message(node_id, slot, commitment), aux)
    return PriceCommitment(node_id=node_id, slot=slot, commitment=commitment, signature=signature)


def commitment_signature_valid(made: PriceCommitment, public_key: bytes) -> bool:
    """Return whether ``public_key`` signed this commitment for this slot."""
    return schnorr_verify(public_key, _message(made.node_id, made.slot, made.commitment), made.signature)


def opens(made: PriceCommitment, observation: Observation, nonce: bytes) -> bool:
    """Return whether ``observation`` and ``nonce`` are what was committed to, for the same slot."""
    return (
        len(nonce) == NONCE_BYTES
        and made.slot == observation.slot
        and made.commitment == commitment_of(made.node_id, observation, nonce)
    )


def _message(node_id: str, slot: Slot, commitment: Hash32) -> Hash32:
    name = node_id.encode()
    return tagged_hash(COMMIT_SIGN_TAG, struct.pack("<B", len(name)) + name + struct.pack("<I", slot) + commitment)
