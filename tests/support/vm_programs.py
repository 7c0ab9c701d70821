# ruff: noqa: PLR0911, PLR0917 - instruction formats have as many fields and cases as they have
"""Make RV32IM programs for tests: words, whole ELF files, and random but halting code."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

from btcfi.vm.machine import CODE_BASE
from btcfi.vm.program import Program, bare_program, program_from_elf

ECALL, EBREAK = 0x73, 0x0010_0073


def r_type(funct7: int, rs2: int, rs1: int, funct3: int, rd: int, opcode: int = 0x33) -> int:
    return funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode


def i_type(immediate: int, rs1: int, funct3: int, rd: int, opcode: int = 0x13) -> int:
    return (immediate & 0xFFF) << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode


def s_type(immediate: int, rs2: int, rs1: int, funct3: int) -> int:
    i = immediate & 0xFFF
    return (i >> 5) << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | (i & 31) << 7 | 0x23


def b_type(offset: int, rs2: int, rs1: int, funct3: int) -> int:
    o = offset & 0x1FFF
    bits = (o >> 12) << 31 | (o >> 5 & 0x3F) << 25 | (o >> 1 & 0xF) << 8 | (o >> 11 & 1) << 7
    return bits | rs2 << 20 | rs1 << 15 | funct3 << 12 | 0x63


def jal(offset: int, rd: int = 0) -> int:
    o = offset & 0x1F_FFFF
    bits = (o >> 20) << 31 | (o >> 1 & 0x3FF) << 21 | (o >> 11 & 1) << 20 | (o >> 12 & 0xFF) << 12
    return bits | rd << 7 | 0x6F


def lui(value: int, rd: int) -> int:
    return (value & 0xFFFF_F000) | rd << 7 | 0x37


def load_constant(value: int, rd: int) -> list[int]:
    """lui + addi, as an assembler's ``li``."""
    low = ((value & 0xFFF) ^ 0x800) - 0x800
    return [lui(value - low, rd), i_type(low, rd, 0, rd)]


@dataclass(frozen=True)
class Segment:
    address: int
    data: bytes
    flags: int
    memory_size: int | None = None


