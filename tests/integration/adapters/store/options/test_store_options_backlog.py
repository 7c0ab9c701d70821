"""Intake is refused while too much waits; queues stay short however long nobody reads them; scans use their indexes."""

import pytest
from sqlalchemy import func, select, text
from sqlmodel import col

from btcfi.adapters.store.options import settlements
from btcfi.adapters.store.options.backlog import BacklogFullError, backlog, refuse_above, refuse_requests_above
from btcfi.adapters.store.options.tables import OptionRow, SettlementRequestRow, SettlementRow
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.spine.tables import OutboxRow
from btcfi.oracle.consensus import ConsensusRule, Method
from btcfi.oracle.quote import Feed
from btcfi.surfaces.status import status_of
from btcfi.units import BasisPoints, Slot, UnixSeconds

NOW = UnixSeconds(1_700_000_000)
FEED = Feed("BTC/USD")
RULE = ConsensusRule(
    method=Method.VOLUME_WEIGHTED_MEDIAN, outlier_bps=BasisPoints(200), par_band_bps=BasisPoints(100),
    quorum_numerator=2, quorum_denominator=3, settle_confidence_bps=BasisPoints(100),
    least_dollar_markets=0, thin_bps=BasisPoints(0),
)  # fmt: skip


def add(session, name, *, option="EXPIRED", settlement="due", attempts=0, moved=NOW):
    session.add(
        OptionRow(
            id=name, feed=FEED, state=option, kind=0, strike_cents=1, quantity_centi_btc=1, expiry_unix=NOW,
            premium_cents=1, premium_sats=1, collateral_sats=1, volatility_bps=1, rate_bps=1, preset="standard",
            preset_sha256="", program="p", program_sha256="", created_at_unix=NOW, listed_slot=NOW, updated_at_unix=NOW,
        )
    )  # fmt: skip
    session.flush()
    if settlement is not None:
        session.add(
            SettlementRow(
                id=f"st-{name}", option_id=name, state=settlement, reason="expiry", slot=NOW, price_cents=1,
                input_hex="00", attempts=attempts, created_at_unix=NOW, updated_at_unix=moved,
            )
        )  # fmt: skip


def test_what_waits_for_us_is_counted_and_what_waits_for_the_chain_is_not(store):
    states = ("due", "claimed", "executed", "proven", "built", "broadcast", "confirmed", "parked")
    with store.transaction() as session:
        for state in states:
            add(session, state, settlement=state)
        add(session, "new", option="CREATED", settlement=None)
    with store.reading() as session:
        assert backlog(session) == 6


def test_a_full_backlog_refuses_with_the_numbers_and_as_something_to_try_again(store):
    with store.transaction() as session:
        add(session, "one")
    with store.reading() as session, pytest.raises(BacklogFullError) as refused:
        refuse_above(session, 1)
    assert (refused.value.waiting, refused.value.most) == (1, 1)
    assert (status_of(refused.value).exit_code, status_of(refused.value).http) == (75, 503)
    with store.reading() as session:
        refuse_above(session, 2)


def test_no_more_settlement_requests_are_taken_than_can_be_answered(store):
    with store.transaction() as session:
        add(session, "one", settlement=None)
        session.add(SettlementRequestRow(option_id="one", requested_by="test", requested_at_unix=NOW))
    with store.reading() as session, pytest.raises(BacklogFullError):
        refuse_requests_above(session, 1)


def claim(session, *ids, now=NOW, missing=lambda _bound: None):
    return settlements.claim(
        session, list(ids), owner="me", now=UnixSeconds(now), lease_seconds=60, max_attempts=5, missing=missing
    )


def repair(store, now):
    with store.transaction() as session:
        settlements.repair(
            session, lambda _sha256: RULE, now=UnixSeconds(now), batch_size=64, stale_seconds=15, max_attempts=5
        )


def test_a_settlement_that_nobody_takes_for_a_day_is_queued_a_few_times_not_thousands(store):
    with store.transaction() as session:
        add(session, "one")
    for seconds in range(0, 3_600, 15):
        repair(store, NOW + seconds)
    with store.reading() as session:
        queued = session.execute(select(func.count()).select_from(OutboxRow)).scalar_one()
    assert 4 <= queued <= 14  # 240 looks; doubling to ten minutes


