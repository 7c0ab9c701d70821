"""Only one process signs for a wallet at a time, whatever an operator starts; and what is not ours is kept once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select
from sqlmodel import col

from btcfi.adapters.store.spine import leases, refusals
from btcfi.adapters.store.spine.fleet_tables import RefusedMessageRow
from btcfi.adapters.store.spine.leases import LONGEST_SECONDS, WALLET, LeaseHeldError
from btcfi.adapters.store.spine.tables import CounterRow
from btcfi.adapters.store.spine.views import refused
from btcfi.units import UnixSeconds

NOW = UnixSeconds(1_700_000_000)


def hold(store, holder, now=NOW, seconds=15):
    with store.transaction() as session:
        return leases.hold(session, WALLET, holder=holder, now=UnixSeconds(now), seconds=seconds)


def test_the_first_holds_the_lease_and_renews_it_while_the_second_is_told_who_has_it(store):
    assert hold(store, "one") == 1
    assert hold(store, "one", NOW + 10) == 1
    with pytest.raises(LeaseHeldError) as refused:
        hold(store, "two", NOW + 20)
    assert (refused.value.holder, refused.value.until) == ("one", NOW + 25)


def test_a_lapsed_lease_goes_to_the_next_with_a_higher_fence_and_its_old_holder_is_shut_out(store):
    hold(store, "one")
    assert hold(store, "two", NOW + 15) == 2
    with pytest.raises(LeaseHeldError):
        hold(store, "one", NOW + 16)


def test_a_released_lease_is_free_at_once(store):
    hold(store, "one")
    with store.transaction() as session:
        leases.release(session, WALLET, holder="one")
    assert hold(store, "two", NOW + 1) == 2


def test_nobody_releases_the_lease_of_another(store):
    hold(store, "one")
    with store.transaction() as session:
        leases.release(session, WALLET, holder="two")
    with pytest.raises(LeaseHeldError):
        hold(store, "two", NOW + 1)


def test_a_lease_from_a_clock_that_was_hours_ahead_does_not_block_the_wallet(store):
    hold(store, "one", NOW + 7_200)
    assert hold(store, "two", NOW) == 2


def test_no_lease_is_longer_than_the_longest(store):
    hold(store, "one", NOW, seconds=100_000)
    assert hold(store, "two", NOW + LONGEST_SECONDS) == 2


def test_of_several_that_ask_at_once_exactly_one_gets_the_lease(store):
    start = Barrier(4)

    def ask(name):
        start.wait(timeout=20)
        try:
            return hold(store, name)
        except LeaseHeldError:
            return None

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(ask, ["a", "b", "c", "d"]))
    assert sorted(got, key=str) == [1, None, None, None]


def refuse(store, body, now=NOW):
    with store.transaction() as session:
        one = refusals.Refused(body=body, queue="settle", reason="not ours")
        refusals.refuse(session, [one], now=UnixSeconds(now))


def test_the_same_rubbish_a_thousand_times_is_one_row_and_a_count(store):
    for at in range(5):
        refuse(store, b"\x00rubbish\n" + b"x" * 10_000, NOW + at)
    with store.reading() as session:
        row = session.execute(select(RefusedMessageRow)).scalar_one()
        assert (row.times, row.first_seen_unix, row.last_seen_unix) == (5, NOW, NOW + 4)
        assert row.excerpt.startswith("\\x00rubbish\\n")
        assert len(row.excerpt) < 1_000
        counted = select(col(CounterRow.value)).where(col(CounterRow.name) == refusals.COUNTER)
        assert session.execute(counted).scalar_one() == 5


def test_a_flood_of_different_rubbish_keeps_only_the_newest(store, monkeypatch):
    monkeypatch.setattr(refusals, "KEPT_ROWS", 3)
    for number in range(6):
        refuse(store, str(number).encode(), NOW + number)
    with store.reading() as session:
        assert [row.excerpt for row in refused(session)] == ["5", "4", "3"]
