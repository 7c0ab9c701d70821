"""Shares of secrets over the copies of a set-up: each secret is a polynomial's value at 0, copy k has its value at k.

A polynomial of degree t is fixed by its values at 0 to t, and committed by their points: so a share of any copy can be
checked against points alone, and t shares and the secret give every other share. All in the field of secp256k1's order.
Source: Feldman (1987), with values in place of coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import mul

from btcfi import secp256k1
from btcfi.secp256k1 import ORDER

Scalars = tuple[int, ...]
"""Below the order, one a secret."""


@lru_cache(maxsize=4096)
def coefficients(nodes: tuple[int, ...], at: int) -> Scalars:
    """Return by what the values at distinct nodes are multiplied to have the value at another place."""
    found = []
    for node in nodes:
        above = below = 1
        for other in nodes:
            if other != node:
                above = above * (at - other) % ORDER
                below = below * (node - other) % ORDER
        found.append(above * pow(below, -1, ORDER) % ORDER)
    return tuple(found)


def value_at(rows: Sequence[Scalars], nodes: tuple[int, ...], at: int) -> Scalars:
    """Return every polynomial's value at a place, given their values at nodes: a row a node, a column a secret."""
    weights = coefficients(nodes, at)
    return tuple(sum(map(mul, weights, column)) % ORDER for column in zip(*rows, strict=True))


def points_of(scalars: Scalars) -> tuple[bytes, ...]:
    """Return each scalar's point, compressed. Raises InvalidInputError for 0."""
    return tuple(secp256k1.public_key_compressed(one.to_bytes(32)) for one in scalars)


def combined(points: Sequence[bytes], weights: Sequence[int]) -> bytes:
    """Return the sum of points times public scalars, compressed; a weight of 0 leaves its point out.

    Raises InvalidInputError for a point that is none, and a sum of infinity.
    """
    pairs = zip(points, weights, strict=True)
    return secp256k1.point_add([secp256k1.point_multiply(one, by.to_bytes(32)) for one, by in pairs if by])