def test_a_settlement_of_a_clock_that_was_hours_ahead_is_taken_up_at_once(store):
    with store.transaction() as session:
        add(session, "one", settlement="claimed", moved=NOW + 7_200)
        row = session.get_one(SettlementRow, "st-one")
        row.lease_until_unix = NOW + 7_260
    with store.transaction() as session:
        (claimed,) = claim(session, "st-one")
    assert claimed.fence == 1


def test_what_was_tried_before_is_claimed_alone(store):
    with store.transaction() as session:
        add(session, "fresh")
        add(session, "tried", attempts=1)
    with store.transaction() as session:
        claims = claim(session, "st-fresh", "st-tried")
    assert [claim.settlement_id for claim in claims] == ["st-fresh"]
    with store.reading() as session:
        (queued,) = session.execute(select(col(OutboxRow.arguments))).scalars()
    assert queued == '[["st-tried"]]'


def test_a_long_run_whose_parts_never_arrive_is_parked_with_its_reason(store):
    with store.transaction() as session:
        add(session, "long", settlement="executed", attempts=1)
        session.get_one(SettlementRow, "st-long").parts = 4
    for seconds in (20, 700, 1_400, 2_100, 2_800, 3_500):
        repair(store, NOW + seconds)
    with store.reading() as session:
        row = session.get_one(SettlementRow, "st-long")
        assert (row.state, row.attempts) == ("parked", 5)
        assert "5 attempts" in row.last_error


def test_a_program_that_never_ends_is_parked_after_five_attempts_with_the_reason(store):
    with store.transaction() as session:
        add(session, "endless")
    for attempt in range(6):
        with store.transaction() as session:
            for claimed in claim(session, "st-endless", now=NOW + attempt):
                settlements.note_error(session, claimed, "the step limit of 1048576 was reached", now=NOW)
    with store.reading() as session:
        row = session.get_one(SettlementRow, "st-endless")
        assert (row.state, row.attempts) == ("parked", 5)
        assert row.last_error == "the step limit of 1048576 was reached"


QUERIES = {
    "expiry scan": ("option", "SELECT * FROM option WHERE state = 'ACTIVE' AND expiry_unix <= 1700000000",
                    "ix_option_due"),
    "oldest open round": ("round", "SELECT min(slot) FROM round WHERE feed = 'BTC/USD' AND state = 'open'",
                          "ix_round_state"),
    "round of a minute": ("round", "SELECT * FROM round WHERE feed = 'BTC/USD' AND slot = 1700000040", "round"),
    "waiting settlements": ("settlement", "SELECT * FROM settlement WHERE state = 'due'", "ix_settlement_state"),
    "outbox": ("outbox", "SELECT * FROM outbox WHERE published_at_unix IS NULL ORDER BY created_at_unix LIMIT 200",
               "ix_outbox_unpublished"),
}  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
def test_the_scans_of_every_tick_use_an_index(store, name):
    table, query, index = QUERIES[name]
    with store.transaction() as session:
        if store.engine.dialect.name == "postgresql":
            session.execute(text("SET LOCAL enable_seqscan = off"))  # a small table would be read whole
        prefix = "EXPLAIN" if store.engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        plan = "\n".join(str(tuple(row)) for row in session.execute(text(f"{prefix} {query}")))
    assert (index if store.engine.dialect.name == "sqlite" else "Index") in plan, plan
    assert f"SCAN {table}" not in plan, plan
    assert "Seq Scan" not in plan, plan


def test_the_newest_priced_minute_before_an_open_one_is_what_settles(store):
    with store.transaction() as session:
        for number in range(3):
            rounds.open_round(
                session, FEED, Slot(NOW + 60 * number), now=UnixSeconds(NOW + 60 * number + 60), deadline_seconds=20
            )
    with store.reading() as session:
        assert rounds.settled_until(session, FEED) is None
