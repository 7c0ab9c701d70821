"""Build a settlement proof from an execution; verify one. The format, v1 and v2, stands in docs/proofs.md.

A verifier needs the proof and the program, no emulator and no network.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from btcfi.errors import InvalidInputError
from btcfi.hashes import tag_prefix, tagged_hash
from btcfi.proofs.errors import (
    ProofError,
    ProofExecutionError,
    ProofFinalStateError,
    ProofFormatError,
    ProofInputError,
    ProofInputSizeError,
    ProofOutputError,
    ProofPathError,
    ProofProgramError,
    ProofRootError,
    ProofStepError,
    ProofVersionError,
)
from btcfi.proofs.merkle import (
    NodeAt,
    height_of,
    leaf_hash,
    leaf_levels,
    multi_path,
    node_in,
    root_from_multi_path,
    root_from_subtrees,
    root_of,
    trace_leaves,
)
from btcfi.proofs.window import WINDOW, ProvenWindow, check_window, encode_window
from btcfi.records import HASH, TEXT, Rule, hexadecimal, listed, record, unhex, whole
from btcfi.units import Hash32
from btcfi.vm import interpreter
from btcfi.vm.machine import MAX_STEPS, OUTPUT_BASE, PAGE, Stop
from btcfi.vm.program import Program
from btcfi.vm.step import WrongStepError, after
from btcfi.vm.trace import LEAF_BYTES, Execution, MemoryKind, Step, Trace, final_state_hash, input_commitment

FORMAT: Final = "btcfi-settlement-proof"
FORMAT_VERSION: Final = 1
"""Of a proof without a window: any program's, and an earlier release's settlement."""

WINDOW_VERSION: Final = 2
"""Of a settlement's proof with the window that its price is made of."""

TABLE_VERSION: Final = 3
"""Of a proof with a table of memory, trace format v2: btcfi.proofs.table_file."""

ROOT_TAG: Final = "BTCFi/trace/root"
SAMPLE_TAG: Final = "BTCFi/trace/sample"

SAMPLES: Final = 16
"""Steps that the root itself picks for checking, each with its successor."""

MAX_INCLUDED: Final = 4096
"""Steps that one proof may include; bounds what a hostile file makes a verifier do."""

MAX_PROOF_BYTES: Final = 4 << 20
"""Text of a larger file is refused unread."""


class Depth(StrEnum):
    """How much is looked at. Only the first gives a verdict."""

    EXECUTE = "execute"
    """Run the program again and compare everything."""
    SAMPLE = "sample"
    """Execute each included step alone, the sampled ones among them, and compare it with its successor."""
    PATHS = "paths"
    """Check hashes and inclusion paths only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementProof:
    """That a program, run on an input, gave an output: the claim, and what is needed to check it."""

    program_name: str
    program_hash: Hash32
    input_bytes: bytes
    input_commitment: Hash32
    output: bytes
    steps: int
    final_pc: int
    final_registers: tuple[int, ...]
    final_state_hash: Hash32
    execution_trace_root: Hash32
    """The tree root over all steps."""
    proof_root: Hash32
    """The hash of the root record: the 32 bytes that go on chain."""
    included: tuple[Step, ...]
    """By step number: the first, the last, those that wrote the output, and the sampled ones with their successors."""
    siblings: tuple[Hash32, ...]
    """What ``included`` needs to reach the trace root, in the order of docs/proofs.md."""
    window: ProvenWindow | None = None
    """The minutes that the input's price is made of; the proof root does not commit to them, but to the price."""

    @property
    def version(self) -> int:
        """The version of its file."""
        return FORMAT_VERSION if self.window is None else WINDOW_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofFile:
    """A proof as it is stored: its file, and what the file says of the run."""

    output: bytes
    steps: int
    proof_root: Hash32
    text: str
    """The canonical text, as ``to_json`` gives it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a verifier may now believe, since it has run the program again, and on what grounds."""

    proof_root: Hash32
    program_name: str
    output: bytes
    steps: int
    checks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What was looked at of a proof that was not run again: no verdict. Output and steps are the file's claims."""

    proof_root: Hash32
    program_name: str
    claimed_output: bytes
    claimed_steps: int
    depth: Depth
    checks: tuple[str, ...]
    steps_checked: tuple[int, ...]
    """Which steps were executed, each alone; none at depth ``paths``."""
    chance_to_miss: float | None
    """The highest chance that one false step was not seen; None where there is no bound below 1."""

    @property
    def words(self) -> str:
        """Why this is no verdict, for people: which steps were checked, and what may be false all the same."""
        alone = ", ".join(map(str, self.steps_checked))
        looked = f"of {self.claimed_steps} claimed steps {len(self.steps_checked)} were executed, each alone"
        looked += f" ({alone})" if alone else ""
        if self.chance_to_miss is not None:
            return (
                f"no verdict: {looked}, on what memory held. One false step is missed with a chance of up to "
                f"{self.chance_to_miss:.4f} by each root that its maker may have tried. Depth execute runs the program "
                "again."
            )
        if self.depth is Depth.PATHS:
            return (
                f"no verdict: {looked}. The chance to miss one false step has no bound: hashes alone were compared. "
                "Depth execute runs the program again."
            )
        return (
            f"no verdict: {looked}. The chance to miss one false step has no bound: "
            "files of versions 1 and 2 commit to no memory, so a load from RAM that lies and a store that was left out "
            "are not seen, and the output may be false. Depth execute runs the program again."
        )


