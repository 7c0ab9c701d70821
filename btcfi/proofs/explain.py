"""Look into a run: what happened around a step, how the payout came about, and where two traces part.

``first_divergence`` finds the first differing step as a dispute would: by asking both sides only for tree nodes, one
level a question, so 20 questions for a million steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from btcfi.options.expiry import ExerciseType, GuestError, SettlementInput, SettlementOutput
from btcfi.options.terms import OptionKind
from btcfi.proofs.errors import ProofExecutionError
from btcfi.proofs.merkle import NodeAt, empty_root, height_of, leaf_levels, node_in, trace_leaves, trace_root
from btcfi.proofs.settlement_proof import SettlementProof
from btcfi.vm.interpreter import trace_part
from btcfi.vm.isa import REGISTER_NAMES, disassemble
from btcfi.vm.machine import MAX_STEPS
from btcfi.vm.program import Program, hashes_of
from btcfi.vm.trace import MemoryKind, Step, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One executed instruction, for people."""

    step: Step
    text: str
    """Disassembly."""
    changes: str
    """What it changed, as ``a0: 0x1 -> 0x2``."""
    function: str
    """The C function that it belongs to, by the symbol table; empty without one."""


def lines_around(program: Program, input_bytes: bytes, *, at: int, around: int) -> list[Line]:
    """Return the steps from ``at - around`` to ``at + around``; fewer at the ends."""
    first = max(0, at - around)
    trace = trace_part(program, input_bytes, first=first, count=at + around + 2 - first)
    steps = [trace.step(n) for n in range(len(trace))]
    return [
        line_of(program, step, steps[n + 1] if n + 1 < len(steps) else None)
        for n, step in enumerate(steps[: at + around + 1 - first])
    ]


def line_of(program: Program, step: Step, following: Step | None) -> Line:
    """Return ``step`` for people; ``following`` is the next one, None at the end."""
    changes = []
    if following is not None:
        for name, before, after in zip(REGISTER_NAMES, step.registers, following.registers, strict=True):
            if before != after:
                changes.append(f"{name}: 0x{before:x} -> 0x{after:x}")
    if step.memory_kind is not MemoryKind.NONE:
        verb = "stores" if step.memory_kind is MemoryKind.STORE else "loads"
        changes.append(f"{verb} 0x{step.memory_value:x} at 0x{step.memory_address:08x}")
    return Line(
        step=step,
        text=disassemble(step.instruction, step.pc),
        changes=", ".join(changes),
        function=function_at(program, step.pc),
    )


def function_at(program: Program, pc: int) -> str:
    """Return the name of the function around ``pc``, from the symbol table (which no hash commits to).

    Assembly gives its labels no size: between functions the nearest label of the code counts. Empty without either.
    """
    labels = []
    for name, (address, size) in program.elf.symbols.items():
        if size and address <= pc < address + size:
            return name
        if not size and program.elf.code.address <= address <= pc:
            labels.append((address, name))
    return max(labels, default=(0, ""))[1]


SETTLES_ONE_OPTION: Final = ("option_settlement", "vanilla_option", "binary_option", "barrier_option")
"""Committed programs whose input and output are a SettlementInput's and a SettlementOutput's, retired ones too."""


@cache
def _settling_hashes() -> frozenset[bytes]:
    return frozenset(one for name in SETTLES_ONE_OPTION for one in hashes_of(name))


def settles_one_option(program_hash: bytes) -> bool:
    """Return whether a program's 60 and 40 bytes mean what SettlementInput and SettlementOutput say.

    By the program and never by a length: another program may write 40 bytes that mean something else (net_book does).
    """
    return program_hash in _settling_hashes()


