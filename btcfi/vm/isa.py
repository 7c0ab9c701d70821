"""RV32IM, exactly: one table decodes, disassembles and refuses.

A word that is not in the table is illegal: compressed, A, F, D, Zicsr, Zifencei and every reserved encoding. ``fence``
is part of RV32I and does nothing on one hart. Source: The RISC-V Instruction Set Manual, volume I, RV32I and "M".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt


class Op(IntEnum):
    """Dense operation numbers, so that the interpreter's dispatch becomes one jump table."""

    ILLEGAL = 0
    LUI = 1
    AUIPC = 2
    JAL = 3
    JALR = 4
    BEQ = 5
    BNE = 6
    BLT = 7
    BGE = 8
    BLTU = 9
    BGEU = 10
    LB = 11
    LH = 12
    LW = 13
    LBU = 14
    LHU = 15
    SB = 16
    SH = 17
    SW = 18
    ADDI = 19
    SLTI = 20
    SLTIU = 21
    XORI = 22
    ORI = 23
    ANDI = 24
    SLLI = 25
    SRLI = 26
    SRAI = 27
    ADD = 28
    SUB = 29
    SLL = 30
    SLT = 31
    SLTU = 32
    XOR = 33
    SRL = 34
    SRA = 35
    OR = 36
    AND = 37
    FENCE = 38
    ECALL = 39
    EBREAK = 40
    MUL = 41
    MULH = 42
    MULHSU = 43
    MULHU = 44
    DIV = 45
    DIVU = 46
    REM = 47
    REMU = 48


BRANCHES: Final = frozenset(range(Op.BEQ, Op.BGEU + 1))
LOADS: Final = frozenset(range(Op.LB, Op.LHU + 1))
STORES: Final = frozenset(range(Op.SB, Op.SW + 1))

UNIMP: Final = 0xC000_1073
"""``csrw cycle, zero``: what compilers emit for a path that C says is never taken. Not RV32IM, and worth its name."""

ACCESS_SIZE: Final[dict[int, int]] = {
    Op.LB: 1, Op.LBU: 1, Op.SB: 1, Op.LH: 2, Op.LHU: 2, Op.SH: 2, Op.LW: 4, Op.SW: 4,
}  # fmt: skip
"""Bytes that a load or store touches."""

REGISTER_NAMES: Final = (
    *("zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1"),
    *(f"a{n}" for n in range(8)),
    *(f"s{n}" for n in range(2, 12)),
    *("t3", "t4", "t5", "t6"),
)
"""The ABI names of x0 to x31. Source: RISC-V ELF psABI, integer register convention."""

