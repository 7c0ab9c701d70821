"""A week of swaps by the clock: what is due is done once, whichever worker dies, whatever message comes again."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, time, timedelta
from itertools import count

import pytest

from btcfi.adapters.store.swaps import acts, weeks
from btcfi.adapters.store.swaps.tables import (
    SubcontractState,
    SwapBalanceRow,
    SwapBoardRow,
    SwapBookRow,
    SwapPriceRow,
    SwapRow,
    SwapSettlementRow,
    SwapSubcontractRow,
    SwapWeekRow,
    WeekState,
)
from btcfi.errors import InvalidInputError
from btcfi.swaps.book import ORACLE, BookStatus
from btcfi.swaps.calendar import instant
from btcfi.swaps.contract import CONTRACTS, LOT, Rates
from btcfi.swaps.errors import Guard, SwapRefusedError
from tasks import swaps as tasks
from tests.support.stores import store_on_postgresql, store_on_sqlite
from tests.support.swap_world import SwapWorld, business_days
from workers.audit import replay_events, swapped

pytestmark = pytest.mark.integration

FIRST, THURSDAY, TUESDAY, NEXT = date(2024, 11, 13), date(2024, 11, 14), date(2024, 11, 19), date(2024, 11, 20)
"""Two settlement days, and days between them."""


@pytest.fixture
def world(tmp_path, monkeypatch):
    with store_on_sqlite(tmp_path) as store:
        yield begun(SwapWorld(store, monkeypatch))


def begun(world):
    """A contract is listed, and the first settlement day is posted."""
    world.at(FIRST, time(12, 0))
    world.list()
    world.price(FIRST, 90_000)
    world.at(FIRST, time(16, 15))
    world.tick()
    return world


def at_the_next_post(world, *, books=2, usd=99_000):
    """Books with a long and a short take each are open, and the week is over but for its post."""
    world.at(FIRST, time(17, 0))
    for number in range(books):
        world.create(f"p{number}", 20)
        world.take(f"p{number}", "long", "long", 2)
        world.take(f"p{number}", "short", "short", 1)
    for day in business_days(THURSDAY, TUESDAY):
        world.price(day, 90_000)
        world.at(day, time(15, 50))
        world.tick()
        world.at(day, time(16, 20))
        world.tick()
    world.price(NEXT, usd)
    world.at(NEXT, time(15, 50))
    return world


def settle_all(world, times=1):
    for at in (time(15, 50), time(16, 15), time(16, 46), time(20, 16), time(21, 16)):
        world.at(NEXT, at)
        world.tick()
        world.deliver(times)
    return world


# ---- the clock


def test_a_take_is_initialised_posted_computed_and_settled_at_its_hours(world):
    at_the_next_post(world)
    sub = world.row(SwapSubcontractRow, "BTCUSD/p0/1")
    assert (sub.state, sub.start_week, sub.start_slot) == (SubcontractState.ACTIVE, 1, 1)
    name = "BTCUSD/1"
    for at, stands in (
        (time(16, 14), None), (time(16, 15), WeekState.POSTED), (time(16, 45), WeekState.POSTED),
        (time(16, 45, 1), WeekState.COMPUTED), (time(20, 16), WeekState.COMPUTED),
        (time(21, 14, 59), WeekState.COMPUTED), (time(21, 15), WeekState.SETTLED),
    ):  # fmt: skip
        world.at(NEXT, at)
        world.tick()
        world.deliver()
        week = world.row(SwapWeekRow, name)
        assert (week and week.state) == stands, at
    assert world.settlements() == [("BTCUSD/p0", 1), ("BTCUSD/p1", 1)]
    long, short = (world.row(SwapSubcontractRow, f"BTCUSD/p0/{number}") for number in (1, 2))
    assert long.margin_sats > 2 * LOT
    assert short.state == SubcontractState.REDEEMED  # it could not pay its margin any more
    assert (long.start_week, long.start_slot) == (2, 0)
    assert world.sums().missing == 0


def test_a_take_after_a_quarter_to_four_starts_a_day_later(world):
    world.at(FIRST, time(17, 0))
    world.create("p", 20)
    world.at(THURSDAY, time(15, 44, 59))
    early = world.take("p", "tom", "long", 1)
    world.at(THURSDAY, time(15, 45))
    late = world.take("p", "tom", "short", 1)
    world.price(THURSDAY, 90_000)
    for at in (time(15, 45), time(16, 15)):
        world.at(THURSDAY, at)
        world.tick()
    states = [world.row(SwapSubcontractRow, f"BTCUSD/p/{number}").state for number in (early, late)]
    assert states == [SubcontractState.ACTIVE, SubcontractState.PENDING]


def test_a_day_is_posted_once_and_only_with_every_contract_s_price(tmp_path, monkeypatch):
    with store_on_sqlite(tmp_path) as store:
        world = SwapWorld(store, monkeypatch, names=("BTCUSD", "ETHBTC"))
        begun(world)
        assert world.rows(SwapPriceRow) == []
        world.bring(FIRST, "ETHBTC", 0.035)
        for _ in range(2):
            world.tick()
        assert {(one.contract, one.week, one.slot) for one in world.rows(SwapPriceRow)} == {
            ("BTCUSD", 1, 0), ("ETHBTC", 1, 0),
        }  # fmt: skip


def test_a_correction_moves_the_settlement_by_its_own_time(world):
    at_the_next_post(world, books=1)
    world.at(NEXT, time(16, 15))
    world.tick()
    world.at(NEXT, time(16, 40))
    price = {"BTCUSD": {"asset": "90000", "margin": "90000"}}
    world.do("correct", caller=ORACLE, prices=price)
    for at, stands in ((time(16, 46), WeekState.COMPUTED), (time(21, 39), WeekState.COMPUTED)):
        world.at(NEXT, at)
        world.tick()
        world.deliver()
        assert world.row(SwapWeekRow, "BTCUSD/1").state == stands
    world.at(NEXT, time(21, 40))
    world.tick()
    world.deliver()
    (settled,) = world.rows(SwapSettlementRow)
    assert settled.profits == '{"1": -7500, "2": -3750}'  # the rates of a week in which nothing moved


def test_a_settlement_day_that_was_missed_is_posted_late_by_its_own_price(world):
    at_the_next_post(world, books=1)
    thursday = NEXT + timedelta(days=1)
    world.price(thursday, 50_000)
    world.at(thursday, time(10, 0))
    world.tick()
    board = world.row(SwapBoardRow, 1)
    assert (board.day, board.week) == (NEXT.isoformat(), 2)
    assert [one.asset_millionths for one in world.rows(SwapPriceRow) if one.week == 2] == [99_000 * 10**6]


# ---- faults


def undisturbed(tmp_path, monkeypatch):
    with store_on_sqlite(tmp_path) as store:
        world = settle_all(at_the_next_post(begun(SwapWorld(store, monkeypatch))))
        return world.state(), world.transactions


@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_death_at_any_transaction_of_a_settlement_day_ends_as_if_there_was_none(tmp_path, monkeypatch, dies):
    (tmp_path / "calm").mkdir()
    expected, _ = undisturbed(tmp_path / "calm", monkeypatch)
    for number in count():
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with store_on_sqlite(folder) as store:
            world = at_the_next_post(begun(SwapWorld(store, monkeypatch)))
            world.dies, world.dies_at = dies, world.transactions + number
            died = False
            for at in (time(15, 50), time(16, 15), time(16, 46), time(21, 16), time(21, 22), time(21, 28)):
                world.at(NEXT, at)
                died |= world.survive(world.tick)
                died |= world.survive(world.tick)  # the next tick comes
                died |= world.survive(world.deliver)  # and of a message that was lost, the claim runs out
            assert world.state() == expected, number
            assert world.sums().missing == 0
        if not died:
            break
    assert number > 8, "the deaths were of a day's every transaction"


def test_messages_that_come_three_times_settle_once(world, tmp_path, monkeypatch):
    (tmp_path / "calm").mkdir()
    expected, _ = undisturbed(tmp_path / "calm", monkeypatch)
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        (tmp_path / "twice").mkdir()
        with store_on_sqlite(tmp_path / "twice") as store:
            again = settle_all(at_the_next_post(begun(SwapWorld(store, patch))), times=3)
            assert again.state() == expected
            assert again.settlements() == [("BTCUSD/p0", 1), ("BTCUSD/p1", 1)]


def test_a_message_of_last_week_settles_nothing_in_this_one(world):
    settle_all(at_the_next_post(world))
    before = world.state()
    assert tasks.settle_books("BTCUSD/1", ["BTCUSD/p0", "BTCUSD/p1"]) == 0
    tasks.close_week([], "BTCUSD/1")
    assert world.state() == before


def test_a_book_whose_row_was_set_back_settles_no_week_again(world):
    settle_all(at_the_next_post(world))
    with world.real.transaction() as session:
        row = session.get(SwapBookRow, "BTCUSD/p0")
        row.last_settle_at_unix, row.weeks = instant(FIRST, time(21, 0)), 0
    key = "BTCUSD", "p0"
    before = world.state()
    with pytest.raises(acts.AlreadySettledError), world.real.transaction() as session:
        acts.act(session, key, lambda one: one.settle(key, caller=ORACLE, now=world.time), now=world.time)
    assert world.state() == before


def test_a_book_that_cannot_be_settled_holds_up_no_other(world):
    at_the_next_post(world, books=3)
    with world.real.transaction() as session:
        session.get(SwapSubcontractRow, "BTCUSD/p1/1").side = 7  # of a release that there is not
    settle_all(world)
    assert world.settlements() == [("BTCUSD/p0", 1), ("BTCUSD/p2", 1)]
    assert world.row(SwapWeekRow, "BTCUSD/1").state == WeekState.COMPUTED


def test_two_workers_at_once_settle_each_book_once(monkeypatch, store_of_two):
    world = at_the_next_post(begun(SwapWorld(store_of_two, monkeypatch)), books=6)
    for at in (time(15, 50), time(16, 15), time(16, 46), time(21, 16)):
        world.at(NEXT, at)
        world.tick()
    ((week, books),) = world.messages()
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda order: tasks.settle_books(week, order), (books, books[::-1])))
    assert sum(done) == len(books)
    assert world.settlements() == [(book, 1) for book in books]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: tasks.close_week([], week), range(2)))
    assert world.row(SwapWeekRow, week).state == WeekState.SETTLED
    assert world.sums().missing == 0


@pytest.fixture(params=["sqlite", "postgresql"])
def store_of_two(request, tmp_path):
    with store_on_sqlite(tmp_path) if request.param == "sqlite" else store_on_postgresql() as store:
        yield store


def audited(world):
    with world.reading() as session:
        found = [str(one) for one in (*swapped(session), *replay_events(session))]
    return [one for one in found if one.startswith("swap")]


def test_an_audit_finds_nothing_wrong_with_a_week_and_each_thing_that_is(world):
    settle_all(at_the_next_post(world))
    world.do("pause", caller=ORACLE, contract="BTCUSD", paused=True)
    assert audited(world) == []
    for table, key, column, said in (
        (SwapBookRow, "BTCUSD/p0", "margin_sats", "are nowhere"),
        (SwapBookRow, "BTCUSD/p0", "weeks", "settlements"),
        (SwapPriceRow, (2, 0, "BTCUSD"), "asset_millionths", "not those of its prices"),
        (SwapWeekRow, "BTCUSD/1", "target_ppm", "not those of its prices"),
    ):
        with world.reading() as session:
            was = getattr(session.get(table, key), column)
        for value in (was + 1, was):
            with world.real.transaction() as session:
                setattr(session.get(table, key), column, value)
            assert any(said in one for one in audited(world)) == (value != was), column
    with world.real.transaction() as session:
        session.get(SwapWeekRow, "BTCUSD/1").state = WeekState.PASSED
    assert any("its events end in" in one for one in audited(world))


# ---- people


def test_a_silent_oracle_s_book_is_left_by_everybody_with_all_that_is_theirs(world):
    at_the_next_post(world, books=1)
    world.at(FIRST, time(17, 0), seconds=9 * 86_400)
    with pytest.raises(SwapRefusedError) as refused:
        world.do("declare-inactive", contract="BTCUSD", provider="p0")
    assert refused.value.guard is Guard.STILL_ACTIVE
    world.time += 1
    world.do("declare-inactive", contract="BTCUSD", provider="p0")
    assert world.row(SwapBookRow, "BTCUSD/p0").state == BookStatus.INACTIVE
    for number in (1, 2):
        world.do("redeem", contract="BTCUSD", provider="p0", number=number)
    world.do("withdraw-provider", contract="BTCUSD", provider="p0", caller="p0", amount_sats=20 * LOT)
    for owner in ("p0", "long", "short"):
        world.do("withdraw-balance", caller=owner)
    sums = world.sums()
    assert (sums.margins, sums.balances, sums.missing) == (0, 0, 0)
    assert {one.owner: one.paid_out_sats for one in world.rows(SwapBalanceRow)} == {
        "p0": 20 * LOT, "long": 2 * LOT, "short": LOT,
    }  # fmt: skip
    with pytest.raises(SwapRefusedError):
        world.do("withdraw-balance", caller="p0")


def test_what_a_guard_refuses_writes_nothing(world):
    world.at(FIRST, time(17, 0))
    world.create("p", 20)
    number = world.take("p", "tom", "long", 1)
    before = world.state()
    for name, given in (
        ("take", {"caller": "tom", "side": "long", "required_sats": 900 * LOT, "margin_sats": 900 * LOT}),
        ("cancel", {"number": number, "caller": "eve", "paid_sats": LOT}),
        ("withdraw-taker", {"number": number, "caller": "tom", "amount_sats": 1}),
        ("burn", {"number": number, "caller": "tom", "paid_sats": LOT}),
        ("declare-inactive", {}),
    ):
        with pytest.raises(SwapRefusedError):
            world.do(name, contract="BTCUSD", provider="p", **given)
    with pytest.raises(SwapRefusedError):
        world.create("p", 20)
    assert world.state() == before


@pytest.mark.parametrize("name", sorted(acts.BY_THE_CLOCK))
def test_nobody_asks_for_what_the_clock_does(world, name):
    with pytest.raises(InvalidInputError):
        world.do(name, contract="BTCUSD", provider="p", caller=ORACLE)


def test_who_acts_is_named_and_nobody_takes_as_the_oracle(world):
    world.at(FIRST, time(17, 0))
    with pytest.raises(InvalidInputError):
        world.create(ORACLE, 20)
    world.create("p", 20)
    with pytest.raises(InvalidInputError):
        world.take("p", ORACLE, "long", 1)
    with pytest.raises(InvalidInputError):
        world.do("pause", contract="BTCUSD", paused=True)  # by nobody: no default here


def test_a_contract_is_listed_before_the_first_post_or_not(world):
    with pytest.raises(SwapRefusedError) as refused, world.real.transaction() as session:
        acts.list_contract(session, CONTRACTS["ETHBTC"], Rates(target_ppm=0, basis_ppm=0), now=world.time)
    assert refused.value.guard is Guard.PRICES


def test_proposed_rates_are_live_after_the_week_that_they_were_proposed_in(world):
    at_the_next_post(world, books=1)
    world.do("propose", contract="BTCUSD", target_ppm=3_000, basis_ppm=-500, caller=ORACLE)
    settle_all(world)
    week, swap = world.row(SwapWeekRow, "BTCUSD/1"), world.row(SwapRow, "BTCUSD")
    assert (week.target_ppm, week.basis_ppm) == (1_500, 0)
    assert (swap.target_ppm, swap.basis_ppm, swap.proposed_target_ppm) == (3_000, -500, None)


def test_an_asset_s_price_is_brought_within_its_bounds(world):
    with pytest.raises(InvalidInputError), world.real.transaction() as session:
        weeks.bring_quote(session, FIRST, "ETHBTC", 0, by="operator", now=world.time)
