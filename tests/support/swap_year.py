"""Weeks of swaps: providers and takers who take, cure, cancel, burn and leave, and workers that die among it.

Every week ends with the sums that must agree, and with one settlement of each book that was open.
"""

import random
from datetime import time, timedelta
from functools import partial

from sqlalchemy import select

from btcfi.adapters.store.spine.tables import EventRow
from btcfi.adapters.store.swaps import rows
from btcfi.adapters.store.swaps.tables import (
    SubcontractState,
    SwapBookRow,
    SwapSubcontractRow,
    SwapWeekRow,
    WeekState,
)
from btcfi.swaps.book import ORACLE, BookStatus
from btcfi.swaps.calendar import POST, instant, next_settlement_day
from btcfi.swaps.contract import LOT, burn_fee, close_fee
from btcfi.swaps.errors import SwapRefusedError
from btcfi.swaps.prices import DAY
from tests.support.swap_world import SwapWorld, business_days

LIVE = ("pending", "active")
EVENING = (time(21, 20), time(21, 30), time(21, 40), time(21, 50), time(22, 10), time(22, 30), time(22, 50))
"""When ticks come until the week is settled: later than each other than a claim lasts."""


class Year:
    """A world of so many providers and takers, and what chance does to them."""

    def __init__(self, store, monkeypatch, *, providers, takers, seed, first):
        self.world, self.random, self.first = SwapWorld(store, monkeypatch), random.Random(seed), first
        self.providers = [f"provider-{number}" for number in range(providers)]
        self.takers, self.price = [f"taker-{number}" for number in range(takers)], 90_000.0
        self.counts = dict.fromkeys(
            ("takes", "cancels", "burns", "cures", "refused", "deaths", "defaults", "provider_defaults", "settled"), 0
        )  # fmt: skip
        self.settlement = first
        _watch_what_is_written(monkeypatch)

    # ---- weeks

    def begin(self):
        world = self.world
        world.at(self.first, time(12, 0))
        world.list()
        world.price(self.first, self.price)
        world.at(self.first, POST)
        world.tick()
        world.at(self.first, time(23, 0))
        for provider in self.providers:
            world.create(provider, 60)
        for number, taker in enumerate(self.takers):
            self.take(self.providers[number % len(self.providers)], taker)
        self.check()

    def week(self):
        """Live from one settlement to the next."""
        end = next_settlement_day(self.settlement)
        for day in business_days(self.settlement + timedelta(days=1), end):
            self.price *= self.random.lognormvariate(0, 0.035)
            self.world.price(day, round(self.price, 2))
            self.world.at(day, time(11, 0))
            self.people()
            for at in (time(15, 46), time(16, 15)):
                self.world.at(day, at)
                self.tick()
        self.settle(end)
        self.settlement = end
        self.check()

    def settle(self, day):
        world = self.world
        before = sum(one.state == BookStatus.OPEN for one in world.rows(SwapBookRow))
        waiting = world.row(SwapWeekRow, self.latest()).week
        for at in (time(16, 46), time(17, 0), time(17, 10)):
            world.at(day, at)
            self.tick()
        self.burn()
        for at in EVENING:
            world.at(day, at)
            self.tick()
            self.deliver()
        assert world.row(SwapWeekRow, f"BTCUSD/{waiting}").state == WeekState.SETTLED
        of_week = [book for book, week in world.settlements() if week == waiting]
        assert len(of_week) == len(set(of_week)) == before, "one settlement of each open book"
        self.counts["settled"] += len(of_week)

    def latest(self):
        return max((one for one in self.world.rows(SwapWeekRow)), key=lambda one: one.week).id

    def silence(self):
        """No price comes any more: books become inactive, and everybody takes home what is theirs."""
        world = self.world
        world.time = type(world.time)(instant(self.settlement, time(23, 0)) + 9 * DAY + 1)
        world.tick()
        for book in world.rows(SwapBookRow):
            if book.state == BookStatus.OPEN:
                world.do("declare-inactive", contract="BTCUSD", provider=book.provider)
        for one in self.subcontracts("pending", "active", "terminated", "defaulted"):
            world.do("redeem", **self.of(one))
        for book in world.rows(SwapBookRow):
            if book.margin_sats:
                world.do("withdraw-provider", contract="BTCUSD", provider=book.provider, caller=book.provider,
                         amount_sats=book.margin_sats)  # fmt: skip
        for owner in (*self.providers, *self.takers, ORACLE):
            self.may("withdraw-balance", caller=owner)
        sums = world.sums()
        assert (sums.margins, sums.balances, sums.missing) == (0, 0, 0)
        assert sums.paid_in == sums.paid_out + sums.burned

    def check(self):
        sums = self.world.sums()
        assert sums.missing == 0
        for book in self.world.rows(SwapBookRow):
            assert book.margin_sats >= 0
        for one in self.world.rows(SwapSubcontractRow):
            assert one.margin_sats >= 0
            assert one.state not in LIVE or one.margin_sats >= one.required_sats, "outside settlement margins are whole"
        ended = [one.state for one in self.world.rows(SwapBookRow)]
        self.counts["defaults"] = sum(one.to_state == SubcontractState.DEFAULTED for one in self.world.rows(EventRow))
        self.counts["provider_defaults"] = ended.count(BookStatus.PROVIDER_DEFAULTED)

    # ---- workers, some of whom die

    def tick(self):
        self.strike(self.world.tick)

    def deliver(self):
        for week, books in self.world.messages():
            parts = self.world.parts(books)
            for some in (*parts, *self.random.sample(parts, len(parts) // 2)):
                self.strike(partial(self.world.settle_part, week, some))
            self.strike(partial(self.world.close_week, week))

    def strike(self, work):
        """Do it, one time in six with a death at one of its first transactions; a death's work is lost."""
        world = self.world
        world.dies_at = None
        if self.random.random() < 1 / 6:
            world.dies_at = world.transactions + self.random.randrange(4)
            world.dies = self.random.choice(["before", "after"])
        if world.survive(work):
            self.counts["deaths"] += 1
        world.dies_at = None

    # ---- people

    def subcontracts(self, *states):
        with self.world.reading() as session:
            query = select(SwapSubcontractRow).where(SwapSubcontractRow.state.in_(states))
            return session.execute(query.order_by(SwapSubcontractRow.id)).scalars().all()

    def of(self, one):
        return {"contract": "BTCUSD", "provider": one.book_id.partition("/")[2], "number": one.number}

    def may(self, name, **given):
        """Do something; a guard may refuse it."""
        try:
            self.world.do(name, **given)
        except SwapRefusedError:
            self.counts["refused"] += 1
            return False
        return True

    def take(self, provider, taker):
        lots = self.random.randrange(1, 3)
        side = self.random.choice(["long", "short"])
        extra = self.random.choice([0, LOT // 10, LOT // 3, LOT])
        done = self.may(
            "take", contract="BTCUSD", provider=provider, caller=taker, side=side, required_sats=lots * LOT,
            margin_sats=lots * LOT + extra,
        )  # fmt: skip
        self.counts["takes"] += done

    def people(self):
        """A day's people: some take, cure, cancel, withdraw."""
        live, chance = self.subcontracts(*LIVE), self.random
        for one in chance.sample(live, max(1, len(live) // 40)) if live else []:
            self.counts["cancels"] += self.may(
                "cancel", **self.of(one), caller=one.taker, paid_sats=close_fee(one.required_sats)
            )
        for one in chance.sample(live, len(live) // 12):
            self.counts["cures"] += self.may("fund-taker", **self.of(one), amount_sats=LOT // 4)
        for provider in chance.sample(self.providers, max(1, len(self.providers) // 5)):
            self.counts["cures"] += self.may("fund-provider", contract="BTCUSD", provider=provider, amount_sats=LOT)
        for _ in range(max(1, len(self.takers) // 60)):
            self.take(chance.choice(self.providers), chance.choice(self.takers))
        self.may("withdraw-balance", caller=chance.choice(self.takers))

    def burn(self):
        """After the post, some who are cheated, or think so."""
        live = self.subcontracts("active")
        for one in self.random.sample(live, max(1, len(live) // 50)) if live else []:
            given = self.of(one)
            caller = self.random.choice([one.taker, given["provider"]])
            self.counts["burns"] += self.may("burn", **given, caller=caller, paid_sats=burn_fee(one.required_sats))


def _watch_what_is_written(monkeypatch):
    """Read every book again as it is written: the rows say what the engine said, all of it."""
    written = rows.write_book

    def write_book(session, row, kept, book, **more):
        written(session, row, kept, book, **more)
        session.flush()
        session.expire_all()
        assert rows.book_of(session.get(SwapBookRow, row.id), rows.kept_subcontracts(session, row.id)) == book

    monkeypatch.setattr(rows, "write_book", write_book)
