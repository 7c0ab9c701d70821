"""Leaves that hold exactly where a group of steps was signed wrongly, and what a watcher finds with them.

A claim signs the prices, the words between groups, and by its transaction the range. If what it signs is not what the
program computes, there is a first word that is wrong while all that it is computed from are right, or the last group's
answer lies outside the range: that group's leaf takes the very signatures that the claim showed. If all is right no
leaf holds, whatever witness it is given: hints that the disprover supplies have one value that is let through.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from btcfi.disputes.leaves import words as w
from btcfi.disputes.leaves.emitter import Emitter, Opcode
from btcfi.disputes.leaves.program import (
    FUSED_READS,
    MAX_NUMBER,
    Group,
    Kind,
    Operand,
    Program,
    Step,
    groups_of,
    word_digits,
)
from btcfi.disputes.leaves.words import Signed, Word
from btcfi.disputes.payoffs.expression import Outcomes
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.units import Hash32, Sats

_CLAIM_TAG: Final = "BTCFi/dispute/leaf-claim/v1"


@dataclass(frozen=True, kw_only=True)
class LeafClaim:
    """A program, how it is parted into leaves, and what each range of its answer pays."""

    program: Program
    groups: tuple[Group, ...]
    starts: tuple[int, ...]
    """The least answer of each range."""
    payouts: tuple[Sats, ...]

    @cached_property
    def id(self) -> Hash32:
        """What it computes, how it is parted and what it pays: equal ones have byte-equal leaves."""
        program = self.program
        said = {
            "inputs": program.inputs, "result": program.result,
            "steps": [(one.name, one.kind.value, one.operands) for one in program.steps],
            "bounds": {name: (one.low, one.high) for name, one in program.bounds.items()},
            "groups": [(one.output, one.reads) for one in self.groups],
            "starts": self.starts, "payouts": self.payouts,
        }  # fmt: skip
        return tagged_hash(_CLAIM_TAG, json.dumps(said, sort_keys=True, separators=(",", ":")).encode())

    @property
    def words(self) -> tuple[str, ...]:
        """What the claimant signs: every price, then each group's output."""
        return (*self.program.inputs, *(one.output for one in self.groups if one.output is not None))

    def digits(self, name: str) -> int:
        """Return how many digits a word has."""
        return word_digits(self.program, name)

    def signed_values(self, outcomes: Sequence[int]) -> dict[str, int]:
        """Return what each word says of prices, honestly: how far a value is above the least that it can be."""
        values = self.program.run(outcomes)
        return {name: int(values[name]) - self.program.bounds[name].low for name in self.words}

    def range_of(self, outcomes: Outcomes) -> NDArray[np.intp]:
        """Return the right range of many cases at once."""
        answers = self.program.run(list(outcomes))[str(self.program.result)]
        found: NDArray[np.intp] = np.searchsorted(np.array(self.starts), answers, side="right") - 1
        return found

    def values_of(self, said: Mapping[str, int]) -> dict[str, int]:
        """Return the values that words say."""
        return {name: said[name] + self.program.bounds[name].low for name in self.words}

    def limits(self, number: int) -> tuple[int, int]:
        """Return a range's least answer, and the next one's. Raises InvalidInputError for a range there is not."""
        if not 0 <= number < len(self.starts):
            raise InvalidInputError("range", str(number), f"0 to {len(self.starts) - 1}")
        top = self.program.bounds_of(self.program.result).high + 1
        following = self.starts[number + 1] if number + 1 < len(self.starts) else max(top, self.starts[number] + 1)
        return self.starts[number], following

    def first_wrong(self, said: Mapping[str, int], number: int) -> int | None:
        """Return the first group that what was said gets wrong, or None for a right claim."""
        known = self.values_of(said)
        for place, group in enumerate(self.groups):
            answer = evaluated(group, known)
            low, following = self.limits(number)
            if not low <= answer < following if group.output is None else answer != known[group.output]:
                return place
        return None


def leaf_claim(
    program: Program, *, starts: tuple[int, ...], payouts: tuple[Sats, ...], reads: int | None = None
) -> LeafClaim:  # fmt: skip
    """Return a claim. Raises InvalidInputError for ranges that are not ascending from 0, or not one a payout."""
    if not starts or starts[0] != 0 or len(starts) != len(payouts):
        raise InvalidInputError("ranges", f"{len(starts)} starts, {len(payouts)} payouts", "as many, from 0 on")
    if any(low >= high for low, high in pairwise(starts)):
        raise InvalidInputError("ranges", "not ascending", "each answer in exactly one")
    if starts[-1] >= MAX_NUMBER:  # Script could not compare with it, and a lie about this range were proved by nothing
        raise InvalidInputError("ranges", f"start at {starts[-1]}", f"below {MAX_NUMBER}")
    groups = groups_of(program, FUSED_READS if reads is None else reads)
    return LeafClaim(program=program, groups=groups, starts=starts, payouts=payouts)


def evaluated(group: Group, known: Mapping[str, int]) -> int:
    """Return what a group computes from words, as its leaf does."""
    values: dict[str, Any] = {name: known[name] for name in group.reads}
    for step in group.steps:
        operands = [one if isinstance(one, int) else values[one] for one in step.operands]
        values[step.name] = _EXACT[step.kind](*operands)
    return int(group.result if isinstance(group.result, int) else values[group.result])


