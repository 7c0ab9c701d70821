"""The market as the stored rounds tell it: spot, history with its gaps named, realised volatility.

A minute without a price is left out everywhere; nothing is filled in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select
from sqlmodel import Session, col

from btcfi.adapters.store.prices.tables import RoundRow, RoundState
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.oracle.quote import Feed
from btcfi.pricing.volatility import close_to_close, garman_klass, parkinson
from btcfi.units import SECONDS_PER_MINUTE, CentsPerBtc, Slot, slot

MAX_MINUTES: Final = 60 * 24 * 92
"""Minutes of one query: a quarter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedMinute:
    """One agreed price and the minute's consensus range, US cents."""

    slot: Slot
    price: CentsPerBtc
    low: CentsPerBtc
    high: CentsPerBtc


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceHistory:
    """A span of minutes: those with a price, and those without by name."""

    start: Slot
    end: Slot
    """Exclusive."""
    minutes: tuple[PricedMinute, ...]
    gaps: tuple[Slot, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the history as JSON."""
        return {
            "start": self.start,
            "end": self.end,
            "prices": [
                {"slot": m.slot, "price_cents": m.price, "low_cents": m.low, "high_cents": m.high} for m in self.minutes
            ],
            "gaps": list(self.gaps),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketState:
    """The published MarketState, as far as prices tell it. Volatilities are per square-root year, None without data."""

    spot: CentsPerBtc
    last_update: Slot
    days: int
    minutes: int
    """Priced minutes in the window."""
    gaps: int
    realised_volatility: float | None
    """Close to close over contiguous minutes."""
    parkinson_volatility: float | None
    garman_klass_volatility: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return {
            "spot_cents": self.spot,
            "last_update_unix": self.last_update,
            "window_days": self.days,
            "minutes": self.minutes,
            "gaps": self.gaps,
            "volatility_realised": self.realised_volatility,
            "volatility_parkinson": self.parkinson_volatility,
            "volatility_garman_klass": self.garman_klass_volatility,
        }


def price_history(session: Session, feed: Feed, start: Slot, end: Slot) -> PriceHistory:
    """Return the priced minutes of start <= slot < end and the gaps. Raises InvalidInputError for a senseless span."""
    if not start < end or (end - start) // SECONDS_PER_MINUTE > MAX_MINUTES:
        raise InvalidInputError("span", f"{start} to {end}", f"at least one minute, at most {MAX_MINUTES}")
    query = (
        select(RoundRow)
        .where(col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.PRICED)
        .where(col(RoundRow.slot) >= start, col(RoundRow.slot) < end)
        .order_by(col(RoundRow.slot))
    )
    minutes = tuple(
        PricedMinute(
            slot=Slot(row.slot),
            price=CentsPerBtc(row.price_cents),
            low=CentsPerBtc(row.low_cents if row.low_cents is not None else row.price_cents),
            high=CentsPerBtc(row.high_cents if row.high_cents is not None else row.price_cents),
        )
        for row in session.execute(query).scalars()
        if row.price_cents is not None
    )
    known = {m.slot for m in minutes}
    gaps = tuple(slot(s) for s in range(start, end, SECONDS_PER_MINUTE) if s not in known)
    return PriceHistory(start=start, end=end, minutes=minutes, gaps=gaps)


def market_state(session: Session, feed: Feed, *, days: int = 30) -> MarketState:
    """Return spot and realised volatility of the last ``days`` days up to the newest price.

    Raises NotFoundError before the first price.
    """
    newest = session.execute(
        select(RoundRow)
        .where(col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.PRICED)
        .order_by(col(RoundRow.slot).desc())
        .limit(1)
    ).scalar_one_or_none()
    if newest is None:
        raise NotFoundError("price", feed, "no round is priced yet")
    oldest = session.execute(
        select(RoundRow.slot)  # type: ignore[call-overload]
        .where(col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.PRICED)
        .order_by(col(RoundRow.slot))
        .limit(1)
    ).scalar_one()
    end = slot(newest.slot + SECONDS_PER_MINUTE)
    start = slot(max(oldest, end - days * 86_400))
    history = price_history(session, feed, start, end)
    runs = contiguous(history.minutes)
    return MarketState(
        spot=history.minutes[-1].price,
        last_update=history.minutes[-1].slot,
        days=days,
        minutes=len(history.minutes),
        gaps=len(history.gaps),
        realised_volatility=_pooled(runs, _realised),
        parkinson_volatility=_pooled(runs, _parkinson),
        garman_klass_volatility=_pooled(runs, _garman_klass),
    )


def contiguous(minutes: tuple[PricedMinute, ...]) -> list[list[PricedMinute]]:
    """Return the runs of minutes without a gap: no return is ever taken across one."""
    runs: list[list[PricedMinute]] = []
    for minute in minutes:
        if runs and minute.slot - runs[-1][-1].slot == SECONDS_PER_MINUTE:
            runs[-1].append(minute)
        else:
            runs.append([minute])
    return runs


def _pooled(runs: list[list[PricedMinute]], estimate: Any) -> float | None:  # noqa: ANN401 - one of three below
    """Return the square root of the mean variance, each run weighing as many minutes as it has returns."""
    parts = [(len(run) - 1, estimate(run)) for run in runs if len(run) > 1]
    weight = sum(n for n, _ in parts)
    return math.sqrt(sum(n * sigma * sigma for n, sigma in parts) / weight) if weight else None


def _realised(run: list[PricedMinute]) -> float:
    return close_to_close([m.price / 100 for m in run])


def _candles(run: list[PricedMinute]) -> tuple[list[float], list[float], list[float], list[float]]:
    # a consensus minute has no open of its own: it opens where the one before it closed
    opens = [m.price / 100 for m in run[:-1]]
    closes = [m.price / 100 for m in run[1:]]
    highs = [max(m.high / 100, o) for m, o in zip(run[1:], opens, strict=True)]
    lows = [min(m.low / 100, o) for m, o in zip(run[1:], opens, strict=True)]
    return opens, highs, lows, closes


def _parkinson(run: list[PricedMinute]) -> float:
    _, highs, lows, _ = _candles(run)
    return parkinson(highs, lows)


def _garman_klass(run: list[PricedMinute]) -> float:
    opens, highs, lows, closes = _candles(run)
    return garman_klass(opens, highs, lows, closes)