def payout_in_words(program_hash: bytes, input_bytes: bytes, output: bytes) -> str | None:
    """Return how the payout came about, in one sentence; None of a program that does not settle one option."""
    if not settles_one_option(program_hash):
        return None
    if len(input_bytes) != SettlementInput.SIZE or len(output) != SettlementOutput.SIZE:
        return None
    given, result = SettlementInput.from_bytes(input_bytes), SettlementOutput.from_bytes(output)
    if result.error is not GuestError.NONE:
        return f"The program refused the input: {result.error.name.lower()} is out of range; there is no payout."
    kind = OptionKind(given.option_type)
    american = "American " if given.early_exercise else ""
    what = (
        f"{american}{kind.label.replace('_', ' ')} on {given.quantity / 100:g} BTC, "
        f"strike {usd(given.strike)}, price {usd(given.spot)}"
    )
    match result.exercise_type:
        case ExerciseType.NO_EXERCISE:
            side = "high" if given.barrier_level > given.strike else "low"
            seen = given.observed_high if side == "high" else given.observed_low
            why = f"knocked out: the observed {side} {usd(seen)} reached the barrier {usd(given.barrier_level)}"
        case ExerciseType.HOLD:
            why = f"{given.time_to_expiry} minutes are left and it is worth more alive (or is European): hold"
        case ExerciseType.EARLY_EXERCISE:
            why = f"{given.time_to_expiry} minutes are left, but exercising is worth at least as much as holding"
        case other:
            why = other.name.lower().replace("_", " ")
    payout = f"{usd(result.payout)}, {result.payout_sats} sats"
    capped = " (all of the collateral)" if result.payout_sats == given.collateral else ""
    return f"{what}: {why}; the payout is {payout}{capped}, profit {usd(result.profit_loss)} after the premium."


def usd(cents: int) -> str:
    """Return cents as dollars."""
    sign = "-" if cents < 0 else ""
    return f"{sign}${abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def first_divergence(left: NodeAt, right: NodeAt, height: int) -> tuple[int, int] | None:
    """Return the first leaf where two trees of ``height`` differ, and how many nodes were compared; None if equal.

    left, right: (level, index) -> node, None where only padding is below.
    """
    asked = 1
    if _at(left, height, 0) == _at(right, height, 0):
        return None
    index = 0
    for level in range(height - 1, -1, -1):
        index *= 2
        asked += 1
        if _at(left, level, index) == _at(right, level, index):
            index += 1
    return index, asked


def _at(nodes: NodeAt, level: int, index: int) -> bytes:
    return nodes(level, index) or empty_root(level)


def nodes_of(trace: Trace, height: int) -> NodeAt:
    """Return the node function of a trace's tree, grown to ``height`` by padding."""
    levels = leaf_levels(trace_leaves(trace), max(height, height_of(len(trace))))
    return lambda level, index: node_in(levels, level, index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Where two runs part."""

    step: int
    levels_asked: int
    """Nodes that each side had to show: one a level, as in a dispute."""
    left: list[Line]
    right: list[Line]
    """The steps around it on both sides."""
    differing: list[str]
    """``a0: 0x1 | 0x2``: what differs before the step."""


def diff_runs(left: tuple[Program, SettlementProof], right: tuple[Program, SettlementProof]) -> Divergence | None:
    """Return the first step where two proofs' executions differ, None when they are the same throughout.

    Each side is re-executed and must give the root that its proof claims. Raises ProofExecutionError when it does not,
    InvalidInputError for an input of another length than its program's.
    """
    traces = []
    for program, proof in (left, right):
        if proof.steps > MAX_STEPS:  # a claim of 2^32 - 1 would reserve 650 GB of rows
            raise ProofExecutionError(f"{proof.steps} steps claimed, at most {MAX_STEPS} are run")
        program.require_input(proof.input_bytes)
        trace = trace_part(program, proof.input_bytes, first=0, count=proof.steps)
        if len(trace) != proof.steps or trace_root(trace) != proof.execution_trace_root:
            raise ProofExecutionError("the execution has another trace root than its proof")
        traces.append(trace)
    height = max(height_of(len(trace)) for trace in traces)
    one, other = (nodes_of(trace, height) for trace in traces)
    found = first_divergence(one, other, height)
    if found is None:
        return None
    at, asked = found
    sides = [lines_around(program, proof.input_bytes, at=at, around=2) for program, proof in (left, right)]
    return Divergence(step=at, levels_asked=asked, left=sides[0], right=sides[1], differing=_differing(traces, at))


def _differing(traces: list[Trace], at: int) -> list[str]:
    if any(at >= len(trace) for trace in traces):
        return ["one execution has ended"]
    a, b = (trace.step(at) for trace in traces)
    pairs = [("pc", a.pc, b.pc), ("instruction", a.instruction, b.instruction)]
    pairs += list(zip(REGISTER_NAMES, a.registers, b.registers, strict=True))
    pairs += [
        ("memory address", a.memory_address, b.memory_address),
        ("memory value", a.memory_value, b.memory_value),
    ]
    return [f"{name}: 0x{one:x} | 0x{other:x}" for name, one, other in pairs if one != other]
