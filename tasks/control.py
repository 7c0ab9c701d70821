"""Control: publish what waits, repair what stands still, delete what is old."""

from __future__ import annotations

from celery import shared_task

from btcfi.adapters.store.options import contracts, settlements
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.evidence import prune_evidence
from btcfi.adapters.store.spine import outbox
from btcfi.adapters.store.spine.edges import Work, enqueue
from btcfi.units import UnixSeconds
from tasks import pipeline
from tasks.context import context
from tasks.held import rule_of

KEEP_OUTBOX_SECONDS = 86_400


@shared_task(name="control.relay")
def relay() -> None:
    """Publish outbox rows that their own transaction's process did not get to."""
    here = context()
    pipeline.publish_pending(here.store, here.now())


@shared_task(name="control.reconcile")
def reconcile() -> None:
    """Close overdue rounds, queue stalled settlements and requests again: nothing depends on the broker's memory."""
    here = context()
    now, stale = here.now(), int(here.deployment.reconcile_seconds)
    with here.work() as session:
        rounds.repair_rounds(session, here.register, now=now, deadline_seconds=here.deployment.round_deadline_seconds)
        settlements.repair(
            session, rule_of, now=now, batch_size=here.preset.batch_size, stale_seconds=stale,
            max_attempts=here.deployment.max_attempts,
        )  # fmt: skip
        lost = contracts.repair(session, now=now, stale_seconds=stale)
        requests = [Work(flow="answer_request", arguments=(o,)) for o in settlements.open_requests(session)]
        enqueue(session, [*requests, *lost, Work(flow="expire_due", arguments=(here.feed,))], now=now)
        outbox.prune_published(session, before=UnixSeconds(now - KEEP_OUTBOX_SECONDS))


@shared_task(name="control.prune")
def prune() -> None:
    """Delete the raw responses that are older than the deployment keeps them; prices and reports stay."""
    here = context()
    if days := here.deployment.evidence_keep_days:
        prune_evidence(here.store, before=UnixSeconds(here.now() - days * 86_400))
