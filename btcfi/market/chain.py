"""A chain as a trader reads it: what stands at each strike, what it is worth, and the volatility that each price means.

A mark is the middle of best bid and best ask where both stand. Elsewhere it is the model's price at the volatility that
the marks of the neighbouring strikes mean, and where no strike of the expiry has two sides, at the realised volatility;
each says from which of the three it is. Implied volatilities invert this library's own premium, window and collateral
included; a binary option's premium does not grow with volatility, so it has none. Pure: the caller reads what stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from btcfi.market.instrument import Instrument
from btcfi.options.terms import OptionKind, required_collateral
from btcfi.pricing.domain import SECONDS_PER_YEAR, FloatArray, IntArray
from btcfi.pricing.portfolio import Market
from btcfi.pricing.premium import Book, collateral_ratio, fixing_codes, premiums
from btcfi.pricing.surface import SviSlice, VolatilityQuote, fit_surface
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats, Slot

LEAST_VOLATILITY: Final = 0.01
MOST_VOLATILITY: Final = 5.0
"""Between these a volatility is looked for: 1 % to 500 %, wider than bitcoin's has been quoted."""

HALVINGS: Final = 30
"""Of the range of volatilities: 5e-9 is left of it, far below what a cent of premium tells apart."""

PLAIN: Final = (OptionKind.CALL, OptionKind.PUT)
"""Kinds whose premium grows with volatility."""

_ONE_BITCOIN: Final = CentiBtc(100)


class MarkFrom(StrEnum):
    """Where a mark comes from."""

    OFFERS = "offers"
    """The middle of best bid and ask."""
    NEIGHBOURS = "neighbours"
    """The model, at the volatility of the strikes around that have both."""
    MODEL = "model"
    """The model, at the realised volatility."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best price of one side."""

    price: Sats
    """For one bitcoin."""
    price_cents: Cents
    """For one bitcoin."""
    quantity: CentiBtc
    """At this price."""
    depth: CentiBtc
    """At every price."""
    offers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One instrument of a chain."""

    instrument: Instrument
    bid: Best | None
    ask: Best | None
    mark_cents: Cents
    """For one bitcoin."""
    mark_from: MarkFrom
    bid_volatility: float | None
    """Per square-root year, as the next two; None where no volatility has the price."""
    ask_volatility: float | None
    volatility: float | None
    """Of the mark."""
    delta: float
    """BTC for one bitcoin, at the mark's volatility."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One strike: a call to the left, a put to the right."""

    strike: CentsPerBtc
    calls: tuple[Cell, ...]
    puts: tuple[Cell, ...]


def priced_cells(
    instruments: Sequence[Instrument], tops: Mapping[str, tuple[Best | None, Best | None]], market: Market
) -> tuple[Cell, ...]:
    """Return each instrument with its best bid and ask (``tops``, by name), mark, volatilities and delta.

    market: its volatility is the realised one. Raises what ``pricing.premium.premiums`` raises.
    """
    if not instruments:
        return ()
    book = book_of(instruments)
    sides = [tops.get(one.name, (None, None)) for one in instruments]
    bids = np.array([float(bid.price_cents) if bid else math.nan for bid, _ in sides])
    asks = np.array([float(ask.price_cents) if ask else math.nan for _, ask in sides])
    middle = (bids + asks) / 2.0
    bid_vols, ask_vols, mid_vols = (implied_volatilities(book, cents, market) for cents in (bids, asks, middle))
    vols, sources = _volatilities(instruments, mid_vols, np.isfinite(middle), market.volatility)
    at = premiums(
        book, spot=market.spot, volatility=vols, rate=market.rate, now=market.now, known=market.known
    )  # fmt: skip
    model = at.premium_cents()
    cells = []
    for i, (one, (bid, ask)) in enumerate(zip(instruments, sides, strict=True)):
        quoted = math.isfinite(middle[i])
        volatility = float(vols[i]) if not quoted else _finite(mid_vols[i])
        cells.append(
            Cell(
                instrument=one, bid=bid, ask=ask, mark_from=sources[i],
                mark_cents=Cents(math.floor(middle[i] + 0.5) if quoted else int(model[i])),
                bid_volatility=_finite(bid_vols[i]), ask_volatility=_finite(ask_vols[i]),
                volatility=volatility if one.kind in PLAIN else None, delta=float(at.delta[i]),
            )
        )  # fmt: skip
    return tuple(cells)


