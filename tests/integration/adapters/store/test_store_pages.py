"""Pages show every row once, in order, whatever was written in the same second; a prefix is a prefix and no pattern."""

from __future__ import annotations

import pytest

from btcfi.adapters.store.access.console_tables import audit
from btcfi.adapters.store.access.views import audit_page
from btcfi.adapters.store.options.tables import OptionRow, PremiumRow
from btcfi.adapters.store.options.views import WhichOptions, option_page, premiums_after, soonest
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.prices.views import price_page
from btcfi.adapters.store.spine.paging import NoSuchPageError, encode_cursor

FEED = "BTC/USD"
NOW = 1_700_000_040
IDS = ["b-2", "a-1", "a_1", "A-1", "a%1", "c", "a-10", "ä", "b-1", "a"]


@pytest.fixture
def book(store):
    with store.transaction() as session:
        for n, name in enumerate(IDS):
            session.add(
                OptionRow(
                    id=name, feed=FEED, state="ACTIVE" if n % 2 else "EXERCISED", kind=n % 4, strike_cents=1,
                    quantity_centi_btc=1, expiry_unix=NOW + 60 * (n % 3), premium_cents=1, premium_sats=1,
                    collateral_sats=1, volatility_bps=1, rate_bps=1, preset="p", preset_sha256="00", program="g",
                    program_sha256="00", created_at_unix=NOW + n // 4, listed_slot=NOW, updated_at_unix=NOW,
                )
            )  # fmt: skip
            session.add(
                PremiumRow(
                    option_id=name, slot=NOW, premium_cents=1, delta=0, gamma=0, vega=0, theta=0, rho=0,
                    priced_at_unix=NOW + n // 4,
                )
            )  # fmt: skip
    return store


def all_pages(session, limit, **filters):
    cursor, shown = None, []
    while True:
        page = option_page(session, FEED, WhichOptions(**filters), limit=limit, cursor=cursor)
        assert len(page.rows) == limit or page.following is None
        shown += [row.id for row in page.rows]
        cursor = page.following
        if cursor is None:
            return shown


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 9, 10, 11])
def test_pages_of_any_length_show_every_row_once_the_newest_first(book, limit):
    with book.reading() as session:
        shown = all_pages(session, limit)
        times = [session.get(OptionRow, one).created_at_unix for one in shown]
        assert len(all_pages(session, limit, state="ACTIVE")) == len(IDS) // 2
    assert sorted(shown) == sorted(IDS)
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("a", {"a-1", "a_1", "a%1", "a-10", "a"}), ("a-1", {"a-1", "a-10"}), ("a_", {"a_1"}), ("a%", {"a%1"}),
        ("A", {"A-1"}), ("ä", {"ä"}), ("d", set()), ("", set(IDS)),
    ],
)  # fmt: skip
def test_a_prefix_is_taken_to_the_letter(book, prefix, found):
    with book.reading() as session:
        assert set(all_pages(session, 3, id_prefix=prefix)) == found
        active = {name for n, name in enumerate(IDS) if n % 2}
        assert {row.id for row in soonest(session, WhichOptions(id_prefix=prefix, state="ACTIVE"))} == found & active


def test_the_list_of_the_soonest_is_in_the_order_of_expiry(book):
    with book.reading() as session:
        rows = soonest(session, WhichOptions(expiry_to=NOW + 60))
    assert [row.expiry_unix for row in rows] == [NOW] * 4 + [NOW + 60] * 3


def test_premiums_go_on_behind_the_last_one_that_was_sent(book):
    with book.reading() as session:
        at, last, sent = 0, "", []
        while rows := premiums_after(session, feed=FEED, at=at, option_id=last, limit=2):
            sent += [row.option_id for row in rows]
            at, last = rows[-1].priced_at_unix, rows[-1].option_id
    assert sorted(sent) == sorted(name for n, name in enumerate(IDS) if n % 2)  # of the open ones


def test_minutes_are_paged_within_their_window(store):
    slots = [NOW - 60 * n for n in range(10)]
    with store.transaction() as session:
        for slot in slots:
            session.add(
                RoundRow(feed=FEED, slot=slot, state="priced", price_cents=1, deadline_unix=0, opened_at_unix=0)
            )  # fmt: skip
    with store.reading() as session:
        first = price_page(session, FEED, start=slots[8], end=NOW, limit=5)
        second = price_page(session, FEED, start=slots[8], end=NOW, limit=5, cursor=first.following)
        beyond = price_page(session, FEED, start=0, end=slots[3], limit=5, cursor=encode_cursor(NOW, ""))
    assert [row.slot for row in (*first.rows, *second.rows)] == slots[1:9]
    assert second.following is None
    assert beyond.rows[0].slot == slots[4]  # a cursor from above the window does not widen it


def test_the_audit_is_paged_by_its_numbers(store):
    with store.transaction() as session:
        for n in range(5):
            audit(session, now=NOW, account="ada", address="here", action=f"a{n}")
            session.flush()
    with store.reading() as session:
        first, before = audit_page(session, limit=3)
        rest, end = audit_page(session, limit=3, before=before)
    assert [row.action for row in (*first, *rest)] == ["a4", "a3", "a2", "a1", "a0"]
    assert end is None


@pytest.mark.parametrize("cursor", ["", "!", "MTIz", encode_cursor(1, "a") + "A", encode_cursor(2**63, "a"), "é"])
def test_a_cursor_that_nobody_was_given_is_refused(book, cursor):
    with book.reading() as session, pytest.raises(NoSuchPageError):
        option_page(session, FEED, WhichOptions(), limit=3, cursor=cursor)
