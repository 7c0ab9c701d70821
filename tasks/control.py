"""Control: publish what waits, have every system take up what stands still. It names no system."""

from __future__ import annotations

import structlog
from celery import current_app, shared_task

from btcfi.adapters.store.spine import outbox
from btcfi.units import UnixSeconds
from tasks import pipeline
from tasks.context import Context, context

KEEP_OUTBOX_SECONDS = 86_400

log = structlog.get_logger("btcfi.control")


@shared_task(name="control.relay")
def relay() -> None:
    """Publish outbox rows that their own transaction's process did not get to."""
    here = context()
    pipeline.publish_pending(here.store, here.now())
    pipeline.set_unknown_aside(here.store, here.now())


@shared_task(name="control.reconcile")
def reconcile() -> None:
    """Have every system take up what was lost: nothing depends on the broker's memory."""
    here = context()
    failed = [e for name in current_app.conf.repairs if (e := _repair(here, name)) is not None]
    with here.store.transaction() as session:
        outbox.prune_published(session, before=UnixSeconds(here.now() - KEEP_OUTBOX_SECONDS))
    if failed:
        raise failed[0]


def _repair(here: Context, name: str) -> Exception | None:
    """Run one system's repair in a transaction of its own; return what went wrong: the others run all the same."""
    try:
        with here.work() as session:
            pipeline.resolve(name)(here, session)
    except Exception as e:  # noqa: BLE001 - raised again when all have run
        log.warning("repair failed", repair=name, problem=str(e) or type(e).__name__)
        return e
    return None
