"""Prices: a tick opens a round, the chord's body agrees, the oracles attest. ``tasks/venues.py`` fetches."""

from __future__ import annotations

from celery import shared_task

from btcfi.adapters.store.options import attesting
from btcfi.adapters.store.prices import rounds
from btcfi.errors import NotHeldError
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import attest as attest_outcome
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import slot as checked_slot
from tasks.context import Context, context, oracle_secrets
from tasks.held import rule_of


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


@shared_task(name="oracle.attest")
def attest(event_id: str) -> None:
    """Sign the outcome of an event with every oracle key that lies here; the ledger lets each sign one outcome only."""
    here = context()
    ledger = attesting.StoreLedger(store=here.store, now=here.now())
    keys = {public_key_xonly(secret): secret for secret in oracle_secrets(here.deployment)}
    announced, outcome = _to_attest(here, event_id)
    ours = [one for one in announced if one.oracle_key in keys]
    signed = [attest_outcome(keys[one.oracle_key], one, outcome, ledger) for one in ours]
    with here.work() as session:
        attesting.publish(session, signed, now=here.now())


def _to_attest(here: Context, event_id: str) -> tuple[tuple[Announcement, ...], int]:
    """Return what is to be attested of an event; nothing while its preset is not here, which its options then say."""
    try:
        with here.store.reading() as session:
            return attesting.to_attest(session, event_id, rule_of)
    except NotHeldError as e:
        with here.store.transaction() as session:
            attesting.note_unheld(session, event_id, str(e))
        return (), 0