def elf_file(segments: list[Segment], entry: int = CODE_BASE, **header: int) -> bytes:
    """An ELF file without sections. ``header`` overrides header fields by name."""
    fields = {
        "e_type": 2, "e_machine": 243, "e_version": 1, "e_entry": entry, "e_phoff": 52, "e_shoff": 0, "e_flags": 0,
        "e_ehsize": 52, "e_phentsize": 32, "e_phnum": len(segments), "e_shentsize": 40, "e_shnum": 0, "e_shstrndx": 0,
    }  # fmt: skip
    fields |= header
    out = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01".ljust(16, b"\0"), *fields.values())
    data = b""
    for segment in segments:
        # A real loader maps files by pages: offset and address agree modulo a page.
        offset = 4096 * (1 + (51 + 32 * len(segments) + len(data)) // 4096) + segment.address % 4096
        size = len(segment.data)
        memory = size if segment.memory_size is None else segment.memory_size
        out += struct.pack("<8I", 1, offset, segment.address, segment.address, size, memory, segment.flags, 4)
        data = data.ljust(offset - 52 - 32 * len(segments), b"\0") + segment.data
    return out + data


def code_segment(words: list[int], address: int = CODE_BASE) -> Segment:
    return Segment(address, struct.pack(f"<{len(words)}I", *words), 5)


def program_of(words: list[int], name: str = "test", output_size: int = 64) -> Program:
    """A program of the ABI with one page of RAM at 0x8000_2000."""
    ram = Segment(0x8000_2000, b"", 6, 4096)
    return program_from_elf(elf_file([code_segment(words), ram]), name=name, output_size=output_size)


def bare_program_of(words: list[int]) -> Program:
    return bare_program(elf_file([code_segment(words), Segment(0x8000_2000, b"", 6, 4096)]), name="bare")


def counting_program(steps: int) -> Program:
    """A program that halts after about ``steps`` steps: 20 mixed instructions an iteration."""
    body = [
        i_type(1, 5, 0, 5), r_type(0, 5, 6, 0, 6), r_type(1, 6, 5, 0, 7), r_type(0x20, 7, 6, 0, 8), i_type(7, 8, 4, 9),
        s_type(0, 9, 10, 2), i_type(0, 10, 2, 11, 0x03), r_type(0, 11, 12, 4, 12), r_type(1, 12, 6, 3, 13),
        i_type(3, 13, 5, 14), r_type(0, 14, 12, 7, 15), i_type(5, 15, 1, 16), r_type(0, 16, 6, 6, 17),
        s_type(4, 17, 10, 0), i_type(4, 10, 4, 18, 0x03), r_type(0, 18, 17, 3, 19), r_type(0, 19, 6, 0, 6),
        i_type(-1, 20, 0, 20), r_type(0, 6, 12, 0, 12),
    ]  # fmt: skip
    start = [*load_constant(max(1, steps // 20), 20), lui(0x8000_2000, 10)]
    return program_of([*start, *body, b_type(-4 * len(body), 0, 20, 1), ECALL], output_size=4)


CORNERS = (
    0,
    1,
    2,
    3,
    0x7FFF_FFFF,
    0x8000_0000,
    0x8000_0001,
    0xFFFF_FFFF,
    0xFFFF_FFFE,
    0x0001_0000,
    0xFFFF,
    0x5555_5555,
)


def random_words(rng: random.Random, length: int = 40) -> list[int]:
    """Random RV32IM: every instruction, M's corner cases, forward branches and bounded loops; always halts.

    x31 holds the RAM page, x30 counts loops down; neither is written otherwise.
    """
    words = lui(0x8000_2000, 31), i_type(rng.randrange(1, 6), 0, 0, 30)
    code = list(words)
    for register in rng.sample(range(1, 30), 6):
        code += load_constant(rng.choice((*CORNERS, rng.getrandbits(32))), register)
    start = len(code)
    for _ in range(length):
        code.append(_random_instruction(rng))
    code += [i_type(-1, 30, 0, 30), b_type(-4 * (len(code) + 1 - start), 0, 30, 1), ECALL]
    # A forward branch may not leave the body.
    for place in range(start, start + length):
        if code[place] & 0x7F in (0x63, 0x6F):
            room = 4 * (start + length - place)
            offset = min(room, 4 * rng.randrange(1, 5))
            word = code[place]
            if word & 0x7F == 0x63:
                code[place] = b_type(offset, word >> 20 & 31, word >> 15 & 31, word >> 12 & 7)
            else:
                code[place] = jal(offset, word >> 7 & 31)
    return code


def _random_instruction(rng: random.Random) -> int:
    rd, rs1, rs2 = (rng.randrange(30) for _ in range(3))
    kind = rng.randrange(12)
    if kind <= 2:
        return r_type(1, rs2, rs1, rng.randrange(8), rd)
    if kind <= 4:
        funct3 = rng.randrange(8)
        return r_type(rng.choice((0, 0x20)) if funct3 in (0, 5) else 0, rs2, rs1, funct3, rd)
    if kind <= 6:
        funct3 = rng.randrange(8)
        if funct3 in (1, 5):
            top = rng.choice((0, 0x400)) if funct3 == 5 else 0
            return i_type(top | rng.randrange(32), rs1, funct3, rd)
        return i_type(rng.randrange(-2048, 2048), rs1, funct3, rd)
    if kind == 7:
        funct3 = rng.choice((0, 1, 2, 4, 5))
        size = 1 << (funct3 & 3)
        return i_type(rng.randrange(0, 64) * size, 31, funct3, rd, 0x03)
    if kind == 8:
        funct3 = rng.randrange(3)
        return s_type(rng.randrange(0, 64) << funct3, rs2, 31, funct3)
    if kind == 9:
        return b_type(8, rs2, rs1, rng.choice((0, 1, 4, 5, 6, 7)))
    if kind == 10:
        return rng.choice((lui(rng.getrandbits(32), rd), rng.getrandbits(20) << 12 | rd << 7 | 0x17, 0x0FF0_000F))
    return jal(8, rd)


def random_faulting_words(rng: random.Random) -> list[int]:
    """Random code that mostly ends in a fault: bad words, wild addresses and jumps mixed in."""
    code = random_words(rng, 12)[:-1]
    for _ in range(3):
        place = rng.randrange(len(code))
        rd, rs1, rs2 = (rng.randrange(32) for _ in range(3))
        code[place] = rng.choice(
            (
                EBREAK,
                i_type(rng.randrange(-2048, 2048), rs1, rng.choice((0, 1, 2, 4, 5)), rd, 0x03),
                s_type(rng.randrange(-2048, 2048), rs2, rs1, rng.randrange(3)),
                i_type(rng.randrange(-2048, 2048), rs1, 0, rd, 0x67),
                jal(2 * rng.randrange(-40, 40), rd),
                b_type(2 * rng.randrange(-20, 20), rs2, rs1, rng.choice((0, 1, 4, 5, 6, 7))),
            )
        )
    return [*code, rng.choice((ECALL, EBREAK, jal(0)))]
