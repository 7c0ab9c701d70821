"""The oracles' side of an option: one outcome of its event, signed by every key that lies here."""

from __future__ import annotations

from celery import shared_task

from btcfi.adapters.store.options import attesting
from btcfi.errors import NotHeldError
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import attest as attest_outcome
from btcfi.secp256k1 import public_key_xonly
from tasks.context import Context, context, oracle_secrets
from tasks.held import rule_of


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
