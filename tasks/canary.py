"""The canary: the one task that every role runs, since it proves that the role's queue is consumed."""

from __future__ import annotations

from celery import shared_task

from btcfi.adapters.store.spine.edges import upsert
from btcfi.adapters.store.spine.tables import CanaryRow
from tasks.context import context


@shared_task(name="control.canary")
def canary(queue: str) -> None:
    """Note that this queue is consumed."""
    here = context()
    with here.store.transaction() as session:
        statement = upsert(session, CanaryRow).values(queue=queue, seen_at_unix=here.now())
        session.execute(statement.on_conflict_do_update(index_elements=["queue"], set_={"seen_at_unix": here.now()}))
