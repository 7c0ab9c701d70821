"""Reading the blocks in which a disputed contract may be played: by its parties, and by a stranger with a package.

Anew at each look, so that a reorganisation between two looks needs no care; one during a look ends it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from btcfi.adapters.chain.node import Node
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.contracts.watch import ChainMovedError
from btcfi.disputes.garbled.game import Spends
from btcfi.units import Hash32, Height, Txid

BATCH: Final = 100
"""Blocks that are read in one round trip."""


def transactions_from(node: Node, first: Height) -> Iterator[tuple[Height, Transaction]]:
    """Yield every transaction of the blocks from a height on. Raises ChainMovedError when they are of two chains."""
    heights = [Height(at) for at in range(first, node.block_count() + 1)]
    before: Hash32 | None = None
    for start in range(0, len(heights), BATCH):
        some = heights[start : start + BATCH]
        for at, block in zip(some, node.blocks([node.block_hash(one) for one in some]), strict=True):
            if before not in (None, block.previous):
                raise ChainMovedError(at)
            before = block.header.hash
            for one in block.transactions:
                yield at, one


def spends_from(node: Node, first: Height, opening: Txid) -> tuple[Spends, tuple[Transaction, Height] | None]:
    """Return what spends what from a height on, and the opening as a block holds it; None: none does.

    Raises ChainMovedError as above.
    """
    found: tuple[Transaction, Height] | None = None
    spends: dict[OutPoint, tuple[Transaction, Height]] = {}
    for at, one in transactions_from(node, first):
        if one.txid == opening:
            found = one, at
        for txin in one.inputs:
            spends[txin.outpoint] = one, at
    return spends, found
