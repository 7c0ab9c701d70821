"""A block's Merkle tree: what its header says of its transactions. Bitcoin's rules; our own trees have others."""

from __future__ import annotations

from collections.abc import Sequence

from btcfi.errors import InvalidInputError
from btcfi.hashes import hash256
from btcfi.units import Hash32, hash32


def _upward(level: Sequence[bytes]) -> list[bytes]:
    """Return the next level: an odd end is hashed with itself, which our own trees never do."""
    even = [*level, level[-1]] if len(level) % 2 else level
    return [hash256(even[i] + even[i + 1]) for i in range(0, len(even), 2)]


def merkle_root(leaves: Sequence[bytes]) -> Hash32:
    """Return the root over 32-byte leaves in their order: txids for the header, witness ids for its commitment.

    A list whose end is repeated may have the same root (CVE-2012-2459): who is given transactions from outside looks
    for doubles too. Raises InvalidInputError without a leaf.
    """
    if not leaves:
        raise InvalidInputError("block", "has no transaction", "at least its coinbase")
    level: Sequence[bytes] = leaves
    while len(level) > 1:
        level = _upward(level)
    return hash32(level[0])


def merkle_branch(leaves: Sequence[bytes], position: int) -> tuple[Hash32, ...]:
    """Return the siblings from leaf ``position`` up to the root, the lowest first."""
    level: Sequence[bytes] = leaves
    branch = []
    while len(level) > 1:
        sibling = position ^ 1
        branch.append(hash32(level[sibling] if sibling < len(level) else level[-1]))
        level, position = _upward(level), position >> 1
    return tuple(branch)


def root_of_branch(leaf: Hash32, position: int, branch: Sequence[Hash32]) -> Hash32 | None:
    """Return the root that a leaf and its siblings lead to; None for a position that the branch cannot have."""
    node = leaf
    for sibling in branch:
        node = hash256(sibling + node if position & 1 else node + sibling)
        position >>= 1
    return None if position else node
