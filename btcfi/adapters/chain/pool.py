"""What waits in a node's pool on outputs that we want to spend, and what it would take to replace it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from btcfi.adapters.chain.node import Node, PoolEntry, PoolSize
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.next_blocks import InPool, NextBlock, family_rate, next_blocks, rate_within
from btcfi.bitcoin.transaction import OutPoint
from btcfi.contracts.settling import Waiting
from btcfi.units import Height


def waiting_on(node: Node, outpoints: Sequence[OutPoint]) -> dict[OutPoint, Waiting]:
    """Return, by outpoint, what waits to spend it; outpoints that nothing spends are not in it."""
    spent = {one: txid for one, txid in zip(outpoints, node.pool_spenders(outpoints), strict=True) if txid is not None}
    entries = node.pool_entries_of(list(spent.values()))
    return {
        outpoint: Waiting(txid=txid, fee=entry.fee, vsize=entry.vsize, total_fee=entry.descendants_fee)
        for (outpoint, txid), entry in zip(spent.items(), entries, strict=True)
        if entry is not None  # mined or replaced between the two questions: the next look sees it
    }


def asking_rate(node: Node, target_blocks: int) -> SatsPerKvb:
    """Return the rate that a node asks for: its estimate for so many blocks, and never less than it takes now.

    A node without an estimate, as one that has just started, is asked what the next blocks would hold.
    """
    estimate = node.fee_estimate(target_blocks)
    if estimate is None:
        estimate = rate_within(_next_blocks(node, node.pool_size()), target_blocks)
    return SatsPerKvb(max(estimate or 0, node.relay_fee()))


MOST_READ: Final = 50_000
"""Waiting transactions that are read one by one: 30 MB of an answer. Of a larger pool only its size is said."""

TARGETS: Final = (2, 6, 36)
"""Blocks for which the node's estimate is shown: a settlement's, a refund's, an anchor's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeMarket:
    """A node's pool at one moment."""

    tip: Height
    size: PoolSize
    estimates: Mapping[int, SatsPerKvb | None]
    """By blocks; None where the node knows none."""
    blocks: tuple[NextBlock, ...]
    """What the next blocks would hold; empty when nothing waits, or more than ``MOST_READ``."""

    @property
    def read(self) -> bool:
        """Whether the pool was small enough to be read."""
        return self.size.transactions <= MOST_READ


def look(node: Node) -> FeeMarket:
    """Return what waits in a node's pool and what its next blocks would hold. Raises NodeUnreachableError."""
    size = node.pool_size()
    return FeeMarket(
        tip=node.block_count(), size=size, estimates={target: node.fee_estimate(target) for target in TARGETS},
        blocks=_next_blocks(node, size),
    )  # fmt: skip


def _next_blocks(node: Node, size: PoolSize) -> tuple[NextBlock, ...]:
    entries = node.pool_entries() if 0 < size.transactions <= MOST_READ else []
    return next_blocks(InPool(vsize=one.vsize, rate=_rate(one)) for one in entries)


def _rate(one: PoolEntry) -> SatsPerKvb:
    return family_rate(
        own=(one.fee, one.vsize), ancestors=(one.ancestors_fee, one.ancestors_vsize),
        descendants=(one.descendants_fee, one.descendants_vsize),
    )  # fmt: skip
