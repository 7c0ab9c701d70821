"""However many events were attested lately, the parties of each are told of theirs."""

from btcfi.adapters.store.options import attesting
from btcfi.adapters.store.options.contract_tables import AttestationRow
from btcfi.contracts.messages import encode_attestation
from btcfi.oracle.report import canonical_json
from tests.integration.adapters.store.options.test_store_options_held_events import (
    EXPIRY,
    NOW,
    SLOT,
    attested,
    price,
    sold,
)

OTHERS = 1_100


def test_who_has_many_events_attested_keeps_nobody_from_being_told_of_its_own(store):
    """A barrier makes an event of its own: somebody who trades with itself had the first 500 told, again and again."""
    price(store, SLOT, 5_000_000)
    event = sold(store)
    price(store, EXPIRY, 6_100_000)
    said = attested(store, event)
    body = canonical_json(encode_attestation(said)).decode()
    with store.transaction() as session:
        attesting.publish(session, event.id.hex(), [said], [], now=NOW)
        session.add_all(
            AttestationRow(
                oracle_key=said.oracle_key.hex(), event_id=f"{number * 60:04x}" + "5" * 60, outcome=1, body=body,
                claimed_at_unix=NOW,
            )
            for number in range(OTHERS)
        )  # fmt: skip
    told, after = [], attesting.FIRST
    with store.reading() as session:
        for _ in range(3):
            found = attesting.published(session, now=NOW + 60, after=after)
            told += [name for name, _ in found]
            after = (found[-1][0], said.oracle_key.hex())
        assert attesting.published(session, now=NOW + 60, after=after) == []
    assert event.id.hex() in told
    assert len(told) == len(set(told)) == OTHERS + 1
