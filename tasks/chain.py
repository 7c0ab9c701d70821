"""The chain: one process at a time signs for the wallet, by a lease.

Build and store first, send second, watch outpoints until they are final.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

from celery import shared_task

from btcfi.adapters.chain.node import Node, TxRejectedError
from btcfi.adapters.chain.pool import asking_rate, waiting_on
from btcfi.adapters.store.chain import sending, walk, wallet
from btcfi.adapters.store.options import anchors, batches, building, options, replacements
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.contracts.settling import Waiting
from btcfi.units import Height
from tasks.context import (
    Context,
    chain_handlers,
    context,
    fee_rule,
    mining_address,
    node,
    service_wallet,
    where_nobody_else_signs,
)
from tasks.held import confirmations

MAX_BLOCKS_PER_WALK = 500
"""Blocks that one watch takes in, so that a first walk along a long chain never outlasts its task."""

FIRST_LOOK_BACK = 2_016
"""Blocks before the tip at which an empty store begins to walk: two weeks, in which its wallet may have got coins."""

SETTLE_TARGET_BLOCKS = 2
"""Blocks within which a settlement should be mined."""

ANCHOR_TARGET_BLOCKS = 36
"""Blocks within which an anchor should be mined: nobody waits for it."""

Answers = list[tuple[list[Transaction], TxRejectedError | None]]
"""What was sent together, and why the node refused it, None where it has it."""

BUILD_AT_ONCE = 64
"""Settlements in one transaction: few enough that other writers of a SQLite store wait a tenth of a second at most."""


# The fee rule of today's preset decides what the service's own coins pay at the least, of old settlements too: it is no
# term of an option. What both parties signed has the fee of their own preset in it.


@shared_task(name="chain.settle")
@where_nobody_else_signs
def settle() -> None:
    """Complete what is proven, attested and has its turn (``contracts.schedule``: deadline first), then send."""
    here, bitcoind = context(), node(os.getpid())
    estimate, tip = asking_rate(bitcoind, SETTLE_TARGET_BLOCKS), bitcoind.block_count()
    with here.store.reading() as session:
        held = batches.held_back(gathering=here.deployment.batches, now=here.now())
        waiting = building.to_settle(session, tip=tip, rule=fee_rule(here.preset), held_back=held)
    _build_and_send(here, bitcoind, waiting, estimate, tip)
    send_stored(here, bitcoind)


def _build_and_send(here: Context, bitcoind: Node, ids: list[str], estimate: SatsPerKvb, tip: Height) -> None:
    """Build and store a few at a time; the node checks each few while the next are built.

    The node is asked by one other thread and by nobody else meanwhile; the store and the wallet are this thread's.
    """
    with ThreadPoolExecutor(1) as sender:
        sent: Future[Answers] | None = None
        for at in range(0, len(ids), BUILD_AT_ONCE):
            built = _build(here, ids[at : at + BUILD_AT_ONCE], estimate, tip)
            if sent is not None:
                _note_sent(here, sent.result())
            sent = sender.submit(_answers, bitcoind, built)
        if sent is not None:
            _note_sent(here, sent.result())


def _build(here: Context, ids: list[str], estimate: SatsPerKvb, tip: Height) -> list[list[Transaction]]:
    with here.store.reading() as session:
        ahead = building.complete_ahead(session, ids)
    with here.signing() as session:
        return building.build_settlements(
            session, ids, service_wallet(here.deployment), estimate=estimate, rule=fee_rule(here.preset), tip=tip,
            now=here.now(), ahead=ahead,
        )  # fmt: skip


def send_stored(here: Context, bitcoind: Node) -> None:
    """Send what is stored and not mined yet; what the node has already is a success."""
    with here.store.reading() as session:
        waiting = sending.to_send(session, chain_handlers(), now=here.now())
    _note_sent(here, _answers(bitcoind, waiting))


def _note_sent(here: Context, answers: Answers) -> None:
    """Record what the node has taken and why it refused the rest."""
    if not answers:
        return
    taken = [one.txid for package, problem in answers if problem is None for one in package]
    refused = {one.txid: str(problem) for package, problem in answers if problem is not None for one in package}
    with here.signing() as session:
        sending.mark_sent(session, taken, chain_handlers(), now=here.now())
        sending.mark_refused(session, refused, now=here.now())


def _answers(bitcoind: Node, packages: list[list[Transaction]]) -> Answers:
    """Send single transactions in one round trip and packages in another; return each with the node's answer."""
    single = iter(bitcoind.try_send_many([package[0] for package in packages if len(package) == 1]))
    together = iter(bitcoind.try_send_packages([package for package in packages if len(package) > 1]))
    said = [next(single) if len(package) == 1 else next(together) for package in packages]
    problems = [one if isinstance(one, TxRejectedError) else None for one in said]
    return list(zip(packages, problems, strict=True))


