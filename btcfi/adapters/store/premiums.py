"""Premiums: every open option priced in one vectorised call, the newest kept."""

from __future__ import annotations

import numpy as np
from sqlmodel import Session

from btcfi.adapters.store import rounds
from btcfi.adapters.store.edges import upsert
from btcfi.adapters.store.options import open_options
from btcfi.adapters.store.tables import OptionRow, PremiumRow
from btcfi.oracle.quote import Feed
from btcfi.pricing.premium import Book, Premiums, collateral_ratio, premiums
from btcfi.pricing.volatility import close_to_close
from btcfi.units import BasisPoints, Cents, CentsPerBtc, UnixSeconds

MIN_CLOSES = 11
"""Ten returns: fewer say nothing about a volatility."""

MAX_VOLATILITY_BPS = 50_000
MIN_VOLATILITY_BPS = 100


def realised_volatility(session: Session, feed: Feed, *, fallback_bps: int) -> BasisPoints:
    """Return the annual volatility of the newest day of agreed prices, or the preset's while there are too few."""
    prices = rounds.closes(session, feed)
    if len(prices) < MIN_CLOSES:
        return BasisPoints(fallback_bps)
    measured = round(close_to_close(np.asarray(prices, dtype=np.float64) / 100) * 10_000)
    return BasisPoints(min(max(measured, MIN_VOLATILITY_BPS), MAX_VOLATILITY_BPS))


def book_of(rows: list[OptionRow]) -> Book:
    """Return option rows as the columns that the pricing library takes."""
    return Book(
        kind=np.array([r.kind for r in rows], dtype=np.int8),
        strike_cents=np.array([r.strike_cents for r in rows], dtype=np.int64),
        expiry_unix=np.array([r.expiry_unix for r in rows], dtype=np.int64),
        barrier_cents=np.array([r.barrier_cents or 0 for r in rows], dtype=np.int64),
        american=np.array([r.american for r in rows], dtype=np.bool_),
        collateral_ratio=collateral_ratio([r.quantity_centi_btc for r in rows], [r.collateral_sats for r in rows]),
    )


def refresh_premiums(
    session: Session, feed: Feed, *, now: UnixSeconds, rate_bps: int, fallback_volatility_bps: int
) -> int:
    """Price the open options at the newest agreed price and store the result; return how many."""
    last = rounds.latest_priced(session, feed)
    rows = open_options(session, feed)
    if last is None or last.price_cents is None or not rows:
        return 0
    volatility = realised_volatility(session, feed, fallback_bps=fallback_volatility_bps)
    priced = premiums(
        book_of(rows), spot=CentsPerBtc(last.price_cents), volatility=volatility / 10_000, rate=rate_bps / 10_000,
        now=now,
    )  # fmt: skip
    for place, row in enumerate(rows):
        _store(session, row, priced, place, slot=last.slot, now=now)
    return len(rows)


def _store(session: Session, row: OptionRow, priced: Premiums, place: int, *, slot: int, now: UnixSeconds) -> None:
    values = {
        "slot": slot,
        "premium_cents": total_premium(int(priced.premium_cents()[place]), row.quantity_centi_btc),
        **{name: float(getattr(priced, name)[place]) for name in ("delta", "gamma", "vega", "theta", "rho")},
        "priced_at_unix": now,
    }
    statement = upsert(session, PremiumRow).values(option_id=row.id, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["option_id"], set_=values))


def total_premium(cents_per_btc: int, quantity_centi_btc: int) -> Cents:
    """Return the premium of a whole option, cents, rounded up: never less than quoted."""
    return Cents(-(-cents_per_btc * quantity_centi_btc // 100))
