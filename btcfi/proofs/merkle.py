"""The trace tree: tagged leaves, tagged nodes, padded to a power of two with one fixed empty leaf. docs/proofs.md.

The tree's shape follows from the number of steps alone, so any part of it can be computed elsewhere: a subtree is named
by its height and its index among the subtrees of that height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.proofs.errors import ProofPathError
from btcfi.proofs.lanes import hash_leaves, hash_pairs
from btcfi.units import Hash32
from btcfi.vm.trace import Trace

LEAF_TAG: Final = "BTCFi/trace/leaf"
NODE_TAG: Final = "BTCFi/trace/node"

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


def empty_root(height: int) -> Hash32:
    """Return the root of a subtree without any step."""
    root = EMPTY_LEAF
    for _ in range(height):
        root = node_hash(root, root)
    return root


def trace_leaves(trace: Trace) -> Digests:
    """Return the leaves of a trace, (steps, 32)."""
    return hash_leaves(trace.rows)


def levels_above(digests: Digests, height: int) -> list[Digests]:
    """Return the levels of a tree of ``height`` over ``digests``, leaves first; missing right siblings are empty.

    Each level holds only the nodes that have a step below them: ceil(n / 2**level) of them.
    """
    levels = [digests]
    filler = EMPTY_LEAF
    for _ in range(height):
        below = levels[-1]
        if len(below) % 2:
            below = np.concatenate([below, np.frombuffer(filler, dtype=np.uint8).reshape(1, 32)])
        levels.append(hash_pairs(below))
        filler = node_hash(filler, filler)
    return levels


def root_of(digests: Digests, height: int) -> Hash32:
    """Return the root of a tree of ``height`` over ``digests`` (at most 2**height of them, at least one)."""
    return Hash32(levels_above(digests, height)[-1][0].tobytes())


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
    level = [Hash32(bytes(root)) for root in roots]
    filler = empty_root(subtree_height)
    for _ in range(height - subtree_height):
        if len(level) % 2:
            level.append(filler)
        level = [node_hash(level[n], level[n + 1]) for n in range(0, len(level), 2)]
        filler = node_hash(filler, filler)
    return level[0]


def path_of(levels: Sequence[Digests], index: int) -> tuple[Hash32, ...]:
    """Return the siblings from leaf ``index`` up to the root; ``levels`` as ``levels_above`` gives them."""
    siblings: list[Hash32] = []
    filler = EMPTY_LEAF
    for level in levels[:-1]:
        sibling = index ^ 1
        siblings.append(Hash32(level[sibling].tobytes()) if sibling < len(level) else filler)
        filler = node_hash(filler, filler)
        index >>= 1
    return tuple(siblings)


def root_from_path(leaf: bytes, index: int, siblings: Sequence[bytes]) -> Hash32:
    """Return the root that ``siblings`` lead to from ``leaf`` at ``index``."""
    node = Hash32(leaf)
    for sibling in siblings:
        node = node_hash(sibling, node) if index & 1 else node_hash(node, sibling)
        index >>= 1
    return node


def multi_path_of(levels: Sequence[Digests], indices: Sequence[int]) -> tuple[Hash32, ...]:
    """Return the fewest siblings that lead from the leaves ``indices`` to the root.

    Order: level by level from the leaves, left to right, only nodes that the verifier cannot compute itself.
    """
    siblings: list[Hash32] = []
    known = sorted(set(indices))
    filler = EMPTY_LEAF
    for level in levels[:-1]:
        present = set(known)
        for index in known:
            sibling = index ^ 1
            if sibling not in present:
                siblings.append(Hash32(level[sibling].tobytes()) if sibling < len(level) else filler)
        known = sorted({index >> 1 for index in known})
        filler = node_hash(filler, filler)
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
