"""What everything is priced with: the last agreed price and the volatility of the rounds before it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session, col, select

from btcfi.adapters.store.tables import RoundRow
from btcfi.pricing.volatility import close_to_close
from btcfi.surfaces.rest.deps import Deps
from btcfi.surfaces.rest.errors import NoPriceError
from btcfi.units import CentsPerBtc, Slot

WINDOW_SECONDS: Final = 30 * 86_400
"""The published field is volatility_30d."""

HOUR: Final = 3_600
LEAST_HOURS: Final = 48
"""From this many hourly closes on the estimate uses hours; before, minutes."""

LEAST_MINUTES: Final = 30

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
        age = self._deps.clock() - found.slot
        if age > self._deps.limits.stale_price_seconds:
            raise NoPriceError(f"the last priced minute is {age} s old")
        return found

    def read(self) -> Snapshot | None:
        """Return the newest market in the store, however old, or None."""
        with self._deps.store.reading() as session:
            newest = session.exec(
                select(RoundRow.slot, RoundRow.price_cents)
                .where(RoundRow.feed == self._deps.feed, RoundRow.state == "priced")
                .order_by(col(RoundRow.slot).desc())
                .limit(1)
            ).first()
            if newest is None or newest[1] is None:
                return None
            now = self._deps.monotonic()
            if self._volatility is None or now - self._estimated_at >= VOLATILITY_SECONDS:
                self._volatility = self._estimate(session, newest[0])
                self._estimated_at = now
        if self._volatility is None:
            if self._deps.fallback_volatility is None:
                return None
            self._volatility = (self._deps.fallback_volatility, 0)
        level, samples = self._volatility
        return Snapshot(spot=CentsPerBtc(newest[1]), slot=Slot(newest[0]), volatility=level, samples=samples)

    def _estimate(self, session: Session, slot: int) -> tuple[float, int] | None:
        for interval, least in ((HOUR, LEAST_HOURS), (60, LEAST_MINUTES)):
            oldest = slot - (WINDOW_SECONDS if interval == HOUR else LEAST_HOURS * HOUR)
            closes = session.exec(
                select(RoundRow.price_cents)
                .where(
                    RoundRow.feed == self._deps.feed,
                    RoundRow.state == "priced",
                    col(RoundRow.slot) > oldest,
                    col(RoundRow.slot) <= slot,
                    col(RoundRow.slot) % interval == slot % interval,
                )
                .order_by(col(RoundRow.slot))
            ).all()
            if len(closes) > least:
                prices = [cents / 100 for cents in closes if cents is not None]
                return close_to_close(prices, interval_seconds=interval), len(prices) - 1
        return None
