"""What people read is found by an index at any size of the store, whoever asks and however far down the list."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import and_, event, or_, text
from sqlmodel import Session, select

from btcfi.adapters.store.access import views as access
from btcfi.adapters.store.chain import views as chain
from btcfi.adapters.store.disputes import views as disputes
from btcfi.adapters.store.disputes.tables import DisputeRow
from btcfi.adapters.store.market import views as market
from btcfi.adapters.store.options import views as options
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.tables import SETTLED_OPTIONS, OptionRow, SettlementRow
from btcfi.adapters.store.options.views import Sight, WhichOptions, WhichSettlements
from btcfi.adapters.store.prices import views as prices
from btcfi.adapters.store.spine import views as spine
from btcfi.adapters.store.spine.paging import encode_cursor
from btcfi.adapters.store.swaps import views as swaps
from btcfi.bitcoin.fees import FeeRule
from btcfi.options.terms import OptionKind
from btcfi.units import Height

FEED = "BTC/USD"
CALL = "BTC-27NOV26-60000-C"
NOW = 1_700_000_100
DEEP = encode_cursor(NOW, "o5")
LARGE = {
    "event", "settlement", "option", "quote", "chain_transaction", "round", "premium", "settlement_request",
    "firm_offer", "take", "letter", "quote_request", "market_close", "batch_end", "batch_part",
}  # fmt: skip
"""Tables that grow with every minute or every option, for good."""

PARTIAL = {"ix_take_traded": {"state"}}
"""Indexes of some rows alone, with the columns of the condition that these fulfil: it passes over none of them."""

COUNTED = {"options.options_by_state", "options.settlements_by_state", "prices.rounds_by_state", "spine.by_state"}
"""How many are in each state: an index is counted from end to end, the rows are not read."""

CALLS: dict[tuple[ModuleType, str], dict[str, Callable[[Session], Any]]] = {
    (access, "accounts"): {"": access.accounts},
    (access, "api_keys"): {"": access.api_keys},
    (access, "audit_page"): {
        "first": lambda s: access.audit_page(s, limit=20),
        "deep": lambda s: access.audit_page(s, limit=20, before=9),
    },
    (access, "audit_entry"): {"": lambda s: access.audit_entry(s, 1)},
    (market, "book"): {
        "everybody's": lambda s: market.book(s, CALL, NOW),
        "an account's": lambda s: market.book(s, CALL, NOW, account="a1"),
    },
    (market, "chain"): {"": lambda s: market.chain(s, NOW, NOW)},
    (market, "expiries"): {"": lambda s: market.expiries(s, NOW)},
    **{
        (market, name): {
            case: lambda s, name=name, whose=whose, cursor=cursor: getattr(market, name)(
                s, whose, limit=50, cursor=cursor
            )
            for case, whose, cursor in (
                ("first", "a1", None),
                ("deep", "a1", DEEP),
                ("all", None, None),
                ("all, deep", None, DEEP),
            )
        }
        for name in ("offers_of", "takes_of", "fills", "requests_of", "closes_of")
    },
    (market, "positions"): {
        "first": lambda s: market.positions(s, "a1", limit=50),
        "deep": lambda s: market.positions(s, "a1", limit=50, cursor=DEEP),
        "all": lambda s: market.positions(s, None, limit=50),
        "settled": lambda s: market.positions(s, "a1", states=SETTLED_OPTIONS, limit=50),
    },
    (market, "auctions"): {"": lambda s: market.auctions(s, NOW, limit=50)},
    (market, "answers"): {"": lambda s: market.answers(s, "q1", NOW)},
    (market, "open_requests"): {
        "first": lambda s: market.open_requests(s, NOW, limit=50),
        "deep": lambda s: market.open_requests(s, NOW, limit=50, cursor=DEEP),
    },
    (market, "request_of"): {"": lambda s: market.request_of(s, "a1", "q1")},
    (market, "offer_of_account"): {"": lambda s: market.offer_of_account(s, "a1", "f1")},
    (market, "close_of"): {"": lambda s: market.close_of(s, "a1", "c1")},
    (market, "agreed_closes"): {"": lambda s: market.agreed_closes(s, ["o1", "o2"])},
    (market, "open_closes"): {"": lambda s: market.open_closes(s, "a1", [s.get_one(OptionRow, "o1")], NOW)},
    (market, "take_of"): {"": lambda s: market.take_of(s, "a1", "k1")},
    (market, "edges_of"): {"": lambda s: market.edges_of(s, "a1", after=9)},
    (market, "trades"): {
        "first": lambda s: market.trades(s, limit=50),
        "deep": lambda s: market.trades(s, limit=50, cursor=DEEP),
        "of an instrument": lambda s: market.trades(s, instrument=CALL, limit=50),
        "of an instrument, deep": lambda s: market.trades(s, instrument=CALL, limit=50, cursor=DEEP),
    },
    (market, "accounts"): {
        "first": lambda s: market.accounts(s, limit=50),
        "deep": lambda s: market.accounts(s, limit=50, cursor=DEEP),
    },
    (market, "api_keys_of"): {"": lambda s: market.api_keys_of(s, "a1")},
    (market, "times_to_check"): {"": market.times_to_check},
    (chain, "tip"): {"": chain.tip},
    (chain, "transaction"): {"": lambda s: chain.transaction(s, "aa")},
    (chain, "transactions_of"): {"": lambda s: chain.transactions_of(s, "o1")},
    (chain, "newest_confirmed_height"): {"": chain.newest_confirmed_height},
    (options, "option"): {"": lambda s: options.option(s, "o1")},
    (options, "option_of_transaction"): {
        "": lambda s: options.option_of_transaction(s, "aa"),
        "none": lambda s: options.option_of_transaction(s, "zz"),
    },
    (options, "options_at_address"): {"": lambda s: options.options_at_address(s, "bcrt1p")},
    (options, "options_of"): {"": lambda s: options.options_of(s, ["o1", "o2"])},
    (options, "settlements_of"): {"": lambda s: options.settlements_of(s, ["st-o1"])},
    (options, "settlements_by_option"): {"": lambda s: options.settlements_by_option(s, ["o1", "o2"])},
    (options, "child_fees"): {"": lambda s: options.child_fees(s, ["o1"])},
    (options, "locked_book"): {"": lambda s: options.locked_book(s, FEED)},
    (prices, "price_age"): {"": lambda s: prices.price_age(s, FEED, replay=False, now=NOW)},
    (spine, "revision_of"): {"": spine.revision_of},
    (options, "option_page"): {
        name: lambda s, which=which, cursor=cursor: options.option_page(s, FEED, which, limit=50, cursor=cursor)
        for name, which, cursor in (
            ("first", WhichOptions(), None),
            ("deep", WhichOptions(), DEEP),
            ("of a state", WhichOptions(state="ACTIVE"), None),
            ("of a state, deep", WhichOptions(state="EXERCISED"), DEEP),
            ("of a kind", WhichOptions(kind=OptionKind.PUT), None),
            ("of a style", WhichOptions(american=True), None),
            ("by id", WhichOptions(id_prefix="o1"), None),
            ("by id and state", WhichOptions(id_prefix="o1", state="EXERCISED"), DEEP),
            ("by expiry", WhichOptions(expiry_from=NOW, expiry_to=NOW + 60), None),
            ("by state and expiry", WhichOptions(state="ACTIVE", expiry_from=NOW, expiry_to=NOW + 60), None),
            ("of nobody", WhichOptions(sight=Sight()), DEEP),
            ("of an account", WhichOptions(sight=Sight(account="aa"), state="ACTIVE"), DEEP),
        )
    },
    (options, "soonest"): {
        "all": lambda s: options.soonest(s, WhichOptions()),
        "of a state": lambda s: options.soonest(s, WhichOptions(state="ACTIVE")),
        "due": lambda s: options.soonest(s, WhichOptions(state="ACTIVE", expiry_to=NOW), feed=FEED),
        "by id": lambda s: options.soonest(s, WhichOptions(state="ACTIVE", id_prefix="o1"), feed=FEED),
    },
    (options, "options_by_state"): {"": options.options_by_state},
    (options, "options_in"): {"": lambda s: options.options_in(s, ["ACTIVE"])},
    (options, "of_these_in"): {"": lambda s: options.of_these_in(s, ["o1", "o2"], ["ACTIVE"])},
    (options, "contract"): {"": lambda s: options.contract(s, "o1")},
    (options, "attestations_of"): {"": lambda s: options.attestations_of(s, "o1")},
    (options, "transactions_of"): {"": lambda s: options.transactions_of(s, "o1")},
    (options, "life_of"): {"": lambda s: options.life_of(s, "o1")},
    (options, "premium"): {"": lambda s: options.premium(s, "o1")},
    (options, "premiums_of"): {"": lambda s: options.premiums_of(s, ["o1", "o2"])},
    (options, "premiums_after"): {
        "": lambda s: options.premiums_after(s, feed=FEED, at=NOW, option_id="o1"),
        "of nobody": lambda s: options.premiums_after(s, feed=FEED, at=NOW, option_id="o1", sight=Sight()),
    },
    (options, "premiums_at"): {"": lambda s: options.premiums_at(s, NOW)},
    (options, "newest_premium_unix"): {"": options.newest_premium_unix},
    (options, "settlement"): {"": lambda s: options.settlement(s, "st-o1")},
    (options, "settlement_of"): {"": lambda s: options.settlement_of(s, "o1")},
    (options, "settlement_page"): {
        name: lambda s, which=which, cursor=cursor: options.settlement_page(s, which, limit=50, cursor=cursor)
        for name, which, cursor in (
            ("first", WhichSettlements(), None),
            ("deep", WhichSettlements(), DEEP),
            ("of a state", WhichSettlements(state="parked"), None),
            ("of a state, deep", WhichSettlements(state="confirmed"), DEEP),
            ("of an option", WhichSettlements(option_id="o1"), DEEP),
            ("by option", WhichSettlements(option_prefix="o1"), None),
            ("by option and state", WhichSettlements(option_prefix="o1", state="confirmed"), DEEP),
            ("of an account", WhichSettlements(sight=Sight(account="aa"), state="confirmed"), DEEP),
        )
    },
    (options, "settlements_by_state"): {"": options.settlements_by_state},
    (options, "states_of"): {"": lambda s: options.states_of(s, ["o1", "o2"])},
    (options, "payments"): {"": lambda s: options.payments(s, tip=Height(1), rule=FeeRule())},
    (options, "parked"): {"": options.parked, "limited": lambda s: options.parked(s, limit=50)},
    (options, "oldest_due"): {"": options.oldest_due},
    (options, "proof_file"): {"": lambda s: options.proof_file(s, s.get_one(SettlementRow, "st-o1"))},
    (options, "request"): {"": lambda s: options.request(s, "o1")},
    (options, "open_requests"): {"": options.open_requests},
    (prices, "newest_priced"): {"": lambda s: prices.newest_priced(s, FEED)},
    (prices, "newest_close"): {"": lambda s: prices.newest_close(s, FEED)},
    (prices, "newest_void"): {"": lambda s: prices.newest_void(s, FEED)},
    (prices, "newest_closed"): {"": lambda s: prices.newest_closed(s, FEED)},
    (prices, "recent_rounds"): {"": lambda s: prices.recent_rounds(s, FEED, 30)},
    (prices, "recent_states"): {"": lambda s: prices.recent_states(s, FEED, 60)},
    (prices, "round_at"): {"": lambda s: prices.round_at(s, FEED, NOW)},
    (prices, "price_range"): {"": lambda s: prices.price_range(s, FEED, since=NOW)},
    (prices, "price_page"): {
        "first": lambda s: prices.price_page(s, FEED, start=0, end=NOW, limit=100),
        "deep": lambda s: prices.price_page(s, FEED, start=0, end=NOW, limit=100, cursor=encode_cursor(NOW - 60, "")),
    },
    (prices, "prices_after"): {"": lambda s: prices.prices_after(s, FEED, NOW, limit=100)},
    (prices, "closes"): {"": lambda s: prices.closes(s, FEED, until=NOW, interval=3_600, limit=241)},
    (prices, "minutes_of"): {"": lambda s: prices.minutes_of(s, [1, 2])},
    (prices, "open_rounds"): {"": prices.open_rounds},
    (prices, "rounds_by_state"): {"": prices.rounds_by_state},
    (prices, "closed_between"): {"": lambda s: prices.closed_between(s, NOW - 600, NOW)},
    (prices, "quotes_of"): {"": lambda s: prices.quotes_of(s, FEED, NOW)},
    (prices, "evidence"): {"": lambda s: prices.evidence(s, FEED, NOW, "aa")},
    (disputes, "disputes"): {
        "first": lambda s: disputes.disputes(s, limit=50),
        "deep": lambda s: disputes.disputes(s, limit=50, cursor=DEEP),
        "of a state": lambda s: disputes.disputes(s, state="claimed", limit=50),
    },
    (disputes, "dispute"): {"": lambda s: disputes.dispute(s, "d1")},
    (disputes, "are_any_watched"): {"": disputes.are_any_watched},
    (disputes, "steps"): {"": lambda s: disputes.steps(s, "d1")},
    (disputes, "tip_of"): {"": lambda s: disputes.tip_of(s, DisputeRow(walked_height=1))},
    (disputes, "behind"): {"": disputes.behind},
    (disputes, "pressing"): {"": lambda s: list(disputes.pressing(s))},
    (swaps, "are_any_listed"): {"": swaps.are_any_listed},
    (swaps, "sums"): {"": swaps.sums},
    (spine, "has_table"): {"": lambda s: spine.has_table(s, "option")},
    (spine, "blob"): {"": lambda s: spine.blob(s, "aa")},
    (spine, "by_state"): {"": lambda s: spine.by_state(s, ContractRow)},
    (spine, "count_in"): {"": lambda s: spine.count_in(s, ContractRow, "funded")},
    (spine, "newest_events"): {"": lambda s: spine.newest_events(s, 12)},
    (spine, "newest_event_id"): {"": spine.newest_event_id},
    (spine, "events_after"): {"": lambda s: spine.events_after(s, entity="settlement", after=9, limit=100)},
    (spine, "events_of"): {
        "one": lambda s: spine.events_of(s, {"settlement": ["st-o1"]}),
        "many": lambda s: spine.events_of(s, {"option": ["o1"], "settlement": ["st-o1"], "contract": ["o1", "o2"]}),
    },
    (spine, "canaries"): {"": spine.canaries},
    (spine, "counters"): {"": spine.counters},
    (spine, "waiting"): {"": spine.waiting},
    (spine, "refused"): {"": spine.refused},
    (spine, "set_aside"): {"": spine.set_aside},
    (spine, "count_set_aside"): {"": spine.count_set_aside},
}
CASES = {
    f"{module.__name__.split('.')[-2]}.{name}" + (f": {case}" if case else ""): call
    for (module, name), cases in CALLS.items()
    for case, call in cases.items()
}


@pytest.fixture
def filled(store):
    with store.transaction() as session:
        session.add(
            OptionRow(
                id="o1", feed=FEED, kind=0, strike_cents=1, quantity_centi_btc=1, expiry_unix=NOW, premium_cents=1,
                premium_sats=1, collateral_sats=1, volatility_bps=1, rate_bps=1, preset="p", preset_sha256="00",
                program="g", program_sha256="00", created_at_unix=NOW, listed_slot=NOW, updated_at_unix=NOW,
            )
        )  # fmt: skip
        session.flush()
        session.add(
            SettlementRow(
                id="st-o1", option_id="o1", reason="expiry", slot=NOW, price_cents=1, input_hex="00",
                proof_sha256="00", created_at_unix=NOW, updated_at_unix=NOW,
            )
        )  # fmt: skip
        session.add(
            ContractRow(
                option_id="o1", event_id="e1", expiry_height=1, refund_height=1, order="{}", created_at_unix=NOW,
                updated_at_unix=NOW,
            )
        )  # fmt: skip
    return store


def plans(store, call):
    """Return each SELECT that a view sends, with the plan that the database makes for it."""
    sent = []

    def note(_connection, _cursor, statement, parameters, _context, _many):
        sent.append((statement, parameters))

    explain = "EXPLAIN QUERY PLAN " if store.engine.dialect.name == "sqlite" else "EXPLAIN "
    with store.reading() as session:
        if store.engine.dialect.name == "postgresql":  # a table of one row is read whole, whatever indexes it has
            session.execute(text("SET LOCAL enable_seqscan = off"))
        event.listen(store.engine, "before_cursor_execute", note)
        try:
            call(session)
        finally:
            event.remove(store.engine, "before_cursor_execute", note)
        return [
            (statement, [str(row[-1]) for row in session.connection().exec_driver_sql(explain + statement, parameters)])
            for statement, parameters in sent
            if statement.lstrip().upper().startswith("SELECT")
        ]


def read_whole(statement, plan):
    """Return the large tables that a plan reads from end to end, however few of their rows are wanted."""
    found = set()
    for line in plan:
        # a search by nothing is that for an extreme, along an index or, where there is none, through the table
        scan = re.search(r"^SCAN (\w+)|^SEARCH (\w+)$|Seq Scan on \"?(\w+)", line)
        if scan is None or (table := scan[1] or scan[2] or scan[3]) not in LARGE:
            continue
        # the first page: along an index to the limit. One store serves one feed, so that condition passes over nothing
        where = re.findall(r"\.(\w+)", statement.partition("WHERE")[2].partition("ORDER BY")[0])
        page = "LIMIT" in statement and not any("TEMP B-TREE" in one for one in plan)
        fulfilled = {one for name, columns in PARTIAL.items() if name in line for one in columns}
        if not (page and set(where) <= {"feed"} | fulfilled):
            found.add(table)
    return found


def test_every_view_is_looked_at():
    public = {
        (module, name)
        for module, _ in CALLS
        for name, one in inspect.getmembers(module, inspect.isfunction)
        if one.__module__ == module.__name__
        and not name.startswith("_")
        and "session" in inspect.signature(one).parameters
    }
    assert {(module.__name__, name) for module, name in CALLS} == {(module.__name__, name) for module, name in public}


@pytest.mark.parametrize("case", [name for name in CASES if name.partition(":")[0] not in COUNTED])
def test_a_view_reads_no_large_table_from_end_to_end(filled, case):
    whole = {table for statement, plan in plans(filled, CASES[case]) for table in read_whole(statement, plan)}
    assert not whole


@pytest.mark.parametrize("case", sorted(COUNTED))
def test_states_are_counted_in_an_index_without_reading_the_rows(filled, case):
    if filled.engine.dialect.name == "postgresql":
        pytest.skip("PostgreSQL visits rows that no vacuum has seen yet, index or not")
    for _, plan in plans(filled, CASES[case]):
        assert all("COVERING INDEX" in line for line in plan if line.startswith("SCAN"))


def test_a_place_in_a_list_written_with_or_is_found_by_reading_what_comes_before_it(filled):
    if filled.engine.dialect.name == "postgresql":
        pytest.skip("its planner says so with a filter instead of a scan")

    def copied(session):
        at, key = OptionRow.created_at_unix, OptionRow.id
        later = or_(at < NOW, and_(at == NOW, key < "o5"))
        session.execute(select(OptionRow).where(later).order_by(at.desc(), key.desc()).limit(50))

    assert [read_whole(*one) for one in plans(filled, copied)] == [{"option"}]
