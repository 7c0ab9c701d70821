"""Proofs by a prover that lies: executions that a verifier without re-execution cannot tell from honest ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from btcfi.proofs.merkle import height_of, leaf_levels, node_in, trace_leaves
from btcfi.proofs.settlement_proof import (
    SettlementProof,
    included_steps,
    last_stores,
    proof_from_parts,
    root_of_run,
)
from btcfi.units import Hash32
from btcfi.vm.isa import ACCESS_SIZE, LOADS, STORES, decode
from btcfi.vm.machine import OUTPUT_BASE
from btcfi.vm.program import Program
from btcfi.vm.step import after
from btcfi.vm.trace import Execution, MemoryKind, Step, Trace

RAM_BASE = 0x8000_2000


def without_store(execution: Execution, offset: int) -> SettlementProof:
    """An honest trace, of which the store of the output's word at ``offset`` is not shown: the word is claimed as 0."""
    trace = execution.trace
    assert trace is not None
    output = execution.output[:offset] + bytes(4) + execution.output[offset + 4 :]
    claimed = replace(execution, output=output)
    levels = leaf_levels(trace_leaves(trace), height_of(execution.steps))
    trace_root = Hash32(levels[-1][0].tobytes())
    proof_root = root_of_run(claimed, trace_root)
    stores = last_stores(trace, len(output))
    shown = {step for at, step in stores.items() if not offset <= at - OUTPUT_BASE < offset + 4}
    return proof_from_parts(
        claimed, trace_root=trace_root, proof_root=proof_root,
        included=[trace.step(n) for n in included_steps(proof_root, execution.steps, shown, [])],
        node_at=lambda level, index: node_in(levels, level, index),
    )  # fmt: skip


def lying_run(
    program: Program, input_bytes: bytes, lie: Callable[[Step], int | None], *, most: int = 20_000
) -> Execution:
    """Run in plain Python; a load that ``lie`` answers reads that value, and everything after follows from it."""
    memory: dict[int, int] = {}
    for region in program.regions:
        data = input_bytes if region.base == 0x8000_0000 else region.data
        memory.update(enumerate(data, region.base))
    pc, registers, rows = program.elf.entry, (0,) * 32, []
    code = program.elf.code
    for number in range(most):
        word = int(program.words[(pc - code.address) // 4])
        i = decode(word)
        step = Step(
            index=number, pc=pc, instruction=word, registers=registers, memory_kind=MemoryKind.NONE, memory_size=0,
            memory_address=0, memory_value=0,
        )  # fmt: skip
        if i.op in LOADS or i.op in STORES:
            size, address = ACCESS_SIZE[i.op], (registers[i.rs1] + i.immediate) & 0xFFFF_FFFF
            kind = MemoryKind.LOAD if i.op in LOADS else MemoryKind.STORE
            value = registers[i.rs2] & ((1 << 8 * size) - 1)
            if kind is MemoryKind.LOAD:
                value = int.from_bytes(bytes(memory.get(address + n, 0) for n in range(size)), "little")
            step = replace(step, memory_kind=kind, memory_size=size, memory_address=address, memory_value=value)
            if kind is MemoryKind.LOAD and (lied := lie(step)) is not None:
                step = replace(step, memory_value=lied)
            if kind is MemoryKind.STORE:
                memory.update(enumerate(value.to_bytes(size, "little"), address))
        rows.append(
            (number, pc, word, *registers, step.memory_kind | step.memory_size << 8, step.memory_address,
             step.memory_value)
        )  # fmt: skip
        done = after(step)
        if done.halted:
            break
        pc, registers = done.pc, done.registers
    else:
        raise AssertionError("does not halt")
    return Execution(
        program_name=program.name, program_hash=program.program_hash, input_bytes=input_bytes,
        output=bytes(memory.get(OUTPUT_BASE + n, 0) for n in range(program.output_size)), steps=len(rows), final_pc=pc,
        final_registers=registers, trace=Trace(rows=np.array(rows, dtype=np.uint32)),
    )  # fmt: skip
