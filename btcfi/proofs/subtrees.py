"""Traces that do not fit in memory, or are hashed by several workers: the tree from subtrees.

A worker re-runs the program (untraced steps are nearly free), traces its own range block by block, and returns only
subtree roots. Whoever assembles the proof re-traces just the blocks that hold an included step. The root is the same
whatever the split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from btcfi.errors import InvalidInputError
from btcfi.proofs.batch import proof_roots
from btcfi.proofs.merkle import (
    Digests,
    empty_root,
    height_of,
    leaf_levels,
    node_levels,
    root_of,
    trace_leaves,
)
from btcfi.proofs.settlement_proof import (
    SettlementProof,
    build_proof,
    included_steps,
    last_stores,
    proof_from_parts,
    root_of_run,
)
from btcfi.proofs.window import ProvenWindow
from btcfi.units import Hash32
from btcfi.vm.interpreter import Machine, execution_of, fault_of, run, run_untraced
from btcfi.vm.machine import MAX_STEPS, Stop
from btcfi.vm.program import Program
from btcfi.vm.trace import ROW_WORDS, Execution, Step, Trace

BLOCK_HEIGHT: Final = 14
"""16,384 steps a block: 2.5 MB of rows, which stay in a core's cache while they are hashed."""

LONG_TRACE: Final = 1 << 18
"""Steps above which a proof is built from subtrees instead of one array of rows (40 MB)."""


def subtree_count(steps: int, height: int) -> int:
    """Return how many subtrees of ``height`` hold the steps."""
    return (steps + (1 << height) - 1) >> height


def subtree_roots(
    program: Program, input_bytes: bytes, *, first: int, count: int, height: int = BLOCK_HEIGHT
) -> list[Hash32]:
    """Return the roots of subtrees ``first`` to ``first + count - 1`` of ``height``: one worker's part of a tree.

    Fewer come back when the trace ends earlier. Raises InvalidInputError for a height that would not fit memory.
    """
    if not 0 <= height <= 20 or first < 0 or count < 0:  # noqa: PLR2004 - 2**20 rows are 160 MB
        raise InvalidInputError("subtree", f"height {height}, {first} + {count}", "height 0 to 20, no negative numbers")
    machine = Machine(program, input_bytes)
    machine.advance(first << height)
    roots: list[Hash32] = []
    for trace in _blocks(machine, height):
        if len(roots) == count:
            break
        roots.append(root_of(trace_leaves(trace), height))
    return roots


def _blocks(machine: Machine, height: int) -> Iterator[Trace]:
    """Yield the rest of a run block by block; the rows are reused between yields."""
    rows = np.empty((1 << height, ROW_WORDS), dtype=np.uint32)
    while not machine.stopped:
        done = machine.advance(1 << height, rows)
        if done:
            yield Trace(rows=rows[:done])


def execute_untraced(program: Program, input_bytes: bytes, *, max_steps: int = MAX_STEPS) -> Execution:
    """Return the execution without its trace. Raises a MachineFaultError unless it halts."""
    result = run_untraced(program, input_bytes, max_steps=max_steps)
    if result.stop is not Stop.HALTED:
        raise fault_of(program, result)
    return execution_of(program, input_bytes, result, None)


