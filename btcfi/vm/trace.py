"""What a run leaves behind: one row a step, and what a leaf of the trace tree commits to. Format v1, docs/proofs.md."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from btcfi.hashes import sha256, tagged_hash
from btcfi.units import Hash32

ROW_WORDS: Final = 38
"""step, pc, instruction, 32 registers, memory kind | size << 8, memory address, memory value."""

LEAF_BYTES: Final = 150
"""The packed row: 35 words, then kind u8, size u8, address u32, value u32."""

INPUT_TAG: Final = "BTCFi/trace/input"
FINAL_STATE_TAG: Final = "BTCFi/trace/final-state"

_LEAF: Final = struct.Struct("<35I2B2I")


class MemoryKind(IntEnum):
    """What a step did to memory."""

    NONE = 0
    LOAD = 1
    STORE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The machine before one instruction, and what the instruction did to memory."""

    index: int
    pc: int
    instruction: int
    registers: tuple[int, ...]
    memory_kind: MemoryKind
    memory_size: int
    memory_address: int
    memory_value: int
    """The ``memory_size`` bytes that were read or written, zero-extended."""

    def to_bytes(self) -> bytes:
        """Return the 150 bytes that the leaf hashes."""
        return _LEAF.pack(
            self.index, self.pc, self.instruction, *self.registers,
            self.memory_kind, self.memory_size, self.memory_address, self.memory_value,
        )  # fmt: skip

    @classmethod
    def from_bytes(cls, data: bytes) -> Step:
        """Return the step in those 150 bytes. Raises ValueError on another length or memory kind."""
        if len(data) != LEAF_BYTES:
            raise ValueError(f"{len(data)} bytes")
        words = _LEAF.unpack(data)
        return cls(
            index=words[0],
            pc=words[1],
            instruction=words[2],
            registers=words[3:35],
            memory_kind=MemoryKind(words[35]),
            memory_size=words[36],
            memory_address=words[37],
            memory_value=words[38],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Rows of consecutive steps."""

    rows: npt.NDArray[np.uint32]
    """(steps, 38)."""

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.rows)

    def step(self, index: int) -> Step:
        """Return the step in row ``index``."""
        words = self.rows[index].tolist()
        return Step(
            index=words[0],
            pc=words[1],
            instruction=words[2],
            registers=tuple(words[3:35]),
            memory_kind=MemoryKind(words[35] & 0xFF),
            memory_size=words[35] >> 8,
            memory_address=words[36],
            memory_value=words[37],
        )

    def leaves(self) -> list[bytes]:
        """Return the packed rows, 150 bytes each: the reference for the vectorised hashing."""
        return [self.step(index).to_bytes() for index in range(len(self))]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Execution:
    """One run that halted."""

    program_name: str
    program_hash: Hash32
    """SHA-256 of the flat image."""
    input_bytes: bytes
    output: bytes
    steps: int
    """The final ``ecall`` included."""
    final_pc: int
    """The ``ecall``."""
    final_registers: tuple[int, ...]
    trace: Trace | None
    """None when the run was not traced."""

    @property
    def input_commitment(self) -> Hash32:
        """The hash that stands for the input in the root record."""
        return input_commitment(self.input_bytes)

    @property
    def final_state_hash(self) -> Hash32:
        """The hash that stands for the end of the run in the root record."""
        return final_state_hash(steps=self.steps, pc=self.final_pc, registers=self.final_registers, output=self.output)


def input_commitment(input_bytes: bytes) -> Hash32:
    """Return the tagged hash of the input as given, without the page's padding."""
    return tagged_hash(INPUT_TAG, input_bytes)


def final_state_hash(*, steps: int, pc: int, registers: tuple[int, ...], output: bytes) -> Hash32:
    """Return the hash of the halted machine: steps, pc of the ``ecall``, x0..x31, length and SHA-256 of the output."""
    state = struct.pack("<2I32II", steps, pc, *registers, len(output)) + sha256(output)
    return tagged_hash(FINAL_STATE_TAG, state)
