"""What the store tells a dashboard: ages, counts by state, durations from the events, each read once."""

import pytest
from sqlalchemy import event

from btcfi.adapters.store import reading as store_reading
from btcfi.adapters.store.access.api_tables import ApiKeyRow
from btcfi.adapters.store.options.tables import OptionRow, PremiumRow, SettlementRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.reading import BUCKETS, Edge, EventLog, Histogram, read_store
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import count, cross, record
from btcfi.adapters.store.spine.tables import CanaryRow, EventRow, OutboxRow
from btcfi.oracle.quote import Feed
from btcfi.units import UnixSeconds

FEED = Feed("BTC/USD")
NOW = UnixSeconds(1_700_000_100)
SLOT = 1_699_999_980
REPORT = (
    '{"kind": "price", "confidence_bps": 12, "quorum": 2, "registered": 4,'
    ' "used": [{}, {}, {}], "dropped": [{}], "absent": []}'
)


@pytest.fixture
def store(tmp_path):
    made = Store(f"sqlite:///{tmp_path}/store.db")
    made.migrate()
    yield made
    made.close()


def option(name, state="ACTIVE", expiry=NOW + 600):
    return OptionRow(
        id=name, feed=FEED, state=state, kind=0, strike_cents=5_000_000, quantity_centi_btc=5, expiry_unix=expiry,
        premium_cents=1_000, premium_sats=2_000, collateral_sats=5_000_000, volatility_bps=6_000, rate_bps=500,
        preset="standard", preset_sha256="00" * 32, program="option_settlement", program_sha256="00" * 32,
        created_at_unix=NOW, listed_slot=SLOT, updated_at_unix=NOW,
    )  # fmt: skip


def settlement(of, state="due", created=NOW):
    return SettlementRow(
        id=f"st-{of}", option_id=of, state=state, reason="expiry", slot=SLOT, price_cents=5_000_000, input_hex="00",
        created_at_unix=created, updated_at_unix=created,
    )  # fmt: skip


def priced(slot=SLOT, closed=SLOT + 68, **changes):
    given = {
        "feed": FEED, "slot": slot, "state": "priced", "price_cents": 5_000_000, "low_cents": 4_990_000,
        "high_cents": 5_010_000, "deadline_unix": 0, "opened_at_unix": slot + 65, "closed_at_unix": closed,
        "report": REPORT,
    }  # fmt: skip
    return RoundRow(**{**given, **changes})


def events(session, *rows):
    session.add_all([
        EventRow(id=id_, entity=entity, entity_id=name, from_state=a, to_state=b, at_unix=at)
        for id_, entity, name, a, b, at in rows
    ])  # fmt: skip


def reading(store, **changes):
    with store.reading() as session:
        return read_store(session, FEED, **{"now": NOW, **changes})


def read_all(log, store, now=NOW):
    with store.reading() as session:
        while log.read(session, now=now):
            pass
    return log


def test_an_empty_store_has_no_price_and_nothing_old(store):
    found = reading(store)
    assert found.price is None
    assert (found.premiums_age, found.outbox_lag, found.walked_height) == (None, 0, None)
    assert found.schema_current
    assert found.database_bytes > 4096


def test_a_price_is_as_old_as_the_end_of_its_minute_and_in_a_replay_as_its_agreement(store):
    with store.transaction() as session:
        session.add(priced())
    live, replayed = reading(store).price, reading(store, replay=True).price
    assert live.age_seconds == NOW - (SLOT + 60)
    assert replayed.age_seconds == NOW - (SLOT + 68)
    assert (live.cents, live.used, live.dropped, live.absent, live.quorum) == (5_000_000, 3, 1, 0, 2)
    assert live.confidence_bps == 12
    assert live.range_bps == pytest.approx(40)


def test_an_option_is_overdue_when_its_minute_and_the_next_are_over(store):
    with store.transaction() as session:
        session.add_all([option("early", expiry=NOW - 119), option("late", expiry=NOW - 120)])
        session.add(option("done", state="EXERCISED", expiry=NOW - 500))
    assert reading(store).overdue_options == 1
    with store.transaction() as session:
        session.add(priced(slot=SLOT - 600))
    assert reading(store, replay=True).overdue_options == 0, "in a replay the market's clock is the recording's"


def test_locked_collateral_is_that_of_the_options_that_the_chain_holds_and_not_of_what_is_only_sold(store):
    with store.transaction() as session:
        session.add_all([option("a"), option("b", state="EXPIRED"), option("c", state="ABANDONED")])
        session.add_all([option("d", state="CREATED"), option("e", state="FAILED"), option("f", state="CANCELLED")])
    found = reading(store)
    assert found.collateral_sats == 10_000_000
    assert found.premium_cents == 2_000
    assert found.options == dict.fromkeys(("ACTIVE", "EXPIRED", "ABANDONED", "CREATED", "FAILED", "CANCELLED"), 1)


def test_the_oldest_settlement_of_a_state_counts_from_when_it_became_due(store):
    with store.transaction() as session:
        session.add_all([option(name) for name in "abcd"])
        session.flush()
        session.add_all([settlement("a", created=NOW - 7), settlement("b", created=NOW - 30)])
        session.add_all([settlement("c", state="parked", created=NOW - 900)])
        session.add_all([settlement("d", state="confirmed", created=NOW - 9_000)])
    found = reading(store)
    assert found.oldest_settlement == {"due": 30, "parked": 900}
    assert found.settlements == {"due": 2, "parked": 1, "confirmed": 1}


