"""Trace format v2: a second committed table of all memory accesses, sorted by (address, step). A look, not a verdict.

Rows of v1 say what a load read and not what memory held, so a lie there is no false step. Here each step names the
place of its access in a table of words; its neighbour there says what the word was before. If the check of every step
passes, the run is the machine's: each place that a step names holds that step's number, and the place before it is
named by its own step in turn, so the named places are the first ones without a gap, hold every access once, strictly
sorted, and each word follows from the one before it or from the program's first memory. A pointer from a load to a
store of that value would not do: it says nothing of the stores in between.

Settlements commit v1. A proof of this table is a file of version 3 (``btcfi.proofs.table_file``). Opened are the steps
that the root picks, as many as it commits to, with all that their check needs, and the rows that say what memory holds
at the end, of which the output is read. What a look does not see is bounded: ``Inspected.chance_to_miss``.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
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
from btcfi.proofs.lanes import hash_each, pack_rows
from btcfi.proofs.merkle import Digests, height_of, leaf_levels, multi_path, node_in, root_from_multi_path
from btcfi.proofs.settlement_proof import SAMPLES, TABLE_VERSION, Depth, Inspected, sampled_steps
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

TABLE_STEPS: Final = 1 << 18
"""Steps of the longest run that is proved so, or run again: its rows are all in memory, some 100 MB."""

MOST_SAMPLES: Final = 1024
"""Steps that a root may have picked; each opens at most three."""

MAX_OPENED: Final = 8192
"""Steps, and rows, that one proof opens; bounds what a hostile file makes a verifier do."""

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
        """Return the leaf of its 12 bytes."""
        return tagged_hash(ROW_TAG, self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the three u32."""
        return _ROW.pack(self.address, self.step, self.word)

    @classmethod
    def from_bytes(cls, data: bytes) -> MemoryRow:
        """Return the row in those 12 bytes. Raises ValueError on another length."""
        if len(data) != _ROW.size:
            raise ValueError(f"{len(data)} bytes")
        return cls(*_ROW.unpack(data))