def root_record_hash(
    *, steps: int, trace_root: bytes, program_hash: bytes, input_commitment: bytes, final_state_hash: bytes
) -> Hash32:
    """Return the proof root: the tagged hash of steps u32 and the four digests."""
    record = struct.pack("<I", steps) + trace_root + program_hash + input_commitment + final_state_hash
    return tagged_hash(ROOT_TAG, record)


def root_of_run(execution: Execution, trace_root: bytes) -> Hash32:
    """Return the proof root of a run whose trace has this tree root."""
    return root_record_hash(
        steps=execution.steps,
        trace_root=trace_root,
        program_hash=execution.program_hash,
        input_commitment=execution.input_commitment,
        final_state_hash=execution.final_state_hash,
    )


def sampled_steps(proof_root: bytes, steps: int, count: int = SAMPLES) -> tuple[int, ...]:
    """Return the steps that the root picks: whoever builds the proof cannot choose them without changing the root."""
    if steps < 2:  # noqa: PLR2004 - a pair of steps
        return ()
    started, picked = sha256(tag_prefix(SAMPLE_TAG) + proof_root), set()
    for n in range(count):
        one = started.copy()
        one.update(n.to_bytes(4, "little"))
        picked.add(int.from_bytes(one.digest()[:8], "little") % (steps - 1))
    return tuple(sorted(picked))


def build_proof(
    execution: Execution, *, include: Iterable[int] = (), window: ProvenWindow | None = None
) -> SettlementProof:
    """Return the proof of ``execution``, which must carry its whole trace; ``include`` names further steps.

    window: what the input's price is made of, of a settlement; unchecked here, ``verify`` does.

    Raises InvalidInputError for an untraced execution or a step that does not exist.
    """
    trace = execution.trace
    if trace is None or len(trace) != execution.steps:
        raise InvalidInputError("execution", "has no complete trace", "one that interpreter.run made")
    levels = leaf_levels(trace_leaves(trace), height_of(execution.steps))
    trace_root = Hash32(levels[-1][0].tobytes())
    proof_root = root_of_run(execution, trace_root)
    stores = last_stores(trace, len(execution.output))
    indices = included_steps(proof_root, execution.steps, stores.values(), include)
    return proof_from_parts(
        execution,
        trace_root=trace_root,
        proof_root=proof_root,
        included=[trace.step(index) for index in indices],
        node_at=lambda level, index: node_in(levels, level, index),
        window=window,
    )


def included_steps(proof_root: bytes, steps: int, stores: Iterable[int], include: Iterable[int]) -> list[int]:
    """Return the steps that a proof includes, in order. Raises InvalidInputError for one that does not exist."""
    indices = {0, steps - 1, *stores, *include}
    for index in sampled_steps(proof_root, steps):
        indices |= {index, index + 1}
    if not all(0 <= index < steps for index in indices):
        raise InvalidInputError("step", str(max(indices)), f"0 to {steps - 1}")
    return sorted(indices)


