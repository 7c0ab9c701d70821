"""The market by the clock: letters carried, offers that lapse, takes whose sides are silent, coins that are gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Final, Protocol

import structlog
from celery import shared_task

from btcfi.adapters.chain.node import ChainInfo
from btcfi.adapters.store.chain.walk import walked_to
from btcfi.adapters.store.market import carrying, failing, letters, offers, requests, takes, transfer_rounds
from btcfi.adapters.store.market import transfers as words
from btcfi.adapters.store.market.failing import Unfunded
from btcfi.adapters.store.spine.database import Session
from btcfi.bitcoin.transaction import OutPoint
from btcfi.errors import BtcfiError
from btcfi.units import UnixSeconds
from settings.market_preset import load_market_preset
from tasks import batches, closes, contracts, transfers
from tasks.context import Context, context, node

KEEP_LETTERS_SECONDS: Final = 7 * 86_400
"""After it was read; longer than any attestation is delivered, so that none comes a second time."""

KEEP_OFFERS_SECONDS: Final = 86_400
"""After an offer lapsed of which nothing was taken: a maker that quotes all day writes hundreds of thousands."""

AT_MOST_PRUNED: Final = 100_000
"""Offers that one hour forgets, and requests: 27 a second, posted for good."""

OURS: Final = 6
"""Times the seconds of a side, in which a take is checked or over: three turns of a side, and as much for us."""

log = structlog.get_logger("btcfi.market")


class _Prune(Protocol):
    def __call__(self, session: Session, *, before: UnixSeconds) -> int:
        """Forget some, and return how many."""


LINGER_SECONDS: Final = 0.6
"""How long one run goes on looking while a take is under way: below its interval, so that others have their turn."""

LOOK_SECONDS: Final = 0.05
"""Between two looks of it: three letters are on the way of a take, and each waits for one."""


@shared_task(name="market.carry")
def carry() -> None:
    """Carry letters between the two sides of each contract, where any wait."""
    here, until = context(), monotonic() + LINGER_SECONDS
    while contracts.carry(here) and monotonic() < until:
        sleep(LOOK_SECONDS)


@shared_task(name="market.tick")
def tick() -> None:
    """Let offers and requests lapse and auctions move on, and end the takes that have come to nothing."""
    here = context()
    seconds = load_market_preset(here.deployment.market_preset).offers.answer_seconds
    _lapse(here)
    _follow(here)
    _fail_late(here, seconds)
    _fail_lost(here, seconds)
    closes.tick(here)
    batches.tick(here)
    transfers.tick(here)


@shared_task(name="market.prune")
def prune() -> None:
    """Forget letters that were read long ago, and offers, requests and words of transfers that lapsed."""
    here = context()
    with here.store.transaction() as session:
        letters.prune(session, before=UnixSeconds(here.now() - KEEP_LETTERS_SECONDS))
        transfer_rounds.forget_words(session, before=UnixSeconds(here.now() - KEEP_LETTERS_SECONDS))
    for forget in (requests.prune_requests, offers.prune_offers, words.prune_words):
        _forget(here, forget)


def _forget(here: Context, prune: _Prune) -> None:
    for _ in range(AT_MOST_PRUNED // offers.AT_ONCE):  # each by itself, so that nobody waits long for the store
        with here.store.transaction() as session:
            many = prune(session, before=UnixSeconds(here.now() - KEEP_OFFERS_SECONDS))
        if many < offers.AT_ONCE:
            return


def _lapse(here: Context) -> None:
    with here.work() as session:
        requests.expire_requests(session, now=here.now())  # locked before its answers, as takes do
        offers.expire_offers(session, now=here.now())
        offers.move_prices(session, now=here.now())


def _follow(here: Context) -> None:
    """Have takes follow what became of their options without a word to them: funded on the chain, cancelled."""
    with here.work() as session:
        takes.follow(session, now=here.now())
        cancelled = carrying.come_to_nothing(session)
    for option_id in cancelled:
        with _apart(here, option_id) as session:
            failing.fail_by_us(session, option_id, "the sale was cancelled", now=here.now())


def _fail_late(here: Context, seconds: int) -> None:
    """End the takes of which a side has not done its part in time, and those of which we have not done ours."""
    with here.store.reading() as session:
        late = failing.late(session, now=here.now(), seconds=seconds)
        ours = failing.stuck_with_us(session, now=here.now(), seconds=OURS * seconds)
    for option_id, role, kind in late:
        with _apart(here, option_id) as session:
            problem = f"no answer to its {kind} in {seconds} s"
            failing.fail_by(session, option_id, role, problem, now=here.now())
    for option_id in ours:
        with _apart(here, option_id) as session:
            problem = f"not checked within {OURS * seconds} s, and no side was late"
            failing.fail_by_us(session, option_id, problem, now=here.now())


def _fail_lost(here: Context, seconds: int) -> None:
    """End the takes whose funding no block can hold any more, since one has spent a coin of it otherwise.

    Only a new block can have.
    """
    tip = _tip()
    if tip is None or tip == _looked.get(os.getpid()):
        return
    with here.store.reading() as session:
        walked = walked_to(session)
        if walked is None or walked.hash != tip.best_hash.hex():
            # a block that was not walked yet may hold the funding, and its payout: a restored store's do. And a node
            # that has not loaded what was walked misses the coins of it
            return
        unfunded = failing.may_be_lost(session, now=here.now(), seconds=seconds, turn=tip.height)
    with here.work() as session:
        takes.follow_given_up(session, now=here.now())
    _looked[os.getpid()] = tip
    for one in unfunded:
        if gone := _gone(one):
            with _apart(here, one.option_id) as session:
                failing.fail_lost(session, one.option_id, one.fault(gone), now=here.now())


_looked: Final[dict[int, ChainInfo]] = {}
"""By process: the block at which it looked last."""


def _tip() -> ChainInfo | None:
    try:
        return node(os.getpid()).chain_info()
    except BtcfiError as e:  # away, or its answer is none: what lapses, lapses all the same
        log.warning("no funding is looked up", reason=str(e))
        return None


def _gone(one: Unfunded) -> list[OutPoint]:
    """Return the coins of a take that neither a block nor the pool has any more; none where its funding is in either.

    A reorganisation puts what made a coin back into the pool, and its funding with it: the next block has both. Asked
    before the store is locked: a node that is slow holds up no other.
    """
    points, client = list(one.coins), node(os.getpid())
    try:
        *found, held = client.unspent_many([*points, one.funding], include_pool=False)
        *waiting, pooled = client.unspent_many([*points, one.funding], include_pool=True)
    except BtcfiError as e:
        log.warning("a funding is not looked up", option=one.option_id, reason=str(e))
        return []
    if held is not None or pooled is not None:
        return []
    return [point for point, *seen in zip(points, found, waiting, strict=True) if seen == [None, None]]


@contextmanager
def _apart(here: Context, option_id: str) -> Iterator[Session]:
    """Give one take's transaction: its trouble is no other's, and the next tick tries again."""
    try:
        with here.work() as session:
            yield session
    except Exception as e:  # noqa: BLE001 - whatever it is, it holds up no other take
        log.warning("a take waits", option=option_id, reason=f"{type(e).__name__}: {e}")