def proof_from_subtrees(
    program: Program,
    execution: Execution,
    roots: Sequence[bytes],
    *,
    height: int = BLOCK_HEIGHT,
    include: Iterable[int] = (),
    window: ProvenWindow | None = None,
) -> SettlementProof:
    """Return the proof of ``execution`` (untraced will do) from the roots of all its subtrees of ``height``, in order.

    Raises InvalidInputError for a wrong number of roots.
    """
    steps = execution.steps
    wanted = subtree_count(steps, height)
    if len(roots) != wanted or any(len(root) != 32 for root in roots):  # noqa: PLR2004 - bytes of a digest
        raise InvalidInputError("subtree roots", f"{len(roots)} of them", f"{wanted} digests of 32 bytes")
    tree_height = max(height_of(steps), height)
    top = node_levels(_digests(roots), tree_height - height, empty_root(height))
    # A tree lower than one subtree is its left part: its root lies on the subtree's left edge.
    if height_of(steps) < height:
        return replace(_small(program, execution, include), window=window)
    trace_root = Hash32(top[-1][0].tobytes())
    stores: dict[int, int] = {}
    for trace in _blocks(Machine(program, execution.input_bytes), height):
        stores.update(last_stores(trace, len(execution.output)))
    proof_root = root_of_run(execution, trace_root)
    indices = included_steps(proof_root, steps, stores.values(), include)
    found, nodes = _retrace(program, execution.input_bytes, indices, height)
    return proof_from_parts(
        execution,
        trace_root=trace_root,
        proof_root=proof_root,
        included=found,
        node_at=lambda level, index: _node(nodes, top, height, level, index),
        window=window,
    )


def _small(program: Program, execution: Execution, include: Iterable[int]) -> SettlementProof:
    return build_proof(run(program, execution.input_bytes, max_steps=execution.steps), include=include)


def _digests(roots: Sequence[bytes]) -> Digests:
    return np.frombuffer(b"".join(roots), dtype=np.uint8).reshape(-1, 32)


def _retrace(
    program: Program, input_bytes: bytes, indices: Sequence[int], height: int
) -> tuple[list[Step], dict[int, list[Digests]]]:
    """Return the steps at ``indices`` and the levels of every block that holds one of them."""
    machine = Machine(program, input_bytes)
    rows = np.empty((1 << height, ROW_WORDS), dtype=np.uint32)
    steps: list[Step] = []
    nodes: dict[int, list[Digests]] = {}
    for block in sorted({index >> height for index in indices}):
        machine.advance((block << height) - machine.steps)
        trace = Trace(rows=rows[: machine.advance(1 << height, rows)])
        nodes[block] = leaf_levels(trace_leaves(trace), height)
        steps += [trace.step(index - (block << height)) for index in indices if index >> height == block]
    return steps, nodes


def _node(nodes: dict[int, list[Digests]], top: Sequence[Digests], height: int, level: int, index: int) -> bytes | None:
    """Return the node at ``level`` and ``index`` of the whole tree; None where nothing but padding is below it."""
    if level >= height:
        row = top[level - height]
        return row[index].tobytes() if index < len(row) else None
    per_block = height - level
    block = nodes.get(index >> per_block)
    if block is None:
        return None
    row = block[level]
    place = index & ((1 << per_block) - 1)
    return row[place].tobytes() if place < len(row) else None


def prove(
    program: Program, input_bytes: bytes, *, max_steps: int = MAX_STEPS, include: Iterable[int] = (),
    window: ProvenWindow | None = None,
) -> SettlementProof:  # fmt: skip
    """Run ``program`` on ``input_bytes`` and return the proof, in bounded memory however long the run.

    Raises a MachineFaultError unless it halts within ``max_steps``, InvalidInputError for an input of another length
    than the program's manifest gives it.
    """
    program.require_input(input_bytes)
    execution = execute_untraced(program, input_bytes, max_steps=max_steps)
    if execution.steps <= LONG_TRACE:
        return replace(_small(program, execution, include), window=window)
    count = subtree_count(execution.steps, BLOCK_HEIGHT)
    roots = subtree_roots(program, input_bytes, first=0, count=count)
    return proof_from_subtrees(program, execution, roots, include=include, window=window)


def proof_roots_of_batch(executions: Iterable[Execution]) -> list[Hash32]:
    """Return the proof root of each traced execution, the trees of one height side by side (``batch.proof_roots``).

    Given a generator that runs them, it holds a few traces at a time. Raises InvalidInputError when an execution has no
    trace.
    """
    return list(proof_roots(executions))
