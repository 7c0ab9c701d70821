"""Trace format v2: a second committed table of all memory accesses, sorted by (address, step). A look, not a verdict.

Rows of v1 say what a load read and not what memory held, so a lie there is no false step. Here each step names the
place of its access in a table of words; its neighbour there says what the word was before. If the check of every step
passes, the run is the machine's: each place that a step names holds that step's number, and the place before it is
named by its own step in turn, so the named places are the first ones without a gap, hold every access once, strictly
sorted, and each word follows from the one before it or from the program's first memory. A pointer from a load to a
store of that value would not do: it says nothing of the stores in between.

Settlements commit v1; nothing here is on a chain or in a file. Opened are the steps that the root picks with all that
their check needs, and the rows that say what memory holds at the end, of which the output is read. What a look does not
see is bounded: ``Looked.chance_to_miss``. Hashing is hashlib's, a leaf a call: the definition, not the fast way.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256, tagged_hash
from btcfi.proofs.errors import (
    ProofInputSizeError,
    ProofOutputError,
    ProofPathError,
    ProofProgramError,
    ProofRootError,
    ProofStepError,
)
from btcfi.proofs.merkle import Digests, height_of, leaf_levels, multi_path, node_in, root_from_multi_path
from btcfi.proofs.settlement_proof import SAMPLES, sampled_steps
from btcfi.units import Hash32
from btcfi.vm.machine import INPUT_BASE, OUTPUT_BASE
from btcfi.vm.program import Program
from btcfi.vm.step import WrongStepError, after
from btcfi.vm.trace import Execution, MemoryKind, Step, input_commitment

STEP_TAG: Final = "BTCFi/trace/v2/leaf"
ROW_TAG: Final = "BTCFi/trace/v2/memory"
ROOT_TAG: Final = "BTCFi/trace/v2/root"

NOWHERE: Final = 0xFFFF_FFFF
"""Place of a step that touches no memory."""

_ROW: Final = struct.Struct("<3I")


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """One access, of a word: loads and stores of bytes and halves are of the word that holds them."""

    address: int
    """A multiple of 4."""
    step: int
    word: int
    """What memory holds there after the access."""

    def leaf(self) -> Hash32:
        """Return the leaf of its 12 bytes: three u32."""
        return tagged_hash(ROW_TAG, _ROW.pack(self.address, self.step, self.word))


@dataclass(frozen=True, slots=True)
class PlacedStep:
    """A row of the trace, and where in the table its access stands."""

    step: Step
    place: int
    """NOWHERE without an access."""

    def leaf(self) -> Hash32:
        """Return the leaf of v1's 150 bytes and the place, u32."""
        return tagged_hash(STEP_TAG, self.step.to_bytes() + self.place.to_bytes(4, "little"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TableProof:
    """A claim of a run with its memory, and what of both tables is opened."""

    program_hash: Hash32
    input_bytes: bytes
    output: bytes
    steps: int
    accesses: int
    trace_root: Hash32
    memory_root: Hash32
    root: Hash32
    opened: tuple[PlacedStep, ...]
    """By step."""
    rows: tuple[tuple[int, MemoryRow], ...]
    """Place and row, by place."""
    step_siblings: tuple[Hash32, ...]
    row_siblings: tuple[Hash32, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was looked at; no verdict. Output and steps are the proof's claims."""

    root: Hash32
    claimed_output: bytes
    claimed_steps: int
    steps_checked: tuple[int, ...]
    chance_to_miss: float
    """That none of the steps that the root picks is the one false step, for one root: who tries n roots has n of it."""

    @property
    def words(self) -> str:
        """Say it to people."""
        return (
            f"no verdict: {len(self.steps_checked)} of {self.claimed_steps} steps were checked, memory included; one "
            f"false step is missed with a chance of {self.chance_to_miss:.3f} a root that its prover tries"
        )


def table_of(execution: Execution, program: Program) -> tuple[list[MemoryRow], list[int]]:
    """Return a traced run's rows of memory, sorted, and each step's place. Raises InvalidInputError without a trace."""
    trace = execution.trace
    if trace is None or len(trace) != execution.steps:
        raise InvalidInputError("execution", "has no complete trace", "one that interpreter.run made")
    kinds, addresses = trace.rows[:, 35] & 0xFF, trace.rows[:, 36] & ~np.uint32(3)
    found = np.flatnonzero(kinds)
    order = found[np.lexsort((found, addresses[found]))].tolist()
    places, rows = [NOWHERE] * execution.steps, list[MemoryRow]()
    for place, number in enumerate(order):
        step, address = trace.step(number), int(addresses[number])
        before = _before(program, execution.input_bytes, address, rows[-1] if rows else None)
        rows.append(MemoryRow(address, number, _word_after(step, before)))
        places[number] = place
    return rows, places


def build_table_proof(execution: Execution, program: Program, *, include: Iterable[int] = ()) -> TableProof:
    """Return the proof of a traced run; ``include`` names further steps to open with all that their check needs.

    Raises InvalidInputError for an untraced run and for a step that there is not.
    """
    rows, places = table_of(execution, program)
    return commit(execution, rows, places, include=include)


def commit(
    execution: Execution, rows: Sequence[MemoryRow], places: Sequence[int], *, include: Iterable[int] = ()
) -> TableProof:
    """Return the proof that commits to these tables, right or not: what ``look`` must refuse is made by it too."""
    trace = execution.trace
    if trace is None or len(trace) != len(places):
        raise InvalidInputError("places", f"{len(places)} of them", "one a step of a traced run")
    all_steps = [PlacedStep(trace.step(n), place) for n, place in enumerate(places)]
    trace_levels = _levels([one.leaf() for one in all_steps])
    memory_levels = _levels([row.leaf() for row in rows])
    trace_root, memory_root = (Hash32(levels[-1][0].tobytes()) for levels in (trace_levels, memory_levels))
    root = _root(
        steps=execution.steps, accesses=len(rows), trace_root=trace_root, memory_root=memory_root,
        program_hash=execution.program_hash, input_bytes=execution.input_bytes, output=execution.output,
    )  # fmt: skip
    wanted = {*sampled_steps(root, execution.steps), execution.steps - 1, *include}
    if not all(0 <= step < execution.steps for step in wanted):
        raise InvalidInputError("step", str(max(wanted)), f"0 to {execution.steps - 1}")
    shown = set[int]()
    for address in _output_words(execution.output):
        last = max((n for n, row in enumerate(rows) if row.address <= address), default=-1)
        shown |= {last, last + 1}
        if last >= 0 and rows[last].address == address:
            wanted.add(rows[last].step)
    for step in wanted:
        if places[step] != NOWHERE:
            shown |= {places[step] - 1, places[step]}
    shown = {place for place in shown if 0 <= place < len(rows)}
    opened = {0, *wanted, *(step + 1 for step in wanted), *(rows[place].step for place in shown)}
    numbers = sorted(step for step in opened if step < execution.steps)
    return TableProof(
        program_hash=execution.program_hash,
        input_bytes=execution.input_bytes,
        output=execution.output,
        steps=execution.steps,
        accesses=len(rows),
        trace_root=trace_root,
        memory_root=memory_root,
        root=root,
        opened=tuple(all_steps[n] for n in numbers),
        rows=tuple((place, rows[place]) for place in sorted(shown)),
        step_siblings=_path(trace_levels, numbers),
        row_siblings=_path(memory_levels, sorted(shown)) if shown else (),
    )


def look(proof: TableProof, program: Program) -> Looked:
    """Check every step that is opened with all that its check needs, those that the root picks among them.

    Raises ProofProgramError, ProofInputSizeError, ProofRootError, ProofPathError, ProofStepError, ProofOutputError.
    """
    if proof.program_hash != program.program_hash or len(proof.output) != program.output_size:
        raise ProofProgramError(f"proof is about {proof.program_hash.hex()} with {len(proof.output)} bytes of output")
    try:
        program.require_input(proof.input_bytes)
    except InvalidInputError as e:
        raise ProofInputSizeError(f"{e.problem}; expected {e.expected}") from e
    root = _root(
        steps=proof.steps, accesses=proof.accesses, trace_root=proof.trace_root, memory_root=proof.memory_root,
        program_hash=proof.program_hash, input_bytes=proof.input_bytes, output=proof.output,
    )  # fmt: skip
    if root != proof.root:
        raise ProofRootError(f"the root record hashes to {root.hex()}")
    steps = {one.step.index: one for one in proof.opened}
    rows = dict(proof.rows)
    _check_paths(proof, steps, rows)
    _check_ends(proof, program, steps)
    checked = []
    must = {*sampled_steps(root, proof.steps), proof.steps - 1}
    for number, one in steps.items():
        if number in must or _fully_opened(one, steps, rows, proof.steps):
            _check_step(one, proof, program, steps, rows)
            checked.append(number)
    _check_output(proof, program, steps, rows, set(checked))
    pairs = max(proof.steps - 1, 1)
    return Looked(
        root=root, claimed_output=proof.output, claimed_steps=proof.steps, steps_checked=tuple(checked),
        chance_to_miss=(1 - 1 / pairs) ** SAMPLES if proof.steps > 1 else 0.0,
    )  # fmt: skip


def _root(
    *, steps: int, accesses: int, trace_root: bytes, memory_root: bytes, program_hash: bytes, input_bytes: bytes,
    output: bytes,
) -> Hash32:  # fmt: skip
    record = struct.pack("<2I", steps, accesses) + trace_root + memory_root + program_hash
    end = struct.pack("<I", len(output)) + sha256(output)
    return tagged_hash(ROOT_TAG, record + input_commitment(input_bytes) + end)


def _levels(leaves: Sequence[bytes]) -> list[Digests]:
    """Return a tree's levels; of no leaves, the tree of one that is empty."""
    digests = np.frombuffer(b"".join(leaves) or _NO_ROW, dtype=np.uint8).reshape(-1, 32)
    return leaf_levels(digests, height_of(len(digests)))


_NO_ROW: Final = tagged_hash(ROW_TAG, b"")
"""The memory root of a run without any access."""


def _path(levels: list[Digests], indices: Sequence[int]) -> tuple[Hash32, ...]:
    return multi_path(lambda level, index: node_in(levels, level, index), len(levels) - 1, indices)


def _check_paths(proof: TableProof, steps: Mapping[int, PlacedStep], rows: Mapping[int, MemoryRow]) -> None:
    if not steps or not all(0 <= n < proof.steps for n in steps) or not all(0 <= n < proof.accesses for n in rows):
        raise ProofPathError("an opened step or row is not one of those that are claimed")
    leaves = {number: one.leaf() for number, one in steps.items()}
    if root_from_multi_path(leaves, height_of(proof.steps), proof.step_siblings) != proof.trace_root:
        raise ProofPathError("the opened steps do not lead to the trace root")
    if not proof.accesses:
        if proof.memory_root != _NO_ROW:
            raise ProofPathError("no access is claimed, and the memory root is that of some")
        return
    if rows:
        leaves = {place: row.leaf() for place, row in rows.items()}
        if root_from_multi_path(leaves, height_of(proof.accesses), proof.row_siblings) != proof.memory_root:
            raise ProofPathError("the opened rows do not lead to the memory root")


def _check_ends(proof: TableProof, program: Program, steps: Mapping[int, PlacedStep]) -> None:
    first, last = steps.get(0), steps.get(proof.steps - 1)
    if first is None or last is None:
        raise ProofStepError("the first or the last step is not opened")
    if first.step.pc != program.elf.entry or any(first.step.registers):
        raise ProofStepError(f"step 0 is not a fresh machine at 0x{program.elf.entry:08x}")


def _fully_opened(
    one: PlacedStep, steps: Mapping[int, PlacedStep], rows: Mapping[int, MemoryRow], count: int
) -> bool:  # fmt: skip
    follows = one.step.index + 1 in steps or one.step.index == count - 1
    if one.place == NOWHERE:
        return follows
    before = rows.get(one.place - 1)
    return follows and one.place in rows and (one.place == 0 or (before is not None and before.step in steps))


def _check_step(
    one: PlacedStep, proof: TableProof, program: Program, steps: Mapping[int, PlacedStep],
    rows: Mapping[int, MemoryRow],
) -> None:  # fmt: skip
    """Check one step: its word of code, what it does, its successor, and its place in memory's table."""
    step, number = one.step, one.step.index
    code = program.elf.code
    offset = step.pc - code.address
    if offset % 4 or not 0 <= offset < code.size or program.words[offset // 4] != step.instruction:
        raise ProofStepError(f"step {number}: 0x{step.instruction:08x} is not the code at 0x{step.pc:08x}")
    try:
        result = after(step)
    except WrongStepError as e:
        raise ProofStepError(f"step {number}: {e}") from e
    if result.halted != (number == proof.steps - 1):
        raise ProofStepError(f"step {number} of {proof.steps} {'halts' if result.halted else 'does not halt'}")
    following = steps.get(number + 1)
    if not result.halted and (
        following is None or (following.step.pc, following.step.registers) != (result.pc, result.registers)
    ):
        raise ProofStepError(f"step {number + 1} does not follow from step {number}")
    if (step.memory_kind is MemoryKind.NONE) != (one.place == NOWHERE):
        raise ProofStepError(f"step {number} has a place in memory's table and no access, or an access and no place")
    if one.place != NOWHERE:
        _check_access(one, proof, program, steps, rows)


def _check_access(
    one: PlacedStep, proof: TableProof, program: Program, steps: Mapping[int, PlacedStep],
    rows: Mapping[int, MemoryRow],
) -> None:  # fmt: skip
    step, number, address = one.step, one.step.index, one.step.memory_address & ~3
    row = rows.get(one.place)
    if row is None or (row.address, row.step) != (address, number):
        raise ProofStepError(f"step {number}: its access is not at place {one.place} of memory's table")
    previous = None
    if one.place:
        previous = rows.get(one.place - 1)
        by = steps.get(previous.step) if previous is not None else None
        if previous is None or by is None or by.place != one.place - 1:
            raise ProofStepError(f"step {number}: the row before its own is no step's")
        if (previous.address, previous.step) >= (row.address, row.step):
            raise ProofStepError(f"step {number}: memory's table is not sorted before place {one.place}")
    region = next((r for r in program.regions if r.base <= address < r.base + r.size), None)
    if region is None or (step.memory_kind is MemoryKind.STORE and not region.writable):
        raise ProofStepError(f"step {number}: 0x{address:08x} is not mapped for it")
    before = _before(program, proof.input_bytes, address, previous)
    shift = 8 * (step.memory_address & 3)
    if step.memory_kind is MemoryKind.LOAD and before >> shift & _mask(step) != step.memory_value:
        raise ProofStepError(f"step {number} reads 0x{step.memory_value:x}, memory holds 0x{before:08x} there")
    if row.word != _word_after(step, before):
        raise ProofStepError(f"step {number}: memory does not hold 0x{row.word:08x} after it")


def _check_output(
    proof: TableProof, program: Program, steps: Mapping[int, PlacedStep], rows: Mapping[int, MemoryRow],
    checked: set[int],
) -> None:  # fmt: skip
    """Read the output from the table's last row of each word: the next row, or the table's end, shows that it is."""
    for place, row in rows.items():
        if row.step not in steps or steps[row.step].place != place:
            raise ProofStepError(f"the row at place {place} of memory's table is no step's")
    for address in _output_words(proof.output):
        last = max((place for place, row in rows.items() if row.address <= address), default=-1)
        end = rows.get(last + 1)
        if last + 1 < proof.accesses and (end is None or end.address <= address):
            raise ProofOutputError(f"no two neighbours show what 0x{address:08x} holds at the end")
        written = rows.get(last)
        if written is not None and written.address == address:
            if written.step not in checked:
                raise ProofOutputError(f"step {written.step}, the last at 0x{address:08x}, is not opened for its check")
            held = written.word
        else:
            held = _first_word(program, proof.input_bytes, address)
        offset = address - OUTPUT_BASE
        if held.to_bytes(4, "little") != proof.output[offset : offset + 4]:
            raise ProofOutputError(f"memory holds 0x{held:08x} at 0x{address:08x} at the end")


def _output_words(output: bytes) -> range:
    return range(OUTPUT_BASE, OUTPUT_BASE + len(output), 4)


def _before(program: Program, input_bytes: bytes, address: int, previous: MemoryRow | None) -> int:
    """Return the word before an access: what the row before it left, or what memory held at first."""
    if previous is not None and previous.address == address:
        return previous.word
    return _first_word(program, input_bytes, address)


def _first_word(program: Program, input_bytes: bytes, address: int) -> int:
    """Return a word of fresh memory, 0 where nothing is mapped (an access there is refused apart)."""
    for region in program.regions:
        if region.base <= address < region.base + region.size:
            data = input_bytes if region.base == INPUT_BASE and program.has_abi else region.data
            return int.from_bytes(data[address - region.base : address - region.base + 4], "little")
    return 0


def _mask(step: Step) -> int:
    return (1 << 8 * step.memory_size) - 1


def _word_after(step: Step, before: int) -> int:
    """Return the word after an access of one, two or four bytes of it."""
    if step.memory_kind is not MemoryKind.STORE:
        return before
    shift = 8 * (step.memory_address & 3)
    return before & ~(_mask(step) << shift) | step.memory_value << shift


__all__ = [
    "NOWHERE",
    "Looked",
    "MemoryRow",
    "PlacedStep",
    "TableProof",
    "build_table_proof",
    "commit",
    "look",
    "table_of",
]
