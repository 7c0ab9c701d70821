"""Many short runs proved together: a level of all their trees is hashed by one call.

A settlement runs a few hundred steps, and a proof of its own wastes most of its time in calls. Here the trees of one
height lie side by side in one array, leaves first, so that a level is one slice of it. What comes out is byte for byte
the file of ``build_proof``, which stays the definition; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from btcfi.errors import InvalidInputError
from btcfi.proofs.lanes import hash_pairs, pack_rows
from btcfi.proofs.merkle import Digests, empty_root, height_of, trace_leaves
from btcfi.proofs.settlement_proof import ProofFile, file_text, included_steps, last_stores, root_of_run
from btcfi.proofs.window import ProvenWindow
from btcfi.units import Hash32
from btcfi.vm.trace import Execution

T = TypeVar("T")
R = TypeVar("R")

LEAVES_AT_ONCE: Final = 1 << 14
"""Of trees side by side: their rows are 2.5 MB, which stay in a core's cache from the run to the proof."""

SHORT: Final = 1 << 10
"""Steps of a run that is worth proving beside others; a longer one's hashing is most of its proof."""

Run = tuple[Execution, ProvenWindow | None]
"""A traced execution, and what the input's price is made of."""


@dataclass(frozen=True, slots=True)
class _Tree(Generic[T]):
    """A run whose leaves are hashed while its rows are still in the cache."""

    of: T
    leaves: Digests

    @property
    def height(self) -> int:
        return height_of(len(self.leaves))


def proof_files(runs: Iterable[Run]) -> Iterator[ProofFile]:
    """Yield the file of each run's proof, in order; runs are taken a few at a time, so a generator holds few traces.

    Raises InvalidInputError for an execution without its whole trace.
    """
    return _in_order((_Tree(one, _leaves(one[0])) for one in runs), _files)


def proof_roots(executions: Iterable[Execution]) -> Iterator[Hash32]:
    """Yield each execution's proof root, in order, and nothing else of its proof. Raises as ``proof_files``."""
    # an execution without its trace, so that none is kept
    return _in_order((_Tree(replace(one, trace=None), _leaves(one)) for one in executions), _roots)


def _leaves(execution: Execution) -> Digests:
    trace = execution.trace
    if trace is None or len(trace) != execution.steps:
        raise InvalidInputError("execution", "has no complete trace", "one that interpreter.run made")
    return trace_leaves(trace)


def _in_order(trees: Iterable[_Tree[T]], work: Callable[[Sequence[_Tree[T]], int], Sequence[R]]) -> Iterator[R]:
    """Yield what ``work`` makes of the trees of one height, for each tree in order, a few trees at a time."""
    for some in _few(trees):
        places: dict[int, list[int]] = {}
        for place, tree in enumerate(some):
            places.setdefault(tree.height, []).append(place)
        made: dict[int, R] = {}
        for height, group in places.items():
            made |= zip(group, work([some[place] for place in group], height), strict=True)
        yield from (made[place] for place in range(len(some)))


def _few(trees: Iterable[_Tree[T]]) -> Iterator[list[_Tree[T]]]:
    some: list[_Tree[T]] = []
    leaves = 0
    for one in trees:
        some.append(one)
        leaves += len(one.leaves)
        if leaves >= LEAVES_AT_ONCE:
            yield some
            some, leaves = [], 0
    if some:
        yield some


def _roots(trees: Sequence[_Tree[Execution]], height: int) -> list[Hash32]:
    *_, tops = _levels(trees, height)
    return [root_of_run(tree.of, tops[n, 0].tobytes()) for n, tree in enumerate(trees)]


def _levels(trees: Sequence[_Tree[T]], height: int) -> Iterator[Digests]:
    """Yield each level of all trees, (trees, nodes, 32), leaves first: as many nodes as the longest run has."""
    level = np.empty((len(trees), max(len(one.leaves) for one in trees), 32), dtype=np.uint8)
    for n, one in enumerate(trees):
        level[n, : len(one.leaves)] = one.leaves
        level[n, len(one.leaves) :] = _digest(empty_root(0))
    yield level
    for at in range(height):
        if level.shape[1] % 2:
            filler = np.broadcast_to(_digest(empty_root(at)), (len(trees), 1, 32))
            level = np.concatenate([level, filler], axis=1)
        level = hash_pairs(level.reshape(-1, 32)).reshape(len(trees), -1, 32)
        yield level


def _digest(digest: bytes) -> Digests:
    return np.frombuffer(digest, dtype=np.uint8)


@cache
def _padding(height: int) -> Digests:
    """Return the nodes of a tree without a step, leaves first, (2 ** (height + 1) - 1, 32)."""
    return np.concatenate([np.tile(_digest(empty_root(at)), (1 << (height - at), 1)) for at in range(height + 1)])


def _files(trees: Sequence[_Tree[Run]], height: int) -> list[ProofFile]:
    """Return the files of runs whose trees have one height."""
    nodes = np.empty((len(trees), (2 << height) - 1, 32), dtype=np.uint8)
    nodes[:] = _padding(height)
    start = 0
    for at, level in enumerate(_levels(trees, height)):
        nodes[:, start : start + level.shape[1]] = level
        start += 1 << (height - at)
    rooted = [_Rooted(tree.of, nodes[n, -1].tobytes()) for n, tree in enumerate(trees)]
    needed = _siblings([one.included for one in rooted], height)
    return [one.file(_hexes(nodes[n][needed[n]])) for n, one in enumerate(rooted)]


class _Rooted:
    """A run whose trace root is known, and with it which steps its proof includes."""

    def __init__(self, run: Run, trace_root: bytes) -> None:
        self._execution, self._window = run
        self._trace_root, self._proof_root = trace_root, root_of_run(self._execution, trace_root)
        assert self._execution.trace is not None  # noqa: S101 - its leaves were hashed
        self._rows = self._execution.trace.rows
        stores = last_stores(self._execution.trace, len(self._execution.output))
        self.included = included_steps(self._proof_root, self._execution.steps, stores.values(), ())

    def file(self, siblings: Sequence[str]) -> ProofFile:
        """Return the proof's file. siblings: hex, in the order of docs/proofs.md."""
        text = file_text(
            self._execution, trace_root=self._trace_root, proof_root=self._proof_root, window=self._window,
            included=_hexes(pack_rows(self._rows[self.included])), siblings=siblings,
        )  # fmt: skip
        run = self._execution
        return ProofFile(output=run.output, steps=run.steps, proof_root=self._proof_root, text=text)


def _siblings(included: Sequence[Sequence[int]], height: int) -> npt.NDArray[np.bool_]:
    """Return which nodes a verifier of the included steps cannot compute, (trees, nodes), by the places of ``_files``.

    A node is known when a step below it is included, and needed when its sibling is known and it is not.
    """
    needed = np.zeros((len(included), (2 << height) - 1), dtype=bool)
    known: npt.NDArray[np.bool_] = np.zeros((len(included), 1 << height), dtype=bool)
    for n, steps in enumerate(included):
        known[n, steps] = True
    start = 0
    for at in range(height):
        pairs = known.reshape(len(included), -1, 2)
        known = np.any(pairs, axis=2)
        width = 1 << (height - at)
        needed[:, start : start + width] = (known[:, :, None] & ~pairs).reshape(len(included), width)
        start += width
    return needed


def _hexes(table: npt.NDArray[np.uint8]) -> list[str]:
    """Return each row as hex."""
    text, size = table.tobytes().hex(), 2 * table.shape[1]
    return [text[at : at + size] for at in range(0, len(text), size)]