def lines_of(cells: Sequence[Cell]) -> tuple[Line, ...]:
    """Return a chain's lines, lowest strike first; binaries and barriers stand beside the plain one of their side."""
    calls: dict[int, list[Cell]] = {}
    puts: dict[int, list[Cell]] = {}
    for cell in sorted(cells, key=lambda one: (one.instrument.kind, one.instrument.name)):
        side = calls if cell.instrument.kind in {OptionKind.CALL, OptionKind.BINARY_CALL} else puts
        side.setdefault(cell.instrument.strike, []).append(cell)
    return tuple(
        Line(strike=CentsPerBtc(strike), calls=tuple(calls.get(strike, ())), puts=tuple(puts.get(strike, ())))
        for strike in sorted(calls.keys() | puts.keys())
    )


def book_of(instruments: Sequence[Instrument]) -> Book:
    """Return instruments as the pricing library takes them."""
    locked = [required_collateral(one.kind, _ONE_BITCOIN) for one in instruments]
    return Book(
        kind=np.array([int(one.kind) for one in instruments], dtype=np.int8),
        strike_cents=_whole([one.strike for one in instruments]),
        expiry_unix=_whole([one.expiry for one in instruments]),
        barrier_cents=_whole([one.barrier or 0 for one in instruments]),
        american=np.array([one.american for one in instruments], dtype=np.bool_),
        collateral_ratio=collateral_ratio([_ONE_BITCOIN] * len(locked), locked),
        fixing=fixing_codes(one.fixing for one in instruments),
    )


def implied_volatilities(book: Book, price_cents: FloatArray, market: Market) -> FloatArray:
    """Return the volatility at which each option of ``book`` costs its price; NaN where none within the range does.

    price_cents: for one bitcoin; NaN for none. By halving: an option's premium grows with volatility, but for binaries
    and barriers, which get none. Raises what ``pricing.premium.premiums`` raises.
    """
    wanted = np.asarray(price_cents, dtype=np.float64) / 100.0
    plain = (np.isin(book.kind, [int(kind) for kind in PLAIN])) & (book.barrier_cents == 0)

    def worth(volatility: FloatArray) -> FloatArray:
        at = premiums(
            book, spot=market.spot, volatility=volatility, rate=market.rate, now=market.now, known=market.known
        )  # fmt: skip
        return at.premium

    low, high = np.full(len(book), LEAST_VOLATILITY), np.full(len(book), MOST_VOLATILITY)
    with np.errstate(invalid="ignore"):
        fits = plain & (wanted > worth(low)) & (wanted < worth(high))
    if not fits.any():
        return np.full(len(book), np.nan)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        with np.errstate(invalid="ignore"):
            above = worth(middle) > wanted
        high = np.where(above, middle, high)
        low = np.where(above, low, middle)
    return np.where(fits, (low + high) / 2.0, np.nan)


# ---- the smile


@dataclass(frozen=True, slots=True, kw_only=True)
class SmilePoint:
    """One strike's volatilities, of the side that is out of the money: that is where the offers are sharp."""

    strike: CentsPerBtc
    bid: float | None
    ask: float | None
    middle: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Smile:
    """One expiry's volatilities, and the curve through their middles."""

    expiry: Slot
    tau_years: float
    forward: float
    """USD per BTC."""
    points: tuple[SmilePoint, ...]
    curve: SviSlice | None
    """None with fewer than two strikes that have both sides."""
    arbitrage: tuple[str, ...]
    """What the curve would pay for nothing, in the words of ``pricing.surface``; empty for none."""
    at_the_money: float | None
    """Of the curve, at the forward."""

    def volatility(self, strike: float) -> float | None:
        """Return the curve's volatility at a strike, in USD per BTC."""
        if self.curve is None:
            return None
        total = self.curve.total_variance(np.array([math.log(strike / self.forward)]))
        return math.sqrt(max(float(total[0]), 0.0) / self.tau_years)


