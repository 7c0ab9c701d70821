"""Options: expiry by the price, requests by operators. ``tasks/pricing.py`` prices them."""

from __future__ import annotations

from celery import Task, shared_task

from btcfi.adapters.store.options import asking, contracts, options, settlements
from btcfi.adapters.store.spine.database import Session
from btcfi.adapters.store.spine.edges import Work, enqueue
from btcfi.adapters.store.spine.orders import take_order
from btcfi.oracle.quote import Feed
from tasks.context import Context, context
from tasks.held import rule_of


@shared_task(name="options.expire_due")
def expire_due(feed: str) -> None:
    """Expire what is due at the newest price, each by its own rule, and fan its settlements out in batches."""
    here = context()
    with here.work() as session:
        options.expire_due(session, Feed(feed), rule_of, now=here.now(), batch_size=here.preset.batch_size)


@shared_task(name="options.answer_request")
def answer_request(option_id: str) -> None:
    """Answer an operator's request to settle an option."""
    here = context()
    with here.work() as session:
        settlements.answer_request(session, option_id, rule_of, now=here.now())


@shared_task(name="options.settle", bind=True, ignore_result=False)
def settle(self: Task, option_id: str, requested_by: str = "flower") -> str:
    """Ask for an ad hoc settlement and say where it stands, as `btcfi settle` does. Flower's API applies this.

    A message asks once: the same one again, redelivered or recorded, says how it stands and asks for nothing.
    """
    here = context()
    with here.work() as session:
        if not take_order(session, self.request.id, now=here.now()):
            return str(asking.stands(session, option_id, now=here.now()))
        return str(asking.ask(session, option_id, requested_by=requested_by, now=here.now()))


def repair(here: Context, session: Session) -> None:
    """Queue again stalled settlements, requests, checks and attestations, and look for what is due."""
    now, stale = here.now(), int(here.deployment.reconcile_seconds)
    settlements.repair(
        session, rule_of, now=now, batch_size=here.preset.batch_size, stale_seconds=stale,
        max_attempts=here.deployment.max_attempts,
    )  # fmt: skip
    lost = contracts.repair(session, now=now, stale_seconds=stale)
    requests = [Work(flow="answer_request", arguments=(one,)) for one in settlements.open_requests(session)]
    enqueue(session, [*requests, *lost, Work(flow="expire_due", arguments=(here.feed,))], now=now)