_BRANCH = {0: Op.BEQ, 1: Op.BNE, 4: Op.BLT, 5: Op.BGE, 6: Op.BLTU, 7: Op.BGEU}
_LOAD = {0: Op.LB, 1: Op.LH, 2: Op.LW, 4: Op.LBU, 5: Op.LHU}
_STORE = {0: Op.SB, 1: Op.SH, 2: Op.SW}
_IMMEDIATE = {0: Op.ADDI, 2: Op.SLTI, 3: Op.SLTIU, 4: Op.XORI, 6: Op.ORI, 7: Op.ANDI}
_REGISTER = {
    (0, 0x00): Op.ADD,
    (0, 0x20): Op.SUB,
    (1, 0x00): Op.SLL,
    (2, 0x00): Op.SLT,
    (3, 0x00): Op.SLTU,
    (4, 0x00): Op.XOR,
    (5, 0x00): Op.SRL,
    (5, 0x20): Op.SRA,
    (6, 0x00): Op.OR,
    (7, 0x00): Op.AND,
    **{(funct3, 0x01): Op(Op.MUL + funct3) for funct3 in range(8)},
}
_SHIFT = {(1, 0x00): Op.SLLI, (5, 0x00): Op.SRLI, (5, 0x20): Op.SRAI}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One decoded word; fields that its format lacks are 0."""

    op: Op
    rd: int
    rs1: int
    rs2: int
    immediate: int
    """Sign-extended; for LUI and AUIPC already shifted left by 12, for shifts the amount."""


def decode(word: int) -> Instruction:  # noqa: C901, PLR0911 - one return an instruction format, as the manual has them
    """Return the instruction in ``word`` (u32); its ``op`` is ILLEGAL for anything outside RV32IM."""
    opcode, funct3, funct7 = word & 0x7F, word >> 12 & 7, word >> 25
    rd, rs1, rs2 = word >> 7 & 31, word >> 15 & 31, word >> 20 & 31
    i_immediate = _signed(word >> 20, 12)
    match opcode:
        case 0x37 | 0x17:
            op = Op.LUI if opcode == 0x37 else Op.AUIPC  # noqa: PLR2004 - opcodes are the manual's
            return _made(op, rd=rd, immediate=_signed(word & 0xFFFF_F000, 32))
        case 0x6F:
            bits = (word >> 31) << 20 | (word >> 12 & 0xFF) << 12 | (word >> 20 & 1) << 11 | (word >> 21 & 0x3FF) << 1
            return _made(Op.JAL, rd=rd, immediate=_signed(bits, 21))
        case 0x67 if funct3 == 0:
            return _made(Op.JALR, rd=rd, rs1=rs1, immediate=i_immediate)
        case 0x63 if funct3 in _BRANCH:
            bits = (word >> 31) << 12 | (word >> 7 & 1) << 11 | (word >> 25 & 0x3F) << 5 | (word >> 8 & 0xF) << 1
            return _made(_BRANCH[funct3], rs1=rs1, rs2=rs2, immediate=_signed(bits, 13))
        case 0x03 if funct3 in _LOAD:
            return _made(_LOAD[funct3], rd=rd, rs1=rs1, immediate=i_immediate)
        case 0x23 if funct3 in _STORE:
            return _made(_STORE[funct3], rs1=rs1, rs2=rs2, immediate=_signed(funct7 << 5 | rd, 12))
        case 0x13 if funct3 in _IMMEDIATE:
            return _made(_IMMEDIATE[funct3], rd=rd, rs1=rs1, immediate=i_immediate)
        case 0x13 if (funct3, funct7) in _SHIFT:
            return _made(_SHIFT[funct3, funct7], rd=rd, rs1=rs1, immediate=rs2)
        case 0x33 if (funct3, funct7) in _REGISTER:
            return _made(_REGISTER[funct3, funct7], rd=rd, rs1=rs1, rs2=rs2)
        case 0x0F if funct3 == 0:
            return _made(Op.FENCE)
        case 0x73 if word in (0x73, 0x10_0073):
            return _made(Op.ECALL if word == 0x73 else Op.EBREAK)  # noqa: PLR2004 - the word itself
        case _:
            return _made(Op.ILLEGAL)


def _made(op: Op, *, rd: int = 0, rs1: int = 0, rs2: int = 0, immediate: int = 0) -> Instruction:
    return Instruction(op=op, rd=rd, rs1=rs1, rs2=rs2, immediate=immediate)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def decode_table(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.int32]:
    """Return an (n, 5) table of op, rd, rs1, rs2, immediate, one row a word of code."""
    unique, places = np.unique(words, return_inverse=True)
    rows = [(i.op, i.rd, i.rs1, i.rs2, i.immediate) for i in (decode(int(word)) for word in unique)]
    table = np.array(rows, dtype=np.int32).reshape(-1, 5)[places.reshape(-1)]
    return np.ascontiguousarray(table)


def disassemble(word: int, pc: int) -> str:  # noqa: PLR0911 - one return a spelling
    """Return ``word`` at address ``pc`` in assembly, jump targets as addresses."""
    i = decode(word)
    name = i.op.name.lower()
    rd, rs1, rs2 = (REGISTER_NAMES[n] for n in (i.rd, i.rs1, i.rs2))
    target = f"0x{(pc + i.immediate) & 0xFFFF_FFFF:x}"
    if i.op in BRANCHES:
        return f"{name} {rs1}, {rs2}, {target}"
    if i.op in LOADS or i.op is Op.JALR:
        return f"{name} {rd}, {i.immediate}({rs1})"
    if i.op in STORES:
        return f"{name} {rs2}, {i.immediate}({rs1})"
    if i.op is Op.JAL:
        return f"{name} {rd}, {target}"
    if i.op in (Op.LUI, Op.AUIPC):
        return f"{name} {rd}, 0x{i.immediate >> 12 & 0xF_FFFF:x}"
    if Op.ADDI <= i.op <= Op.SRAI:
        return f"{name} {rd}, {rs1}, {i.immediate}"
    if i.op in (Op.FENCE, Op.ECALL, Op.EBREAK):
        return name
    if word == UNIMP:
        return "unimp  (not RV32IM)"
    if i.op is Op.ILLEGAL:
        return f".word 0x{word:08x}  (not RV32IM)"
    return f"{name} {rd}, {rs1}, {rs2}"
