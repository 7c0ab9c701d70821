"""Weekly swaps by the clock: New York's and the exchange's days decide what is due, a tick does it.

Each step is a transaction of its own and changes nothing when it comes again, so no tick has to come in time: what one
missed, the next one does. A week's books are settled side by side (``pipeline.settle_swaps``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from celery import shared_task

from btcfi.adapters.store.swaps import views, weeks
from btcfi.errors import RetryableError
from btcfi.swaps.calendar import due_day
from btcfi.swaps.errors import SwapRefusedError
from btcfi.units import UnixSeconds
from tasks.context import Context, context, node

log = structlog.get_logger("btcfi.swaps")


@shared_task(name="swaps.tick")
def tick() -> None:
    """Do what is due: initialise takes, post prices, compute returns, start settlements."""
    here = context()
    with here.store.reading() as session:
        if not views.are_any_listed(session):
            return
        now = here.market_now(session)
    for step in (_initialise, _post, _compute, _settle):
        _apart(step.__name__.strip("_"), step, here, now)


@shared_task(name="swaps.settle_books", ignore_result=False)
def settle_books(week: str, books: list[str]) -> int:
    """Settle some books of a week, each in a transaction of its own; return how many it was us who did."""
    here = context()
    return sum(bool(_apart(book, _settle_book, here, week, book)) for book in books)


@shared_task(name="swaps.close_week")
def close_week(_settled: list[int], week: str) -> None:
    """Process defaults, and write that a week is settled where no book waits any more."""
    here = context()
    with here.store.reading() as session:
        now, over = here.market_now(session), weeks.to_redeem(session, week)
    for book in over:
        _apart(book, _redeem, here, book, now)
    with here.store.transaction() as session:
        weeks.close(session, week, now=now)


def _initialise(here: Context, now: UnixSeconds) -> None:
    with here.store.reading() as session:
        day = due_day(weeks.posted_day(session), now)
        keys: Sequence[tuple[str, str]] = [] if day is None else weeks.to_initialise(session, day)
    for key in keys:
        with here.store.transaction() as session:
            if day is not None:
                weeks.initialise(session, key, day, now=now)


def _post(here: Context, now: UnixSeconds) -> None:
    with here.store.reading() as session:
        day = due_day(weeks.posted_day(session), now)
        prices = None if day is None or now < day.post else weeks.prices_of(session, here.feed, day)
    if day is None or prices is None:
        return
    with here.store.transaction() as session:
        weeks.post(session, day, prices, now=now)


def _compute(here: Context, now: UnixSeconds) -> None:
    with here.store.reading() as session:
        contracts = weeks.to_compute(session, now=now)
    for contract in contracts:
        _apart(contract, _compute_one, here, contract, now)


def _compute_one(here: Context, contract: str, now: UnixSeconds) -> None:
    with here.store.transaction() as session:
        weeks.compute(session, contract, now=now)


def _settle(here: Context, now: UnixSeconds) -> None:
    with here.store.reading() as session:
        names = weeks.to_settle(session, now=now)
    if not names:
        return
    # recorded minutes are of another time than the blocks that are mined beside them
    chain_time = now if here.deployment.replay_clock else node(os.getpid()).chain_info().median_time
    for name in names:
        with here.work() as session:
            weeks.claim(session, name, chain_time=chain_time, now=now)


def _settle_book(here: Context, week: str, book: str) -> bool:
    with here.store.transaction() as session:
        return weeks.settle(session, week, book, now=here.market_now(session))


def _redeem(here: Context, book: str, now: UnixSeconds) -> None:
    with here.store.transaction() as session:
        weeks.redeem(session, book, now=now)


def _apart(what: str, work: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - whatever it is
    """Do something; its trouble holds up nothing else. A guard's word is that it is too soon, and it comes again."""
    try:
        return work(*arguments)
    except RetryableError:
        raise
    except SwapRefusedError as e:
        log.info("swaps_wait", what=what, guard=e.guard.value, reason=str(e))
    except Exception as e:  # noqa: BLE001 - whatever it is, it holds up no other book
        log.warning("swaps_not_done", what=what, reason=f"{type(e).__name__}: {e}")
    return None
