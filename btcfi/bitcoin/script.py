"""Scripts as bytes: the few opcodes that our contracts use, pushes, numbers and standard output scripts."""

from __future__ import annotations

from typing import Final

from btcfi.errors import InvalidInputError

OP_0: Final = 0x00
OP_1NEGATE: Final = 0x4F
OP_1: Final = 0x51
OP_16: Final = 0x60
OP_RETURN: Final = 0x6A
OP_DROP: Final = 0x75
OP_TUCK: Final = 0x7D
OP_SIZE: Final = 0x82
OP_EQUALVERIFY: Final = 0x88
OP_SHA256: Final = 0xA8
OP_CODESEPARATOR: Final = 0xAB
OP_CHECKSIG: Final = 0xAC
OP_CHECKSIGVERIFY: Final = 0xAD
OP_CHECKLOCKTIMEVERIFY: Final = 0xB1
OP_CHECKSEQUENCEVERIFY: Final = 0xB2

P2A_SCRIPT: Final = bytes.fromhex("51024e73")
"""Pay-to-anchor: anybody may spend it, with an empty witness. Source: BIP433."""

MAX_OP_RETURN_DATA: Final = 80
"""Bytes of an OP_RETURN that every node's default policy relayed before Bitcoin Core 30.0."""

_MAX_DIRECT_PUSH: Final = 75
_MAX_PUSHDATA1: Final = 255
_MAX_PUSH: Final = 520
"""Consensus limit of a stack element."""


def push(data: bytes) -> bytes:
    """Return the minimal push of ``data``, at most 520 bytes. Raises InvalidInputError. Source: BIP62, rule 3."""
    if len(data) == 1 and 1 <= data[0] <= OP_16 - OP_1 + 1:
        return bytes([OP_1 + data[0] - 1])
    if data == b"\x81":
        return bytes([OP_1NEGATE])
    if len(data) <= _MAX_DIRECT_PUSH:
        return bytes([len(data)]) + data
    if len(data) <= _MAX_PUSHDATA1:
        return b"\x4c" + bytes([len(data)]) + data
    if len(data) <= _MAX_PUSH:
        return b"\x4d" + len(data).to_bytes(2, "little") + data
    raise InvalidInputError("script push", f"{len(data)} bytes", f"at most {_MAX_PUSH} bytes")


def push_number(value: int) -> bytes:
    """Return the minimal push of a script number: little-endian, the sign in the top bit."""
    if value == 0:
        return bytes([OP_0])
    magnitude = abs(value)
    raw = bytearray(magnitude.to_bytes((magnitude.bit_length() + 8) // 8, "little"))
    if value < 0:
        raw[-1] |= 0x80
    return push(bytes(raw))


def op_return(data: bytes) -> bytes:
    """Return an unspendable output script that carries at most 80 bytes. Raises InvalidInputError."""
    if len(data) > MAX_OP_RETURN_DATA:
        raise InvalidInputError("OP_RETURN data", f"{len(data)} bytes", f"at most {MAX_OP_RETURN_DATA} bytes")
    return bytes([OP_RETURN]) + push(data)


def op_return_data(script: bytes) -> bytes | None:
    """Return the data of a script that ``op_return`` makes, or None for any other script."""
    if len(script) < 2 or script[0] != OP_RETURN:  # noqa: PLR2004 - opcode and push
        return None
    start = 3 if script[1] == 0x4C else 2  # noqa: PLR2004 - OP_PUSHDATA1
    data = script[start:]
    return data if push(data) == script[1:] else None


def p2tr(output_key: bytes) -> bytes:
    """Return the output script of a 32-byte Taproot output key. Source: BIP341."""
    return bytes([OP_1, 32]) + output_key


def is_p2tr(script: bytes) -> bool:
    """Return whether the script is a Taproot output script."""
    return len(script) == 34 and script[:2] == bytes([OP_1, 32])  # noqa: PLR2004 - opcode, length, key


def is_known_program(script: bytes) -> bool:
    """Return whether the script is P2WPKH, P2WSH or P2TR: every node relays what pays to it, and it can be spent."""
    return script[:2] in (bytes([OP_0, 20]), bytes([OP_0, 32]), bytes([OP_1, 32])) and len(script) == script[1] + 2


def is_witness_program(script: bytes) -> bool:
    """Return whether the script is a witness program: a version and one push of 2 to 40 bytes. Source: BIP141."""
    sized = 4 <= len(script) <= 42 and len(script) == script[1] + 2  # noqa: PLR2004 - the program and two opcodes
    return sized and (script[0] == OP_0 or OP_1 <= script[0] <= OP_16)