def proof_from_parts(
    execution: Execution, *, trace_root: Hash32, proof_root: Hash32, included: Sequence[Step], node_at: NodeAt,
    window: ProvenWindow | None = None,
) -> SettlementProof:  # fmt: skip
    """Return the proof whose steps and tree nodes were found elsewhere (btcfi.proofs.subtrees)."""
    indices = [step.index for step in included]
    return SettlementProof(
        program_name=execution.program_name,
        program_hash=execution.program_hash,
        input_bytes=execution.input_bytes,
        input_commitment=execution.input_commitment,
        output=execution.output,
        steps=execution.steps,
        final_pc=execution.final_pc,
        final_registers=execution.final_registers,
        final_state_hash=execution.final_state_hash,
        execution_trace_root=trace_root,
        proof_root=proof_root,
        included=tuple(included),
        siblings=multi_path(node_at, height_of(execution.steps), indices),
        window=window,
    )


def last_stores(trace: Trace, size: int) -> dict[int, int]:
    """Return for each output address that was written the number of the last step that did."""
    rows = trace.rows
    stores = ((rows[:, 35] & 0xFF) == MemoryKind.STORE).nonzero()[0]
    addresses = rows[stores, 36]
    inside = stores[(addresses >= OUTPUT_BASE) & (addresses < OUTPUT_BASE + size)]
    last: dict[int, int] = {}
    for step, kind, address in rows[inside][:, (0, 35, 36)].tolist():
        last.update(dict.fromkeys(range(address, address + (kind >> 8)), step))
    return last


def verify(proof: SettlementProof, program: Program, *, max_steps: int = MAX_STEPS) -> Verified:
    """Run ``program`` again and compare everything that ``proof`` says; raise the failed check's ProofError.

    Nothing less is called verified, at any door: what is less is ``inspect``.
    """
    checks = (*_check_file(proof, program), _check_execution(proof, program, max_steps))
    return Verified(
        proof_root=proof.proof_root, program_name=program.name, output=proof.output, steps=proof.steps, checks=checks
    )


def inspect(proof: SettlementProof, program: Program, *, depth: Depth) -> Inspected:
    """Look at a proof without running it again: depth ``sample`` or ``paths``. Finds forgeries, proves nothing.

    Raises the failed check's ProofError, InvalidInputError for depth ``execute``, which is ``verify``.
    """
    if depth is Depth.EXECUTE:
        raise InvalidInputError("depth", depth, "sample or paths; `verify` runs the program again")
    checks, alone = _check_file(proof, program), tuple[int, ...]()
    if depth is Depth.SAMPLE:
        checks = (*checks, _check_samples(proof, program))
        alone = tuple(step.index for step in proof.included)
    return Inspected(
        proof_root=proof.proof_root, program_name=program.name, claimed_output=proof.output, claimed_steps=proof.steps,
        depth=depth, checks=checks, steps_checked=alone, chance_to_miss=None,
    )  # fmt: skip


def examine(
    proof: SettlementProof, program: Program, *, depth: Depth, max_steps: int = MAX_STEPS
) -> Verified | Inspected:
    """Verify or inspect, as a door is asked; raises as they do."""
    if depth is Depth.EXECUTE:
        return verify(proof, program, max_steps=max_steps)
    return inspect(proof, program, depth=depth)


def _check_file(proof: SettlementProof, program: Program) -> tuple[str, ...]:
    """Make the checks that need no execution, in their order."""
    checks = [
        _check_program(proof, program),
        _check_input_size(proof, program),
        _check_commitments(proof),
        _check_inclusion(proof),
        _check_ends(proof, program),
        _check_output(proof),
    ]
    if proof.window is not None:
        checks.append(check_window(proof.window, proof.input_bytes))
    return tuple(checks)


def _check_program(proof: SettlementProof, program: Program) -> str:
    if proof.program_hash != program.program_hash:
        raise ProofProgramError(
            f"proof is about {proof.program_hash.hex()}, {program.name} is {program.program_hash.hex()}"
        )
    if len(proof.output) != program.output_size:
        raise ProofOutputError(f"{len(proof.output)} bytes, {program.name} writes {program.output_size}")
    return f"program is {program.name}"


def _check_input_size(proof: SettlementProof, program: Program) -> str:
    """Check that the input has its one length: trailing bytes would give one settlement as many roots as one likes."""
    try:
        program.require_input(proof.input_bytes)
    except InvalidInputError as e:
        raise ProofInputSizeError(f"{e.problem}; expected {e.expected}") from e
    return f"the input has {len(proof.input_bytes)} bytes"


