"""Premiums: every open option priced in one vectorised call, the newest kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select
from sqlmodel import Session, col

from btcfi.adapters.store.options.tables import UNEXPIRED_OPTIONS, OptionRow, PremiumRow
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.fixings import said_since
from btcfi.adapters.store.prices.tables import RoundRow, RoundState
from btcfi.adapters.store.spine.edges import upsert
from btcfi.oracle.fixing import MOST_MINUTES, parse_fixing
from btcfi.oracle.quote import Feed
from btcfi.pricing.domain import FloatArray, IntArray
from btcfi.pricing.premium import (
    CENTS_PER_USD,
    Book,
    Premiums,
    collateral_ratio,
    fixing_codes,
    premiums,
    to_cents,
)
from btcfi.pricing.volatility import close_to_close_with_gaps
from btcfi.units import BasisPoints, CentsPerBtc, Slot, UnixSeconds

HOUR: Final = 3_600
MINUTE: Final = 60

WINDOW_SECONDS: Final = 30 * 86_400
"""Of the hourly estimate: the published field is volatility_30d."""

MINUTES_WINDOW_SECONDS: Final = 48 * HOUR

LEAST_HOURS: Final = 48
"""From this many hourly returns on the estimate uses hours, which see less of the trades' noise; before, minutes."""

LEAST_MINUTES: Final = 10
"""Fewer returns say nothing about a volatility."""

MAX_VOLATILITY_BPS: Final = 50_000
MIN_VOLATILITY_BPS: Final = 100

_fixing = lru_cache(maxsize=256)(parse_fixing)

MOST_SAMPLED: Final = 16
"""Medians of a book that are sampled, the better part of a second each: with more, all are priced in closed form."""

NOISE_DECIMALS: Final = 6
"""Of a cent: a model's double has fifteen digits, and the largest premium of the guest ten before the point."""

GREEKS: Final = ("delta", "gamma", "vega", "theta", "rho")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volatility:
    """What options are priced with; one estimate for quotes, sales, refreshes and risk."""

    level: BasisPoints
    """Per square-root year, 1/100 %: the guest's unit, so that a quote is what the contract says."""
    samples: int
    """Returns that it rests on; 0: the preset's number."""


def estimate_volatility(session: Session, feed: Feed) -> Volatility | None:
    """Return the realised volatility up to the newest priced minute, or None while there are too few returns.

    Hourly closes of the newest 30 days, else the minutes of the newest two days. No return is taken across a gap.
    """
    last = rounds.latest_priced(session, feed)
    if last is None:
        return None
    for interval, window, least in (
        (HOUR, WINDOW_SECONDS, LEAST_HOURS),
        (MINUTE, MINUTES_WINDOW_SECONDS, LEAST_MINUTES),
    ):
        query = select(col(RoundRow.slot), col(RoundRow.price_cents)).where(
            col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.PRICED,
            col(RoundRow.price_cents).is_not(None),
            col(RoundRow.slot) >= last.slot - window, col(RoundRow.slot) <= last.slot,
            col(RoundRow.slot) % interval == last.slot % interval,
        )  # fmt: skip
        closes = session.execute(query.order_by(col(RoundRow.slot))).all()
        times, cents = np.array([c[0] for c in closes]), np.array([c[1] for c in closes], dtype=np.float64)
        if np.count_nonzero(np.diff(times) == interval) >= least:
            level, samples = close_to_close_with_gaps(times, cents / 100, interval_seconds=interval)
            return Volatility(level=_within(round(level * 10_000)), samples=samples)
    return None


def volatility_of(session: Session, feed: Feed, *, fallback_bps: int) -> Volatility:
    """Return what every premium, every sale and every risk is computed with now.

    That is the realised volatility of the agreed prices, or the preset's while there are too few of them.
    """
    return estimate_volatility(session, feed) or Volatility(level=BasisPoints(fallback_bps), samples=0)


