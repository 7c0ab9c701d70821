"""Weekly swaps by the clock in one process: a store, the tasks called by hand, a chain whose median time lags.

``tick`` does what beat's message does, ``deliver`` what workers do with what the outbox holds. Either may die at any of
its transactions, before or after the commit.
"""

import json
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace

from sqlalchemy import delete, select, text

from btcfi.adapters.store.prices.tables import RoundRow, RoundState
from btcfi.adapters.store.spine.tables import OutboxRow
from btcfi.adapters.store.swaps import acts, views, weeks
from btcfi.adapters.store.swaps.tables import SwapSettlementRow
from btcfi.swaps.calendar import day_of, instant, is_business_day
from btcfi.swaps.contract import CONTRACTS, LOT, Rates
from btcfi.swaps.returns import PRICE_UNIT
from btcfi.units import UnixSeconds
from tasks import pipeline
from tasks import swaps as tasks

FEED = "BTC/USD"
LAG = 3_600
"""Seconds of the chain's median time behind everybody's clock."""
STATE = (
    "swap", "swap_board", "swap_price", "swap_week", "swap_book", "swap_subcontract", "swap_balance",
    "swap_settlement",
)  # fmt: skip
TIMES = {"updated_at_unix", "claimed_until_unix", "chain_time_unix", "computed_at_unix", "settled_at_unix",
         "last_settle_at_unix", "posted_at_unix", "changed_at_unix", "settlement_at_unix", "created_at_unix",
         "taken_at_unix"}  # fmt: skip
"""Columns that say when, which a death moves by a tick."""


class Died(BaseException):
    """The worker is gone."""


class SwapWorld:
    """A store of swaps and the clock that everything goes by."""

    def __init__(self, store, monkeypatch, *, names=("BTCUSD",)):
        self.real, self.store, self.feed = store, self, FEED
        self.deployment = SimpleNamespace(replay_clock=False)
        self.time, self.transactions, self.dies_at, self.dies = UnixSeconds(0), 0, None, "before"
        self.names = names
        monkeypatch.setattr(tasks, "context", lambda: self)
        monkeypatch.setattr(tasks, "node", lambda _pid: self)

    # ---- what a context is

    def market_now(self, _session):
        return self.time

    def chain_info(self):
        return SimpleNamespace(median_time=UnixSeconds(self.time - LAG))

    def reading(self):
        return self.real.reading()

    @contextmanager
    def transaction(self):
        number = self.transactions
        self.transactions += 1
        with self.real.transaction() as session:
            yield session
            if number == self.dies_at and self.dies == "before":
                raise Died
        if number == self.dies_at and self.dies == "after":
            raise Died

    def work(self):
        return self.transaction()

    # ---- the clock

    def at(self, day, time=None, seconds=0):
        self.time = UnixSeconds((day if time is None else instant(day, time)) + seconds)

    def price(self, day, usd):
        """The agreed price of a day's reference minute, and of every other asset."""
        slot = day_of(day).reference - 60
        with self.real.transaction() as session:
            session.add(RoundRow(
                feed=FEED, slot=slot, state=RoundState.PRICED.value, price_cents=int(usd * 100),
                deadline_unix=slot + 60, opened_at_unix=slot, closed_at_unix=slot + 60,
            ))  # fmt: skip

    def bring(self, day, contract, price):
        with self.real.transaction() as session:
            weeks.bring_quote(session, day, contract, int(price * PRICE_UNIT), by="operator", now=self.time)

    def tick(self):
        tasks.tick()

    def messages(self):
        """What the outbox holds of settlements, oldest first, taken out of it."""
        with self.real.transaction() as session:
            found = session.execute(select(OutboxRow).order_by(OutboxRow.created_at_unix, OutboxRow.id)).scalars().all()
            session.execute(delete(OutboxRow))
        assert all(one.flow == "settle_swaps" for one in found)
        return [json.loads(one.arguments) for one in found]

    def parts(self, books):
        size = pipeline.BOOKS_PER_TASK
        return [books[first : first + size] for first in range(0, len(books), size)]

    def deliver(self, times=1):
        """Do what workers do with the messages: each part, then the chord's body, each so many times."""
        done = 0
        for week, books in self.messages():
            for some in self.parts(books):
                done += sum(tasks.settle_books(week, some) for _ in range(times))
            for _ in range(times):
                tasks.close_week([], week)
        return done

    def settle_part(self, week, books):
        return tasks.settle_books(week, books)

    def close_week(self, week):
        tasks.close_week([], week)

    def survive(self, work):
        """Do something and be started again where it died; return whether it did."""
        try:
            work()
        except Died:
            return True
        return False

    # ---- people

    def list(self, *, target=1_500, basis=0):
        with self.real.transaction() as session:
            for name in self.names:
                acts.list_contract(session, CONTRACTS[name], Rates(target_ppm=target, basis_ppm=basis), now=self.time)

    def do(self, name, **given):
        with self.real.transaction() as session:
            return acts.perform(session, name, given, now=self.time)

    def create(self, provider, lots):
        return self.do("create-book", contract="BTCUSD", caller=provider, amount_sats=lots * LOT, minimum_take_sats=LOT)

    def take(self, provider, taker, side, lots):
        (event,) = self.do(
            "take", contract="BTCUSD", provider=provider, caller=taker, side=side, required_sats=lots * LOT,
            margin_sats=lots * LOT,
        )  # fmt: skip
        return event.fields["number"]

    # ---- what stands

    def row(self, table, *key):
        with self.reading() as session:
            return session.get(table, key if len(key) > 1 else key[0])

    def rows(self, table):
        with self.reading() as session:
            return session.execute(select(table)).scalars().all()

    def settlements(self):
        return sorted((one.book_id, one.week) for one in self.rows(SwapSettlementRow))

    def sums(self):
        with self.reading() as session:
            return views.sums(session)

    def state(self):
        """Every row of swaps, without the times that a death delays."""
        with self.reading() as session:
            return {
                name: [
                    {key: value for key, value in row._mapping.items() if key not in TIMES}
                    for row in session.execute(text(f"SELECT * FROM {name} ORDER BY 1, 2, 3"))
                ]
                for name in STATE
            }


def business_days(first, last):
    """The exchange's days from one to another, both with."""
    days = [datetime.fromordinal(one).date() for one in range(first.toordinal(), last.toordinal() + 1)]
    return [one for one in days if is_business_day(one)]