def _check_commitments(proof: SettlementProof) -> str:
    if input_commitment(proof.input_bytes) != proof.input_commitment:
        raise ProofInputError(f"the input hashes to {input_commitment(proof.input_bytes).hex()}")
    final = final_state_hash(steps=proof.steps, pc=proof.final_pc, registers=proof.final_registers, output=proof.output)
    if final != proof.final_state_hash:
        raise ProofFinalStateError(f"steps, pc, registers and output hash to {final.hex()}")
    root = root_record_hash(
        steps=proof.steps,
        trace_root=proof.execution_trace_root,
        program_hash=proof.program_hash,
        input_commitment=proof.input_commitment,
        final_state_hash=proof.final_state_hash,
    )
    if root != proof.proof_root:
        raise ProofRootError(f"the root record hashes to {root.hex()}")
    return "input, final state and root record hash to the proof root"


def _check_inclusion(proof: SettlementProof) -> str:
    indices = [step.index for step in proof.included]
    if indices != sorted(set(indices)):
        raise ProofPathError("included steps are not in order or appear twice")
    if not indices or indices[-1] >= proof.steps:
        raise ProofPathError(f"step {indices[-1] if indices else 'none'} of {proof.steps}")
    leaves = {step.index: leaf_hash(step.to_bytes()) for step in proof.included}
    root = root_from_multi_path(leaves, height_of(proof.steps), proof.siblings)
    if root != proof.execution_trace_root:
        raise ProofPathError("the included steps do not lead to the trace root")
    return f"{len(indices)} steps are in the trace"


