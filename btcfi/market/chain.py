"""A chain as a trader reads it: what stands at each strike, what it is worth, and the volatility that each price means.

A mark is the middle of best bid and best ask where both stand. Elsewhere it is the model's price at the volatility that
the marks of the neighbouring strikes mean, and where no strike of the expiry has two sides, at the view's own; each
says from which of the three it is. Implied volatilities invert this library's own premium, window and collateral
included; binaries and barriers have none, nor has a price whose own step blurs it by more than a point. Pure: the
caller reads what stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, cast

import numpy as np

from btcfi.market.firm_offer import TICK_SATS
from btcfi.market.instrument import Instrument
from btcfi.market.positions import View, implied_volatilities
from btcfi.options.terms import OptionKind
from btcfi.pricing.domain import SECONDS_PER_YEAR, FloatArray
from btcfi.pricing.premium import Book, PriceableOption, premiums
from btcfi.pricing.surface import SviSlice, VolatilityQuote, fit_surface
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats, Slot

PLAIN: Final = (OptionKind.CALL, OptionKind.PUT)
"""Kinds whose premium grows with volatility."""

DRAWN: Final = 1e-6
"""Relative improvement at which a smile's fit ends: it is looked at, not traded on."""

Levels = dict[tuple[str, Cents], float | None]
"""Volatilities by instrument and price in cents, of one view."""

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
    instruments: Sequence[Instrument], tops: Mapping[str, tuple[Best | None, Best | None]], view: View,
    *, told: Levels | None = None,
) -> tuple[Cell, ...]:  # fmt: skip
    """Return each instrument with its best bid and ask (``tops``, by name), mark, volatilities and delta.

    view: its surface is what is priced by where nobody offers. told: volatilities that were found under this very view,
    which are not looked for again; what is found is added. Raises what ``pricing.premium.premiums`` raises.
    """
    if not instruments:
        return ()
    sides = [tops.get(one.name, (None, None)) for one in instruments]
    bids = [bid.price_cents if bid else None for bid, _ in sides]
    asks = [ask.price_cents if ask else None for _, ask in sides]
    middle = [None if b is None or a is None else Cents((b + a + 1) // 2) for b, a in zip(bids, asks, strict=True)]
    bid_vols, ask_vols, mid_vols = _implied(instruments, (bids, asks, middle), view, {} if told is None else told)
    book = Book.of(cast("PriceableOption", one.terms(_ONE_BITCOIN, Cents(0))) for one in instruments)
    quoted = [one is not None for one in middle]
    vols, sources = _volatilities(instruments, mid_vols, quoted, view.volatilities(book))
    at = premiums(
        book, spot=view.spot, volatility=vols, rate=view.rate, now=view.now, known=view.known, sampled=view.sampled
    )
    model = at.premium_cents()
    cells = []
    for i, (one, (bid, ask)) in enumerate(zip(instruments, sides, strict=True)):
        halfway = middle[i]
        volatility = float(vols[i]) if halfway is None else mid_vols[i]
        cells.append(
            Cell(
                instrument=one, bid=bid, ask=ask, mark_from=sources[i],
                mark_cents=Cents(int(model[i])) if halfway is None else halfway,
                bid_volatility=bid_vols[i], ask_volatility=ask_vols[i],
                volatility=volatility if one.kind in PLAIN and one.barrier is None else None, delta=float(at.delta[i]),
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
    """None with fewer than two strikes that have both sides, and where none was asked for."""
    arbitrage: tuple[str, ...]
    """What the curve would pay for nothing, in the words of ``pricing.surface``; empty for none."""
    at_the_money: float | None
    """At the forward."""

    def volatility(self, strike: float) -> float | None:
        """Return the volatility at a strike, in USD per BTC: the curve's, else the line's between two middles."""
        if self.curve is None:
            told = [(math.log(p.strike / 100.0), p.middle) for p in self.points if p.middle is not None]
            at = math.log(strike)
            if not told or not told[0][0] <= at <= told[-1][0]:
                return None
            return float(np.interp(at, [strike for strike, _ in told], [level for _, level in told]))
        total = self.curve.total_variance(np.array([math.log(strike / self.forward)]))
        return math.sqrt(max(float(total[0]), 0.0) / self.tau_years)


def smile_of(expiry: Slot, cells: Sequence[Cell], view: View, *, fitted: bool = True) -> Smile | None:
    """Return the smile of an expiry's plain European options; None at or after the expiry.

    fitted: with a curve, which takes a quarter of a second; else what lies between two strikes is on their line.
    """
    tau = (expiry - view.now) / SECONDS_PER_YEAR
    if tau <= 0.0:
        return None
    forward = view.spot / 100.0 * math.exp(view.rate * tau)
    points = []
    for cell in cells:
        one = cell.instrument
        if one.barrier is not None or one.american or one.kind not in PLAIN:
            continue
        if (one.strike / 100.0 >= forward) != (one.kind is OptionKind.CALL):
            continue
        middle = cell.volatility if cell.mark_from is MarkFrom.OFFERS else None
        if cell.bid_volatility is not None or cell.ask_volatility is not None:
            points.append(
                SmilePoint(strike=one.strike, bid=cell.bid_volatility, ask=cell.ask_volatility, middle=middle)
            )  # fmt: skip
    points.sort(key=lambda one: one.strike)
    quotes = [
        VolatilityQuote(strike=one.strike / 100.0, tau_years=tau, volatility=one.middle, forward=forward)
        for one in points
        if one.middle is not None
    ]
    curve: SviSlice | None = None
    found: tuple[str, ...] = ()
    if fitted and len(quotes) > 1:
        surface = fit_surface(quotes, refuse_arbitrage=False, tolerance=DRAWN)
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


def _implied(
    instruments: Sequence[Instrument], columns: Sequence[Sequence[Cents | None]], view: View, told: Levels
) -> list[list[float | None]]:
    """Return the volatility of each price of each column, by one bisection over all that are not told yet."""
    asked = {
        (one.name, price): one
        for column in columns
        for one, price in zip(instruments, column, strict=True)
        if price is not None and (one.name, price) not in told
    }
    many, prices = list(asked.values()), [price for _, price in asked]
    told.update(zip(asked, _told_apart(many, implied_volatilities(many, prices, view), view), strict=True))
    return [
        [None if price is None else told[one.name, price] for one, price in zip(instruments, column, strict=True)]
        for column in columns
    ]


def _told_apart(
    instruments: Sequence[Instrument], found: Sequence[float | None], view: View
) -> list[float | None]:  # fmt: skip
    """Return the volatilities without those that a price's own step blurs by more than a point: deep in the money."""
    known = [i for i, level in enumerate(found) if level is not None]
    kept: list[float | None] = [None] * len(found)
    if known:
        book = Book.of(cast("PriceableOption", instruments[i].terms(_ONE_BITCOIN, Cents(0))) for i in known)
        levels = np.array([found[i] for i in known], dtype=np.float64)
        at = premiums(
            book, spot=view.spot, volatility=levels, rate=view.rate, now=view.now, known=view.known,
            sampled=view.sampled,
        )  # fmt: skip
        tick = TICK_SATS * view.spot / 1e10
        for i, level, vega in zip(known, levels, at.vega, strict=True):
            kept[i] = float(level) if vega >= tick else None
    return kept


def _volatilities(
    instruments: Sequence[Instrument], found: Sequence[float | None], quoted: Sequence[bool], model: FloatArray
) -> tuple[FloatArray, list[MarkFrom]]:
    """Return by which volatility each is priced, and where each mark comes from."""
    known: dict[tuple[Slot, CentsPerBtc], list[float]] = {}
    for one, level in zip(instruments, found, strict=True):
        if level is not None:
            known.setdefault((one.expiry, one.strike), []).append(level)
    curves: dict[Slot, tuple[list[float], list[float]]] = {}
    for (expiry, strike), values in sorted(known.items()):
        strikes, levels = curves.setdefault(expiry, ([], []))
        strikes.append(math.log(strike))
        levels.append(sum(values) / len(values))
    volatilities, sources = np.empty(len(instruments)), []
    for i, one in enumerate(instruments):
        curve, own = curves.get(one.expiry), found[i]
        if own is not None:
            volatilities[i] = own
        else:
            volatilities[i] = model[i] if curve is None else np.interp(math.log(one.strike), *curve)
        sources.append(MarkFrom.OFFERS if quoted[i] else MarkFrom.MODEL if curve is None else MarkFrom.NEIGHBOURS)
    return volatilities, sources
