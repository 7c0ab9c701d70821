"""Each instruction of RV32IM against values written down from the manual, in self-checking programs.

The programs have the shape of RISC-V's own tests: the number of the running case in gp, and at the end an ecall with
a7 = 93 and a0 = 0, or 2 * case + 1 for the first case that failed. Expected values are literals: neither our decoder
nor an executor made them.
"""

# ruff: noqa: E501 - an instruction's cases read best on one line
import pytest

from btcfi.vm.agreement import Emulator, execute
from btcfi.vm.isa import Op
from tests.support.vm_programs import (
    ECALL,
    b_type,
    bare_program_of,
    i_type,
    jal,
    load_constant,
    lui,
    r_type,
    s_type,
)

MIN, MAX, ONES = 0x8000_0000, 0x7FFF_FFFF, 0xFFFF_FFFF

# name: funct7, funct3, then (rs1, rs2, rd)
REGISTER = {
    "ADD": (0x00, 0, [(0, 0, 0), (3, 7, 10), (MAX, 1, MIN), (ONES, 1, 0), (MIN, MIN, 0), (0xFFFF8000, MIN, 0x7FFF8000)]),
    "SUB": (0x20, 0, [(3, 7, 0xFFFFFFFC), (0, MIN, MIN), (MIN, 1, MAX), (0, ONES, 1), (5, 5, 0)]),
    "SLL": (0x00, 1, [(1, 0, 1), (1, 31, MIN), (ONES, 7, 0xFFFFFF80), (1, 32, 1), (0x21212121, 0xFFFFFFC1, 0x42424242)]),
    "SLT": (0x00, 2, [(3, 7, 1), (7, 3, 0), (MIN, MAX, 1), (MAX, MIN, 0), (ONES, 0, 1), (0, 0, 0)]),
    "SLTU": (0x00, 3, [(3, 7, 1), (MIN, MAX, 0), (0, ONES, 1), (ONES, 0, 0), (ONES, ONES, 0)]),
    "XOR": (0x00, 4, [(0xFF00FF00, 0x0F0F0F0F, 0xF00FF00F), (ONES, ONES, 0)]),
    "SRL": (0x00, 5, [(MIN, 31, 1), (ONES, 1, MAX), (0x21212121, 0xFFFFFFEE, 0x00008484), (1, 32, 1)]),
    "SRA": (0x20, 5, [(MIN, 31, ONES), (MAX, 31, 0), (0x81818181, 7, 0xFF030303), (MIN, 32, MIN)]),
    "OR": (0x00, 6, [(0xFF00FF00, 0x0F0F0F0F, 0xFF0FFF0F), (0, 0, 0)]),
    "AND": (0x00, 7, [(0xFF00FF00, 0x0F0F0F0F, 0x0F000F00), (ONES, MIN, MIN)]),
    "MUL": (0x01, 0, [(7, 9, 63), (ONES, ONES, 1), (MIN, ONES, MIN), (0x10000, 0x10000, 0), (0xAAAAAAAB, 3, 1)]),
    "MULH": (0x01, 1, [(ONES, ONES, 0), (MIN, MIN, 0x40000000), (MIN, ONES, 0), (MAX, MAX, 0x3FFFFFFF), (1, ONES, ONES)]),
    "MULHSU": (0x01, 2, [(ONES, ONES, ONES), (MIN, ONES, MIN), (1, ONES, 0), (MAX, ONES, 0x7FFFFFFE), (ONES, 1, ONES)]),
    "MULHU": (0x01, 3, [(ONES, ONES, 0xFFFFFFFE), (MIN, MIN, 0x40000000), (MIN, 2, 1), (0x10000, 0x10000, 1)]),
    "DIV": (0x01, 4, [(20, 6, 3), (0xFFFFFFEC, 6, 0xFFFFFFFD), (20, 0xFFFFFFFA, 0xFFFFFFFD), (0xFFFFFFEC, 0xFFFFFFFA, 3),
                      (MIN, ONES, MIN), (MIN, 0, ONES), (0, 0, ONES), (1, 0, ONES), (MIN, 1, MIN)]),
    "DIVU": (0x01, 5, [(20, 6, 3), (0xFFFFFFEC, 6, 0x2AAAAAA7), (MIN, ONES, 0), (MIN, 1, MIN), (1, 0, ONES), (0, 0, ONES)]),
    "REM": (0x01, 6, [(20, 6, 2), (0xFFFFFFEC, 6, 0xFFFFFFFE), (20, 0xFFFFFFFA, 2), (0xFFFFFFEC, 0xFFFFFFFA, 0xFFFFFFFE),
                      (MIN, ONES, 0), (MIN, 0, MIN), (0, 0, 0), (1, 0, 1)]),
    "REMU": (0x01, 7, [(20, 6, 2), (0xFFFFFFEC, 6, 2), (MIN, ONES, MIN), (ONES, 0, ONES), (0, 0, 0)]),
}  # fmt: skip

