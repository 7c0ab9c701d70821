"""What waits in a node's pool on outputs that we want to spend, and what it would take to replace it."""

from __future__ import annotations

from collections.abc import Sequence

from btcfi.adapters.chain.node import Node
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import OutPoint
from btcfi.contracts.settling import Waiting
from btcfi.errors import NotFoundError


def waiting_on(node: Node, outpoints: Sequence[OutPoint]) -> dict[OutPoint, Waiting]:
    """Return, by outpoint, what waits to spend it; outpoints that nothing spends are not in it."""
    found: dict[OutPoint, Waiting] = {}
    for outpoint, txid in zip(outpoints, node.pool_spenders(outpoints), strict=True):
        if txid is None:
            continue
        try:
            entry = node.pool_entry(txid)
        except NotFoundError:
            continue  # mined or replaced between the two questions: the next look sees it
        found[outpoint] = Waiting(txid=txid, fee=entry.fee, vsize=entry.vsize, total_fee=entry.descendants_fee)
    return found


def asking_rate(node: Node, target_blocks: int) -> SatsPerKvb:
    """Return the rate that a node asks for: its estimate for so many blocks, and never less than it takes now."""
    return SatsPerKvb(max(node.fee_estimate(target_blocks) or 0, node.relay_fee()))
