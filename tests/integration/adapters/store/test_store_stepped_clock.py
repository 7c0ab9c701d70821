"""The database's clock stood a year ahead for a while and was set back: nothing that was written then waits a year."""

import json

from btcfi.adapters.store.chain.handlers import Handlers
from btcfi.adapters.store.chain.sending import mark_sent, to_send
from btcfi.adapters.store.options import attesting, contracts, options, settlements
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.options import find_option
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.spine import outbox
from btcfi.adapters.store.spine.tables import OutboxRow
from btcfi.adapters.store.spine.times import LONGEST_SECONDS
from btcfi.options.terms import OptionKind
from btcfi.proofs.subtrees import prove
from btcfi.units import CentsPerBtc, UnixSeconds
from btcfi.vm.program import load_program
from tests.integration.adapters.store.chain.test_store_chain_handlers import OURS, Leases, spend, stored
from tests.integration.adapters.store.options.test_store_options_held_events import (
    EXPIRY,
    FEED,
    NOW,
    SLOT,
    attested,
    price,
    rule_of,
    sold,
)
from tests.support.rounds import add_minute
from tests.unit.adapters.store.test_store_state_machines import REGISTER, activate, claim, create

AHEAD = UnixSeconds(NOW + 365 * 86_400)
SET_BACK = UnixSeconds(NOW + 3_600)
A_LITTLE_AHEAD = UnixSeconds(SET_BACK + LONGEST_SECONDS)


def set_up(session, state, *, at, event_id="00"):
    """The contract of the option ``one``, as far as its parties have come."""
    row = ContractRow(
        option_id="one", state=state, event_id=event_id, expiry_height=1, refund_height=2, order=json.dumps({}),
        created_at_unix=NOW, updated_at_unix=at,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def test_a_transaction_that_was_sent_then_is_sent_again_when_the_node_has_forgotten_it(store):
    handlers = Handlers((Leases(),))
    with store.transaction() as session:
        stored(session, spend(3), OURS)
        mark_sent(session, [spend(3).txid], handlers, now=A_LITTLE_AHEAD)
        session.flush()
        assert to_send(session, handlers, now=SET_BACK) == []  # as far as two honest clocks may differ
        mark_sent(session, [spend(3).txid], handlers, now=AHEAD)
        session.flush()
        assert to_send(session, handlers, now=SET_BACK) == [[spend(3)]]


def test_what_was_set_aside_then_is_tried_again(store):
    with store.transaction() as session:
        session.add(OutboxRow(id="a", flow="settle", arguments='[["one"]]', created_at_unix=NOW))
        session.flush()
        for at, tried in ((A_LITTLE_AHEAD, []), (AHEAD, ["a"])):
            outbox.set_aside(session, {"a": "newer code's"}, now=at)
            assert [one.id for one in outbox.unpublished(session, {"settle"}, now=SET_BACK)] == tried


def test_a_contract_that_was_signed_then_is_checked_again_when_nobody_has_finished(store):
    with store.transaction() as session:
        row = set_up(session, "signed", at=A_LITTLE_AHEAD)
        assert contracts.repair(session, now=SET_BACK, stale_seconds=60) == []
        row.updated_at_unix = AHEAD
        session.flush()
        (work,) = contracts.repair(session, now=SET_BACK, stale_seconds=60)
        assert (work.flow, work.arguments) == ("check_contract", ("one",))


def test_the_parties_are_told_of_an_attestation_of_then_when_the_service_does_not_settle_by_it(store):
    price(store, SLOT, 5_000_000)
    event = sold(store)
    with store.transaction() as session:
        set_up(session, "funded", at=NOW, event_id=event.id.hex())
        session.get_one(OptionRow, "one").state = "EXPIRED"  # and there it stays: the service fails to settle
    price(store, EXPIRY, 6_100_000)
    said = attested(store, event)
    with store.transaction() as session:
        attesting.publish(session, event.id.hex(), [said], [], now=AHEAD)
    with store.reading() as session:
        assert [one for _, one in attesting.published(session, now=SET_BACK)] == [said]


def test_a_sale_of_then_that_nobody_funded_has_failed_once_its_expiry_is_over(store):
    price(store, SLOT, 5_000_000)
    sold(store)
    with store.transaction() as session:
        row = find_option(session, "one")
        row.state, row.updated_at_unix = "CREATED", AHEAD
        set_up(session, "checked", at=AHEAD)
    price(store, EXPIRY, 6_100_000)
    with store.transaction() as session:
        options.expire_due(session, FEED, rule_of, now=SET_BACK, batch_size=1)
    with store.reading() as session:
        assert find_option(session, "one").state == "FAILED"


def test_a_minute_that_was_opened_then_is_taken_up_so_that_what_expires_with_it_is_settled(store):
    with store.transaction() as session:
        assert rounds.open_round(session, FEED, SLOT, now=AHEAD, deadline_seconds=10)
    with store.transaction() as session:
        assert rounds.repair_rounds(session, REGISTER, now=SET_BACK, deadline_seconds=10) == 1


def test_an_early_exercise_of_then_that_the_parties_did_not_close_is_settled_by_attestation(store):
    program = load_program("option_settlement")
    with store.transaction() as session:
        add_minute(session, SLOT, 5_000_000)
        activate(session, create(session, kind=OptionKind.BINARY_CALL, american=True, strike=CentsPerBtc(4_000_000)))
        settlements.request_settlement(session, "one", requested_by="op", now=NOW)
        settlements.answer_request(session, "one", rule_of, now=NOW)
        (claimed,) = claim(session, NOW)
        settlements.finish(session, {claimed: prove(program, claimed.input_bytes)}, now=AHEAD)
        add_minute(session, EXPIRY, 5_500_000)
        assert settlements.fall_back_to_expiry(session, rule_of, now=AHEAD) == 0  # both may be signing
        assert settlements.fall_back_to_expiry(session, rule_of, now=SET_BACK) == 1
