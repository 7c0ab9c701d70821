"""The canary: the one task that every role runs, since it proves that the role's queue is consumed."""

from __future__ import annotations

from celery import shared_task

from btcfi.adapters.store.spine.canary import note_canary
from tasks.context import context


@shared_task(name="control.canary")
def canary(queue: str) -> None:
    """Note that this queue is consumed."""
    here = context()
    with here.store.transaction() as session:
        note_canary(session, queue, now=here.now())
