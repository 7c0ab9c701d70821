"""Privacy-free half gates with free XOR: tables of a circuit, and their evaluation by who knows every wire's value.

Many copies are garbled side by side: a wire's labels of all copies are one whole number, 128 bits a copy. An AND is 16
bytes and two hashes to make, one to evaluate. Each value of a digit has a row that its *share*, 32 bytes, opens to the
labels of the digit's wires. The output row gives the copy's fault share to who holds the label "wrong", and to nobody
else. No permute bits: the evaluator needs no privacy, since it knows what is claimed.

A copy's tables are, in this order: for each digit a row for each value, 16 bytes a wire; 16 bytes for each AND in the
order of the gates; 32 bytes for the fault. Every hash has a tag of its own, and what it hashes has a fixed length.
Source: Frederiksen, Nielsen and Orlandi (eprint 2014/598), privacy-free; Zahur, Rosulek and Evans (2014/756).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from btcfi.disputes.circuit import Circuit
from btcfi.errors import InvalidInputError
from btcfi.hashes import tag_prefix, tagged_hash
from btcfi.units import Hash32

LABEL_BITS: Final = 128
LABEL_SIZE: Final = LABEL_BITS // 8
SHARE_SIZE: Final = 32
FAULT_SIZE: Final = 32

_GATE_TAG: Final = "BTCFi/dispute/gate/v1"
_ROW_TAG: Final = "BTCFi/dispute/row/v1"
_WIRES_TAG: Final = "BTCFi/dispute/wires/v1"
_FAULT_TAG: Final = "BTCFi/dispute/fault/v1"
_PLACE: Final = Struct("<IHH")
_COUNT: Final = Struct("<I")


def table_size(circuit: Circuit) -> int:
    """Return the bytes of one copy's tables."""
    rows = sum(digit.values * digit.width for digit in circuit.digits)
    return LABEL_SIZE * (rows + circuit.ands) + FAULT_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What tables say of a claim."""

    wrong: bool
    """Whether the claim is wrong, computed in the clear: no table decides it."""
    faults: tuple[bytes, ...]
    """Of each copy what its output row opens to, 32 bytes: its fault share where the claim is wrong and the copy good,
    and bytes that mean nothing otherwise."""


class _GateHash:
    """One hash of many copies' labels: SHA-256 of (tag, set-up, copy, padding) is kept, a gate adds a block."""

    def __init__(self, setup: Hash32, copies: Sequence[int]) -> None:
        head = tag_prefix(_GATE_TAG)
        self._states = [hashlib.sha256(head + setup + _COUNT.pack(copy) + bytes(28)) for copy in copies]
        self._size = LABEL_SIZE * len(copies)

    def __call__(self, labels: int, gate: int) -> int:
        data, place, found = labels.to_bytes(self._size, "big"), _COUNT.pack(gate), []
        for at, state in enumerate(self._states):
            one = state.copy()
            one.update(place + data[LABEL_SIZE * at : LABEL_SIZE * (at + 1)])
            found.append(one.digest()[:LABEL_SIZE])
        return int.from_bytes(b"".join(found), "big")


def garble(
    circuit: Circuit, setup: Hash32, copies: Sequence[int], *, seeds: Sequence[bytes],
    shares: Sequence[Sequence[bytes]], faults: Sequence[bytes],
) -> list[bytes]:  # fmt: skip
    """Return the tables of each copy. Pure: equal arguments give equal bytes.

    copies: their numbers. seeds: 32 bytes a copy, from which its wires' labels come. shares: of each copy 32 bytes for
    every value of every digit, in order. faults: of each copy 32 bytes. Raises InvalidInputError for other lengths.
    """
    _check(circuit, copies, seeds, shares, faults)
    streams = [_wire_bytes(seed, circuit.inputs) for seed in seeds]
    wires = [_side_by_side(streams, place) for place in range(circuit.inputs + 1)]
    offset = wires[0]  # what tells a wire's two labels apart, in each copy
    wires[0] = 0
    rows: list[list[bytes]] = [[] for _ in copies]
    label = 0
    for place, digit in enumerate(circuit.digits):
        first, width = circuit.first_wire(place), digit.width
        for at, copy in enumerate(copies):
            zero = int.from_bytes(streams[at][LABEL_SIZE * first : LABEL_SIZE * (first + width)], "big")
            other = int.from_bytes(streams[at][:LABEL_SIZE], "big")
            for value in range(digit.values):
                pad = _pad(setup, copy, place, value, shares[at][label + value], width)
                rows[at].append((zero ^ pad ^ other * _spread(value, width)).to_bytes(LABEL_SIZE * width, "big"))
        label += digit.values
    size, hashed, number = LABEL_SIZE * len(copies), _GateHash(setup, copies), 0
    for gate in circuit.gates:
        if not gate.is_and:
            wires.append(wires[gate.left] ^ wires[gate.right])
            continue
        left = _label(wires, gate.left, offset)
        zero, one = hashed(left, number), hashed(left ^ offset, number)
        wires.append(zero)
        row = (zero ^ one ^ _label(wires, gate.right, offset)).to_bytes(size, "big")
        for at in range(len(copies)):
            rows[at].append(row[LABEL_SIZE * at : LABEL_SIZE * (at + 1)])
        number += 1
    wrong = (_label(wires, circuit.wrong, offset) ^ offset).to_bytes(size, "big")
    for at, copy in enumerate(copies):
        mask = _fault_mask(setup, copy, wrong[LABEL_SIZE * at : LABEL_SIZE * (at + 1)])
        rows[at].append(_xor(mask, faults[at]))
    return [b"".join(row) for row in rows]


