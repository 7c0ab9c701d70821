"""Prices: a tick opens a round, the chord's body agrees. ``tasks/venues.py`` fetches."""

from __future__ import annotations

from celery import shared_task

from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.evidence import prune_evidence
from btcfi.adapters.store.spine.database import Session
from btcfi.units import UnixSeconds
from btcfi.units import slot as checked_slot
from tasks.context import Context, context


@shared_task(name="oracle.tick")
def tick(slot: int) -> None:
    """Open the round of a minute, once whoever asks."""
    here = context()
    with here.work() as session:
        rounds.open_round(
            session, here.feed, checked_slot(slot), now=here.now(),
            deadline_seconds=here.deployment.round_deadline_seconds,
        )  # fmt: skip


@shared_task(name="oracle.aggregate")
def aggregate(_stored: list[bool], _feed: str, slot: int) -> None:
    """Agree on the minute's price from the stored rows; the chord's results only say that it is time."""
    here = context()
    with here.work() as session:
        rounds.close_round(session, here.register, checked_slot(slot), now=here.now(), final=False)


@shared_task(name="control.prune")
def prune() -> None:
    """Delete the raw responses that are older than the deployment keeps them; prices and reports stay."""
    here = context()
    if days := here.deployment.evidence_keep_days:
        prune_evidence(here.store, before=UnixSeconds(here.now() - days * 86_400))


def repair(here: Context, session: Session) -> None:
    """Open the last minute that is over, where its tick did not come or came by a wrong clock; close overdue rounds."""
    now, deadline = here.now(), here.deployment.round_deadline_seconds
    if here.deployment.tick and (slot := rounds.last_over(now)) is not None:
        rounds.open_round(session, here.feed, slot, now=now, deadline_seconds=deadline)
    rounds.repair_rounds(session, here.register, now=now, deadline_seconds=deadline)
