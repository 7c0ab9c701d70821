"""Which waiting transactions go into the next block: by fee rate, each with what it builds on, as bitcoind's miner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from heapq import heapify, heappop, heappush
from typing import Final

from btcfi.adapters.chain.regtest.policy import Policy, PoolEntry
from btcfi.bitcoin.fees import fee_for
from btcfi.units import Txid

COINBASE_RESERVE: Final = 8_000
"""Weight kept free for header and coinbase: bitcoind's -blockreservedweight."""

_WITNESS_SCALE: Final = 4


@dataclass(slots=True)
class _Bundle:
    """A transaction with those of its ancestors that the block does not hold yet."""

    ancestors: set[Txid]
    fee: int
    vsize: int


def choose(pool: Mapping[Txid, PoolEntry], policy: Policy) -> list[PoolEntry]:
    """Return the transactions of the next block, parents before children.

    pool: parents stand before children. The best bundle of a transaction and its missing ancestors goes first, until
    one pays less than ``policy.block_fee``; one that does not fit is left out. Source: Bitcoin Core 29, addPackageTxs.
    """
    bundles = _bundles(pool)
    descendants: dict[Txid, list[Txid]] = {txid: [] for txid in pool}
    for txid, bundle in bundles.items():
        for ancestor in bundle.ancestors:
            descendants[ancestor].append(txid)
    queue = [(-_score(pool[txid], bundle), txid) for txid, bundle in bundles.items()]
    heapify(queue)
    chosen: dict[Txid, PoolEntry] = {}
    weight = COINBASE_RESERVE
    while queue:
        score, txid = heappop(queue)
        bundle = bundles[txid]
        if txid in chosen or -score != _score(pool[txid], bundle):
            continue  # counted with ancestors that are in the block by now: it stands in the queue again
        if bundle.fee < fee_for(bundle.vsize, policy.block_fee):
            break
        if weight + _WITNESS_SCALE * bundle.vsize >= policy.block_weight:
            continue
        weight += _WITNESS_SCALE * bundle.vsize
        for member in sorted(bundle.ancestors | {txid}, key=lambda one: len(bundles[one].ancestors)):
            chosen[member] = pool[member]
            for child in descendants[member]:
                _take_out(bundles[child], member, pool[member])
                heappush(queue, (-_score(pool[child], bundles[child]), child))
    return list(chosen.values())


def _bundles(pool: Mapping[Txid, PoolEntry]) -> dict[Txid, _Bundle]:
    bundles: dict[Txid, _Bundle] = {}
    for txid, entry in pool.items():
        ancestors = set(entry.parents).union(*(bundles[parent].ancestors for parent in entry.parents))
        together = [entry, *(pool[ancestor] for ancestor in ancestors)]
        bundles[txid] = _Bundle(ancestors, sum(one.fee for one in together), sum(one.vsize for one in together))
    return bundles


def _score(entry: PoolEntry, bundle: _Bundle) -> Fraction:
    # the lower of the two, as bitcoind's CompareTxMemPoolEntryByAncestorFee: a rich parent lifts no poor child
    return min(Fraction(entry.fee, entry.vsize), Fraction(bundle.fee, bundle.vsize))


def _take_out(bundle: _Bundle, txid: Txid, entry: PoolEntry) -> None:
    bundle.ancestors.discard(txid)
    bundle.fee -= entry.fee
    bundle.vsize -= entry.vsize
