"""Scripts written with names: it knows where each item stands, and how high the stacks ever get.

It never writes OP_IF: a choice is a PICK, so a node that refuses executed branches in tapscript takes every leaf.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from enum import IntEnum
from typing import Final

from btcfi.bitcoin import script
from btcfi.errors import InvalidInputError

MAX_STACK: Final = 1_000
"""Items of both stacks together. Source: Bitcoin Core, MAX_STACK_SIZE."""


class Opcode(IntEnum):
    """The opcodes that leaves are made of. Source: Bitcoin Core, script.h."""

    VERIFY = 0x69
    TO_ALT = 0x6B
    FROM_ALT = 0x6C
    DROP2 = 0x6D
    DROP = 0x75
    DUP = 0x76
    NIP = 0x77
    OVER = 0x78
    PICK = 0x79
    ROT = 0x7B
    SWAP = 0x7C
    TUCK = 0x7D
    SIZE = 0x82
    EQUALVERIFY = 0x88
    NEGATE = 0x8F
    NOT = 0x91
    ADD = 0x93
    SUB = 0x94
    BOOLAND = 0x9A
    BOOLOR = 0x9B
    NUMEQUALVERIFY = 0x9D
    NUMNOTEQUAL = 0x9E
    LESSTHAN = 0x9F
    MIN = 0xA3
    MAX = 0xA4
    WITHIN = 0xA5
    HASH160 = 0xA9
    CHECKSIGVERIFY = 0xAD
    CHECKLOCKTIMEVERIFY = 0xB1
    CHECKSEQUENCEVERIFY = 0xB2


_EFFECT: Final[dict[Opcode, tuple[int, int]]] = {
    Opcode.VERIFY: (1, 0), Opcode.DROP2: (2, 0), Opcode.DROP: (1, 0), Opcode.DUP: (0, 1), Opcode.OVER: (0, 1),
    Opcode.EQUALVERIFY: (2, 0), Opcode.NEGATE: (1, 1), Opcode.ADD: (2, 1), Opcode.SUB: (2, 1), Opcode.BOOLAND: (2, 1),
    Opcode.BOOLOR: (2, 1), Opcode.NUMEQUALVERIFY: (2, 0), Opcode.NUMNOTEQUAL: (2, 1), Opcode.LESSTHAN: (2, 1),
    Opcode.MIN: (2, 1), Opcode.MAX: (2, 1), Opcode.WITHIN: (3, 1), Opcode.NOT: (1, 1), Opcode.HASH160: (1, 1),
    Opcode.CHECKSIGVERIFY: (2, 0), Opcode.CHECKLOCKTIMEVERIFY: (0, 0), Opcode.CHECKSEQUENCEVERIFY: (0, 0),
    Opcode.PICK: (1, 1),
    Opcode.SIZE: (0, 1),
}  # fmt: skip
"""Items taken off and put on. PICK's index is its one item taken; what it copies stays."""


class Emitter:
    """A script on its way."""

    def __init__(self, items: Iterable[Hashable | None] = ()) -> None:
        """Take the names of what the witness puts on the stack, bottom first; None has no name."""
        self.stack: list[Hashable | None] = list(items)
        self.alt: list[Hashable | None] = []
        self.code = bytearray()
        self.peak = len(self.stack)

    def op(self, *opcodes: Opcode) -> Emitter:
        """Write opcodes. Raises InvalidInputError for one that would take what is not there."""
        for one in opcodes:
            self.code.append(one)
            self._apply(one)
            self._measure()
        return self

    def _apply(self, one: Opcode) -> None:
        stack = self.stack
        match one:
            case Opcode.TO_ALT:
                self.alt.append(self._taken(1)[0])
            case Opcode.FROM_ALT:
                if not self.alt:
                    raise InvalidInputError("script", "takes from an empty alt stack", "an item on it")
                stack.append(self.alt.pop())
            case Opcode.SWAP:
                stack += reversed(self._taken(2))
            case Opcode.ROT:
                first, second, third = self._taken(3)
                stack += [second, third, first]
            case Opcode.NIP:
                stack.append(self._taken(2)[1])
            case Opcode.TUCK:
                under, top = self._taken(2)
                stack += [top, under, top]
            case _:
                takes, puts = _EFFECT[one]
                self._taken(takes)
                stack += [None] * puts

    def _taken(self, count: int) -> list[Hashable | None]:
        if len(self.stack) < count:
            raise InvalidInputError("script", f"takes {count} of {len(self.stack)} items", "as many as there are")
        at = len(self.stack) - count
        taken, self.stack[at:] = self.stack[at:], []
        return taken

    def _measure(self) -> None:
        self.peak = max(self.peak, len(self.stack) + len(self.alt))

    def number(self, value: int) -> Emitter:
        """Push a script number."""
        return self._pushed(script.push_number(value))

    def data(self, data: bytes) -> Emitter:
        """Push bytes."""
        return self._pushed(script.push(data))

    def _pushed(self, code: bytes) -> Emitter:
        self.code += code
        self.stack.append(None)
        self._measure()
        return self

    def named(self, name: Hashable) -> Emitter:
        """Name the top item."""
        self.stack[-1] = name
        return self

    def pick(self, name: Hashable) -> Emitter:
        """Copy a named item to the top. Raises InvalidInputError for a name that is not on the stack."""
        if name not in self.stack:
            raise InvalidInputError("script", f"no item named {name!r}", "one on the stack")
        depth = self.stack[::-1].index(name)
        if depth < 2:  # noqa: PLR2004 - these two have opcodes of their own
            return self.op((Opcode.DUP, Opcode.OVER)[depth])
        return self.number(depth).op(Opcode.PICK)

    def doubled(self, times: int) -> Emitter:
        """Multiply the top by a power of two."""
        for _ in range(times):
            self.op(Opcode.DUP, Opcode.ADD)
        return self

    def only_top(self) -> bytes:
        """Leave the top item alone on the stack, as consensus demands, and return the script."""
        if self.alt:
            raise InvalidInputError("script", f"{len(self.alt)} items on the alt stack", "none at its end")
        self.op(Opcode.TO_ALT)
        self.op(*[Opcode.DROP2] * (len(self.stack) // 2), *[Opcode.DROP] * (len(self.stack) % 2))
        self.op(Opcode.FROM_ALT)
        return self.finished()

    def finished(self) -> bytes:
        """Return the script. Raises InvalidInputError for one that needs more than the stacks hold."""
        if self.peak > MAX_STACK:
            raise InvalidInputError("script", f"{self.peak} items at once", f"at most {MAX_STACK}")
        return bytes(self.code)
