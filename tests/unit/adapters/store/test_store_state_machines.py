"""The database decides: edges are crossed once, claims are fenced, attempts are capped, lost fetches are repeated."""

import dataclasses
import json
from enum import StrEnum

import pytest
from sqlalchemy import text
from sqlmodel import select

from btcfi.adapters.store.options import building, options, settlements
from btcfi.adapters.store.options.options import NoPriceYetError, OptionOrder
from btcfi.adapters.store.options.sales import Order, SaleRule, sell
from btcfi.adapters.store.options.tables import OptionRow, SettlementRequestRow, SettlementRow
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.observations import store_observation
from btcfi.adapters.store.prices.rounds import MAX_ATTEMPTS, Register
from btcfi.adapters.store.prices.tables import RoundRow, RoundState
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import cross
from btcfi.adapters.store.spine.machines import Machine, NoMachineError, UnknownEdgeError, machines
from btcfi.adapters.store.spine.machines import edges as machine_edges
from btcfi.adapters.store.spine.schema import load_tables
from btcfi.adapters.store.spine.tables import EventRow, OutboxRow
from btcfi.bitcoin.fees import FeeRule
from btcfi.bitcoin.keys import wallet_key
from btcfi.errors import InvalidInputError, NotFoundError, NotHeldError
from btcfi.options.expiry import SettlementInput
from btcfi.options.terms import InvalidTermsError, OptionKind
from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.quote import Feed, Missing, MissingReason, parse_venue
from btcfi.proofs.subtrees import prove
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Height, Slot, UnixSeconds
from btcfi.vm.program import load_program
from tests.support.rounds import add_minute

FEED = Feed("BTC/USD")
NOW = UnixSeconds(1_700_000_040)
RULE_OF = lambda _sha256: ConsensusRule()  # noqa: E731 - one preset, whatever its hash
NOTHING = lambda _bound: None  # noqa: E731 - this process holds every preset and program
SLOT = Slot(1_699_999_980)
REGISTER = Register(
    feed=FEED, venues=(parse_venue("kraken:BTC/USD"), parse_venue("binance:BTC/USDT")), legs=(), rule=ConsensusRule()
)


@pytest.fixture
def store(tmp_path):
    made = Store(f"sqlite:///{tmp_path}/store.db")
    made.migrate()
    yield made
    made.close()


def priced(session, slot, price, low=None, high=None, **more):
    add_minute(session, slot, price, low, high, **more)


def order(**changes):
    given = {
        "option_id": "one", "kind": OptionKind.CALL, "strike": CentsPerBtc(5_000_000), "quantity": CentiBtc(5),
        "barrier": None, "american": False, "expiry": Slot(SLOT + 600), "premium": Cents(30_000),
        "volatility": BasisPoints(6000), "rate": BasisPoints(500),
    }  # fmt: skip
    return OptionOrder(**{**given, **changes})


def create(session, **changes):
    return options.create_option(
        session, order(**changes), feed=FEED, now=NOW, preset="standard", preset_sha256="00" * 32,
        program="option_settlement", program_sha256="00" * 32,
    )  # fmt: skip


def activate(session, row):
    assert cross(session, row, "ACTIVE", now=NOW)


def flows(session):
    return [row.flow for row in session.exec(select(OutboxRow)).all()]


def test_an_edge_that_the_state_machine_does_not_have_is_refused(store):
    with store.transaction() as session:
        priced(session, SLOT, 5_000_000)
        row = create(session)
        with pytest.raises(UnknownEdgeError):
            cross(session, row, "EXERCISED", now=NOW)


def test_an_edge_is_crossed_by_the_first_and_counted_for_the_second(store):
    with store.transaction() as session:
        priced(session, SLOT, 5_000_000)
        create(session)
    with store.transaction() as session:
        stale = session.get_one(OptionRow, "one").model_copy()
    with store.transaction() as session:
        activate(session, session.get_one(OptionRow, "one"))
    with store.transaction() as session:
        assert not cross(session, stale, "ACTIVE", now=NOW)
        events = session.exec(select(EventRow).where(EventRow.entity == "option")).all()
    assert [(e.from_state, e.to_state) for e in events] == [("", "CREATED"), ("CREATED", "ACTIVE")]


