"""Branch-free RV32IM as a list of steps over whole numbers, with what each may be at most: what a leaf can compute.

A program is one function's words: arguments in a0 to a7, the answer in a0, no memory, no branch. Constants are folded,
masks become choices, and each step is shown to stay within what Script's numbers hold. A step's whole number is its
32-bit word, modulo 2**32: what wraps below zero is a negative number here. Whatever cannot be shown is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np

from btcfi.disputes.leaves.words import digits_for
from btcfi.errors import InvalidInputError
from btcfi.vm.isa import Instruction, Op, decode

RETURN: Final = 0x0000_8067
"""``ret``: the last word, and only it."""

FIRST_ARGUMENT: Final = 10
ARGUMENTS: Final = 8
"""a0 to a7: what comes after them would be in memory."""

OUTCOME_BITS: Final = 18
"""Of a price that oracles attest, in whole dollars."""

MAX_NUMBER: Final = (1 << 31) - 1
"""The largest that Script computes with, and the smallest is its negative."""

MAX_SHIFT: Final = 30
"""To the right: a leaf compares with two to its power."""

MAX_STEPS: Final = 256

Operand = str | int
"""A value's name, or a constant, which is in -2**31 to 2**31 - 1."""


class Kind(Enum):
    """What a step does."""

    ADD = "add"
    SUB = "sub"
    BELOW = "below"
    """Whether a < b, of two that are not negative: 1 or 0."""
    BOTH = "both"
    EITHER = "either"
    DIFFER = "differ"
    KEEP = "keep"
    """a where the mask b is -1, 0 where it is 0."""
    CHOOSE = "choose"
    """b where the mask a is -1, c where it is 0."""
    ABOVE = "above"
    """How far a is above b, at least 0."""
    FLIP = "flip"
    """Every bit the other way: -1 - a."""
    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Between what a value is, both included."""

    low: int
    high: int

    @property
    def is_bit(self) -> bool:
        """Whether it is 0 or 1."""
        return self.low >= 0 and self.high <= 1

    @property
    def is_mask(self) -> bool:
        """Whether it is 0 or -1: no bit, or all."""
        return self.low >= -1 and self.high <= 0

    @property
    def is_number(self) -> bool:
        """Whether Script can compute with it."""
        return -MAX_NUMBER <= self.low <= self.high <= MAX_NUMBER


OUTCOME: Final = Bounds(low=0, high=(1 << OUTCOME_BITS) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One computation."""

    name: str
    kind: Kind
    operands: tuple[Operand, ...]


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is computed of attested prices."""

    name: str
    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    result: Operand
    bounds: Mapping[str, Bounds]
    """Of every input and step."""

    def run(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """Return every value; inputs are whole numbers, or arrays of them."""
        values: dict[str, Any] = dict(zip(self.inputs, inputs, strict=True))
        for step in self.steps:
            values[step.name] = computed(step, values)
        return values

    def bounds_of(self, operand: Operand) -> Bounds:
        """Return between what an operand is."""
        return Bounds(low=operand, high=operand) if isinstance(operand, int) else self.bounds[operand]


def computed(step: Step, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - int, or an array of them
    """Return what a step is worth."""
    operands = [one if isinstance(one, int) else values[one] for one in step.operands]
    return _RULES[step.kind](*operands)


_RULES: Final[dict[Kind, Any]] = {
    Kind.ADD: lambda a, b: a + b,
    Kind.SUB: lambda a, b: a - b,
    Kind.BELOW: lambda a, b: (a < b) * 1,
    Kind.BOTH: lambda a, b: a & b,
    Kind.EITHER: lambda a, b: a | b,
    Kind.DIFFER: lambda a, b: a ^ b,
    Kind.KEEP: lambda a, b: a * -b,
    Kind.CHOOSE: lambda a, b, c: b * -a + c * (1 + a),
    Kind.ABOVE: lambda a, b: np.maximum(a - b, 0),
    Kind.FLIP: lambda a: -1 - a,
    Kind.LEFT: lambda a, b: a << b,
    Kind.RIGHT: lambda a, b: a >> b,
}


def compile_words(name: str, words: Sequence[int], arguments: Sequence[Operand]) -> Program:
    """Return the program of a function's words. arguments: an input's name, or a contract's constant.

    Raises InvalidInputError for a word that is no branch-free arithmetic, a register read before it is written, and a
    step that a leaf cannot compute.
    """
    if len(arguments) > ARGUMENTS:
        raise InvalidInputError(name, f"{len(arguments)} arguments", f"at most {ARGUMENTS}, in registers")
    if not 0 < len(words) <= MAX_STEPS or words[-1] != RETURN:
        raise InvalidInputError(name, f"{len(words)} words", f"1 to {MAX_STEPS}, the last of them ret")
    making = _Making(name, [one for one in arguments if isinstance(one, str)])
    registers: dict[int, Operand] = {0: 0, **{FIRST_ARGUMENT + at: one for at, one in enumerate(arguments)}}
    for at, word in enumerate(words[:-1]):
        instruction = decode(word)
        value = making.step_of(instruction, registers, at)
        if instruction.rd:
            registers[instruction.rd] = value
    return making.finished(registers[FIRST_ARGUMENT])


_PLAIN: Final = {
    Op.ADD: "add", Op.ADDI: "add", Op.SUB: "sub", Op.SLTU: "sltu", Op.SLTIU: "sltu", Op.XOR: "xor", Op.XORI: "xor",
    Op.OR: "or", Op.ORI: "or", Op.AND: "and", Op.ANDI: "and", Op.SLLI: "sll", Op.SRLI: "srl",
}  # fmt: skip
_REGISTER: Final = frozenset({Op.ADD, Op.SUB, Op.SLTU, Op.XOR, Op.OR, Op.AND})


class _Making:
    """Instructions as they are decoded, with those that only masks need left unlowered until something uses them."""

    def __init__(self, name: str, inputs: Sequence[str]) -> None:
        self.name, self.inputs = name, tuple(inputs)
        if len(set(inputs)) != len(inputs):
            raise InvalidInputError(name, "one input twice", "a name each")
        self.bounds: dict[str, Bounds] = dict.fromkeys(inputs, OUTCOME)
        self.steps: list[Step] = []
        self.seen: dict[tuple[Kind, tuple[Operand, ...]], str] = {}
        self.raw: dict[str, tuple[Operand, Operand]] = {}
        """xor of two that are no bits: it exists only inside a choice, and so do its ands with a mask."""
        self.masked: dict[str, tuple[str, Operand]] = {}

    def step_of(self, instruction: Instruction, registers: Mapping[int, Operand], at: int) -> Operand:
        op = instruction.op
        if op is Op.LUI:
            return instruction.immediate
        if op not in _PLAIN:
            raise InvalidInputError(self.name, f"word {at}: {op.name}", "arithmetic without branch and memory")
        read = [instruction.rs1] + ([instruction.rs2] if op in _REGISTER else [])
        for one in read:
            if one not in registers:
                raise InvalidInputError(self.name, f"word {at}: reads x{one}", "an argument or what was written")
        left = registers[read[0]]
        right = registers[read[1]] if op in _REGISTER else instruction.immediate
        return self.lowered(_PLAIN[op], left, right, at)

    def lowered(self, plain: str, left: Operand, right: Operand, at: int) -> Operand:  # noqa: C901, PLR0911, PLR0912 - one case an instruction
        where = f"word {at}: {plain}"
        if isinstance(left, int) and isinstance(right, int):
            return _folded(plain, left, right)
        for one in (left, right):
            if one in self.raw or one in self.masked:
                if plain in {"xor", "and"}:
                    break
                raise InvalidInputError(self.name, where, "no use of an exclusive or outside a choice")
        if isinstance(left, int) and plain in {"add", "xor", "or", "and"}:
            left, right = right, left
        if right == 0 and plain in {"add", "sub", "xor", "or", "sll", "srl"}:
            return left
        match plain:
            case "add" | "sub":
                return self.made(Kind.ADD if plain == "add" else Kind.SUB, left, right)
            case "sltu":
                for one in (left, right):
                    if self.of(one).low < 0:
                        raise InvalidInputError(self.name, where, "operands that are not negative")
                return self.made(Kind.BELOW, left, right)
            case "sll" | "srl":
                if plain == "srl" and (self.of(left).low < 0 or int(right) > MAX_SHIFT):
                    raise InvalidInputError(self.name, where, f"of what is not negative, by at most {MAX_SHIFT}")
                return self.made(Kind.LEFT if plain == "sll" else Kind.RIGHT, left, right)
            case "or":
                if self.of(left).is_bit and self.of(right).is_bit:
                    return self.made(Kind.EITHER, left, right)
                raise InvalidInputError(self.name, where, "operands of one bit")
            case "and":
                return self._and(left, right, where)
        return self._xor(left, right, where)

    def _and(self, left: Operand, right: Operand, where: str) -> Operand:
        for value, mask in ((left, right), (right, left)):
            if value in self.raw and mask not in self.raw and mask not in self.masked and self.of(mask).is_mask:
                name = f"m{len(self.masked)}"
                self.masked[name] = (value, mask)
                return name
        if left in self.raw or right in self.raw or left in self.masked or right in self.masked:
            raise InvalidInputError(self.name, where, "a mask of an exclusive or")
        if self.of(left).is_bit and self.of(right).is_bit:
            return self.made(Kind.BOTH, left, right)
        for value, mask in ((left, right), (right, left)):
            if self.of(mask).is_mask:
                away = self._is_above(value, mask)
                return self.made(Kind.ABOVE, *away) if away else self.made(Kind.KEEP, value, mask)
        raise InvalidInputError(self.name, where, "bits, or a mask")

    def _is_above(self, value: Operand, mask: Operand) -> tuple[Operand, Operand] | None:
        """Return a and b where ``value`` is a - b and the mask is whether b < a: then it never is negative."""
        difference, negative = self._step(value), self._step(mask)
        if difference is None or negative is None or difference.kind is not Kind.SUB or negative.kind is not Kind.SUB:
            return None
        less = self._step(negative.operands[1])
        a, b = difference.operands
        is_less = less is not None and less.kind is Kind.BELOW and less.operands == (b, a)
        return (a, b) if negative.operands[0] == 0 and is_less else None

    def _xor(self, left: Operand, right: Operand, where: str) -> Operand:
        for masked, other in ((left, right), (right, left)):
            if masked in self.masked:
                pair, mask = self.masked[masked]
                ends = self.raw[pair]
                if other not in ends:
                    raise InvalidInputError(self.name, where, "one of the two that a mask chooses from")
                return self.made(Kind.CHOOSE, mask, ends[1] if other == ends[0] else ends[0], other)
        if left in self.raw or right in self.raw:
            raise InvalidInputError(self.name, where, "no use of an exclusive or outside a choice")
        if right == -1:
            return self.made(Kind.FLIP, left)
        if self.of(left).is_bit and self.of(right).is_bit:
            return self.made(Kind.DIFFER, left, right)
        name = f"x{len(self.raw)}"
        self.raw[name] = (left, right)
        return name

    def made(self, kind: Kind, *operands: Operand) -> str:
        key = kind, operands
        if key not in self.seen:
            name = f"s{len(self.steps)}"
            bounds = _bounds(kind, [self.of(one) for one in operands])
            if not bounds.is_number:
                raise InvalidInputError(self.name, f"{kind.value}: {bounds}", "within 31 bits and a sign")
            self.seen[key], self.bounds[name] = name, bounds
            self.steps.append(Step(name=name, kind=kind, operands=operands))
        return self.seen[key]

    def of(self, operand: Operand) -> Bounds:
        return Bounds(low=operand, high=operand) if isinstance(operand, int) else self.bounds[operand]

    def _step(self, operand: Operand) -> Step | None:
        return next((one for one in self.steps if one.name == operand), None)

    def finished(self, result: Operand) -> Program:
        if result in self.raw or result in self.masked or self.of(result).low < 0:
            raise InvalidInputError(self.name, "its answer", "a number that is not negative")
        if isinstance(result, int):
            raise InvalidInputError(self.name, f"always {result}", "an answer that depends on a price")
        needed, kept = {result}, []
        for step in reversed(self.steps):
            if step.name in needed:
                kept.append(step)
                needed |= {one for one in step.operands if isinstance(one, str)}
        return Program(
            name=self.name, inputs=self.inputs, steps=tuple(reversed(kept)), result=result, bounds=dict(self.bounds)
        )


def _folded(plain: str, left: int, right: int) -> int:
    mask = (1 << 32) - 1
    a, b = left & mask, right & mask
    found = {
        "add": a + b, "sub": a - b, "sltu": int(a < b), "xor": a ^ b, "or": a | b, "and": a & b,
        "sll": a << (b & 31), "srl": a >> (b & 31),
    }[plain] & mask  # fmt: skip
    return found - (1 << 32) if found >> 31 else found


def _bounds(kind: Kind, of: Sequence[Bounds]) -> Bounds:  # noqa: PLR0911 - one a kind
    first, last = of[0], of[-1]
    match kind:
        case Kind.ADD:
            return Bounds(low=first.low + last.low, high=first.high + last.high)
        case Kind.SUB:
            return Bounds(low=first.low - last.high, high=first.high - last.low)
        case Kind.KEEP:
            return Bounds(low=min(first.low, 0), high=max(first.high, 0))
        case Kind.CHOOSE:
            return Bounds(low=min(of[1].low, last.low), high=max(of[1].high, last.high))
        case Kind.ABOVE:
            return Bounds(low=0, high=max(first.high - last.low, 0))
        case Kind.FLIP:
            return Bounds(low=-1 - first.high, high=-1 - first.low)
        case Kind.LEFT:
            return Bounds(low=first.low << last.low, high=first.high << last.low)
        case Kind.RIGHT:
            return Bounds(low=first.low >> last.low, high=first.high >> last.low)
    return Bounds(low=0, high=1)


# ---- groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Steps that one leaf computes at once."""

    output: str | None
    """The word that it is compared with; None of the last, which is compared with a range."""
    reads: tuple[str, ...]
    """The words that it starts from."""
    steps: tuple[Step, ...]
    result: Operand


