"""Watching disputed contracts block by block, many at once: each waits for its opening, then for one coin's spend.

What a contract has seen is its opening and then what spent each coin of it, with their blocks; its position follows
from that alone, so who has walked by way of blocks that are gone stands where a newcomer stands. Pure: the chain is
an argument. Deeper than ``contracts.watch.REMEMBERED_BLOCKS`` no reorganisation is followed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.contracts.watch import REMEMBERED_BLOCKS, BlockView, ChainMovedError, ChainView
from btcfi.disputes.garbled import game
from btcfi.disputes.garbled.game import Position
from btcfi.disputes.public import PublicDispute
from btcfi.units import Hash32, Height, Txid


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A transaction of a contract, in a block."""

    transaction: Transaction
    height: Height
    block: Hash32


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How far a contract has been watched, and what was seen."""

    opening: Txid
    coin: OutPoint | None
    """Whose spend is waited for; None: the opening is, or nothing any more."""
    seen: tuple[Seen, ...]
    """The opening, then what spent each coin."""
    height: Height
    """The last block that was looked at."""
    block: Hash32


Resolve = Callable[[str], PublicDispute]
"""A contract by its id; asked for those alone whose transactions a block holds."""


def begin(dispute: PublicDispute) -> Watch:
    """Return a watch that has looked at nothing yet: it begins some blocks before the contract can have been opened."""
    return Watch(
        opening=dispute.opening.txid, coin=None, seen=(), height=Height(max(0, dispute.since - 1)),
        block=Hash32(bytes(32)),
    )  # fmt: skip


def positions(dispute: PublicDispute, seen: Iterable[Seen]) -> tuple[Position, ...]:
    """Return where a contract has stood and stands."""
    every = tuple(seen)
    spends = {
        txin.outpoint: (one.transaction, one.height) for one in every[1:] for txin in one.transaction.inputs
    }  # fmt: skip
    opening = (every[0].transaction, every[0].height) if every else None
    return game.positions(dispute.graph, spends, opening)


def advance(
    watches: Mapping[str, Watch], resolve: Resolve, view: ChainView, *, limit: int
) -> tuple[dict[str, Watch], int]:  # fmt: skip
    """Return the watches after at most ``limit`` more blocks, what is gone taken back, and how many were looked at.

    A node that is more than a day behind is loading, and nothing is taken back on its word. Whatever the view raises
    goes through; ChainMovedError when its blocks do not build on each other. The old watches still stand then.
    """
    top, found, read = view.block_count(), dict(watches), 0
    for key, one in watches.items():
        if one.height <= top + REMEMBERED_BLOCKS:
            found[key] = rewound(one, lambda key=key: resolve(key), view.block_hash, top)  # type: ignore[misc]
    for number in range(min((one.height for one in found.values()), default=top) + 1, top + 1):
        at = Height(number)
        if some := {key: one for key, one in found.items() if one.height == at - 1}:
            if read >= limit:
                break
            read += 1
            name = view.block_hash(at)
            found |= look(some, resolve, view.block(name), at, name)
    return found, read


def look(
    watches: Mapping[str, Watch], resolve: Resolve, block: BlockView, at: Height, name: Hash32
) -> dict[str, Watch]:  # fmt: skip
    """Return the watches, all of which end at one block, with the next block looked at.

    Raises ChainMovedError for a block that does not build on theirs: what was read is of two chains.
    """
    if any(one.block != block.previous for one in watches.values()):
        raise ChainMovedError(at)
    openings, coins = defaultdict[Txid, list[str]](list), defaultdict[OutPoint, list[str]](list)
    found = dict(watches)
    for key, one in watches.items():
        if one.coin is not None:
            coins[one.coin].append(key)
        elif not one.seen:
            openings[one.opening].append(key)
    for transaction in block.transactions:
        hits = openings.pop(transaction.txid, [])
        for txin in transaction.inputs:
            hits = hits + coins.pop(txin.outpoint, [])
        for key in hits:
            found[key] = _with(found[key], resolve(key), Seen(transaction=transaction, height=at, block=name))
            if (coin := found[key].coin) is not None:  # what follows may be in the same block
                coins[coin].append(key)
    return {key: replace(one, height=at, block=name) for key, one in found.items()}


def rewound(
    watch: Watch, resolve: Callable[[], PublicDispute], block_hash: Callable[[Height], Hash32], top: Height
) -> Watch:  # fmt: skip
    """Return a watch that ends at a block of the chain: itself, or less what blocks held that are gone.

    It goes back to where the next spend of its coin could have been, a day at the most, and looks at that again.
    """

    def stands(height: Height, block: Hash32) -> bool:
        return height <= top and block_hash(height) == block

    if stands(watch.height, watch.block):
        return watch
    kept: list[Seen] = []
    for one in watch.seen:
        if not stands(one.height, one.block):
            break
        kept.append(one)
    least = max(0, min(watch.height, top) - REMEMBERED_BLOCKS)
    if kept:
        least = max(least, kept[-1].height - 1)
    back = Height(min(least, top))
    return replace(_of(watch, resolve(), tuple(kept)), height=back, block=block_hash(back))


def _with(watch: Watch, dispute: PublicDispute, one: Seen) -> Watch:
    return _of(watch, dispute, (*watch.seen, one))


def _of(watch: Watch, dispute: PublicDispute, seen: tuple[Seen, ...]) -> Watch:
    return replace(watch, seen=seen, coin=game.coin_of(dispute.graph, positions(dispute, seen)[-1]))