@shared_task(name="chain.watch")
@where_nobody_else_signs
def watch() -> None:
    """Walk the blocks since the last one, unwinding what the chain dropped; then finalise, settle and send again."""
    here, bitcoind = context(), node(os.getpid())
    tip, estimate = bitcoind.block_count(), asking_rate(bitcoind, SETTLE_TARGET_BLOCKS)
    _walk(here, bitcoind, tip)
    pool = _contested(here, bitcoind, tip)
    with here.signing() as session:
        wallet.split_coins(
            session, service_wallet(here.deployment), want=here.deployment.fee_coins,
            at_once=chain_handlers().coins_needed(session), rate=fee_rule(here.preset).floor, tip=tip, now=here.now(),
        )  # fmt: skip
        replacements.bump_children(
            session, service_wallet(here.deployment), estimate=estimate, rule=fee_rule(here.preset), tip=tip,
            now=here.now(), pool=pool,
        )  # fmt: skip
    settle()


def _contested(here: Context, bitcoind: Node, tip: Height) -> dict[OutPoint, Waiting]:
    """Return what waits in the pool on the collaterals and anchors of settlements that no block holds."""
    with here.store.reading() as session:
        outpoints = replacements.contested_outpoints(session, tip=tip)
    return waiting_on(bitcoind, outpoints)


def _walk(here: Context, bitcoind: Node, tip: Height) -> None:
    start = _common_ancestor(here, bitcoind, tip) + 1
    heights = range(start, min(tip, start + MAX_BLOCKS_PER_WALK) + 1)
    blocks = bitcoind.blocks([bitcoind.block_hash(Height(h)) for h in heights])
    script = service_wallet(here.deployment).script
    with here.signing() as session:
        for at, block in zip(heights, blocks, strict=True):
            walk.walk(session, block, Height(at), script, chain_handlers(), now=here.now())
        depth = confirmations(options.open_bounds(session))
        walk.finalize(session, chain_handlers(), tip=tip, confirmations=depth, now=here.now())


def _common_ancestor(here: Context, bitcoind: Node, tip: Height) -> int:
    while True:
        with here.signing() as session:
            last = walk.walked_to(session)
            if last is None:
                return max(0, tip - FIRST_LOOK_BACK)
            walk.check_not_behind(last, tip)
            if last.height <= tip and bitcoind.block_hash(Height(last.height)).hex() == last.hash:
                return last.height
            walk.unwind(session, last.height, chain_handlers(), now=here.now())


@shared_task(name="chain.anchor", throws=(wallet.NoCoinError,))
@where_nobody_else_signs
def anchor() -> None:
    """Commit to every price, announcement and proof that no block holds yet, in one transaction; then send."""
    here, bitcoind = context(), node(os.getpid())
    estimate, tip = bitcoind.fee_estimate(ANCHOR_TARGET_BLOCKS), bitcoind.block_count()
    with here.store.reading() as session:
        found = anchors.unanchored(session, here.register)
    with here.signing() as session:
        anchors.anchor_found(
            session, found, service_wallet(here.deployment), estimate=estimate, rule=fee_rule(here.preset), tip=tip,
            now=here.now(),
        )  # fmt: skip
    send_stored(here, bitcoind)


@shared_task(name="chain.mine")
@where_nobody_else_signs
def mine() -> None:
    """Mine a block on a regtest chain, to seller, buyer and service in turn; only where a setting says so."""
    here, bitcoind = context(), node(os.getpid())
    bitcoind.generate(1, mining_address(here.deployment, bitcoind.block_count()))
    watch()