def test_premiums_outbox_canaries_counters_and_keys_are_read(store):
    greeks = {"delta": 0.5, "gamma": 0.0, "vega": 0.0, "theta": 0.0, "rho": 0.0}
    key = {"secret_sha256": "ab" * 32, "name": "n", "roles": "read", "requests_per_minute": 60, "created_at_unix": 1}
    with store.transaction() as session:
        session.add_all([option("a"), option("b"), option("settled", state="EXERCISED")])
        session.add(PremiumRow(option_id="a", slot=SLOT, premium_cents=1, priced_at_unix=NOW - 40, **greeks))
        session.add(PremiumRow(option_id="settled", slot=SLOT, premium_cents=1, priced_at_unix=NOW - 4_000, **greeks))
        session.add(OutboxRow(id="1", flow="send", arguments="[]", created_at_unix=NOW - 11))
        session.add(OutboxRow(id="2", flow="send", arguments="[]", created_at_unix=NOW - 99, published_at_unix=NOW))
        session.add(CanaryRow(queue="settle", seen_at_unix=NOW - 12))
        session.add_all([
            ApiKeyRow(id="1", **key), ApiKeyRow(id="2", revoked_at_unix=5, **key),
            ApiKeyRow(id="3", expires_at_unix=NOW, **key),
        ])  # fmt: skip
        count(session, "duplicate_claims", 3)
    found = reading(store)
    assert (found.premiums_age, found.unpriced_options) == (40, 1)
    assert (found.outbox_waiting, found.outbox_lag) == (1, 11)
    assert found.canaries == {"settle": 12}
    assert found.counters == {"duplicate_claims": 3}
    assert found.api_keys == {"usable": 1, "expired": 1, "revoked": 1}


def test_a_histogram_s_bound_belongs_to_its_bucket():
    histogram = Histogram()
    for seconds in (0, 1, 2, 3_600, 3_601):
        histogram.add(seconds)
    assert histogram.counts[0] == 2
    assert histogram.counts[BUCKETS.index(3_600)] == 1
    assert histogram.counts[-1] == 1
    assert (histogram.count, histogram.total) == (5, 7_204)


def test_a_settlement_s_life_is_measured_stage_by_stage_and_as_a_whole(store):
    with store.transaction() as session:
        events(
            session,
            (1, "settlement", "st-a", "", "due", NOW), (2, "settlement", "st-a", "due", "claimed", NOW + 2),
            (3, "settlement", "st-a", "claimed", "proven", NOW + 5),
            (4, "settlement", "st-a", "proven", "built", NOW + 6),
            (5, "settlement", "st-a", "built", "broadcast", NOW + 7),
            (6, "settlement", "st-a", "broadcast", "confirmed", NOW + 607),
        )  # fmt: skip
    log = read_all(EventLog(), store)
    edge = Edge(entity="settlement", from_state="claimed", to_state="proven")
    assert log.edges[edge].total == 3
    assert {until: h.total for until, h in log.settled.items()} == {"proven": 5, "broadcast": 7, "confirmed": 607}
    assert log.born == {("settlement", "due"): 1}


def test_what_went_on_is_what_the_edges_wrote(store):
    """The events are those of the domain's own code, not only of this file."""
    with store.transaction() as session:
        row = priced(state="open", price_cents=None, report=None, closed_at_unix=None)
        session.add(row)
        session.flush()
        record(session, "round", str(row.id), "open", now=UnixSeconds(SLOT + 65))
        assert cross(session, row, "priced", now=UnixSeconds(SLOT + 68))
    log = read_all(EventLog(), store)
    assert log.edges[Edge(entity="round", from_state="open", to_state="priced")].total == 3


def test_events_are_counted_once_however_often_they_are_read(store, monkeypatch):
    monkeypatch.setattr(store_reading, "EVENTS_PER_READ", 2)
    with store.transaction() as session:
        events(session, *[(i, "settlement", f"st-{i}", "", "due", NOW) for i in range(1, 8)])
    log = read_all(EventLog(), store)
    read_all(log, store)
    assert log.born == {("settlement", "due"): 7}
    assert log.read_to == 7


def test_an_event_that_commits_after_a_later_one_is_still_counted_and_a_rolled_back_id_is_given_up(store):
    with store.transaction() as session:
        events(session, (1, "settlement", "st-a", "", "due", NOW), (4, "settlement", "st-d", "", "due", NOW))
    log = read_all(EventLog(), store)
    with store.transaction() as session:
        events(session, (2, "settlement", "st-b", "", "due", NOW))
    read_all(log, store, now=UnixSeconds(NOW + 30))
    read_all(log, store, now=UnixSeconds(NOW + 31))
    assert log.born == {("settlement", "due"): 3}
    with store.transaction() as session:
        events(session, (3, "settlement", "st-c", "", "due", NOW))
    read_all(log, store, now=UnixSeconds(NOW + store_reading.GAP_SECONDS + 1))
    assert log.born == {("settlement", "due"): 3}, "two minutes after, it was a rolled back transaction's"


def test_no_query_walks_through_a_large_table(store):
    """At a hundred thousand settlements a scrape reads indexes: a table is scanned only where it stays small."""
    with store.transaction() as session:
        session.add(option("a"))
        session.add(priced())
    seen = []
    event.listen(store.engine, "before_cursor_execute", lambda *a: seen.append((a[2], a[3])))
    reading(store)
    read_all(EventLog(), store)
    small = {"counter", "canary", "api_key", "settlement_request", "alembic_version"}
    scans = []
    with store.reading() as session:
        for statement, parameters in [s for s in seen if s[0].lstrip().startswith("SELECT")]:
            explained = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plan = [row[3] for row in explained]
            if "WHERE" not in statement and "LIMIT" in statement and not any("B-TREE" in line for line in plan):
                continue  # the newest of a table, along its key: read no further than the limit
            scans += [line for line in plan if line.startswith("SCAN") and "COVERING INDEX" not in line]
    assert len(seen) > 15
    assert {scan.split()[1] for scan in scans} <= small, scans
