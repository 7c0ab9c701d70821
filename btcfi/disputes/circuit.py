"""Boolean circuits that say whether a claim is false: built once, pruned, hashed, and run on many claims at a time.

A circuit has inputs in *digits*: wires that are revealed together, as one of so many values. Its one output is 1 when
what the digits claim is wrong. A literal is ``wire * 2 + negated``, wire 0 is the constant 0, so literal 0 is false and
literal 1 true: NOT is free, as XOR is to who garbles, and only ANDs cost. Equal gates are made once.

    builder = CircuitBuilder()
    price = builder.number("price", (9, 9), event=0)
    circuit = builder.finish(wrong=builder.less(price, builder.constant(60_000)))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from struct import Struct
from typing import Final, NewType

import numpy as np
from numpy.typing import NDArray

from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.units import Hash32

Literal = NewType("Literal", int)
"""A wire, twice, and one more where it is negated."""

Number = tuple[Literal, ...]
"""Binary, the least significant first."""

FALSE: Final = Literal(0)
TRUE: Final = Literal(1)

MAX_GATES: Final = 1 << 22
"""Of one circuit: a bound on what a hostile description makes a reader do."""

MAX_WIDTH: Final = 16
"""Wires of one digit: it has a label for each of its values."""

_HASH_TAG: Final = "BTCFi/dispute/circuit/v1"
_DIGIT: Final = Struct("<BHhH")
_GATE: Final = Struct("<BII")
_WORD: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Digit:
    """Input wires that are revealed together."""

    name: str
    """``number.place``, the place counted from the least significant digit on."""
    width: int
    """Wires."""
    values: int
    """How many values it can have, at most 2 ** width; the others have no label and cannot be said."""
    event: int | None = None
    """Which attested outcome it is part of, counted from 0; None for what is claimed and not attested."""
    low_bit: int = 0
    """The outcome's bit that its first wire is, counted from the least significant."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a digit that has no value, or more than its wires tell apart."""
        if not 1 <= self.width <= MAX_WIDTH:
            raise InvalidInputError("digit.width", str(self.width), f"1 to {MAX_WIDTH} wires")
        if not 1 <= self.values <= 1 << self.width:
            raise InvalidInputError("digit.values", str(self.values), f"1 to {1 << self.width}")
        if self.event is not None and self.values != 1 << self.width:
            raise InvalidInputError("digit.values", str(self.values), f"{1 << self.width}: an outcome's bits are free")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One gate: wire ``output`` is the AND of two literals, or the XOR of two wires."""

    is_and: bool
    left: int
    right: int
    output: int


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """A finished circuit: wire 0, then the inputs in the order of the digits, then a wire for each gate."""

    digits: tuple[Digit, ...]
    gates: tuple[Gate, ...]
    wrong: Literal
    """The output: 1 says that the claim is wrong."""

    @property
    def inputs(self) -> int:
        """How many input wires it has."""
        return sum(digit.width for digit in self.digits)

    @property
    def wires(self) -> int:
        """How many wires it has, the constant included."""
        return 1 + self.inputs + len(self.gates)

    @cached_property
    def ands(self) -> int:
        """How many of its gates are ANDs."""
        return sum(gate.is_and for gate in self.gates)

    @property
    def labels(self) -> int:
        """How many values all digits have together: what a garbler commits to."""
        return sum(digit.values for digit in self.digits)

    def first_wire(self, place: int) -> int:
        """Return the first input wire of the digit at ``place``."""
        return 1 + sum(digit.width for digit in self.digits[:place])

    def to_bytes(self) -> bytes:
        """Return its one form in bytes: lengths stand before what they count."""
        parts = [len(self.digits).to_bytes(2, "little")]
        for digit in self.digits:
            name = digit.name.encode("ascii")
            event = -1 if digit.event is None else digit.event
            parts += [bytes([len(name)]), name, _DIGIT.pack(digit.width, digit.values - 1, event, digit.low_bit)]
        parts.append(len(self.gates).to_bytes(4, "little"))
        parts += [_GATE.pack(gate.is_and, gate.left, gate.right) for gate in self.gates]
        parts.append(self.wrong.to_bytes(4, "little"))
        return b"".join(parts)

    @cached_property
    def id(self) -> Hash32:
        """Hash of its one form: what a set-up is bound to."""
        return tagged_hash(_HASH_TAG, self.to_bytes())

    def is_wrong(self, values: Mapping[str, int]) -> bool:
        """Return the output for one value of each digit, by name. Raises InvalidInputError."""
        return bool(self.are_wrong({name: np.array([value]) for name, value in values.items()})[0])

    def are_wrong(self, values: Mapping[str, NDArray[np.integer]]) -> NDArray[np.bool_]:
        """Return the output for many claims at once, 64 in a machine word.

        values: of each digit, by name, as many whole numbers as there are claims. Raises InvalidInputError for a digit
        that is missing or unknown, a value that it has not, or lengths that differ.
        """
        if set(values) != {digit.name for digit in self.digits}:
            raise InvalidInputError("digits", ", ".join(sorted(values)), ", ".join(one.name for one in self.digits))
        count = {len(one) for one in values.values()}
        if len(count) != 1:
            raise InvalidInputError("digits", f"{sorted(count)} values", "as many of each")
        (many,) = count
        lanes = [np.zeros(-(-many // _WORD), dtype=np.uint64)]
        for digit in self.digits:
            lanes += _lanes_of(digit, np.asarray(values[digit.name]), len(lanes[0]))
        for gate in self.gates:
            if gate.is_and:
                lanes.append(_lane(lanes, gate.left) & _lane(lanes, gate.right))
            else:
                lanes.append(lanes[gate.left] ^ lanes[gate.right])
        return np.unpackbits(_lane(lanes, self.wrong).view(np.uint8), count=many, bitorder="little").astype(np.bool_)


def _lanes_of(digit: Digit, values: NDArray[np.integer], words: int) -> list[NDArray[np.uint64]]:
    if len(values) and not (int(values.min()) >= 0 and int(values.max()) < digit.values):
        raise InvalidInputError(f"digit {digit.name}", f"{values.min()} to {values.max()}", f"0 to {digit.values - 1}")
    found = []
    for bit in range(digit.width):
        packed = np.zeros(8 * words, dtype=np.uint8)
        bits = np.packbits(((values >> bit) & 1).astype(np.uint8), bitorder="little")
        packed[: len(bits)] = bits
        found.append(packed.view(np.uint64))
    return found


def _lane(lanes: Sequence[NDArray[np.uint64]], literal: int) -> NDArray[np.uint64]:
    lane = lanes[literal >> 1]
    return ~lane if literal & 1 else lane


class CircuitBuilder:
    """Makes a circuit gate by gate; constants are folded and equal gates shared as they come."""

    def __init__(self) -> None:
        self._digits: list[tuple[Digit, list[int]]] = []
        self._gates: list[Gate] = []
        self._made: dict[tuple[bool, int, int], int] = {}
        self._wires = 1

    # ---- inputs

    def digit(self, digit: Digit) -> Number:
        """Return the wires of one more digit. Raises InvalidInputError for a name that is taken."""
        if any(one.name == digit.name for one, _ in self._digits):
            raise InvalidInputError("digit.name", digit.name, "a name that no other digit has")
        wires = [self._new() for _ in range(digit.width)]
        self._digits.append((digit, wires))
        return tuple(Literal(2 * wire) for wire in wires)

    def number(self, name: str, widths: Sequence[int], *, event: int | None = None) -> Number:
        """Return a number of several digits, the least significant first. event: the outcome that it is, if one."""
        found: list[Literal] = []
        for place, width in enumerate(widths):
            one = Digit(name=f"{name}.{place}", width=width, values=1 << width, event=event, low_bit=len(found))
            found += self.digit(one)
        return tuple(found)

    # ---- gates

    def xor(self, left: Literal, right: Literal) -> Literal:
        """Return whether one of two is true and not both: free."""
        negated = (left ^ right) & 1
        low, high = sorted((left >> 1, right >> 1))
        if low == high:
            return Literal(negated)
        if low == 0:
            return Literal(2 * high | negated)
        return Literal(2 * self._gate(False, low, high) | negated)

    def both(self, left: Literal, right: Literal) -> Literal:
        """Return whether both are true: what a circuit is counted in."""
        low, high = sorted((left, right))
        if low == FALSE or low == high ^ 1:
            return FALSE
        if low in (TRUE, high):
            return Literal(high)
        return Literal(2 * self._gate(True, low, high))

    def either(self, left: Literal, right: Literal) -> Literal:
        """Return whether one of two is true."""
        return negate(self.both(negate(left), negate(right)))

    def all_of(self, literals: Sequence[Literal]) -> Literal:
        """Return whether all are true; of none, yes."""
        found = TRUE
        for one in literals:
            found = self.both(found, one)
        return found

    # ---- numbers

    @staticmethod
    def constant(value: int, width: int | None = None) -> Number:
        """Return a number that is known. Raises InvalidInputError where it needs more than ``width``."""
        needed = max(value.bit_length(), 1)
        if value < 0 or (width is not None and needed > width):
            raise InvalidInputError("constant", str(value), f"0 to {(1 << (width or 64)) - 1}")
        return tuple(Literal(value >> bit & 1) for bit in range(width or needed))

    def add(self, left: Number, right: Number, carry: Literal = FALSE) -> Number:
        """Return the sum, one wire wider than the wider of the two: an AND a place."""
        found: list[Literal] = []
        for one, other in _padded(left, right):
            first, second = self.xor(one, carry), self.xor(other, carry)
            found.append(self.xor(one, second))
            carry = self.xor(carry, self.both(first, second))
        return (*found, carry)

    def subtract(self, left: Number, right: Number) -> tuple[Number, Literal]:
        """Return left - right modulo 2 ** width, and whether it is below nothing."""
        pairs = _padded(left, right)
        result = self.add(tuple(one for one, _ in pairs), tuple(negate(other) for _, other in pairs), TRUE)
        return result[:-1], negate(result[-1])

    def less(self, left: Number, right: Number) -> Literal:
        """Return whether left < right."""
        return self.subtract(left, right)[1]

    def equal(self, left: Number, right: Number) -> Literal:
        """Return whether they are one number."""
        return self.all_of([negate(self.xor(one, other)) for one, other in _padded(left, right)])

    def choose(self, when: Literal, then: Number, otherwise: Number) -> Number:
        """Return one of two numbers: an AND a place."""
        return tuple(
            self.xor(other, self.both(when, self.xor(one, other))) for one, other in _padded(then, otherwise)
        )  # fmt: skip

    def masked(self, when: Literal, number: Number) -> Number:
        """Return the number, or 0."""
        return tuple(self.both(when, one) for one in number)

    def multiply(self, left: Number, right: Number) -> Number:
        """Return the product, as wide as both together."""
        found: Number = (FALSE,) * (len(left) + len(right))
        for place, one in enumerate(right):
            sums = self.add(found[place : place + len(left)], self.masked(one, left))
            found = (*found[:place], *sums, *found[place + len(sums) :])
        return found

    def sum_of(self, numbers: Sequence[Number]) -> Number:
        """Return the sum of several, added by twos."""
        if not numbers:
            return (FALSE,)
        row = list(numbers)
        while len(row) > 1:
            pairs = [row[place : place + 2] for place in range(0, len(row), 2)]
            row = [self.add(pair[0], pair[1]) if len(pair) > 1 else pair[0] for pair in pairs]
        return row[0]

    def ordered(self, left: Number, right: Number) -> tuple[Number, Number]:
        """Return the smaller and the larger of two."""
        swap = self.less(right, left)
        low = self.choose(swap, right, left)
        return low, tuple(
            self.xor(self.xor(one, other), least) for (one, other), least in zip(_padded(left, right), low, strict=True)
        )

    def decoded(self, number: Number, count: int) -> Number:
        """Return for each value below ``count`` whether the number is that: about an AND a value.

        A number of ``count`` or more makes none of them true.
        """
        found: list[Literal] = [TRUE]
        for place in reversed(range(len(number))):
            bit, step = number[place], 1 << place
            wider: list[Literal] = []
            for at, one in enumerate(found):
                if 2 * at * step < count:
                    wider.append(self.both(one, negate(bit)))
                if (2 * at + 1) * step < count:
                    wider.append(self.both(one, bit))
            found = wider
        return tuple(found[:count])

    def looked_up(self, decoded: Number, table: Sequence[int], width: int) -> Number:
        """Return the row of a table that ``decoded`` says; 0 where it says none. Free: at most one is true."""
        rows: list[Literal] = []
        for bit in range(width):
            found = FALSE
            for one, value in zip(decoded, table, strict=True):
                if value >> bit & 1:
                    found = self.xor(found, one)
            rows.append(found)
        return tuple(rows)

    # ---- the end

    def finish(self, *, wrong: Literal) -> Circuit:
        """Return the circuit with what its output needs, nothing else. Raises InvalidInputError for too many."""
        needed, kept = {wrong >> 1}, []
        for gate in reversed(self._gates):
            if gate.output in needed:
                kept.append(gate)
                needed |= {gate.left >> gate.is_and, gate.right >> gate.is_and}
        if len(kept) > MAX_GATES:
            raise InvalidInputError("circuit", f"{len(kept)} gates", f"at most {MAX_GATES}")
        place = {0: 0}
        for _, wires in self._digits:
            for wire in wires:
                place[wire] = len(place)
        gates = []
        for gate in reversed(kept):
            if gate.is_and:
                left, right = sorted(2 * place[one >> 1] | one & 1 for one in (gate.left, gate.right))
            else:
                left, right = sorted(place[one] for one in (gate.left, gate.right))
            place[gate.output] = len(place)
            gates.append(Gate(is_and=gate.is_and, left=left, right=right, output=place[gate.output]))
        return Circuit(
            digits=tuple(digit for digit, _ in self._digits), gates=tuple(gates),
            wrong=Literal(2 * place[wrong >> 1] | wrong & 1),
        )  # fmt: skip

    def _new(self) -> int:
        self._wires += 1
        return self._wires - 1

    def _gate(self, is_and: bool, left: int, right: int) -> int:  # noqa: FBT001 - which of the two kinds
        key = is_and, left, right
        if key not in self._made:
            self._made[key] = self._new()
            self._gates.append(Gate(is_and=is_and, left=left, right=right, output=self._made[key]))
        return self._made[key]


def negate(literal: Literal) -> Literal:
    """Return what is true where it is not: free."""
    return Literal(literal ^ 1)


def digits_of(circuit: Circuit, number: str, value: int) -> dict[str, int]:
    """Return a number as the values of its digits. Raises InvalidInputError where they cannot say it."""
    found, rest = {}, value
    for digit in circuit.digits:
        if digit.name.rpartition(".")[0] == number:
            found[digit.name] = rest & (1 << digit.width) - 1
            rest >>= digit.width
    if rest or not found or any(found[one.name] >= one.values for one in circuit.digits if one.name in found):
        raise InvalidInputError(number, str(value), "what its digits can say")
    return found


def _padded(left: Number, right: Number) -> list[tuple[Literal, Literal]]:
    return list(zip_longest(left, right, fillvalue=FALSE))
