"""One instruction in plain Python: what a verifier runs to check a single step. The third implementation of RV32IM.

It works on a ``Step`` alone: memory is what the step says it read, so it proves that registers, program counter and the
store follow from the step's own row, not that the value read was the one stored last (re-execution proves that).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from btcfi.vm.isa import ACCESS_SIZE, BRANCHES, LOADS, STORES, Instruction, Op, decode
from btcfi.vm.trace import MemoryKind, Step

_M32: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """The machine after one instruction."""

    pc: int
    registers: tuple[int, ...]
    halted: bool


class WrongStepError(ValueError):
    """A step's row is not what its instruction does; the message says which part."""


def after(step: Step) -> After:  # noqa: C901 - one arm an instruction format
    """Return the machine after ``step``. Raises WrongStepError when the row contradicts itself."""
    i = decode(step.instruction)
    if step.registers[0]:
        raise WrongStepError(f"x0 holds {step.registers[0]}")
    if i.op in (Op.ILLEGAL, Op.EBREAK):
        raise WrongStepError(f"instruction 0x{step.instruction:08x} does not execute")
    _check_memory(step, i)
    a, b = step.registers[i.rs1], step.registers[i.rs2]
    pc = (step.pc + 4) & _M32
    value: int | None = None
    if i.op in LOADS:
        value = _extended(i.op, step.memory_value)
    elif i.op in BRANCHES:
        if _BRANCH_TAKEN[i.op](a, b):
            pc = (step.pc + i.immediate) & _M32
    elif i.op is Op.JAL:
        value, pc = pc, (step.pc + i.immediate) & _M32
    elif i.op is Op.JALR:
        value, pc = pc, (a + i.immediate) & 0xFFFF_FFFE
    elif i.op is Op.AUIPC:
        value = step.pc + i.immediate
    elif i.op in _COMPUTE:
        value = _COMPUTE[i.op](a, i.immediate if Op.ADDI <= i.op <= Op.SRAI or i.op is Op.LUI else b)
    if pc % 4:
        raise WrongStepError(f"jumps to 0x{pc:08x}, which is not a multiple of 4")
    registers = step.registers
    if value is not None and i.rd:
        registers = (*registers[: i.rd], value & _M32, *registers[i.rd + 1 :])
    halted = i.op is Op.ECALL
    return After(pc=step.pc if halted else pc, registers=registers, halted=halted)


def _check_memory(step: Step, i: Instruction) -> None:
    if i.op not in LOADS and i.op not in STORES:
        if (step.memory_kind, step.memory_size, step.memory_address, step.memory_value) != (MemoryKind.NONE, 0, 0, 0):
            raise WrongStepError(f"{i.op.name.lower()} touches no memory, the row says it does")
        return
    size = ACCESS_SIZE[i.op]
    kind = MemoryKind.STORE if i.op in STORES else MemoryKind.LOAD
    address = (step.registers[i.rs1] + i.immediate) & _M32
    if (step.memory_kind, step.memory_size) != (kind, size):
        raise WrongStepError(f"{i.op.name.lower()} is a {kind.name.lower()} of {size} bytes, the row differs")
    if step.memory_address != address:
        raise WrongStepError(f"address 0x{step.memory_address:08x}, by the registers 0x{address:08x}")
    if address % size:
        raise WrongStepError(f"address 0x{address:08x} is not a multiple of {size}")
    if step.memory_value >> (8 * size):
        raise WrongStepError(f"value 0x{step.memory_value:x} has more than {size} bytes")
    stored = step.registers[i.rs2] & ((1 << 8 * size) - 1)
    if kind is MemoryKind.STORE and step.memory_value != stored:
        raise WrongStepError(f"stored 0x{step.memory_value:x}, by the registers 0x{stored:x}")


def _signed(value: int) -> int:
    value &= _M32
    return value - (1 << 32) if value >> 31 else value


def _extended(op: Op, raw: int) -> int:
    if op is Op.LB and raw & 0x80:
        return raw - 0x100
    if op is Op.LH and raw & 0x8000:
        return raw - 0x1_0000
    return raw


def _divided(a: int, b: int) -> int:
    if not b & _M32:
        return -1
    a, b = _signed(a), _signed(b)
    quotient = abs(a) // abs(b)
    return -quotient if (a < 0) != (b < 0) else quotient


def _remainder(a: int, b: int) -> int:
    if not b & _M32:
        return a
    return _signed(a) - _divided(a, b) * _signed(b)


_BRANCH_TAKEN: Final[dict[Op, Callable[[int, int], bool]]] = {
    Op.BEQ: lambda a, b: a == b,
    Op.BNE: lambda a, b: a != b,
    Op.BLT: lambda a, b: _signed(a) < _signed(b),
    Op.BGE: lambda a, b: _signed(a) >= _signed(b),
    Op.BLTU: lambda a, b: a < b,
    Op.BGEU: lambda a, b: a >= b,
}

_COMPUTE: Final[dict[Op, Callable[[int, int], int]]] = {
    Op.LUI: lambda _, b: b,
    Op.ADDI: lambda a, b: a + b,
    Op.SLTI: lambda a, b: int(_signed(a) < b),
    Op.SLTIU: lambda a, b: int(a < b & _M32),
    Op.XORI: lambda a, b: a ^ b,
    Op.ORI: lambda a, b: a | b,
    Op.ANDI: lambda a, b: a & b,
    Op.SLLI: lambda a, b: a << b,
    Op.SRLI: lambda a, b: a >> b,
    Op.SRAI: lambda a, b: _signed(a) >> b,
    Op.ADD: lambda a, b: a + b,
    Op.SUB: lambda a, b: a - b,
    Op.SLL: lambda a, b: a << (b & 31),
    Op.SLT: lambda a, b: int(_signed(a) < _signed(b)),
    Op.SLTU: lambda a, b: int(a < b),
    Op.XOR: lambda a, b: a ^ b,
    Op.SRL: lambda a, b: a >> (b & 31),
    Op.SRA: lambda a, b: _signed(a) >> (b & 31),
    Op.OR: lambda a, b: a | b,
    Op.AND: lambda a, b: a & b,
    Op.MUL: lambda a, b: a * b,
    Op.MULH: lambda a, b: _signed(a) * _signed(b) >> 32,
    Op.MULHSU: lambda a, b: _signed(a) * b >> 32,
    Op.MULHU: lambda a, b: a * b >> 32,
    Op.DIV: _divided,
    Op.DIVU: lambda a, b: a // b if b else _M32,
    Op.REM: _remainder,
    Op.REMU: lambda a, b: a % b if b else a,
}
