"""What everything is priced with: the last agreed price and the volatility of the rounds before it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from fastapi.concurrency import run_in_threadpool

from btcfi.adapters.store.options.premiums import estimate_volatility
from btcfi.adapters.store.prices import views
from btcfi.adapters.store.prices.rounds import market_time
from btcfi.oracle.quote import Feed
from btcfi.surfaces.rest.deps import Deps
from btcfi.surfaces.rest.errors import NoPriceError
from btcfi.units import CentsPerBtc, Slot, UnixSeconds

REFRESH_SECONDS: Final = 1.0
"""A price comes once a minute; asking the database once a second is fresh enough and keeps the hot path in memory."""

VOLATILITY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One reading of the market."""

    spot: CentsPerBtc
    slot: Slot
    """The minute that the price is of."""
    volatility: float
    """Per square-root year, of the last 30 days or what there is of them."""
    samples: int
    """Returns that it rests on; 0: the preset's fallback."""


class MarketReader:
    """The market, read from the rounds at most once a second and kept in memory between."""

    def __init__(self, deps: Deps) -> None:
        """``deps``: the application's."""
        self._deps = deps
        self._lock = asyncio.Lock()
        self._snapshot: Snapshot | None = None
        self._read_at = -1e9
        self._volatility: tuple[float, int] | None = None
        self._estimated_at = -1e9

    async def snapshot(self) -> Snapshot:
        """Return the market. Raises NoPriceError when there is none, or only an old one."""
        if self._deps.monotonic() - self._read_at >= REFRESH_SECONDS:
            async with self._lock:
                if self._deps.monotonic() - self._read_at >= REFRESH_SECONDS:
                    self._snapshot = await run_in_threadpool(self.read)
                    self._read_at = self._deps.monotonic()
        found = self._snapshot
        if found is None:
            raise NoPriceError("no minute has been priced")
        age = self.now(found) - found.slot
        if age > self._deps.limits.stale_price_seconds:
            raise NoPriceError(f"the last priced minute is {age} s old")
        return found

    def now(self, seen: Snapshot) -> UnixSeconds:
        """Return the market's time: what premiums are of and expiries are compared with."""
        return market_time(seen.slot, replay=self._deps.replay_clock, now=self._deps.clock())

    def read(self) -> Snapshot | None:
        """Return the newest market in the store, however old, or None."""
        with self._deps.store.reading() as session:
            newest = views.newest_close(session, self._deps.feed)
            if newest is None:
                return None
            now = self._deps.monotonic()
            if self._volatility is None or now - self._estimated_at >= VOLATILITY_SECONDS:
                found = estimate_volatility(session, Feed(self._deps.feed))
                self._volatility = (found.level / 10_000, found.samples) if found else None
                self._estimated_at = now
        if self._volatility is None:
            if self._deps.fallback_volatility is None:
                return None
            self._volatility = (self._deps.fallback_volatility, 0)
        level, samples = self._volatility
        return Snapshot(spot=newest.price_cents, slot=newest.slot, volatility=level, samples=samples)
