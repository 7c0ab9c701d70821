"""What the exchange asks of letters and takes, on both databases: whose turn, since when, what was never written."""

import pytest
from sqlalchemy import event, text

from btcfi.adapters.store.market import carrying, failing, letters, takes
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.contracts.messages import Role
from btcfi.units import UnixSeconds
from tests.support.market_store import MAKER, NOW, OTHER, TAKER, filled, post, take, traded

LATER = UnixSeconds(NOW + 30)


@pytest.fixture
def market_store(store):
    return filled(store)


def ordered(store, state="ordered"):
    """A take whose contract is in a state since NOW; returns the option's id."""
    name = traded(store)[2].option_id
    with store.transaction() as session:
        session.add(
            ContractRow(option_id=name, state=state, event_id="ev", expiry_height=1, refund_height=2, order="{}",
                        created_at_unix=NOW, updated_at_unix=NOW)
        )  # fmt: skip
    return name


def write(store, to, name, now=NOW):
    with store.transaction() as session:
        letters.post(session, sender=None, recipient=to.id, name=name, sealed=b"x", now=now)


def hear(store, sender, name):
    with store.transaction() as session:
        letters.post(session, sender=sender.id, recipient=None, name=name, sealed=b"x", now=NOW)


def asked(store, question, *arguments, **more):
    with store.reading() as session:
        return question(session, *arguments, **more)


def test_letters_are_taken_in_turn_and_no_more_than_so_many_of_one_sender(market_store):
    for number in range(5):
        hear(market_store, OTHER, f"o{number}.offer")
    hear(market_store, MAKER, "m0.offer")
    hear(market_store, TAKER, "t0.accept")
    found = [one.name for one in asked(market_store, carrying.waiting_in_turn, each=2)]
    assert found == ["o0.offer", "m0.offer", "t0.accept", "o1.offer"]


@pytest.mark.parametrize(
    ("state", "to", "kind"),
    [("ordered", MAKER, "proposal"), ("offered", TAKER, "offer"), ("accepted", MAKER, "accept"),
     ("checked", TAKER, "sign")],
)  # fmt: skip
def test_a_side_is_late_so_long_after_our_letter_and_not_while_its_answer_waits_for_us(market_store, state, to, kind):
    name, role = ordered(market_store, state), Role.SELLER if to is MAKER else Role.BUYER
    assert [row.option_id for row in asked(market_store, carrying.undelivered)] == [name]
    assert asked(market_store, failing.late, now=LATER, seconds=20) == []  # it has no letter of ours yet
    write(market_store, to, f"{name}.{kind}", now=UnixSeconds(NOW + 15))
    assert asked(market_store, carrying.undelivered) == []
    assert asked(market_store, failing.late, now=LATER, seconds=20) == []
    much = UnixSeconds(NOW + 40)
    assert asked(market_store, failing.late, now=much, seconds=20) == [(name, role, kind)]
    hear(market_store, to, f"{name}.whatever")
    assert asked(market_store, failing.late, now=much, seconds=20) == [(name, role, kind)]  # it answers nothing
    hear(market_store, to, f"{name}.{carrying.ANSWERS[kind]}")
    assert asked(market_store, failing.late, now=much, seconds=20) == []
    assert asked(market_store, carrying.has_work)


def test_who_has_answered_is_not_late_though_its_answer_is_read_while_we_look(market_store):
    """Another worker reads the answer between our two questions: what waits for us, and whose turn it is."""
    name = ordered(market_store)
    write(market_store, MAKER, f"{name}.proposal")
    hear(market_store, MAKER, f"{name}.offer")
    done = []

    def read_elsewhere(*_):
        if not done:
            done.append(name)
            with market_store.transaction() as session:
                (waiting,) = carrying.waiting_in_turn(session)
                session.get_one(ContractRow, name).state = "offered"
                letters.acknowledge(session, None, [waiting.id], now=LATER)

    with market_store.reading() as session:
        session.execute(text("SELECT 1"))
        event.listen(market_store.engine, "after_cursor_execute", read_elsewhere, once=True)
        found = failing.late(session, now=UnixSeconds(NOW + 40), seconds=20)
    assert done, "it was read meanwhile"
    assert found == []


def test_a_take_that_nobody_is_late_with_and_that_is_not_checked_is_ours(market_store):
    name = ordered(market_store, "signed")
    assert asked(market_store, failing.stuck_with_us, now=LATER, seconds=60) == []
    assert asked(market_store, failing.stuck_with_us, now=UnixSeconds(NOW + 61), seconds=60) == [name]
    with market_store.transaction() as session:
        failing.fail_by_us(session, name, "nobody was late", now=LATER)
    with market_store.reading() as session:
        take = takes.take_of_option(session, name)
        assert (take.state, take.fault) == ("failed", "desk")
        assert [row.option_id for row in contracts.withdrawn(session)] == [name]
    assert not asked(market_store, carrying.under_way)


def test_a_buyer_that_is_late_after_the_check_has_both_told_and_the_take_stands_until_the_chain_speaks(market_store):
    name = ordered(market_store, "checked")
    write(market_store, TAKER, f"{name}.sign")
    with market_store.transaction() as session:
        assert failing.fail_by(session, name, Role.BUYER, "silent", now=LATER)
    with market_store.reading() as session:
        assert session.get_one(OptionRow, name).state == "FAILED"
        assert takes.take_of_option(session, name).state == "taken"
        assert [row.option_id for row in contracts.withdrawn(session)] == [name]
    assert asked(market_store, failing.late, now=UnixSeconds(LATER + 99), seconds=20) == []
    with market_store.transaction() as session:
        failing.fail_lost(session, name, Role.BUYER, now=LATER)
    with market_store.reading() as session:
        assert takes.take_of_option(session, name).fault == "taker"


def test_attestations_are_for_the_two_sides_of_what_both_have_signed(market_store):
    name = ordered(market_store, "offered")
    assert asked(market_store, carrying.owners_by_event, ["ev"]) == {}
    with market_store.transaction() as session:
        session.get_one(ContractRow, name).state = "funded"
    assert asked(market_store, carrying.owners_by_event, ["ev", "other"]) == {"ev": {MAKER.id, TAKER.id}}
    write(market_store, MAKER, "a.attestation")
    wanted = {(MAKER.id, "a.attestation"), (TAKER.id, "a.attestation")}
    assert asked(market_store, carrying.unwritten, wanted) == {(TAKER.id, "a.attestation")}


def test_only_options_of_folders_are_looked_at_for_folders(market_store):
    name = ordered(market_store)
    assert asked(market_store, carrying.in_folders, []) == []
    assert [row.option_id for row in asked(market_store, carrying.in_folders, [TAKER.id])] == [name]
    part = asked(market_store, carrying.market_part, name)
    assert (MAKER.id in part.offer, TAKER.id in part.take) == (True, True)
    assert asked(market_store, failing.may_be_lost, now=LATER, seconds=20, turn=3) == []  # nothing is signed yet


def test_contracts_are_ordered_in_turn_whoever_takes_most(market_store):
    offer = MAKER.offer()
    post(market_store, MAKER, offer)
    many = [take(market_store, TAKER.take(offer, 1)).option_id for _ in range(6)]
    one = take(market_store, OTHER.take(offer, 1)).option_id
    found = [row.id for row in asked(market_store, carrying.new_options, limit=2)]
    assert one in found
    assert sorted(row.id for row in asked(market_store, carrying.new_options)) == sorted([*many, one])
