"""The published protobuf message BitVMXProof, and what is needed to check it. Canonical: one proof, one byte string.

    message MerkleProofElement { bytes hash = 1; }
    message BitVMXProof {
      bytes program_hash = 1;  bytes input_commitment = 2;  bytes execution_trace_root = 3;  bytes final_state_hash = 4;
      repeated MerkleProofElement path = 5;   // the proof's siblings, in the order of docs/proofs.md
      bytes proof_file = 16;                  // the JSON of `btcfi prove`, complete
    }

Fields 1-5 are the published ones; the same message stands in btcfi/surfaces/protos/settlement.proto. Here it is written
and read without protobuf, since protobuf does not promise one encoding: fields stand in the order of their numbers,
once each (``path`` repeated), and a decoder refuses anything else, also a field that contradicts the proof file.
``from_sent`` is for a message that came through protobuf: fields may be left out and stand in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from btcfi.proofs.errors import ProofFormatError
from btcfi.proofs.settlement_proof import MAX_PROOF_BYTES, SettlementProof, from_json, to_json

_PATH: Final = 5
_PROOF_FILE: Final = 16
_BYTES: Final = 2

_DIGESTS: Final = {
    1: "program_hash", 2: "input_commitment", 3: "execution_trace_root", 4: "final_state_hash",
}  # fmt: skip
"""Field number -> its name in the message and in the proof."""


def to_wire(proof: SettlementProof) -> bytes:
    """Return the message of ``proof``."""
    parts = [_field(number, getattr(proof, name)) for number, name in _DIGESTS.items()]
    parts += [_field(_PATH, element) for element in _path(proof)]
    return b"".join(parts) + _field(_PROOF_FILE, to_json(proof).encode("ascii"))


def from_wire(data: bytes) -> SettlementProof:
    """Return the proof in a message. Raises ProofFormatError, ProofVersionError."""
    proof = from_sent(data)
    if to_wire(proof) != data:
        raise ProofFormatError("message is not the canonical one of its proof_file")
    return proof


def from_sent(data: bytes) -> SettlementProof:
    """Return the proof in a message whose sender may have left published fields out; each that is there must be right.

    Raises ProofFormatError that names a field which is unknown, there twice or not the proof file's, ProofVersionError.
    """
    if len(data) > 2 * MAX_PROOF_BYTES:
        raise ProofFormatError(f"{len(data)} bytes, at most {2 * MAX_PROOF_BYTES}")
    digests: dict[int, bytes] = {}
    path: list[bytes] = []
    for number, value in _fields(data):
        if number == _PATH:
            path.append(value)
        elif number in digests or (number not in _DIGESTS and number != _PROOF_FILE):
            raise ProofFormatError(f"message field {number} is {'there twice' if number in digests else 'unknown'}")
        else:
            digests[number] = value
    if _PROOF_FILE not in digests:
        raise ProofFormatError("message has no proof_file")
    proof = from_json(digests.pop(_PROOF_FILE))
    for number, value in digests.items():
        if value != getattr(proof, _DIGESTS[number]):
            raise ProofFormatError(f"message field {_DIGESTS[number]} is not the proof_file's")
    if path and path != _path(proof):
        raise ProofFormatError("message field path is not the proof_file's siblings")
    return proof


def _path(proof: SettlementProof) -> list[bytes]:
    return [_field(1, sibling) for sibling in proof.siblings]


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield a message's fields, all of bytes, as they stand."""
    place = 0
    while place < len(data):
        key, place = _varint_at(data, place)
        size, place = _varint_at(data, place)
        if key & 7 != _BYTES or place + size > len(data):
            raise ProofFormatError(f"message field {key >> 3} is truncated or of another type")
        yield key >> 3, data[place : place + size]
        place += size


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >> 7:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint_at(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 35:  # noqa: PLR2004 - five bytes hold any length that fits the limit
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, place
        shift += 7
    raise ProofFormatError("message is truncated or has an oversized length")
