"""A stranger's look at one disputed contract: the chain and a checked package, and no secret but whom to pay."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from btcfi.adapters.chain.node import Node
from btcfi.adapters.dispute_scan import spends_from
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.disputes.garbled import game, watchtower
from btcfi.disputes.garbled.game import Duty, Position
from btcfi.disputes.garbled.graph import last_of
from btcfi.disputes.garbled.setup import Verdict
from btcfi.disputes.garbled.watchtower import Watch
from btcfi.disputes.stages import Stage
from btcfi.errors import NotFoundError
from btcfi.units import Height, Txid

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A contract after a look at the chain."""

    position: Position
    duties: tuple[Duty, ...] = ()
    verdict: Verdict | None = None
    """Of the claim that stands; None: none stands."""
    sent: tuple[Transaction, Transaction] | None = None
    """The disproof and its child, sent just now."""
    waiting: Txid | None = None
    """What disproves the claim in the pool already, and pays as much: somebody was faster."""


def look(node: Node, watch: Watch, *, script: bytes, rate: SatsPerKvb, since: Height) -> Seen:
    """Look at the chain, and convict the claim that stands there if it is false.

    script: where the reward goes. rate: what the pair pays. since: blocks above it are read. Raises InvalidInputError
    for a rate that the reward does not pay, UnreadableClaimError, NotFoundError where the chain is shorter than that,
    TxRejectedError where what waits pays more than the reward can, and what else the node's client raises.
    """
    if since > (top := node.block_count()):
        raise NotFoundError("block", str(since), f"this chain ends at {top}: the chain of the contract")
    graph, (spends, opening) = watch.graph, spends_from(node, Height(since + 1), watch.graph.coin.txid)
    here = game.position(graph, spends, opening)
    duties = tuple(game.clock(graph, here))
    if here.stage not in {Stage.CLAIMED, Stage.REVEALED} or here.claim is None or here.last is None:
        return Seen(position=here, duties=duties)
    judgement = watchtower.judge(watch, here.claim, here.last if here.stage is Stage.REVEALED else None)
    if judgement.secret is None:
        return Seen(position=here, duties=duties, verdict=judgement.verdict)
    (waiting,) = node.pool_spenders([last_of(here.last)[0]])
    if waiting is not None and _is_paid_for(node, waiting, last_of(here.last)[0], rate):
        return Seen(position=here, duties=duties, verdict=judgement.verdict, waiting=waiting)
    disproved = watchtower.finish_disproof(
        graph, watch.reward, watch.disproofs, (here.number or 0, here.silent), fault=judgement.secret
    )  # fmt: skip
    taken = watchtower.child(disproved, fee=graph.terms.fee, rate=rate, script=script)
    if waiting == disproved.txid:  # there already, with a child that pays too little
        node.send(taken)
    else:
        node.send_package([disproved, taken])
    return Seen(position=here, duties=duties, verdict=judgement.verdict, sent=(disproved, taken))


def _is_paid_for(node: Node, waiting: Txid, escrow: OutPoint, rate: SatsPerKvb) -> bool:
    """Return whether a disproof, by the escrow's key path, waits with a fee of the rate or more.

    Anything else is outbid: a claimant's payout, and a disproof that the claimant made itself, to pay too little for it
    until its payout can take its place.
    """
    (entry,) = node.pool_entries_of([waiting])
    if entry is None or entry.descendants_fee * 1000 < rate * entry.descendants_vsize:
        return False
    spend = node.transaction(waiting).transaction
    return any(one.outpoint == escrow and len(one.witness) == 1 for one in spend.inputs)