# name: funct3, then (rs1, immediate, rd)
IMMEDIATE = {
    "ADDI": (0, [(3, 7, 10), (0, -2048, 0xFFFFF800), (MAX, 1, MIN), (0, 2047, 0x7FF), (ONES, 1, 0)]),
    "SLTI": (2, [(3, 7, 1), (0, -1, 0), (MIN, -1, 1), (ONES, 0, 1)]),
    "SLTIU": (3, [(3, 7, 1), (0, -1, 1), (0xFFFFF7FF, -2048, 1), (ONES, -1, 0), (0, 1, 1)]),
    "XORI": (4, [(0x00FF0F00, -241, 0xFF00F00F), (0, -1, ONES)]),
    "ORI": (6, [(0xFF00FF00, -241, 0xFFFFFF0F), (0, 0, 0)]),
    "ANDI": (7, [(0xFF00FF00, -241, 0xFF00FF00), (ONES, 0x70F, 0x70F)]),
    "SLLI": (1, [(1, 31, MIN), (0x21212121, 14, 0x48484000), (ONES, 0, ONES)]),
    "SRLI": (5, [(MIN, 31, 1), (0x21212121, 14, 0x00008484)]),
    "SRAI": (5, [(MIN, 0x400 | 31, ONES), (0x81818181, 0x400 | 14, 0xFFFE0606), (MAX, 0x400 | 14, 0x0001FFFF)]),
}

# name: funct3, then (bytes at the address as a word, offset, rd)
LOADS = {
    "LB": (0, [(0x80FF007F, 0, 0x7F), (0x80FF007F, 1, 0), (0x80FF007F, 2, ONES), (0x80FF007F, 3, 0xFFFFFF80)]),
    "LH": (1, [(0x8000_7FFF, 0, 0x7FFF), (0x8000_7FFF, 2, 0xFFFF8000)]),
    "LW": (2, [(0x89ABCDEF, 0, 0x89ABCDEF)]),
    "LBU": (4, [(0x80FF007F, 2, 0xFF), (0x80FF007F, 3, 0x80)]),
    "LHU": (5, [(0x8000_7FFF, 2, 0x8000)]),
}

# name: funct3, then (value, offset, the word at the address afterwards, which held 0x11223344)
STORES = {
    "SB": (0, [(0xAABBCCDD, 0, 0x112233DD), (0xAABBCCDD, 3, 0xDD223344)]),
    "SH": (1, [(0xAABBCCDD, 0, 0x1122CCDD), (0xAABBCCDD, 2, 0xCCDD3344)]),
    "SW": (2, [(0xAABBCCDD, 0, 0xAABBCCDD)]),
}

# name: funct3, then (rs1, rs2, taken)
BRANCHES = {
    "BEQ": (0, [(1, 1, True), (1, 2, False), (ONES, ONES, True)]),
    "BNE": (1, [(1, 1, False), (1, 2, True)]),
    "BLT": (4, [(ONES, 0, True), (0, ONES, False), (MIN, MAX, True), (3, 3, False)]),
    "BGE": (5, [(ONES, 0, False), (0, ONES, True), (3, 3, True), (MIN, MAX, False)]),
    "BLTU": (6, [(ONES, 0, False), (0, ONES, True), (3, 3, False)]),
    "BGEU": (7, [(ONES, 0, True), (0, ONES, False), (3, 3, True)]),
}

GP, A0, A7, RAM = 3, 10, 17, 0x8000_2000


def checked(cases):
    """A program of the cases, each (code that leaves something in x7, what it must be)."""
    code = []
    for number, (words, expected) in enumerate(cases, 1):
        code += [i_type(number, 0, 0, GP), *words, *load_constant(expected, 29), b_type(8, 29, 7, 0)]
        code += [jal(0)]  # patched below
    fails = [place for place, word in enumerate(code) if word == jal(0)]
    code += [i_type(0, 0, 0, A0), jal(12), i_type(1, GP, 1, A0), i_type(1, A0, 6, A0), i_type(93, 0, 0, A7), ECALL]
    failed = len(code) - 4
    for place in fails:
        code[place] = jal(4 * (failed - place))
    return bare_program_of(code)


