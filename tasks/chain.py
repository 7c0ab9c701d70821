"""The chain: one process, one wallet. Build and store first, send second, watch outpoints until they are final."""

from __future__ import annotations

import os

from celery import shared_task

from btcfi.adapters.node import Node, TxRejectedError
from btcfi.adapters.store import chain
from btcfi.bitcoin.address import encode_address
from btcfi.units import Height
from tasks.context import Context, context, funding_rule, node, parties

MAX_BLOCKS_PER_WALK = 500
"""Blocks that one watch takes in, so that a first walk along a long chain never outlasts its task."""


@shared_task(name="chain.fund")
def fund() -> None:
    """Build the funding of every new option, then send."""
    here, bitcoind = context(), node(os.getpid())
    tip = bitcoind.block_count()
    with here.store.transaction() as session:
        for option in chain.unfunded(session):
            chain.build_funding(
                session, option, parties(here.deployment), funding_rule(here.preset), tip=tip, now=here.now()
            )
    send_stored(here, bitcoind)


@shared_task(name="chain.settle")
def settle() -> None:
    """Build the settlement of everything proven, then send."""
    here, bitcoind = context(), node(os.getpid())
    with here.store.transaction() as session:
        for settlement in chain.in_state(session, "proven"):
            chain.build_settlement(
                session, settlement, parties(here.deployment), funding_rule(here.preset), now=here.now()
            )
    send_stored(here, bitcoind)


def send_stored(here: Context, bitcoind: Node) -> None:
    """Send what is stored and not mined yet; what the node has already is a success."""
    with here.store.reading() as session:
        waiting = chain.to_send(session)
    answers = bitcoind.try_send_many(waiting)
    with here.store.transaction() as session:
        for transaction, answer in zip(waiting, answers, strict=True):
            if isinstance(answer, TxRejectedError):
                chain.mark_refused(session, transaction.txid, str(answer), now=here.now())
            else:
                chain.mark_sent(session, transaction.txid, now=here.now())


@shared_task(name="chain.watch")
def watch() -> None:
    """Walk the blocks since the last one, unwinding what the chain dropped; then finalise, fund and send again."""
    here, bitcoind = context(), node(os.getpid())
    tip = bitcoind.block_count()
    _walk(here, bitcoind, tip)
    fund()
    settle()


def _walk(here: Context, bitcoind: Node, tip: Height) -> None:
    start = _common_ancestor(here, bitcoind, tip) + 1
    heights = range(start, min(tip, start + MAX_BLOCKS_PER_WALK) + 1)
    blocks = bitcoind.blocks([bitcoind.block_hash(Height(h)) for h in heights])
    scripts = parties(here.deployment).scripts()
    with here.store.transaction() as session:
        for at, block in zip(heights, blocks, strict=True):
            chain.walk(session, block, Height(at), scripts, now=here.now())
        chain.finalize(session, tip=tip, confirmations=here.preset.confirmations, now=here.now())


def _common_ancestor(here: Context, bitcoind: Node, tip: Height) -> int:
    while True:
        with here.store.transaction() as session:
            last = chain.walked_to(session)
            if last is None:
                return 0
            if last.height <= tip and bitcoind.block_hash(Height(last.height)).hex() == last.hash:
                return last.height
            chain.unwind(session, last.height, now=here.now())


@shared_task(name="chain.mine")
def mine() -> None:
    """Mine a block on a regtest chain, to the seller and the buyer in turn; scheduled only where a setting says so."""
    here, bitcoind = context(), node(os.getpid())
    both = parties(here.deployment)
    key = both.seller if bitcoind.block_count() % 2 else both.buyer
    bitcoind.generate(1, encode_address(key.script))
    watch()
