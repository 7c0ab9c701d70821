"""Addresses: bech32 and bech32m for witness programs. Sources: BIP173, BIP350."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from btcfi.bitcoin.script import OP_0, OP_1, is_witness_program
from btcfi.errors import InvalidInputError

NETWORKS: Final = {"main": "bc", "test": "tb", "testnet4": "tb", "signet": "tb", "regtest": "bcrt"}
"""Human-readable part by network, as a node names its chain. Source: BIP173; Bitcoin Core's chain parameters."""

_CHARSET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32: Final = 1
_BECH32M: Final = 0x2BC830A3
_CHECKSUM_LENGTH: Final = 6
_MAX_LENGTH: Final = 90
_MAX_VERSION: Final = 16
_V0_SIZES: Final = (20, 32)


def encode_address(script: bytes, network: str = "regtest") -> str:
    """Return the address of a witness output script. Raises InvalidInputError for any other script or network."""
    if not is_witness_program(script):
        raise InvalidInputError("script", "is not a witness program", "a version opcode and one push of 2 to 40 bytes")
    version = 0 if script[0] == OP_0 else script[0] - OP_1 + 1
    hrp = prefix_of(network)
    data = [version, *_regroup(script[2:], 8, 5, pad=True)]
    constant = _BECH32 if version == 0 else _BECH32M
    polymod = _polymod([*_expand(hrp), *data, *[0] * _CHECKSUM_LENGTH]) ^ constant
    checksum = [(polymod >> 5 * (5 - i)) & 31 for i in range(_CHECKSUM_LENGTH)]
    return hrp + "1" + "".join(_CHARSET[value] for value in [*data, *checksum])


def prefix_of(network: str) -> str:
    """Return the human-readable part of a network's addresses. Raises InvalidInputError for a network of nobody's."""
    if network not in NETWORKS:
        raise InvalidInputError("network", repr(network), "one of " + ", ".join(NETWORKS))
    return NETWORKS[network]


def decode_address(address: str, network: str = "regtest") -> bytes:
    """Return the output script of an address. Raises InvalidInputError: other network, checksum, version or length."""
    expected = f"a {network} segwit address"
    lower = address.lower()
    if address not in (lower, address.upper()) or len(address) > _MAX_LENGTH:
        raise InvalidInputError("address", "mixed case or too long", expected)
    hrp, separator, body = lower.rpartition("1")
    if not separator or hrp != prefix_of(network):
        raise InvalidInputError(
            "address", f"starts with {hrp or address[:4]!r}", f"{expected}, starting {prefix_of(network)}1"
        )
    if len(body) <= _CHECKSUM_LENGTH or any(letter not in _CHARSET for letter in body):
        raise InvalidInputError("address", "has a letter outside the alphabet or is too short", expected)
    values = [_CHARSET.index(letter) for letter in body]
    version = values[0]
    if _polymod([*_expand(hrp), *values]) != (_BECH32 if version == 0 else _BECH32M):
        raise InvalidInputError("address", "checksum does not match", expected)
    program = bytes(_regroup(values[1:-_CHECKSUM_LENGTH], 5, 8, pad=False))
    if version > _MAX_VERSION or not 2 <= len(program) <= 40:  # noqa: PLR2004 - BIP141
        raise InvalidInputError("address", f"version {version}, {len(program)} bytes", "version 0 to 16, 2 to 40 bytes")
    if version == 0 and len(program) not in _V0_SIZES:
        raise InvalidInputError("address", f"version 0 with {len(program)} bytes", "20 or 32 bytes")
    return bytes([OP_0 if version == 0 else OP_1 + version - 1, len(program)]) + program


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate(_GENERATOR):
            check ^= generator if (top >> i) & 1 else 0
    return check


def _expand(hrp: str) -> list[int]:
    return [ord(letter) >> 5 for letter in hrp] + [0] + [ord(letter) & 31 for letter in hrp]


def _regroup(values: Iterable[int], from_bits: int, to_bits: int, *, pad: bool) -> list[int]:
    accumulator = bits = 0
    out = []
    for value in values:
        accumulator = (accumulator << from_bits) | value
        bits += from_bits
        while bits >= to_bits:
            bits -= to_bits
            out.append((accumulator >> bits) & ((1 << to_bits) - 1))
        accumulator &= (1 << bits) - 1
    if pad and bits:
        out.append((accumulator << (to_bits - bits)) & ((1 << to_bits) - 1))
    elif not pad and (bits >= from_bits or accumulator):
        raise InvalidInputError("address", "padding is not zero", "a segwit address")
    return out