def _check_ends(proof: SettlementProof, program: Program) -> str:
    """Check the first step (fresh machine at the entry), the last (the halt) and each step's word of code."""
    first, last = proof.included[0], proof.included[-1]
    if first.index != 0 or last.index != proof.steps - 1:
        raise ProofStepError("the first or the last step is not included")
    if first.pc != program.elf.entry or any(first.registers):
        raise ProofStepError(f"step 0 is not a fresh machine at 0x{program.elf.entry:08x}")
    if (last.pc, last.registers) != (proof.final_pc, proof.final_registers):
        raise ProofStepError(f"step {last.index} is not the final state")
    code = program.elf.code
    for step in proof.included:
        offset = step.pc - code.address
        if offset % 4 or not 0 <= offset < code.size or program.words[offset // 4] != step.instruction:
            raise ProofStepError(f"step {step.index}: 0x{step.instruction:08x} is not the code at 0x{step.pc:08x}")
    if not _after(last).halted:
        raise ProofStepError(f"step {last.index} does not halt")
    return "starts fresh at the entry and ends with ecall"


def _check_output(proof: SettlementProof) -> str:
    """Check that the included stores, in order, leave the output (bytes never stored stay zero)."""
    window = bytearray(PAGE)
    for step in proof.included:
        place = step.memory_address - OUTPUT_BASE
        if step.memory_kind is MemoryKind.STORE and 0 <= place <= PAGE - step.memory_size:
            window[place : place + step.memory_size] = step.memory_value.to_bytes(step.memory_size, "little")
    if window[: len(proof.output)] != proof.output:
        raise ProofOutputError("the included stores leave other bytes")
    return "the output is what the included steps stored, if none was left out"


def _check_samples(proof: SettlementProof, program: Program) -> str:
    by_index = {step.index: step for step in proof.included}
    for index in sampled_steps(proof.proof_root, proof.steps):
        if index not in by_index or index + 1 not in by_index:
            raise ProofStepError(f"step {index}, which the root picks, or its successor is not included")
    pairs = 0
    for index, step in by_index.items():
        result = _after(step)
        _check_value_read(step, proof, program)
        following = by_index.get(index + 1)
        if following is not None:
            pairs += 1
            if (result.pc, result.registers) != (following.pc, following.registers):
                raise ProofStepError(f"step {index + 1} does not follow from step {index}")
        if result.halted and index != proof.steps - 1:
            raise ProofStepError(f"step {index} halts, {proof.steps} steps are claimed")
    return f"{len(by_index)} steps do what their rows say, {pairs} follow from their predecessor"


def _check_value_read(step: Step, proof: SettlementProof, program: Program) -> None:
    """Check a load from a page that nothing can write: its one possible value is the input's or the program's."""
    if step.memory_kind is not MemoryKind.LOAD:
        return
    value = interpreter.constant_at(program, proof.input_bytes, step.memory_address, step.memory_size)
    if value is not None and value != step.memory_value:
        raise ProofStepError(f"step {step.index} reads 0x{step.memory_value:x}, the constant there is 0x{value:x}")


def _after(step: Step) -> Any:  # noqa: ANN401 - After
    try:
        return after(step)
    except WrongStepError as e:
        raise ProofStepError(f"step {step.index}: {e}") from e


def _check_execution(proof: SettlementProof, program: Program, max_steps: int) -> str:
    if proof.steps > max_steps:
        raise ProofExecutionError(f"{proof.steps} steps claimed, this verifier runs at most {max_steps}")
    result = interpreter.run_untraced(program, proof.input_bytes, max_steps=proof.steps)
    if result.stop is not Stop.HALTED:
        raise ProofExecutionError(str(interpreter.fault_of(program, result)))
    if result.steps != proof.steps:
        raise ProofExecutionError(f"halts after {result.steps} steps, {proof.steps} claimed")
    if result.output != proof.output:
        raise ProofExecutionError(f"gives output {result.output.hex()}")
    if (result.pc, result.registers) != (proof.final_pc, proof.final_registers):
        raise ProofExecutionError("ends in another state")
    root = _trace_root(program, proof.input_bytes, proof.steps)
    if root != proof.execution_trace_root:
        raise ProofExecutionError(f"has trace root {root.hex()}")
    return f"re-executed {proof.steps} steps: same output, same trace root"


def _trace_root(program: Program, input_bytes: bytes, steps: int) -> Hash32:
    """Return the tree root of a run, hashed block by block so that memory stays small."""
    height = height_of(steps)
    block = min(height, _VERIFY_BLOCK_HEIGHT)
    roots = [
        root_of(trace_leaves(Trace(rows=rows)), block)
        for rows in interpreter.stream(program, input_bytes, block=1 << block, max_steps=steps)
    ]
    return root_from_subtrees(roots, subtree_height=block, steps=steps)


_VERIFY_BLOCK_HEIGHT: Final = 14
"""16,384 steps at a time: 2.5 MB of rows."""

_KEYS: Final = (
    "execution_trace_root",
    "final_pc",
    "final_registers",
    "final_state_hash",
    "format",
    "included_steps",
    "input",
    "input_commitment",
    "output",
    "program_hash",
    "program_name",
    "proof_root",
    "siblings",
    "steps",
    "version",
)


def to_json(proof: SettlementProof) -> str:
    """Return the canonical text: sorted keys, no spaces, lower-case hex, one line and a newline."""
    return file_text(
        proof, trace_root=proof.execution_trace_root, proof_root=proof.proof_root,
        included=[step.to_bytes().hex() for step in proof.included],
        siblings=[sibling.hex() for sibling in proof.siblings], window=proof.window,
    )  # fmt: skip


def file_of(proof: SettlementProof) -> ProofFile:
    """Return a proof as it is stored."""
    return ProofFile(output=proof.output, steps=proof.steps, proof_root=proof.proof_root, text=to_json(proof))


def file_text(
    of: SettlementProof | Execution, *, trace_root: bytes, proof_root: bytes, included: Sequence[str],
    siblings: Sequence[str], window: ProvenWindow | None,
) -> str:  # fmt: skip
    """Return a proof's canonical text from its parts, the long lists as hex: JSON's encoder would escape each again."""
    fields = {
        "execution_trace_root": f'"{trace_root.hex()}"',
        "final_pc": str(of.final_pc),
        "final_registers": "[" + ",".join(map(str, of.final_registers)) + "]",
        "final_state_hash": f'"{of.final_state_hash.hex()}"',
        "format": f'"{FORMAT}"',
        "included_steps": _texts(included),
        "input": f'"{of.input_bytes.hex()}"',
        "input_commitment": f'"{of.input_commitment.hex()}"',
        "output": f'"{of.output.hex()}"',
        "program_hash": f'"{of.program_hash.hex()}"',
        "program_name": json.dumps(of.program_name),
        "proof_root": f'"{proof_root.hex()}"',
        "siblings": _texts(siblings),
        "steps": str(of.steps),
        "version": str(FORMAT_VERSION if window is None else WINDOW_VERSION),
    }
    if window is not None:
        fields["window"] = json.dumps(encode_window(window), sort_keys=True, separators=(",", ":"))
    return "{" + ",".join(f'"{name}":{fields[name]}' for name in sorted(fields)) + "}\n"


def _texts(hexes: Sequence[str]) -> str:
    return '["' + '","'.join(hexes) + '"]' if hexes else "[]"


def from_json(text: str | bytes) -> SettlementProof:
    """Return the proof in ``text``. Raises ProofVersionError, and ProofFormatError for anything not canonical."""
    decoded, fields = fields_in(text)
    version = fields["version"]
    if version not in (FORMAT_VERSION, WINDOW_VERSION):
        here = "; `btcfi verify` and the API's verify read it" if version == TABLE_VERSION else ""
        raise ProofVersionError(f"version {version!r}, known here are {FORMAT_VERSION} and {WINDOW_VERSION}{here}")
    keys = {*_KEYS, "window"} if version == WINDOW_VERSION else {*_KEYS}
    if version == WINDOW_VERSION and "window" not in fields:
        raise ProofVersionError(f"version {version} is that of a proof with a window, and there is none")
    require_keys(fields, keys)
    proof = _PROOF.read(fields, "", wrong_field)
    require_canonical(decoded, to_json(proof))
    return proof


def fields_in(text: str | bytes) -> tuple[str, dict[str, Any]]:
    """Return a proof file's text and fields, of which the version is a whole number.

    Raises ProofFormatError, ProofVersionError.
    """
    if len(text) > MAX_PROOF_BYTES:
        raise ProofFormatError(f"{len(text)} characters, at most {MAX_PROOF_BYTES}")
    try:
        decoded = text if isinstance(text, str) else text.decode("ascii")
        fields = json.loads(decoded)
    except (ValueError, RecursionError) as e:
        raise ProofFormatError(f"not JSON: {e}") from e
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise ProofFormatError(f"field format is not {FORMAT!r}")
    if type(fields.get("version")) is not int:
        raise ProofVersionError(f"version {fields.get('version')!r} is no whole number")
    return decoded, fields


def require_keys(fields: Mapping[str, Any], keys: Collection[str]) -> None:
    """Raise ProofFormatError unless a file has exactly these fields."""
    if fields.keys() != set(keys):
        wrong = sorted(fields.keys() ^ set(keys))
        raise ProofFormatError(f"missing or unknown fields: {', '.join(wrong)[:200]}")


def require_canonical(text: str, canonical: str) -> None:
    """Raise ProofFormatError unless a file is spelled as its proof is written."""
    if text != canonical:
        raise ProofFormatError("not the canonical spelling (sorted keys, no spaces, lower-case hex, one newline)")


def _name(value: object) -> str:
    text = TEXT(value)
    if not 1 <= len(text) <= 64 or not text.isascii():  # noqa: PLR2004 - a name
        raise ValueError(text)
    return text


def _registers(value: object) -> tuple[int, ...]:
    found = listed(_WORD, 32)(value)
    if len(found) != 32:  # noqa: PLR2004 - x0..x31
        raise ValueError(len(found))
    return found


_WORD: Final = whole(0, (1 << 32) - 1)

PROGRAM_NAME: Final = Rule(_name, "a name of 1 to 64 characters")

_PROOF: Final = record(
    SettlementProof,
    program_name=PROGRAM_NAME,
    input_bytes=("input", hexadecimal(at_most=PAGE)),
    output=hexadecimal(at_most=PAGE),
    steps=whole(1, (1 << 32) - 1),
    final_pc=_WORD,
    final_registers=Rule(_registers, "32 numbers"),
    included=(
        "included_steps",
        listed(Rule(lambda text: Step.from_bytes(unhex(text)), f"{LEAF_BYTES} bytes as hex"), MAX_INCLUDED),
    ),
    siblings=listed(HASH, MAX_INCLUDED * 32),
    window=WINDOW,
    may_lack=("window",),
)


def wrong_field(field: str, problem: str, expected: str) -> ProofFormatError:
    """Return the refusal of one field."""
    return ProofFormatError(f"field {field}: {problem}; expected {expected}")


__all__ = [
    "Depth",
    "Inspected",
    "ProofError",
    "ProvenWindow",
    "SettlementProof",
    "Verified",
    "build_proof",
    "examine",
    "from_json",
    "inspect",
    "root_record_hash",
    "sampled_steps",
    "to_json",
    "verify",
]
