"""The oracles' side of an option: each is asked for its attestation by its URL; no key of theirs lies here."""

from __future__ import annotations

from celery import shared_task

from btcfi.adapters.oracle.asking import collect
from btcfi.adapters.store.options import attesting
from tasks.context import context, oracles


@shared_task(name="oracle.attest")
def attest(event_id: str) -> None:
    """Collect what the oracles attest of an event, every signature checked, and keep why one does not."""
    here = context()
    with here.store.reading() as session:
        announced, damaged = attesting.to_collect(session, event_id)
    found = collect(oracles(here.deployment), announced)
    with here.work() as session:
        attesting.publish(session, event_id, found.attestations, [*damaged, *found.problems], now=here.now())
