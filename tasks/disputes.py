"""Disputed contracts are watched: the service reads the chain, and has no secret of any of them.

Where each stands is written to the store; alerts and pages are read from there, so a worker that dies after its
transaction owes nobody anything, and one that dies before it looks at the same blocks again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog
from celery import shared_task

from btcfi.adapters.store.disputes import views
from btcfi.errors import BtcfiError, RetryableError
from tasks.context import Context, context, node

if TYPE_CHECKING:
    from btcfi.disputes.public import PublicDispute
    from btcfi.disputes.watching import Watch

MAX_BLOCKS_PER_WALK = 500
"""Blocks that one look takes in: a contract that is registered late never outlasts its task."""

log = structlog.get_logger("btcfi.disputes")


@shared_task(name="disputes.watch")
def watch() -> None:
    """Look at the blocks since the last look, for every contract under watch; those at the tip come first."""
    here, left = context(), MAX_BLOCKS_PER_WALK
    with here.store.reading() as session:
        if not views.are_any_watched(session):
            return
    from btcfi.adapters.store.disputes import watching as rows  # noqa: PLC0415 - numpy, where a contract is watched

    with here.store.reading() as session:
        together = rows.watched(session)
    for some in together:
        left -= _look(here, some, max(1, left))


def _look(here: Context, some: Mapping[str, Watch], limit: int) -> int:
    """Look at blocks for contracts that end at one; where one of them brings out a fault, for each by itself."""
    try:
        return _walk(here, some, limit)
    except RetryableError:
        raise
    except BtcfiError as e:
        if len(some) == 1:
            log.warning("dispute_not_watched", dispute=next(iter(some)), reason=str(e))
            return 0
        return max(_look(here, {name: one}, limit) for name, one in some.items())


def _walk(here: Context, some: Mapping[str, Watch], limit: int) -> int:
    from btcfi.adapters.store.disputes import watching as rows  # noqa: PLC0415 - as above
    from btcfi.disputes.watching import advance  # noqa: PLC0415 - as above

    def public_part(name: str) -> PublicDispute:
        with here.store.reading() as session:
            return rows.public_part(session, name)

    after, read = advance(some, public_part, node(os.getpid()), limit=limit)
    with here.store.transaction() as session:
        moved = rows.write(session, some, after, now=here.now())
    for name in moved:
        log.info("dispute_moved", dispute=name)
    return read
