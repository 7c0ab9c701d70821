"""Proof files of version 3, which have a table of memory; and any version's reading and checking, for the doors.

The format stands in docs/proofs.md, section 10. A file of version 1 or 2 is ``btcfi.proofs.settlement_proof``'s.
"""

from __future__ import annotations

import json
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.proofs.errors import ProofExecutionError
from btcfi.proofs.memory_table import (
    MAX_OPENED,
    MOST_SAMPLES,
    TABLE_STEPS,
    MemoryRow,
    PlacedStep,
    TableProof,
    build_table_proof,
    check_table_file,
    look,
    table_root,
)
from btcfi.proofs.settlement_proof import (
    FORMAT,
    MAX_PROOF_BYTES,
    PROGRAM_NAME,
    SAMPLES,
    TABLE_VERSION,
    Depth,
    Inspected,
    SettlementProof,
    Verified,
    examine,
    fields_in,
    from_json,
    require_canonical,
    require_keys,
    wrong_field,
)
from btcfi.proofs.subtrees import execute_untraced
from btcfi.records import HASH, Rule, hexadecimal, listed, record, unhex, whole
from btcfi.vm import interpreter
from btcfi.vm.machine import MAX_STEPS, PAGE, MachineFaultError
from btcfi.vm.program import Program


def prove_with_table(
    program: Program, input_bytes: bytes, *, samples: int = SAMPLES, max_steps: int = MAX_STEPS
) -> TableProof:
    """Return a run's proof with its table of memory.

    Raises InvalidInputError for an input of another length, a run of more than TABLE_STEPS steps and a file that would
    be too large, a MachineFaultError unless it halts.
    """
    program.require_input(input_bytes)
    steps = execute_untraced(program, input_bytes, max_steps=max_steps).steps  # nearly free, and no memory
    if steps > TABLE_STEPS:
        raise InvalidInputError("steps", str(steps), f"at most {TABLE_STEPS} with a table of memory")
    proof = build_table_proof(interpreter.run(program, input_bytes, max_steps=steps), program, samples=samples)
    if (size := len(table_to_json(proof))) > MAX_PROOF_BYTES:
        raise InvalidInputError(
            "samples", f"{samples}, a file of {size} bytes", f"fewer, {MAX_PROOF_BYTES} bytes at most"
        )
    return proof


def verify_table(proof: TableProof, program: Program, *, max_steps: int = MAX_STEPS) -> Verified:
    """Check everything: run the program again, and make both tables again. Raises the failed check's ProofError."""
    checks = check_table_file(proof, program)
    if proof.steps > (most := min(max_steps, TABLE_STEPS)):
        raise ProofExecutionError(f"{proof.steps} steps claimed, this verifier runs at most {most}")
    try:
        execution = interpreter.run(program, proof.input_bytes, max_steps=proof.steps)
    except MachineFaultError as e:
        raise ProofExecutionError(str(e)) from e
    if execution.steps != proof.steps:
        raise ProofExecutionError(f"halts after {execution.steps} steps, {proof.steps} claimed")
    if execution.output != proof.output:
        raise ProofExecutionError(f"gives output {execution.output.hex()}")
    root = table_root(execution, program, samples=proof.samples)
    if root != proof.proof_root:
        raise ProofExecutionError(f"has proof root {root.hex()}")
    again = f"re-executed {proof.steps} steps: same output, same trace, same table of memory"
    return Verified(
        proof_root=root, program_name=program.name, output=proof.output, steps=proof.steps, checks=(*checks, again)
    )


def proof_in(text: str | bytes) -> SettlementProof | TableProof:
    """Return the proof in a file of any version. Raises ProofVersionError, ProofFormatError."""
    return table_from_json(text) if fields_in(text)[1]["version"] == TABLE_VERSION else from_json(text)


def examine_any(
    proof: SettlementProof | TableProof, program: Program, *, depth: Depth, max_steps: int = MAX_STEPS
) -> Verified | Inspected:
    """Verify or look, as a door is asked. Raises the failed check's ProofError."""
    if isinstance(proof, SettlementProof):
        return examine(proof, program, depth=depth, max_steps=max_steps)
    if depth is Depth.EXECUTE:
        return verify_table(proof, program, max_steps=max_steps)
    return look(proof, program, depth=depth)


def table_to_json(proof: TableProof) -> str:
    """Return the canonical text: sorted keys, no spaces, lower-case hex, one line and a newline."""
    fields = {
        "accesses": proof.accesses,
        "execution_trace_root": proof.execution_trace_root.hex(),
        "format": FORMAT,
        "included_steps": [one.to_bytes().hex() for one in proof.opened],
        "input": proof.input_bytes.hex(),
        "memory_root": proof.memory_root.hex(),
        "memory_rows": [(place.to_bytes(4, "little") + row.to_bytes()).hex() for place, row in proof.rows],
        "memory_siblings": [sibling.hex() for sibling in proof.row_siblings],
        "output": proof.output.hex(),
        "program_hash": proof.program_hash.hex(),
        "program_name": proof.program_name,
        "proof_root": proof.proof_root.hex(),
        "samples": proof.samples,
        "siblings": [sibling.hex() for sibling in proof.step_siblings],
        "steps": proof.steps,
        "version": TABLE_VERSION,
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":")) + "\n"


def table_from_json(text: str | bytes) -> TableProof:
    """Return the proof in a file of version 3. Raises ProofFormatError for anything that is not its canonical text."""
    decoded, fields = fields_in(text)
    require_keys(fields, _KEYS)
    proof = _PROOF.read(fields, "", wrong_field)
    require_canonical(decoded, table_to_json(proof))
    return proof


_KEYS: Final = (
    "accesses", "execution_trace_root", "format", "included_steps", "input", "memory_root", "memory_rows",
    "memory_siblings", "output", "program_hash", "program_name", "proof_root", "samples", "siblings", "steps",
    "version",
)  # fmt: skip


def _placed_row(text: str) -> tuple[int, MemoryRow]:
    data = unhex(text)
    return int.from_bytes(data[:4], "little"), MemoryRow.from_bytes(data[4:])


_PROOF: Final = record(
    TableProof,
    program_name=PROGRAM_NAME,
    input_bytes=("input", hexadecimal(at_most=PAGE)),
    output=hexadecimal(at_most=PAGE),
    steps=whole(1, (1 << 32) - 1),
    accesses=whole(0, (1 << 32) - 1),
    samples=whole(1, MOST_SAMPLES),
    opened=(
        "included_steps",
        listed(Rule(lambda text: PlacedStep.from_bytes(unhex(text)), "154 bytes as hex"), MAX_OPENED),
    ),
    rows=("memory_rows", listed(Rule(_placed_row, "16 bytes as hex"), MAX_OPENED)),
    step_siblings=("siblings", listed(HASH, MAX_OPENED * 32)),
    row_siblings=("memory_siblings", listed(HASH, MAX_OPENED * 32)),
)


__all__ = [
    "examine_any",
    "proof_in",
    "prove_with_table",
    "table_from_json",
    "table_to_json",
    "verify_table",
]
