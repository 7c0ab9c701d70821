"""The trace tree: tagged leaves, tagged nodes, padded to a power of two with one fixed empty leaf. docs/proofs.md.

The tree's shape follows from the number of steps alone, so any part of it can be computed elsewhere: a subtree is named
by its height and its index among the subtrees of that height.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.proofs.errors import ProofPathError
from btcfi.proofs.lanes import LEAF_TAG, NODE_TAG, hash_leaves, hash_pairs
from btcfi.units import Hash32
from btcfi.vm.trace import Trace

EMPTY_LEAF: Final = tagged_hash(LEAF_TAG, b"")
"""Fills the tree beyond the last step. No step has it: a step's leaf hashes 150 bytes, this one hashes none."""

MAX_HEIGHT: Final = 32
"""A step's number is a u32."""

Digests = npt.NDArray[np.uint8]
"""(n, 32)."""


def leaf_hash(packed_step: bytes) -> Hash32:
    """Return the leaf of one packed step (150 bytes): the definition that the vectorised hashing must equal."""
    return tagged_hash(LEAF_TAG, packed_step)


def node_hash(left: bytes, right: bytes) -> Hash32:
    """Return the parent of two digests."""
    return tagged_hash(NODE_TAG, left + right)


def height_of(steps: int) -> int:
    """Return the height of the tree over ``steps`` leaves: the least h with 2**h >= steps. Raises InvalidInputError."""
    if not 1 <= steps <= 1 << MAX_HEIGHT:
        raise InvalidInputError("steps", str(steps), f"1 to {1 << MAX_HEIGHT}")
    return (steps - 1).bit_length()


@cache
def empty_root(height: int) -> Hash32:
    """Return the root of a subtree without any step."""
    return EMPTY_LEAF if height == 0 else node_hash(empty_root(height - 1), empty_root(height - 1))


def trace_leaves(trace: Trace) -> Digests:
    """Return the leaves of a trace, (steps, 32)."""
    return hash_leaves(trace.rows)


def node_levels(digests: Digests, height: int, filler: Hash32) -> list[Digests]:
    """Return the ``height`` levels above ``digests``, these first; ``filler`` stands for each missing right sibling.

    Each level holds only the nodes that have a step below them: ceil(n / 2**level) of them.
    """
    levels = [digests]
    for level in range(height):
        below = levels[-1]
        if len(below) % 2:
            below = np.concatenate([below, np.frombuffer(filler, dtype=np.uint8).reshape(1, 32)])
        levels.append(hash_pairs(below))
        # Above leaves the fillers are the cached empty roots; above subtrees they are hashed here.
        filler = empty_root(level + 1) if filler == empty_root(level) else node_hash(filler, filler)
    return levels


def leaf_levels(leaves: Digests, height: int) -> list[Digests]:
    """Return all levels of a tree of ``height`` over ``leaves``, leaves first."""
    return node_levels(leaves, height, EMPTY_LEAF)


def root_of(digests: Digests, height: int) -> Hash32:
    """Return the root of a tree of ``height`` over ``digests`` (at most 2**height of them, at least one)."""
    return Hash32(leaf_levels(digests, height)[-1][0].tobytes())


def trace_root(trace: Trace) -> Hash32:
    """Return the tree root of a whole trace."""
    return root_of(trace_leaves(trace), height_of(len(trace)))


def subtree_root(trace: Trace, index: int, height: int) -> Hash32:
    """Return the root of subtree ``index`` among those of ``height``; ``trace`` holds only that subtree's rows.

    The rows' own step numbers must start at index * 2**height. A subtree without rows is empty. Raises
    InvalidInputError when the rows belong elsewhere or are too many.
    """
    if len(trace) > 1 << height:
        raise InvalidInputError("subtree", f"{len(trace)} rows", f"at most {1 << height} at height {height}")
    if not len(trace):
        return empty_root(height)
    first = int(trace.rows[0, 0])
    if first != index << height:
        raise InvalidInputError("subtree", f"rows start at step {first}", f"step {index << height}")
    return root_of(trace_leaves(trace), height)


