"""What everything is priced with: the market as the sale reads it, at most a second old."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi.concurrency import run_in_threadpool

from btcfi.adapters.store.options.options import NoPriceYetError
from btcfi.adapters.store.options.sales import Market, Quote, quote_at, read_market
from btcfi.adapters.store.prices.rounds import market_now, market_time
from btcfi.options.order import Order
from btcfi.oracle.fixing import FixingKind
from btcfi.oracle.freshness import MarketStatus
from btcfi.surfaces.rest.deps import Deps
from btcfi.surfaces.rest.errors import NoPriceError
from btcfi.units import UnixSeconds

REFRESH_SECONDS: Final = 1.0
"""A price comes once a minute; asking the database once a second is fresh enough and keeps the hot path in memory."""

MEDIANS_AT_ONCE: Final = 2
"""That one process quotes at the same time; the others wait, in a turn of their caller's."""


class MarketReader:
    """The market, read from the store at most once a second and kept in memory between."""

    def __init__(self, deps: Deps) -> None:
        """``deps``: the application's."""
        self._deps = deps
        self._lock = asyncio.Lock()
        self._medians = asyncio.Semaphore(MEDIANS_AT_ONCE)
        self._market: Market | None = None
        self._read_at = -1e9

    async def newest(self) -> Market:
        """Return the market, however old. Raises NoPriceYetError before the first priced minute."""
        if self._deps.monotonic() - self._read_at >= REFRESH_SECONDS:
            async with self._lock:
                if self._deps.monotonic() - self._read_at >= REFRESH_SECONDS:
                    self._market = await run_in_threadpool(self.read)
                    self._read_at = self._deps.monotonic()
        if self._market is None:
            raise NoPriceYetError(self._deps.feed)
        return self._market

    async def snapshot(self) -> Market:
        """Return the market to look at, be it thin. Raises NoPriceError when there is none, or only an old one."""
        try:
            found = await self.newest()
        except NoPriceYetError as e:
            raise NoPriceError("no minute has been priced") from e
        age = self.now(found) - found.slot
        if age > self._deps.limits.stale_price_seconds:
            raise NoPriceError(f"the last priced minute is {age} s old")
        return found

    async def quote(self, order: Order) -> Quote:
        """Return what ``order`` costs now. Raises what the sale would raise."""
        seen = await self.newest()
        rule, now, wall = self._deps.quote_rule, self.now(seen), self._deps.clock()
        if (order.fixing or rule.fixing).kind is not FixingKind.MEDIAN:
            return quote_at(seen, order, rule, now=now, wall=wall)
        # near its window a median is sampled, which is the better part of a second: not on the loop that serves all
        async with self._medians:
            return await run_in_threadpool(quote_at, seen, order, rule, now=now, wall=wall)

    def now(self, seen: Market) -> UnixSeconds:
        """Return the market's time: what premiums are of and expiries are compared with."""
        return market_time(seen.slot, replay=self._deps.replay_clock, now=self._deps.clock())

    def status(self, seen: Market) -> MarketStatus:
        """Return whether a sale would take its price."""
        return seen.status(now=self.now(seen), wall=self._deps.clock())

    def read(self) -> Market | None:
        """Return the newest market in the store, however old, or None."""
        rule = self._deps.quote_rule
        with self._deps.store.reading() as session:
            now = market_now(session, rule.feed, replay=self._deps.replay_clock, now=self._deps.clock())
            return read_market(session, rule, now=now, before=self._market)