@dataclass(frozen=True, slots=True)
class PlacedStep:
    """A row of the trace, and where in the table its access stands."""

    step: Step
    place: int
    """NOWHERE without an access."""

    def leaf(self) -> Hash32:
        """Return the leaf of v1's 150 bytes and the place, u32."""
        return tagged_hash(STEP_TAG, self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the 154 bytes that the leaf hashes."""
        return self.step.to_bytes() + self.place.to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data: bytes) -> PlacedStep:
        """Return the step in those bytes. Raises ValueError on another length or memory kind."""
        return cls(Step.from_bytes(data[:-4]), int.from_bytes(data[-4:], "little"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TableProof:
    """A claim of a run with its memory, and what of both tables is opened."""

    program_name: str
    program_hash: Hash32
    input_bytes: bytes
    output: bytes
    steps: int
    accesses: int
    """Rows of the table."""
    samples: int
    """How often the root picks a step."""
    execution_trace_root: Hash32
    memory_root: Hash32
    proof_root: Hash32
    opened: tuple[PlacedStep, ...]
    """By step."""
    rows: tuple[tuple[int, MemoryRow], ...]
    """Place and row, by place."""
    step_siblings: tuple[Hash32, ...]
    row_siblings: tuple[Hash32, ...]

    @property
    def version(self) -> int:
        """The version of its file."""
        return TABLE_VERSION

    @property
    def window(self) -> None:
        """None: no settlement is proved so."""
        return None


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


def build_table_proof(
    execution: Execution, program: Program, *, samples: int = SAMPLES, include: Iterable[int] = ()
) -> TableProof:
    """Return the proof of a traced run; ``include`` names further steps to open with all that their check needs.

    Raises InvalidInputError for an untraced or too long a run, for a step that there is not, and for more than
    MAX_OPENED steps or rows.
    """
    rows, places = table_of(execution, program)
    return commit(execution, rows, places, samples=samples, include=include)


def commit(
    execution: Execution, rows: Sequence[MemoryRow], places: Sequence[int], *, samples: int = SAMPLES,
    include: Iterable[int] = (),
) -> TableProof:  # fmt: skip
    """Return the proof that commits to these tables, right or not: what ``look`` must refuse is made by it too."""
    trace = execution.trace
    if trace is None or len(trace) != len(places):
        raise InvalidInputError("places", f"{len(places)} of them", "one a step of a traced run")
    if execution.steps > TABLE_STEPS:
        raise InvalidInputError("steps", str(execution.steps), f"at most {TABLE_STEPS} with a table of memory")
    if not 1 <= samples <= MOST_SAMPLES:
        raise InvalidInputError("samples", str(samples), f"1 to {MOST_SAMPLES}")
    trace_levels, memory_levels = _step_levels(execution, places), _row_levels(rows)
    trace_root, memory_root = (Hash32(levels[-1][0].tobytes()) for levels in (trace_levels, memory_levels))
    root = _root(
        steps=execution.steps, accesses=len(rows), samples=samples, trace_root=trace_root, memory_root=memory_root,
        program_hash=execution.program_hash, input_bytes=execution.input_bytes, output=execution.output,
    )  # fmt: skip
    wanted = {*_picked(root, execution.steps, samples), *include}
    if not all(0 <= step < execution.steps for step in wanted):
        raise InvalidInputError("step", str(max(wanted)), f"0 to {execution.steps - 1}")
    shown = set[int]()
    for address in _output_words(execution.output):
        last = bisect_right(rows, address, key=lambda row: row.address) - 1
        shown |= {last, last + 1}
        if last >= 0 and rows[last].address == address:
            wanted.add(rows[last].step)
    for step in wanted:
        if places[step] != NOWHERE:
            shown |= {places[step] - 1, places[step]}
    shown = {place for place in shown if 0 <= place < len(rows)}
    opened = {0, *wanted, *(step + 1 for step in wanted), *(rows[place].step for place in shown)}
    numbers = sorted(step for step in opened if step < execution.steps)
    if max(len(numbers), len(shown)) > MAX_OPENED:
        raise InvalidInputError("samples", f"{len(numbers)} steps to open", f"at most {MAX_OPENED}: fewer samples")
    return TableProof(
        program_name=execution.program_name,
        program_hash=execution.program_hash,
        input_bytes=execution.input_bytes,
        output=execution.output,
        steps=execution.steps,
        accesses=len(rows),
        samples=samples,
        execution_trace_root=trace_root,
        memory_root=memory_root,
        proof_root=root,
        opened=tuple(PlacedStep(trace.step(n), places[n]) for n in numbers),
        rows=tuple((place, rows[place]) for place in sorted(shown)),
        step_siblings=_path(trace_levels, numbers),
        row_siblings=_path(memory_levels, sorted(shown)) if shown else (),
    )


def look(proof: TableProof, program: Program, *, depth: Depth = Depth.SAMPLE) -> Inspected:
    """Check every step that is opened with all that its check needs, those that the root picks among them.

    Depth ``paths`` looks at hashes alone. Raises InvalidInputError for depth ``execute``, which is ``verify_table``,
    ProofProgramError, ProofInputSizeError, ProofRootError, ProofPathError, ProofStepError, ProofOutputError.
    """
    if depth is Depth.EXECUTE:
        raise InvalidInputError("depth", depth, "sample or paths; `verify_table` runs the program again")
    checks, checked, chance = check_table_file(proof, program), list[int](), None
    if depth is Depth.SAMPLE:
        checked, chance = _check_opened(proof, program), chance_to_miss(proof.steps, proof.samples)
        checks = (
            *checks, f"{len(checked)} steps do what their rows say, and their loads read what memory held",
            "the output is what the last rows of its words say",
        )  # fmt: skip
    return Inspected(
        proof_root=proof.proof_root, program_name=program.name, claimed_output=proof.output, claimed_steps=proof.steps,
        depth=depth, checks=checks, steps_checked=tuple(checked), chance_to_miss=chance,
    )  # fmt: skip


def chance_to_miss(steps: int, samples: int) -> float:
    """Return the chance that a root picks none but right steps, of which one is false; who tries n roots has n of it.

    The last step and those that wrote the output are always checked.
    """
    return (1 - 1 / (steps - 1)) ** samples if steps > 1 else 0.0


def check_table_file(proof: TableProof, program: Program) -> tuple[str, ...]:
    """Make the checks that execute nothing, in their order. Raises as ``look``."""
    if proof.program_hash != program.program_hash or len(proof.output) != program.output_size:
        raise ProofProgramError(f"proof is about {proof.program_hash.hex()} with {len(proof.output)} bytes of output")
    try:
        program.require_input(proof.input_bytes)
    except InvalidInputError as e:
        raise ProofInputSizeError(f"{e.problem}; expected {e.expected}") from e
    root = _root(
        steps=proof.steps, accesses=proof.accesses, samples=proof.samples, trace_root=proof.execution_trace_root,
        memory_root=proof.memory_root, program_hash=proof.program_hash, input_bytes=proof.input_bytes,
        output=proof.output,
    )  # fmt: skip
    if root != proof.proof_root:
        raise ProofRootError(f"the root record hashes to {root.hex()}")
    _check_paths(proof)
    _check_first(proof, program)
    return (
        f"program is {program.name}",
        f"the input has {len(proof.input_bytes)} bytes",
        "steps, tables, program, input and output hash to the proof root",
        f"{len(proof.opened)} steps are in the trace, {len(proof.rows)} rows in memory's table",
        "starts fresh at the entry",
    )


def _check_opened(proof: TableProof, program: Program) -> list[int]:
    """Check the steps that must be opened and all others that can be, and read the output. Returns which."""
    steps, rows = {one.step.index: one for one in proof.opened}, dict(proof.rows)
    must, checked = _picked(proof.proof_root, proof.steps, proof.samples), list[int]()
    for number in sorted(must - steps.keys()):
        raise ProofStepError(f"step {number}, which has to be opened, is not")
    for number, one in steps.items():
        if number in must or _fully_opened(one, steps, rows, proof.steps):
            _check_step(one, proof, program, steps, rows)
            checked.append(number)
    _check_output(proof, program, steps, rows, set(checked))
    return checked


def _picked(root: bytes, steps: int, samples: int) -> set[int]:
    """Return the steps that a proof must open: the last, and those that its root picks."""
    return {*sampled_steps(root, steps, samples), steps - 1}


def _root(
    *, steps: int, accesses: int, samples: int, trace_root: bytes, memory_root: bytes, program_hash: bytes,
    input_bytes: bytes, output: bytes,
) -> Hash32:  # fmt: skip
    record = struct.pack("<3I", steps, accesses, samples) + trace_root + memory_root + program_hash
    end = struct.pack("<I", len(output)) + sha256(output)
    return tagged_hash(ROOT_TAG, record + input_commitment(input_bytes) + end)


def table_root(execution: Execution, program: Program, *, samples: int) -> Hash32:
    """Return the root that an honest proof of a traced run has."""
    rows, places = table_of(execution, program)
    trace_root, memory_root = (
        Hash32(levels[-1][0].tobytes()) for levels in (_step_levels(execution, places), _row_levels(rows))
    )
    return _root(
        steps=execution.steps, accesses=len(rows), samples=samples, trace_root=trace_root, memory_root=memory_root,
        program_hash=execution.program_hash, input_bytes=execution.input_bytes, output=execution.output,
    )  # fmt: skip


def _step_levels(execution: Execution, places: Sequence[int]) -> list[Digests]:
    assert execution.trace is not None  # noqa: S101 - its callers have looked
    at = np.array(places, dtype="<u4").reshape(-1, 1).view(np.uint8)
    leaves = hash_each(STEP_TAG, np.concatenate([pack_rows(execution.trace.rows), at], axis=1))
    return leaf_levels(leaves, height_of(len(leaves)))


def _row_levels(rows: Sequence[MemoryRow]) -> list[Digests]:
    """Return a table's levels; of no rows, the tree of one leaf that is no row's."""
    if not rows:
        return [np.frombuffer(_NO_ROW, dtype=np.uint8).reshape(1, 32)]
    packed = np.frombuffer(b"".join([row.to_bytes() for row in rows]), dtype=np.uint8).reshape(-1, _ROW.size)
    return leaf_levels(hash_each(ROW_TAG, packed), height_of(len(rows)))


_NO_ROW: Final = tagged_hash(ROW_TAG, b"")
"""The memory root of a run without any access."""


def _path(levels: list[Digests], indices: Sequence[int]) -> tuple[Hash32, ...]:
    return multi_path(lambda level, index: node_in(levels, level, index), len(levels) - 1, indices)


def _check_paths(proof: TableProof) -> None:
    numbers, places = [one.step.index for one in proof.opened], [place for place, _ in proof.rows]
    for what, count in ((numbers, proof.steps), (places, proof.accesses)):
        if what != sorted(set(what)) or (what and not 0 <= what[0] <= what[-1] < count):
            raise ProofPathError("opened steps or rows are not in order, appear twice or are more than are claimed")
    if not numbers:
        raise ProofPathError("no step is opened")
    leaves = {one.step.index: one.leaf() for one in proof.opened}
    if root_from_multi_path(leaves, height_of(proof.steps), proof.step_siblings) != proof.execution_trace_root:
        raise ProofPathError("the opened steps do not lead to the trace root")
    if not proof.accesses and proof.memory_root != _NO_ROW:
        raise ProofPathError("no access is claimed, and the memory root is that of some")
    if not places:
        if proof.row_siblings:
            raise ProofPathError("no row is opened, and siblings of some are there")
        return
    leaves = {place: row.leaf() for place, row in proof.rows}
    if root_from_multi_path(leaves, height_of(proof.accesses), proof.row_siblings) != proof.memory_root:
        raise ProofPathError("the opened rows do not lead to the memory root")


def _check_first(proof: TableProof, program: Program) -> None:
    first = proof.opened[0].step
    if first.index:
        raise ProofStepError("the first step is not opened")
    if first.pc != program.elf.entry or any(first.registers):
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
        # of a table that is not sorted this may be any row: then the two are no neighbours around the word
        at = bisect_right(proof.rows, address, key=lambda one: one[1].address)
        last = proof.rows[at - 1][0] if at else -1
        written, end = rows.get(last), rows.get(last + 1)
        unshown = last + 1 < proof.accesses and (end is None or end.address <= address)
        if unshown or (written is not None and written.address > address):
            raise ProofOutputError(f"no two neighbours show what 0x{address:08x} holds at the end")
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
    "MemoryRow",
    "PlacedStep",
    "TableProof",
    "build_table_proof",
    "chance_to_miss",
    "check_table_file",
    "commit",
    "look",
    "table_of",
    "table_root",
]
