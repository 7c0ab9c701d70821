"""What a contract writes on the chain in OP_RETURN: its terms when it is funded, its proof root when it is settled."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from btcfi.bitcoin.script import op_return, op_return_data
from btcfi.errors import InvalidInputError
from btcfi.units import CentsPerBtc, Hash32, Height, cents_per_btc, height

METADATA_VERSION: Final = 1

_METADATA: Final = Struct("<BBII32s38s")
"""Packed, little-endian: offsets 0, 1, 2, 6, 10, 42; 80 bytes.

Source: whitepaper 6.2, corrected: its fields sum to 78, and the strike is in cents as in its section 4.2.
"""

MAGIC: Final = b"BFVM"
"""First bytes of every record of ours that is not the published 80-byte metadata."""

RECORD_VERSION: Final = 1

_RECORD: Final = Struct("<4sBB32s")
"""Magic, version, type, root: 38 bytes."""


class RecordType(IntEnum):
    """What the root in a record is the root of."""

    SETTLEMENT_PROOF = 1
    ANCHOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionMetadata:
    """The published 80-byte description of an option."""

    option_type: int
    """The guest's numbering: 0 call, 1 put, 2 binary call, 3 binary put."""
    strike: CentsPerBtc
    expiry_height: Height
    """Height from which the settlement may be mined."""
    oracle_commitment: Hash32
    """What the oracle will attest: the event's hash; 32 zero bytes when no event is named."""

    def to_bytes(self) -> bytes:
        """Return the 80 bytes."""
        return _METADATA.pack(
            METADATA_VERSION, self.option_type, self.strike, self.expiry_height, self.oracle_commitment, bytes(38)
        )

    def script(self) -> bytes:
        """Return the OP_RETURN script."""
        return op_return(self.to_bytes())


def parse_option_metadata(data: bytes) -> OptionMetadata:
    """Return the metadata of 80 bytes. Raises InvalidInputError: length, version, reserved bytes, range."""
    if len(data) != _METADATA.size:
        raise InvalidInputError("option metadata", f"{len(data)} bytes", f"{_METADATA.size} bytes")
    version, option_type, strike, expiry, commitment, reserved = _METADATA.unpack(data)
    if version != METADATA_VERSION or any(reserved):
        raise InvalidInputError("option metadata", f"version {version}", "version 1 with zero reserved bytes")
    return OptionMetadata(
        option_type=option_type,
        strike=cents_per_btc(strike),
        expiry_height=height(expiry),
        oracle_commitment=Hash32(commitment),
    )


def record_script(kind: RecordType, root: Hash32) -> bytes:
    """Return the OP_RETURN script that commits to ``root``."""
    return op_return(_RECORD.pack(MAGIC, RECORD_VERSION, kind, root))


def read_record(script: bytes) -> tuple[RecordType, Hash32] | None:
    """Return the type and root of a script of ``record_script``, or None for any other script."""
    data = op_return_data(script)
    if data is None or len(data) != _RECORD.size:
        return None
    magic, version, kind, root = _RECORD.unpack(data)
    if magic != MAGIC or version != RECORD_VERSION or kind not in RecordType.__members__.values():
        return None
    return RecordType(kind), Hash32(root)
