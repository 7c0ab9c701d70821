"""What the next blocks would hold, if no transaction came any more: a node's pool by fee rate, cut into blocks.

A transaction counts with what it needs and what pays for it: a child that pays for its parent lifts it, a rich parent
lifts no poor child. That is what a miner does for families of two, and an estimate for larger ones. Pure.
Source: Bitcoin Core 29, BlockAssembler::addPackageTxs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from btcfi.bitcoin.fees import SatsPerKvb

BLOCK_VSIZE: Final = 998_000
"""Virtual bytes of a block that transactions have: 4,000,000 weight less 8,000 for header and coinbase
(bitcoind's -blockreservedweight)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InPool:
    """One waiting transaction."""

    vsize: int
    rate: SatsPerKvb
    """With its family: ``family_rate``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextBlock:
    """One block to come."""

    number: int
    """1 is the next one."""
    transactions: int
    vsize: int
    lowest: SatsPerKvb
    middle: SatsPerKvb
    """Half of its virtual bytes pay as much or more."""
    highest: SatsPerKvb
    full: bool
    """Whether more waits than it holds: what pays less than its lowest rate waits longer."""


def family_rate(*, own: tuple[int, int], ancestors: tuple[int, int], descendants: tuple[int, int]) -> SatsPerKvb:
    """Return the rate by which a miner takes a transaction. Each: fee in satoshis and vsize, itself counted."""
    rates = [fee * 1_000 // max(vsize, 1) for fee, vsize in (own, ancestors, descendants)]
    alone = descendants == own
    return SatsPerKvb(min(rates[0], rates[1]) if alone else max(min(rates[0], rates[1]), rates[2]))


def next_blocks(pool: Iterable[InPool], *, many: int = 8, space: int = BLOCK_VSIZE) -> tuple[NextBlock, ...]:
    """Return the next blocks, at most ``many``, highest rates first; fewer when the pool is shorter."""
    found: list[NextBlock] = []
    inside: list[InPool] = []
    size, left = 0, False
    for one in sorted(pool, key=lambda one: -one.rate):
        if inside and size + one.vsize > space:
            found.append(_block(len(found) + 1, inside, size, full=True))
            inside, size = [], 0
            if len(found) == many:
                left = True
                break
        inside.append(one)
        size += one.vsize
    if inside and not left:
        found.append(_block(len(found) + 1, inside, size, full=False))
    return tuple(found)


def rate_within(blocks: Sequence[NextBlock], target: int) -> SatsPerKvb | None:
    """Return the rate at which one more transaction is among the next ``target`` blocks, as the pool stands.

    None where they are not full: any rate that the node takes is enough.
    """
    full = [one for one in blocks[:target] if one.full]
    return SatsPerKvb(full[-1].lowest + 1) if len(full) == target else None


def _block(number: int, inside: Sequence[InPool], size: int, *, full: bool) -> NextBlock:
    passed, middle = 0, inside[-1].rate
    for one in inside:
        passed += one.vsize
        if passed * 2 >= size:
            middle = one.rate
            break
    return NextBlock(
        number=number, transactions=len(inside), vsize=size, lowest=inside[-1].rate, middle=middle,
        highest=inside[0].rate, full=full,
    )  # fmt: skip