_EXACT: Final[dict[Kind, Any]] = {
    Kind.ADD: lambda a, b: a + b,
    Kind.SUB: lambda a, b: a - b,
    Kind.BELOW: lambda a, b: int(a < b),
    Kind.BOTH: lambda a, b: int(bool(a and b)),
    Kind.EITHER: lambda a, b: int(bool(a or b)),
    Kind.DIFFER: lambda a, b: int(a != b),
    Kind.KEEP: lambda a, b: a if b else 0,
    Kind.CHOOSE: lambda a, b, c: b if a else c,
    Kind.ABOVE: lambda a, b: max(a - b, 0),
    Kind.FLIP: lambda a: -1 - a,
    Kind.LEFT: lambda a, b: a << b,
    Kind.RIGHT: lambda a, b: a >> b,
}


# ---- the leaves


@dataclass(frozen=True, kw_only=True)
class DisproveLeaf:
    """A script that holds where a group is wrong."""

    group: Group
    script: bytes
    head: int
    """Bytes up to which signatures are checked: what follows is arithmetic of digits."""
    words: tuple[str, ...]
    """Whose signatures it takes, in this order."""
    hints: tuple[Step, ...]
    """The shifts whose quotients the disprover supplies, bottom first."""
    peak: int
    """Items on both stacks at most."""


def disprove_leaf(
    claim: LeafClaim, place: int, words: Mapping[str, Word], *, key: bytes, number: int | None = None
) -> DisproveLeaf:  # fmt: skip
    """Return the leaf of a group. key: x-only, whose signature fixes where the coins go.

    number: of the range that the last group's answer is compared with; no other group needs one.
    """
    group, program = claim.groups[place], claim.program
    names = (*group.reads, *([group.output] if group.output is not None else []))
    hints = tuple(step for step in group.steps if step.kind is Kind.RIGHT)
    signed = [[words[name]] for name in names]
    emitter = Emitter([*[("hint", step.name) for step in hints], *w.items_of(signed), None])
    emitter.data(key).op(Opcode.CHECKSIGVERIFY)
    for signers in signed:
        w.emit_digits(emitter, signers)
    head = len(emitter.code)
    for name in reversed(names):
        w.emit_value(emitter, words[name], ("word", name))
        if name != group.output and program.bounds[name].low:
            emitter.number(program.bounds[name].low).op(Opcode.ADD).named(name)
        elif name != group.output:
            emitter.named(name)
    for step in group.steps:
        _emit_step(emitter, program, step)
    _push(emitter, group.result)
    if group.output is None:
        if number is None:
            raise InvalidInputError("range", "none", "the one that the last group is compared with")
        low, following = claim.limits(number)
        emitter.number(low).number(following).op(Opcode.WITHIN, Opcode.NOT)
    else:
        if program.bounds[group.output].low:
            emitter.number(program.bounds[group.output].low).op(Opcode.SUB)
        emitter.pick(("word", group.output)).op(Opcode.NUMNOTEQUAL)
    script = emitter.only_top()
    return DisproveLeaf(group=group, script=script, head=head, words=names, hints=hints, peak=emitter.peak)


def _push(emitter: Emitter, operand: Operand) -> None:
    if isinstance(operand, int):
        emitter.number(operand)
    else:
        emitter.pick(operand)


_SINGLE: Final = {
    Kind.ADD: Opcode.ADD, Kind.SUB: Opcode.SUB, Kind.BELOW: Opcode.LESSTHAN, Kind.BOTH: Opcode.BOOLAND,
    Kind.EITHER: Opcode.BOOLOR, Kind.DIFFER: Opcode.NUMNOTEQUAL,
}  # fmt: skip


def _emit_step(emitter: Emitter, program: Program, step: Step) -> None:
    """Compute a step and leave it named. Choices are PICKs of an index that is 0 or 1."""
    operands = step.operands
    match step.kind:
        case Kind.KEEP | Kind.CHOOSE:
            mask, value, other = operands if step.kind is Kind.CHOOSE else (operands[1], operands[0], 0)
            _push(emitter, value)
            _push(emitter, other)
            _push(emitter, mask)
            emitter.op(Opcode.NEGATE, Opcode.PICK, Opcode.NIP, Opcode.NIP)
        case Kind.ABOVE:
            _push(emitter, operands[0])
            _push(emitter, operands[1])
            emitter.op(Opcode.SUB).number(0).op(Opcode.MAX)
        case Kind.FLIP:
            emitter.number(-1)
            _push(emitter, operands[0])
            emitter.op(Opcode.SUB)
        case Kind.LEFT:
            _push(emitter, operands[0])
            emitter.doubled(int(operands[1]))
        case Kind.RIGHT:
            shift, hint = int(operands[1]), ("hint", step.name)
            emitter.pick(hint).number(0).number(program.bounds[step.name].high + 1).op(Opcode.WITHIN, Opcode.VERIFY)
            _push(emitter, operands[0])
            emitter.pick(hint).doubled(shift).op(Opcode.SUB)
            emitter.number(0).number(1 << shift).op(Opcode.WITHIN, Opcode.VERIFY)
            emitter.pick(hint)
        case _:
            _push(emitter, operands[0])
            _push(emitter, operands[1])
            emitter.op(_SINGLE[step.kind])
    emitter.named(step.name)


def disprove_items(leaf: DisproveLeaf, claim: LeafClaim, signed: Mapping[str, Signed]) -> list[bytes]:
    """Return what a leaf takes below the signature of its key: hints, and signatures as a claim showed them."""
    said = {name: w.value_of(signed[name]) for name in leaf.words}
    values: dict[str, Any] = {name: said[name] + claim.program.bounds[name].low for name in leaf.group.reads}
    for step in leaf.group.steps:
        operands = [one if isinstance(one, int) else values[one] for one in step.operands]
        values[step.name] = _EXACT[step.kind](*operands)
    hints = [w.number_item(values[step.name]) for step in leaf.hints]
    return [*hints, *w.witness_of([[signed[name]] for name in leaf.words])]