def passes(program):
    registers = execute(program, Emulator(program), b"").final_registers
    assert registers[A7] == 93
    return registers[A0]


def register_cases(name):
    funct7, funct3, cases = REGISTER[name]
    return [([*load_constant(a, 5), *load_constant(b, 6), r_type(funct7, 6, 5, funct3, 7)], c) for a, b, c in cases]


def immediate_cases(name):
    funct3, cases = IMMEDIATE[name]
    return [([*load_constant(a, 5), i_type(immediate, 5, funct3, 7)], c) for a, immediate, c in cases]


def load_cases(name):
    funct3, cases = LOADS[name]
    put = [lui(RAM, 31), s_type(0, 5, 31, 2)]
    return [([*load_constant(word, 5), *put, i_type(offset, 31, funct3, 7, 0x03)], c) for word, offset, c in cases]


def store_cases(name):
    funct3, cases = STORES[name]
    put = [lui(RAM, 31), *load_constant(0x11223344, 5), s_type(0, 5, 31, 2)]
    return [
        ([*put, *load_constant(value, 6), s_type(offset, 6, 31, funct3), i_type(0, 31, 2, 7, 0x03)], c)
        for value, offset, c in cases
    ]


def branch_cases(name):
    """x7 is 1 if the branch was taken: forward over an instruction, then the same one backward."""
    funct3, cases = BRANCHES[name]
    found = []
    for a, b, taken in cases:
        put = [*load_constant(a, 5), *load_constant(b, 6)]
        found.append(([*put, i_type(1, 0, 0, 7), b_type(8, 6, 5, funct3), i_type(0, 0, 0, 7)], int(taken)))
        back = [jal(12), i_type(1, 0, 0, 7), jal(12), b_type(-8, 6, 5, funct3), i_type(0, 0, 0, 7)]
        found.append(([*put, *back], int(taken)))
    return found


def jump_cases():
    """Links are measured against auipc; jalr clears bit 0 of its target."""
    here = [0x0000_0297]  # auipc x5, 0
    sub = r_type(0x20, 5, 6, 0, 7)
    return {
        "LUI": [([lui(0xFFFFF000, 7)], 0xFFFFF000), ([lui(0x12345000, 7)], 0x12345000)],
        "AUIPC": [([*here, 0xFFFFF317, sub], 0xFFFFF004)],  # auipc x6, 0xfffff
        "JAL": [([*here, jal(8, 6), ECALL, sub], 8)],
        "JALR": [([*here, i_type(13, 5, 0, 6, 0x67), ECALL, sub], 8)],
        "FENCE": [([i_type(5, 0, 0, 7), 0x0FF0_000F], 5)],
    }


ALL = {
    **{name: register_cases(name) for name in REGISTER},
    **{name: immediate_cases(name) for name in IMMEDIATE},
    **{name: load_cases(name) for name in LOADS},
    **{name: store_cases(name) for name in STORES},
    **{name: branch_cases(name) for name in BRANCHES},
    **jump_cases(),
}


def test_every_instruction_of_rv32im_is_among_the_cases():
    assert {op.name for op in Op} - set(ALL) == {"ILLEGAL", "ECALL", "EBREAK"}  # ecall ends each; ebreak is a fault


@pytest.mark.parametrize("name", ALL)
def test_an_instruction_does_what_the_manual_says(name):
    assert passes(checked(ALL[name])) == 0


@pytest.mark.parametrize("name", [*REGISTER, *IMMEDIATE, *LOADS, "LUI", "AUIPC"])
def test_a_result_written_to_x0_is_lost(name):
    words, _ = ALL[name][0]
    changed = [*words[:-1], words[-1] & ~(31 << 7)] if name != "AUIPC" else [0x0000_0017]
    assert passes(checked([([i_type(9, 0, 0, 7), *changed], 9), ([*changed, i_type(0, 0, 0, 7)], 0)])) == 0


def test_a_failing_case_is_reported_by_its_number():
    good, bad = ([i_type(1, 0, 0, 7)], 1), ([i_type(1, 0, 0, 7)], 2)
    assert passes(checked([good, good, bad, good])) == 2 * 3 + 1