def test_replaying_the_events_gives_the_states(store):
    with store.transaction() as session:
        priced(session, SLOT, 5_000_000)
        activate(session, create(session))
        priced(session, SLOT + 600, 5_500_000)
        options.expire_due(session, FEED, RULE_OF, now=NOW, batch_size=64)
    with store.reading() as session:
        states = {}
        for event in session.exec(select(EventRow).order_by(EventRow.id)).all():
            assert states.get((event.entity, event.entity_id), "") == event.from_state
            states[event.entity, event.entity_id] = event.to_state
        assert states["option", "one"] == session.get_one(OptionRow, "one").state == "EXPIRED"
        assert states["settlement", "st-one"] == session.get_one(SettlementRow, "st-one").state == "due"


def test_a_round_whose_venues_were_never_heard_is_fetched_again_and_then_closed_void(store):
    with store.transaction() as session:
        assert rounds.open_round(session, FEED, SLOT, now=NOW, deadline_seconds=10)
    now = NOW
    for attempt in range(1, MAX_ATTEMPTS):
        now = UnixSeconds(now + 10)
        with store.transaction() as session:
            rounds.repair_rounds(session, REGISTER, now=now, deadline_seconds=10)
            assert flows(session).count("price_round") == attempt + 1
    with store.transaction() as session:
        rounds.repair_rounds(session, REGISTER, now=UnixSeconds(now + 10), deadline_seconds=10)
        row = rounds.find_round(session, FEED, SLOT)
        assert row.state == "void"
        assert json.loads(row.report)