def evaluate(
    circuit: Circuit, setup: Hash32, copies: Sequence[int], *, tables: Sequence[bytes],
    shares: Sequence[Sequence[bytes]], values: Mapping[str, int],
) -> Evaluation:  # fmt: skip
    """Return what the tables of each copy say of one claim.

    tables: as ``garble`` gives them. shares: of each copy 32 bytes for each digit's claimed value, in the order of the
    digits. values: of each digit, by name. Whatever the bytes are, this answers. Raises InvalidInputError for other
    lengths, and values that a digit has not.
    """
    wrong = circuit.is_wrong(values)
    if not len(tables) == len(shares) == len(copies) or {len(one) for one in tables} - {table_size(circuit)}:
        raise InvalidInputError("tables", f"{len(tables)} copies", f"{len(copies)} of {table_size(circuit)} bytes")
    if any(len(row) != len(circuit.digits) or {len(one) for one in row} != {SHARE_SIZE} for row in shares):
        raise InvalidInputError("shares", "another number", "32 bytes for each digit of each copy")
    active, said, begin = [0], [0], 0
    for place, digit in enumerate(circuit.digits):
        size, value = LABEL_SIZE * digit.width, values[digit.name]
        at = begin + size * value
        begin += size * digit.values
        rows = [
            (int.from_bytes(table[at : at + size], "big") ^ _pad(setup, copy, place, value, share[place], digit.width))
            .to_bytes(size, "big")
            for copy, table, share in zip(copies, tables, shares, strict=True)
        ]  # fmt: skip
        for bit in range(digit.width):
            active.append(_side_by_side(rows, bit))
            said.append(value >> bit & 1)
    hashed = _GateHash(setup, copies)
    for gate in circuit.gates:
        if not gate.is_and:
            active.append(active[gate.left] ^ active[gate.right])
            said.append(said[gate.left] ^ said[gate.right])
            continue
        left, right = said[gate.left >> 1] ^ gate.left & 1, said[gate.right >> 1] ^ gate.right & 1
        found = hashed(active[gate.left >> 1], (begin - _rows_size(circuit)) // LABEL_SIZE)
        if left:
            row = b"".join(table[begin : begin + LABEL_SIZE] for table in tables)
            found ^= int.from_bytes(row, "big") ^ active[gate.right >> 1]
        active.append(found)
        said.append(left & right)
        begin += LABEL_SIZE
    last = active[circuit.wrong >> 1].to_bytes(LABEL_SIZE * len(copies), "big")
    faults = tuple(
        _xor(_fault_mask(setup, copy, last[LABEL_SIZE * at : LABEL_SIZE * (at + 1)]), table[begin:])
        for at, (copy, table) in enumerate(zip(copies, tables, strict=True))
    )
    return Evaluation(wrong=wrong, faults=faults)


def _check(
    circuit: Circuit, copies: Sequence[int], seeds: Sequence[bytes], shares: Sequence[Sequence[bytes]],
    faults: Sequence[bytes],
) -> None:  # fmt: skip
    if not copies or not len(copies) == len(seeds) == len(shares) == len(faults):
        raise InvalidInputError("copies", f"{len(copies)}", "one seed, one row of shares and one fault each")
    if {len(one) for one in seeds} != {SHARE_SIZE} or {len(one) for one in faults} != {FAULT_SIZE}:
        raise InvalidInputError("seeds", "of another size", "32 bytes each, and faults too")
    if any(len(row) != circuit.labels or {len(one) for one in row} != {SHARE_SIZE} for row in shares):
        raise InvalidInputError("shares", "another number", f"{circuit.labels} of 32 bytes for each copy")


def _rows_size(circuit: Circuit) -> int:
    return LABEL_SIZE * sum(digit.values * digit.width for digit in circuit.digits)


def _wire_bytes(seed: bytes, inputs: int) -> bytes:
    """Return the offset and each input wire's label of 0, of one copy."""
    return hashlib.shake_256(tag_prefix(_WIRES_TAG) + seed).digest(LABEL_SIZE * (inputs + 1))


def _side_by_side(streams: Sequence[bytes], place: int) -> int:
    return int.from_bytes(
        b"".join(stream[LABEL_SIZE * place : LABEL_SIZE * (place + 1)] for stream in streams), "big"
    )  # fmt: skip


def _spread(value: int, width: int) -> int:
    """Return a number with 1 in each label's place whose bit of the value is set; the first wire stands first."""
    return sum(1 << LABEL_BITS * (width - 1 - bit) for bit in range(width) if value >> bit & 1)


def _label(wires: Sequence[int], literal: int, offset: int) -> int:
    """Return the label of 0 of a literal, in every copy."""
    found = wires[literal >> 1]
    return found ^ offset if literal & 1 else found


def _pad(  # noqa: PLR0917 - what it hashes
    setup: Hash32, copy: int, place: int, value: int, share: bytes, width: int
) -> int:
    data = tag_prefix(_ROW_TAG) + setup + _PLACE.pack(copy, place, value) + share
    return int.from_bytes(hashlib.shake_256(data).digest(LABEL_SIZE * width), "big")


def _fault_mask(setup: Hash32, copy: int, label: bytes) -> bytes:
    return tagged_hash(_FAULT_TAG, setup + _COUNT.pack(copy) + label)


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(FAULT_SIZE, "big")