def smile_of(expiry: Slot, cells: Sequence[Cell], market: Market) -> Smile | None:
    """Return the smile of an expiry's plain European options; None at or after the expiry."""
    tau = (expiry - market.now) / SECONDS_PER_YEAR
    if tau <= 0.0:
        return None
    forward = market.spot / 100.0 * math.exp(market.rate * tau)
    points = []
    for cell in cells:
        one = cell.instrument
        if one.barrier is not None or one.american or one.kind not in PLAIN:
            continue
        if (one.strike / 100.0 >= forward) != (one.kind is OptionKind.CALL):
            continue
        middle = cell.volatility if cell.mark_from is MarkFrom.OFFERS else None
        if cell.bid_volatility or cell.ask_volatility:
            points.append(
                SmilePoint(strike=one.strike, bid=cell.bid_volatility, ask=cell.ask_volatility, middle=middle)
            )  # fmt: skip
    points.sort(key=lambda one: one.strike)
    quotes = [
        VolatilityQuote(strike=one.strike / 100.0, tau_years=tau, volatility=one.middle, forward=forward)
        for one in points
        if one.middle
    ]
    curve, found = None, ()
    if len(quotes) > 1:
        surface = fit_surface(quotes, refuse_arbitrage=False)
        curve = surface.slices[0]
        found = tuple(f"{one.kind} at log-moneyness {one.log_moneyness:+.2f}" for one in surface.arbitrage())
    made = Smile(
        expiry=expiry, tau_years=tau, forward=forward, points=tuple(points), curve=curve, arbitrage=found,
        at_the_money=None,
    )  # fmt: skip
    level = made.volatility(forward)
    return made if level is None else _with_level(made, level)


def _with_level(made: Smile, level: float) -> Smile:
    return Smile(
        expiry=made.expiry, tau_years=made.tau_years, forward=made.forward, points=made.points, curve=made.curve,
        arbitrage=made.arbitrage, at_the_money=level,
    )  # fmt: skip


def _volatilities(
    instruments: Sequence[Instrument], found: FloatArray, quoted: np.ndarray[tuple[int], np.dtype[np.bool_]], realised: float
) -> tuple[FloatArray, list[MarkFrom]]:  # fmt: skip
    """Return by which volatility each is priced, and where each mark comes from."""
    known: dict[tuple[Slot, CentsPerBtc], list[float]] = {}
    for one, volatility in zip(instruments, found, strict=True):
        if math.isfinite(volatility):
            known.setdefault((one.expiry, one.strike), []).append(float(volatility))
    curves: dict[Slot, tuple[list[float], list[float]]] = {}
    for (expiry, strike), values in sorted(known.items()):
        strikes, levels = curves.setdefault(expiry, ([], []))
        strikes.append(math.log(strike))
        levels.append(sum(values) / len(values))
    volatilities, sources = np.empty(len(instruments)), []
    for i, one in enumerate(instruments):
        curve = curves.get(one.expiry)
        if math.isfinite(found[i]):
            volatilities[i] = found[i]
        else:
            volatilities[i] = realised if curve is None else np.interp(math.log(one.strike), *curve)
        sources.append(MarkFrom.OFFERS if quoted[i] else MarkFrom.MODEL if curve is None else MarkFrom.NEIGHBOURS)
    return volatilities, sources


def _whole(numbers: Sequence[int]) -> IntArray:
    return np.array(numbers, dtype=np.int64)


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