def slots(session, **values):
    rows = session.exec(select(RoundRow).order_by(RoundRow.slot)).all()
    return [(row.slot - SLOT) // 60 for row in rows if all(getattr(row, k) == v for k, v in values.items())]


def test_a_minute_whose_tick_was_lost_is_opened_by_the_next_tick_and_asked_for_by_the_reconciler(store):
    def tick(session, minute):
        return rounds.open_round(session, FEED, Slot(SLOT + 60 * minute), now=now, deadline_seconds=10)

    now = UnixSeconds(NOW + 180)
    with store.transaction() as session:
        assert tick(session, 0)
        assert tick(session, 3)
        assert slots(session, state="open") == [0, 1, 2, 3]
        assert flows(session) == ["price_round"] * 2
        assert tick(session, 2), "its own tick comes after all"
        assert not tick(session, 2)
        assert slots(session, attempts=0) == [1]
        assert rounds.repair_rounds(session, REGISTER, now=now, deadline_seconds=10) == 0
        soon = UnixSeconds(now + rounds.CATCH_UP_SECONDS)
        assert rounds.repair_rounds(session, REGISTER, now=soon, deadline_seconds=10) == 1
        assert slots(session, attempts=1) == [0, 1, 2, 3]
        assert flows(session).count("price_round") == 4
        born = [e.entity_id for e in session.exec(select(EventRow)).all() if (e.from_state, e.to_state) == ("", "open")]
        assert len(born) == len(set(born)) == 4


def test_an_option_of_a_lost_minute_waits_for_its_own_price_and_not_for_the_next_one(store):
    with store.transaction() as session:
        for minute in range(10):
            priced(session, SLOT + 60 * minute, 5_000_000)
            if not minute:
                activate(session, create(session))
        later = UnixSeconds(NOW + 660)
        rounds.open_round(session, FEED, Slot(SLOT + 660), now=later, deadline_seconds=10)  # 600 was lost, its expiry
        cross(session, rounds.find_round(session, FEED, Slot(SLOT + 660)), "void", now=NOW)
        assert slots(session, state="open") == [10]
        priced(session, SLOT + 720, 5_500_000)
        assert options.expire_due(session, FEED, RULE_OF, now=NOW, batch_size=64) == 0


def test_a_long_outage_is_caught_up_for_the_last_minutes_alone(store):
    with store.transaction() as session:
        rounds.open_round(session, FEED, SLOT, now=NOW, deadline_seconds=10)
        now = UnixSeconds(NOW + 60 * 500)
        rounds.open_round(session, FEED, Slot(SLOT + 60 * 500), now=now, deadline_seconds=10)
        assert slots(session) == [0, *range(500 - rounds.CATCH_UP_SLOTS, 501)]
        deadlines = [row.deadline_unix - now for row in session.exec(select(RoundRow).order_by(RoundRow.slot)).all()]
        assert deadlines[1:-1] == [rounds.CATCH_UP_SECONDS * n for n in range(1, rounds.CATCH_UP_SLOTS + 1)]


def test_a_minute_before_a_priced_one_is_not_opened_any_more_since_options_may_rest_on_the_later(store):
    with store.transaction() as session:
        priced(session, SLOT + 60, 5_000_000)
        assert not rounds.open_round(session, FEED, SLOT, now=NOW, deadline_seconds=10)
        assert slots(session) == [1]
        ahead = Slot(SLOT + 60 * 300)  # a clock that runs ahead makes void minutes: they stop nobody
        assert rounds.open_round(session, FEED, ahead, now=UnixSeconds(ahead + 60), deadline_seconds=10)
        cross(session, rounds.find_round(session, FEED, ahead), "void", now=NOW)
        assert rounds.open_round(session, FEED, Slot(SLOT + 120), now=UnixSeconds(NOW + 120), deadline_seconds=10)


def test_a_round_waits_for_every_venue_and_closes_once_when_all_have_spoken(store):
    with store.transaction() as session:
        rounds.open_round(session, FEED, SLOT, now=NOW, deadline_seconds=10)
        for place, venue in enumerate(REGISTER.venues):
            assert rounds.close_round(session, REGISTER, SLOT, now=NOW, final=False) == "open"
            said = Missing(
                venue=venue, slot=SLOT, reason=MissingReason.TIMEOUT, detail=str(place), observed_at=NOW, evidence=None
            )
            store_observation(session, FEED, said, b"", now=NOW)
        assert rounds.close_round(session, REGISTER, SLOT, now=NOW, final=False) == "void"
        assert rounds.close_round(session, REGISTER, SLOT, now=NOW, final=True) == "void"
        assert flows(session).count("expire_due") == 1


def test_an_option_needs_a_price_and_right_terms_and_is_stored_once(store):
    with store.transaction() as session:
        with pytest.raises(NoPriceYetError):
            create(session)
        priced(session, SLOT, 5_000_000)
        for wrong in ({"strike": 0}, {"expiry": SLOT}, {"quantity": 2**31}, {"barrier": CentsPerBtc(4_999_999 + 1)}):
            with pytest.raises(InvalidTermsError):
                create(session, **wrong)
        with pytest.raises(InvalidTermsError):  # up-and-out, and the spot is above it already
            create(session, strike=CentsPerBtc(4_000_000), barrier=CentsPerBtc(4_500_000))
        assert create(session) is create(session)
        assert flows(session).count("exchange") == 1


@pytest.mark.parametrize("wrong", ["", "a.b", "../one", "a" * 65, "<b>", "a b"])
def test_an_id_that_cannot_name_a_file_is_refused(store, wrong):
    rule = SaleRule(
        feed=FEED, preset="standard", preset_sha256="00" * 32, rate_bps=BasisPoints(500), fallback_volatility_bps=6000,
        program="option_settlement", program_sha256="00" * 32,
    )  # fmt: skip
    wanted = Order(
        option_id=wrong, kind=OptionKind.CALL, strike=CentsPerBtc(5_000_000), quantity=CentiBtc(5), barrier=None,
        american=False, expiry=Slot(SLOT + 600),
    )  # fmt: skip
    with store.transaction() as session:
        priced(session, SLOT, 5_000_000)
        with pytest.raises(InvalidInputError, match="option id"):
            sell(session, wanted, rule, now=NOW)
        assert sell(session, dataclasses.replace(wanted, option_id="a-b_1"), rule, now=NOW).id == "a-b_1"


def test_an_option_is_due_only_when_no_earlier_minute_is_open(store):
    with store.transaction() as session:
        priced(session, SLOT, 5_000_000)
        activate(session, create(session))
        priced(session, SLOT + 480, 5_000_000)
        rounds.open_round(session, FEED, Slot(SLOT + 540), now=UnixSeconds(NOW + 540), deadline_seconds=10)
        priced(session, SLOT + 600, 5_500_000)
        assert options.expire_due(session, FEED, RULE_OF, now=NOW, batch_size=64) == 0
        cross(session, rounds.find_round(session, FEED, Slot(SLOT + 540)), "void", now=NOW)
        assert options.expire_due(session, FEED, RULE_OF, now=NOW, batch_size=64) == 1
        assert options.expire_due(session, FEED, RULE_OF, now=NOW, batch_size=64) == 0


def test_options_that_wait_for_their_preset_keep_no_other_one_back(store, monkeypatch):
    def rule_of(sha256):
        if sha256 != "00" * 32:
            raise NotHeldError("preset", sha256, name="", hint="put it there")
        return RULE_OF(sha256)

    monkeypatch.setattr(options, "DUE_AT_ONCE", 2)
    with store.transaction() as session:
        priced(session, SLOT, 5_000_000)
        for name in ("a", "b", "c", "y", "z"):
            row = create(session, option_id=name)
            activate(session, row)
            if name < "d":
                row.preset_sha256 = "11" * 32
        priced(session, SLOT + 600, 5_500_000)
        assert options.expire_due(session, FEED, rule_of, now=NOW, batch_size=64) == 2
        assert "not held here" in session.get_one(OptionRow, "a").last_error


def test_settlements_that_cannot_be_built_keep_no_other_one_back(store):
    """Too few oracles have attested, say: the next look is at others, and at these again later."""
    with store.transaction() as session:
        priced(session, SLOT, 5_000_000)
        for name in ("a", "b", "c"):
            activate(session, create(session, option_id=name))
        priced(session, SLOT + 600, 5_500_000)
        options.expire_due(session, FEED, RULE_OF, now=NOW, batch_size=64)
        for row in session.exec(select(SettlementRow)).all():
            row.state = "proven"
    seen = []
    for now in (NOW + 1, NOW + 2):
        with store.transaction() as session:
            seen.append(building.to_settle(session, tip=Height(1), rule=FeeRule(), limit=2))
            built = building.build_settlements(
                session, seen[-1], wallet_key(bytes(32), 0), estimate=None, rule=FeeRule(), tip=Height(1), now=now
            )
            assert built == []
    assert {one for ids in seen for one in ids} == {"st-a", "st-b", "st-c"}


def test_a_void_expiry_minute_is_settled_by_the_next_priced_one_and_the_barrier_saw_every_minute(store):
    with store.transaction() as session:
        priced(session, SLOT, 5_000_000, low=1, high=9_000_000)  # before the option was listed: not its life
        activate(session, create(session))
        priced(session, SLOT + 60, 5_100_000, low=4_000_000, high=6_000_000)
        priced(session, SLOT + 660, 5_500_000)
        assert options.expire_due(session, FEED, RULE_OF, now=NOW, batch_size=64) == 1
        given = SettlementInput.from_bytes(bytes.fromhex(session.get_one(SettlementRow, "st-one").input_hex))
        touching = options.Condition(barrier=CentsPerBtc(6_000_000), above=True, since=SLOT)
        event = options.event_of(session.get_one(OptionRow, "one"))
        late = CentsPerBtc(5_500_000)
        watched = dataclasses.replace(event, condition="a barrier was touched")
        assert touching.outcome(session, watched, late) == 55_000 | 1 << event.digits
        missing = dataclasses.replace(touching, barrier=CentsPerBtc(6_000_001))
        assert missing.outcome(session, watched, late) == 55_000
    assert given.spot == 5_500_000


def test_the_settlement_price_is_the_attested_one_in_whole_dollars(store):
    with store.transaction() as session:
        priced(session, SLOT, 5_000_000)
        activate(session, create(session))
        priced(session, SLOT + 600, 5_500_099)
        options.expire_due(session, FEED, RULE_OF, now=NOW, batch_size=64)
        row = session.get_one(SettlementRow, "st-one")
        assert (row.price_cents, SettlementInput.from_bytes(bytes.fromhex(row.input_hex)).spot) == (5_500_000,) * 2
        assert flows(session).count("attest") == 1


def band_alone(_sha256):
    return ConsensusRule(thin_bps=0)


def test_a_settlement_waits_while_the_venues_disagree_by_more_than_the_preset_allows(store):
    with store.transaction() as session:
        priced(session, SLOT, 5_000_000)
        activate(session, create(session))
        priced(session, SLOT + 600, 5_500_000, confidence=56_000)  # 1.02 %
        assert options.expire_due(session, FEED, band_alone, now=NOW, batch_size=64) == 0
        priced(session, SLOT + 660, 5_600_000, confidence=56_000)  # 1.00 %
        assert options.expire_due(session, FEED, band_alone, now=NOW, batch_size=64) == 1
        assert session.get_one(SettlementRow, "st-one").slot == SLOT + 660


def test_an_early_exercise_that_was_not_co_signed_is_settled_by_attestation_after_expiry(store):
    program = load_program("option_settlement")
    with store.transaction() as session:
        priced(session, SLOT, 5_000_000)
        row = create(session, kind=OptionKind.BINARY_CALL, american=True, strike=CentsPerBtc(4_000_000))
        activate(session, row)
        settlements.request_settlement(session, "one", requested_by="op", now=NOW)
        settlements.answer_request(session, "one", RULE_OF, now=NOW)
        (claimed,) = claim(session, NOW)
        settlements.finish(session, {claimed: prove(program, claimed.input_bytes)}, now=NOW)
        much_later = UnixSeconds(NOW + settlements.CLOSE_PATIENCE_SECONDS)
        assert settlements.fall_back_to_expiry(session, RULE_OF, now=much_later) == 0  # expiry is not priced yet
        priced(session, SLOT + 600, 5_500_000)
        assert settlements.fall_back_to_expiry(session, RULE_OF, now=NOW) == 0  # both may be signing
        assert settlements.fall_back_to_expiry(session, RULE_OF, now=much_later) == 1
        settlement = session.get_one(SettlementRow, "st-one")
        assert (settlement.state, settlement.reason, settlement.price_cents) == ("due", "expiry", 5_500_000)


def due(session):
    priced(session, SLOT, 5_000_000)
    activate(session, create(session))
    priced(session, SLOT + 600, 5_500_000)
    options.expire_due(session, FEED, RULE_OF, now=NOW, batch_size=64)


def claim(session, now):
    return settlements.claim(
        session, ["st-one"], owner="me", now=now, lease_seconds=10, max_attempts=3, missing=NOTHING
    )


def test_a_claim_excludes_others_until_its_lease_ends_and_its_late_result_changes_nothing(store):
    program = load_program("option_settlement")
    with store.transaction() as session:
        due(session)
        (first,) = claim(session, NOW)
        assert claim(session, UnixSeconds(NOW + 9)) == []
        (second,) = claim(session, UnixSeconds(NOW + 11))
        assert second.fence == first.fence + 1
        proof = prove(program, first.input_bytes)
        assert not settlements.finish(session, {first: proof}, now=NOW)
        assert session.get_one(SettlementRow, "st-one").state == "claimed"
        assert settlements.finish(session, {second: proof}, now=NOW)
        assert not settlements.finish(session, {second: proof}, now=NOW)
        row = session.get_one(SettlementRow, "st-one")
        assert (row.state, row.payout_cents, row.proof_root) == ("proven", 25_000, proof.proof_root.hex())


def test_a_settlement_whose_worker_dies_each_time_is_parked_and_can_be_requeued(store):
    with store.transaction() as session:
        due(session)
        for attempt in range(3):
            assert len(claim(session, UnixSeconds(NOW + 20 * attempt))) == 1
        assert claim(session, UnixSeconds(NOW + 100)) == []
        row = session.get_one(SettlementRow, "st-one")
        assert (row.state, row.attempts) == ("parked", 3)
        assert settlements.requeue(session, row, now=NOW)
        assert len(claim(session, UnixSeconds(NOW + 200))) == 1


def test_an_ad_hoc_request_is_one_row_and_says_why_it_is_refused(store):
    with store.transaction() as session:
        priced(session, SLOT, 5_000_000)
        activate(session, create(session))
        with pytest.raises(NotFoundError):
            settlements.request_settlement(session, "none", requested_by="op", now=NOW)
        settlements.request_settlement(session, "one", requested_by="op", now=NOW)
        settlements.request_settlement(session, "one", requested_by="op", now=NOW)
        assert "European" in settlements.answer_request(session, "one", RULE_OF, now=NOW)
        assert session.get(SettlementRow, "st-one") is None


def test_a_binary_in_the_money_is_exercised_early_when_its_holder_may(store):
    with store.transaction() as session:
        priced(session, SLOT, 5_000_000)
        row = create(session, kind=OptionKind.BINARY_CALL, american=True, strike=CentsPerBtc(4_000_000))
        activate(session, row)
        settlements.request_settlement(session, "one", requested_by="op", now=NOW)
        assert settlements.answer_request(session, "one", RULE_OF, now=NOW) == "early exercise"
        assert (row.state, session.get_one(SettlementRow, "st-one").reason) == ("EXPIRED", "early_exercise")


def test_every_table_with_a_life_declares_its_machine_and_the_metadata_names_eight():
    load_tables()
    assert {name: machine.first.value for name, (_, machine) in machines().items()} == {
        "round": "open",
        "option": "CREATED",
        "settlement": "due",
        "chain_transaction": "built",
        "contract": "ordered",
        "firm_offer": "open",
        "quote_request": "open",
        "take": "taken",
        "market_close": "offered",
        "transfer": "taken",
        "transfer_consent": "open",
        "transfer_offer": "open",
        "webhook": "active",
        "batch": "asking",
        "dispute": "unopened",
        "swap": "open",
        "swap_book": "open",
        "swap_subcontract": "pending",
        "swap_week": "posted",
    }


class Light(StrEnum):
    RED = "red"
    GREEN = "green"
    BROKEN = "broken"


def test_a_state_that_no_edge_reaches_is_refused_when_its_table_is_declared():
    with pytest.raises(ValueError, match="broken"):
        Machine(states=Light, edges=machine_edges((Light.RED, Light.GREEN)), ends=frozenset())


def test_an_edge_of_another_machine_s_states_is_refused_when_its_table_is_declared():
    with pytest.raises(ValueError, match="open"):
        Machine(states=Light, edges=machine_edges((Light.RED, RoundState.OPEN)), ends=frozenset())


def test_a_table_without_a_machine_has_no_edge_to_cross(store):
    asked = SettlementRequestRow(option_id="one", requested_by="operator", requested_at_unix=NOW)
    with store.transaction() as session, pytest.raises(NoMachineError):
        cross(session, asked, "accepted", now=NOW)


def test_a_state_is_stored_as_its_text_and_read_back_as_text(store):
    with store.transaction() as session:
        session.add(RoundRow(feed="BTC/USD", slot=SLOT, deadline_unix=NOW, opened_at_unix=NOW, state=RoundState.OPEN))
    with store.transaction() as session:
        row = session.exec(select(RoundRow)).one()
        assert cross(session, row, RoundState.VOID, now=NOW)
        assert type(row.state) is str
    with store.reading() as session:
        assert session.execute(text("SELECT state FROM round")).scalar_one() == "void"
