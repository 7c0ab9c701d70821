"""Tapscript arithmetic and RV32 words over z3 terms: what a leaf's bytes do for every digit at once."""

from dataclasses import dataclass, field

import z3

from btcfi.disputes.leaves.emitter import Opcode
from btcfi.disputes.leaves.program import FIRST_ARGUMENT, Kind
from btcfi.vm.isa import Op, decode

WIDE = 40
"""Bits of a Script number here: sums of two 4-byte numbers and their doubles never wrap."""

LIMIT = (1 << 31) - 1


def wide(value):
    return z3.BitVecVal(value, WIDE)


def flag(condition):
    return z3.If(condition, wide(1), wide(0))


@dataclass
class Ran:
    """What a script did."""

    stack: list
    alt: list
    verified: list = field(default_factory=list)
    """Conditions without which it fails."""
    inside: list = field(default_factory=list)
    """Conditions without which an operand has more than 4 bytes, or an index points nowhere."""


def run_script(code, stack, alt):  # noqa: C901, PLR0912, PLR0915 - one case an opcode
    """Execute the bytes after the signatures; items are terms of WIDE bits. Knows no opcode that leaves do not use."""
    ran, at = Ran(stack=list(stack), alt=list(alt)), 0
    main = ran.stack

    def number():
        value = main.pop()
        ran.inside.append(z3.And(value >= -LIMIT, value <= LIMIT))
        return value

    while at < len(code):
        byte = code[at]
        at += 1
        if byte <= 75:
            raw = code[at : at + byte]
            at += byte
            magnitude = int.from_bytes(raw, "little")
            negative = bool(raw) and raw[-1] & 0x80
            main.append(wide(-(magnitude - (1 << 8 * len(raw) - 1)) if negative else magnitude))
            continue
        if byte == 0x4F or 0x51 <= byte <= 0x60:
            main.append(wide(byte - 0x50))
            continue
        match Opcode(byte):
            case Opcode.TO_ALT:
                ran.alt.append(main.pop())
            case Opcode.FROM_ALT:
                main.append(ran.alt.pop())
            case Opcode.DROP2:
                del main[-2:]
            case Opcode.DROP:
                main.pop()
            case Opcode.DUP:
                main.append(main[-1])
            case Opcode.OVER:
                main.append(main[-2])
            case Opcode.NIP:
                del main[-2]
            case Opcode.TUCK:
                main.insert(-2, main[-1])
            case Opcode.SWAP:
                main[-1], main[-2] = main[-2], main[-1]
            case Opcode.ROT:
                main.append(main.pop(-3))
            case Opcode.PICK:
                index = z3.simplify(number())
                if z3.is_bv_value(index):
                    main.append(main[-1 - index.as_signed_long()])
                else:  # a choice of two
                    ran.inside.append(z3.Or(index == 0, index == 1))
                    main.append(z3.If(index == 1, main[-2], main[-1]))
            case Opcode.NEGATE:
                main.append(-number())
            case Opcode.NOT:
                main.append(flag(number() == 0))
            case Opcode.VERIFY:
                ran.verified.append(main.pop() != 0)
            case Opcode.WITHIN:
                high, low, value = number(), number(), number()
                main.append(flag(z3.And(low <= value, value < high)))
            case Opcode.NUMEQUALVERIFY:
                ran.verified.append(number() == number())
            case other:
                right, left = number(), number()
                main.append(
                    {
                        Opcode.ADD: lambda a, b: a + b,
                        Opcode.SUB: lambda a, b: a - b,
                        Opcode.BOOLAND: lambda a, b: flag(z3.And(a != 0, b != 0)),
                        Opcode.BOOLOR: lambda a, b: flag(z3.Or(a != 0, b != 0)),
                        Opcode.NUMNOTEQUAL: lambda a, b: flag(a != b),
                        Opcode.LESSTHAN: lambda a, b: flag(a < b),
                        Opcode.MIN: lambda a, b: z3.If(a < b, a, b),
                        Opcode.MAX: lambda a, b: z3.If(a > b, a, b),
                    }[other](left, right)
                )
    return ran


def run_words(words, arguments):
    """Execute a function's words but its ret; returns a0. The manual's semantics, of the few operations there are."""
    registers = {0: z3.BitVecVal(0, 32), **{FIRST_ARGUMENT + at: one for at, one in enumerate(arguments)}}
    for word in words[:-1]:
        one = decode(word)
        left = registers.get(one.rs1)
        right = registers[one.rs2] if one.op in SAME else z3.BitVecVal(one.immediate, 32)
        registers[one.rd] = right if one.op is Op.LUI else RULES[SAME.get(one.op) or IMMEDIATE[one.op]](left, right)
        registers[0] = z3.BitVecVal(0, 32)
    return registers[FIRST_ARGUMENT]


SAME = {op: op for op in (Op.ADD, Op.SUB, Op.SLTU, Op.XOR, Op.OR, Op.AND)}
IMMEDIATE = {
    Op.ADDI: Op.ADD, Op.SLTIU: Op.SLTU, Op.XORI: Op.XOR, Op.ORI: Op.OR, Op.ANDI: Op.AND, Op.SLLI: Op.SLL,
    Op.SRLI: Op.SRL,
}  # fmt: skip
RULES = {
    Op.ADD: lambda a, b: a + b,
    Op.SUB: lambda a, b: a - b,
    Op.SLTU: lambda a, b: z3.If(z3.ULT(a, b), z3.BitVecVal(1, 32), z3.BitVecVal(0, 32)),
    Op.XOR: lambda a, b: a ^ b,
    Op.OR: lambda a, b: a | b,
    Op.AND: lambda a, b: a & b,
    Op.SLL: lambda a, b: a << b,
    Op.SRL: z3.LShR,
}


def step_word(step, values):
    """A step as a 32-bit word of words: the meaning that its leaf is proved against."""
    operands = [z3.BitVecVal(one, 32) if isinstance(one, int) else values[one] for one in step.operands]
    return {
        Kind.ADD: lambda a, b: a + b,
        Kind.SUB: lambda a, b: a - b,
        Kind.BELOW: RULES[Op.SLTU],
        Kind.BOTH: lambda a, b: a & b,
        Kind.EITHER: lambda a, b: a | b,
        Kind.DIFFER: lambda a, b: a ^ b,
        Kind.KEEP: lambda a, b: a & b,
        Kind.CHOOSE: lambda a, b, c: c ^ ((b ^ c) & a),
        Kind.ABOVE: lambda a, b: (a - b) & -RULES[Op.SLTU](b, a),
        Kind.FLIP: lambda a: ~a,
        Kind.LEFT: lambda a, b: a << b,
        Kind.RIGHT: z3.LShR,
    }[step.kind](*operands)