def _within(bps: int) -> BasisPoints:
    return BasisPoints(min(max(bps, MIN_VOLATILITY_BPS), MAX_VOLATILITY_BPS))


def open_windows(now: UnixSeconds) -> Slot:
    """Return the first minute that a window which is not over can hold."""
    return Slot(max(now // MINUTE - MOST_MINUTES, 0) * MINUTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBook:
    """The open options as columns."""

    ids: list[str]
    book: Book
    quantity_centi_btc: npt.NDArray[np.int64]
    collateral_sats: npt.NDArray[np.int64]
    knocked_out: npt.NDArray[np.bool_]
    """Whether a minute since its listing touched its barrier: worth nothing, whatever the spot is now."""

    def __len__(self) -> int:
        """Return the number of options."""
        return len(self.ids)


def open_book(session: Session, feed: Feed, states: tuple[str, ...] = UNEXPIRED_OPTIONS) -> OpenBook:
    """Return the options in ``states``, by default those that are funded or being funded and so have a premium."""
    rows = session.execute(
        select(
            col(OptionRow.id), col(OptionRow.kind), col(OptionRow.strike_cents), col(OptionRow.expiry_unix),
            col(OptionRow.barrier_cents), col(OptionRow.american), col(OptionRow.quantity_centi_btc),
            col(OptionRow.collateral_sats), col(OptionRow.listed_slot), col(OptionRow.fixing),
        )
        .where(col(OptionRow.feed) == feed, col(OptionRow.state).in_(states))
        .order_by(col(OptionRow.id))
    ).all()  # fmt: skip
    columns = list(zip(*rows, strict=True)) or [()] * 10
    quantity, collateral = np.array(columns[6], dtype=np.int64), np.array(columns[7], dtype=np.int64)
    book = Book(
        kind=np.array(columns[1], dtype=np.int8),
        strike_cents=np.array(columns[2], dtype=np.int64),
        expiry_unix=np.array(columns[3], dtype=np.int64),
        barrier_cents=np.array([level or 0 for level in columns[4]], dtype=np.int64),
        american=np.array(columns[5], dtype=np.bool_),
        collateral_ratio=collateral_ratio(quantity, collateral),
        fixing=fixing_codes(None if text is None else _fixing(text) for text in columns[9]),
    )
    return OpenBook(
        ids=list(columns[0]), book=book, quantity_centi_btc=quantity, collateral_sats=collateral,
        knocked_out=_knocked_out(session, feed, book, np.array(columns[8], dtype=np.int64)),
    )  # fmt: skip


def _knocked_out(
    session: Session, feed: Feed, book: Book, listed: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Return which barriers were touched in a minute after the option's listing and up to its expiry."""
    out = np.zeros(len(book), dtype=np.bool_)
    places = np.flatnonzero(book.barrier_cents > 0)
    if not places.size:
        return out
    seen: Sequence[Any] = session.execute(
        select(
            col(RoundRow.slot),
            func.coalesce(RoundRow.low_cents, RoundRow.price_cents),
            func.coalesce(RoundRow.high_cents, RoundRow.price_cents),
        )
        .where(
            col(RoundRow.feed) == feed,
            col(RoundRow.state) == RoundState.PRICED,
            col(RoundRow.slot) > int(listed[places].min()),
        )
        .order_by(col(RoundRow.slot))
    ).all()
    if not seen:
        return out
    slots = np.array([s[0] for s in seen])
    # the lowest and highest level from each minute to the newest: an open option's expiry lies after all of them, and
    # one that waits for its settlement is no worse off for being told a minute's touch too many
    lows = np.minimum.accumulate(np.array([s[1] for s in seen])[::-1])[::-1]
    highs = np.maximum.accumulate(np.array([s[2] for s in seen])[::-1])[::-1]
    first = np.searchsorted(slots, listed[places], side="right")
    watched = first < slots.size
    at = np.minimum(first, slots.size - 1)
    level, strike = book.barrier_cents[places], book.strike_cents[places]
    out[places] = watched & np.where(level > strike, highs[at] >= level, lows[at] <= level)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedBook:
    """The open options priced at one minute, not stored yet."""

    slot: Slot
    options: OpenBook
    premiums: Premiums


def counted_from(slot: Slot) -> UnixSeconds:
    """Return the moment that a premium at the price of ``slot`` is of, on the scale of expiries.

    That price is the close of its minute, and the price that settles is the close of the expiry's: the price can still
    move for as long as one minute begins before the other, however late somebody asks. Counted from the clock, each
    premium would leave out a minute or two, which a buyer who sees the market is paid for.
    """
    return UnixSeconds(slot)


def price_open_options(
    session: Session, feed: Feed, *, now: UnixSeconds, rate_bps: int, fallback_volatility_bps: int
) -> PricedBook | None:
    """Price the open options at the newest agreed price; None without one or without options. Writes nothing."""
    last = rounds.latest_priced(session, feed)
    options = open_book(session, feed)
    if last is None or last.price_cents is None or not len(options):
        return None
    volatility = volatility_of(session, feed, fallback_bps=fallback_volatility_bps).level
    medians = 0 if options.book.fixing is None else int((options.book.fixing < 0).sum())
    priced = premiums(
        options.book, spot=CentsPerBtc(last.price_cents), volatility=volatility / 10_000, rate=rate_bps / 10_000,
        now=counted_from(Slot(last.slot)), known=said_since(session, feed, open_windows(now)),
        sampled=medians <= MOST_SAMPLED,
    )  # fmt: skip
    return PricedBook(slot=Slot(last.slot), options=options, premiums=priced)


def refresh_premiums(
    session: Session, feed: Feed, *, now: UnixSeconds, rate_bps: int, fallback_volatility_bps: int
) -> int:
    """Price the open options and store the result in one transaction; return how many."""
    priced = price_open_options(
        session, feed, now=now, rate_bps=rate_bps, fallback_volatility_bps=fallback_volatility_bps
    )
    if priced is None:
        return 0
    store_premiums(session, priced, now=now)
    return len(priced.options)


def store_premiums(session: Session, priced: PricedBook, *, now: UnixSeconds) -> None:
    """Store the premiums of a priced book, one row an option."""
    options = priced.options
    alive = ~options.knocked_out
    whole = total_premium(priced.premiums.premium, options.quantity_centi_btc) * alive
    greeks = [(getattr(priced.premiums, name) * alive).tolist() for name in GREEKS]
    rows = [
        {"option_id": key, "slot": priced.slot, "premium_cents": cents, "priced_at_unix": now,
         **dict(zip(GREEKS, numbers, strict=True))}
        for key, cents, *numbers in zip(options.ids, whole.tolist(), *greeks, strict=True)
    ]  # fmt: skip
    statement = upsert(session, PremiumRow)
    changed = {name: statement.excluded[name] for name in ("slot", "premium_cents", "priced_at_unix", *GREEKS)}
    # on the connection: one prepared statement for the whole book, without an object a row
    session.connection().execute(
        statement.on_conflict_do_update(index_elements=["option_id"], set_=changed), rows
    )  # fmt: skip


def total_premium(usd_per_btc: FloatArray, quantity_centi_btc: npt.ArrayLike) -> IntArray:
    """Return premiums of whole options in cents: the dollars of the whole quantity, rounded up once.

    A cent a bitcoin would be a loss of precision that a hundred bitcoin multiply. What is above a whole cent by less
    than a millionth of one is that cent: a double's own noise is no price.
    Raises PricingDomainError for amounts of 2**53 cents or more (where a double skips cents).
    """
    cents = np.asarray(usd_per_btc, dtype=np.float64) * np.asarray(quantity_centi_btc, dtype=np.float64)
    to_cents(cents / CENTS_PER_USD)  # its domain is ours
    return np.ceil(np.round(cents, NOISE_DECIMALS)).astype(np.int64)