FUSED_READS: Final = 3
"""Words that a leaf reads at most: each weighs about 140 vB there, and a word between groups as much in every claim."""


def groups_of(program: Program, reads: int = FUSED_READS) -> tuple[Group, ...]:
    """Return groups in the order of the program, the last without an output.

    reads: how many words a group may start from; 0 for a group of every single step. Raises InvalidInputError for fewer
    than a step has operands.
    """
    known = {step.name: step for step in program.steps}
    starts: dict[str, frozenset[str]] = {one: frozenset([one]) for one in program.inputs}
    committed: list[str] = []
    for step in program.steps:
        used = [one for one in dict.fromkeys(step.operands) if isinstance(one, str)]
        if reads and len(used) > reads:
            raise InvalidInputError("reads", str(reads), f"at least {len(used)}")
        for one in sorted(used, key=lambda name: -len(starts[name])):
            if len(frozenset().union(*(starts[name] for name in used))) <= reads:
                break
            if one in known and one not in committed:
                committed.append(one)
                starts[one] = frozenset([one])
        starts[step.name] = frozenset().union(*(starts[name] for name in used))
    outputs = [step.name for step in program.steps if step.name in committed]
    if program.result in outputs:
        outputs.remove(program.result)
    words = {*program.inputs, *outputs}
    return tuple(_group(program, one, words) for one in [*outputs, None])


def _group(program: Program, output: str | None, words: set[str]) -> Group:
    result = program.result if output is None else output
    inside, reads = {result} - (words if output is None else set()), []
    if output is None and result in words:
        reads.append(result)
    steps = []
    for step in reversed(program.steps):
        if step.name in inside:
            steps.append(step)
            for one in step.operands:
                if isinstance(one, str) and one in words and one not in reads:
                    reads.append(one)
                elif isinstance(one, str) and one not in words:
                    inside.add(one)
    order = [one for one in (*program.inputs, *(step.name for step in program.steps)) if one in reads]
    return Group(
        output=output, reads=tuple(order), steps=tuple(reversed(steps)), result=result
    )  # fmt: skip


def word_digits(program: Program, name: str) -> int:
    """Return how many digits a word needs: it says how far its value is above the least that it can be."""
    bounds = program.bounds[name]
    return digits_for(bounds.high - bounds.low)