def root_from_subtrees(roots: Sequence[bytes], *, subtree_height: int, steps: int) -> Hash32:
    """Return the tree root from the roots of all subtrees of one height, in order.

    Raises InvalidInputError unless there are exactly ceil(steps / 2**subtree_height) of them (one, for a shorter trace
    than one subtree: then ``subtree_height`` must not exceed the tree's height).
    """
    height = height_of(steps)
    if not 0 <= subtree_height <= height:
        raise InvalidInputError("subtree height", str(subtree_height), f"0 to {height} for {steps} steps")
    wanted = (steps + (1 << subtree_height) - 1) >> subtree_height
    if len(roots) != wanted or any(len(root) != 32 for root in roots):  # noqa: PLR2004 - bytes of a digest
        raise InvalidInputError("subtree roots", f"{len(roots)} of them", f"{wanted} digests of 32 bytes")
    digests = np.frombuffer(b"".join(roots), dtype=np.uint8).reshape(-1, 32)
    levels = node_levels(digests, height - subtree_height, empty_root(subtree_height))
    return Hash32(levels[-1][0].tobytes())


def path_of(levels: Sequence[Digests], index: int) -> tuple[Hash32, ...]:
    """Return the siblings from leaf ``index`` up to the root; ``levels`` as ``leaf_levels`` gives them."""
    return multi_path(lambda level, place: node_in(levels, level, place), len(levels) - 1, [index])


def node_in(levels: Sequence[Digests], level: int, index: int) -> bytes | None:
    """Return a node of a tree that is wholly in memory; None where only padding is below it."""
    row = levels[level]
    return row[index].tobytes() if index < len(row) else None


def root_from_path(leaf: bytes, index: int, siblings: Sequence[bytes]) -> Hash32:
    """Return the root that ``siblings`` lead to from ``leaf`` at ``index``."""
    node = Hash32(leaf)
    for sibling in siblings:
        node = node_hash(sibling, node) if index & 1 else node_hash(node, sibling)
        index >>= 1
    return node


NodeAt = Callable[[int, int], bytes | None]
"""(level, index) -> the node there, or None where only padding is below it."""


def multi_path(node_at: NodeAt, height: int, indices: Sequence[int]) -> tuple[Hash32, ...]:
    """Return the fewest siblings that lead from the leaves ``indices`` to the root.

    Order: level by level from the leaves, left to right, only nodes that the verifier cannot compute itself.
    """
    siblings: list[Hash32] = []
    known = sorted(set(indices))
    for level in range(height):
        present = set(known)
        missing = [index ^ 1 for index in known if index ^ 1 not in present]
        siblings += [Hash32(node_at(level, index) or empty_root(level)) for index in missing]
        known = sorted({index >> 1 for index in known})
    return tuple(siblings)


def root_from_multi_path(leaves: Mapping[int, bytes], height: int, siblings: Sequence[bytes]) -> Hash32:
    """Return the root that ``leaves`` and ``siblings`` lead to. Raises ProofPathError for too few or too many."""
    nodes = dict(leaves)
    supply = iter(siblings)
    for _ in range(height):
        parents: dict[int, bytes] = {}
        for index in sorted(nodes):
            if index >> 1 in parents:
                continue
            sibling = nodes.get(index ^ 1)
            if sibling is None:
                sibling = next(supply, None)
                if sibling is None:
                    raise ProofPathError(f"{len(siblings)} siblings are too few for a tree of height {height}")
            pair = (sibling, nodes[index]) if index & 1 else (nodes[index], sibling)
            parents[index >> 1] = node_hash(*pair)
        nodes = parents
    if next(supply, None) is not None or set(nodes) != {0}:
        raise ProofPathError(f"{len(siblings)} siblings are too many for a tree of height {height}")
    return Hash32(nodes[0])
