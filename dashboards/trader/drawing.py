"""Pictures made of numbers: coordinates for the SVG templates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from btcfi.market.chain import Smile
from btcfi.market.instrument import Instrument
from btcfi.market.positions import Ticket, View
from btcfi.pricing.domain import SECONDS_PER_YEAR
from btcfi.units import MAX_U32, CentsPerBtc
from dashboards.shared.render import usd
from dashboards.trader.holding import WhatIf

WIDTH: Final = 640.0
HEIGHT: Final = 280.0
LEFT: Final = 78.0
RIGHT: Final = 12.0
TOP: Final = 16.0
BOTTOM: Final = 34.0
LABEL_HEIGHT: Final = 14.0
LABEL_WIDTH: Final = 46.0
CURVE_POINTS: Final = 61
DEVIATIONS: Final = 4.0
"""Of the price until expiry: so far to each side a payoff is drawn."""
NARROWEST, WIDEST = 0.03, 0.5
"""Relatively, to each side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Where numbers lie in a picture."""

    low: float
    high: float
    floor: float
    ceiling: float

    def x(self, value: float) -> float:
        """Return a place from the left."""
        return round(LEFT + (value - self.low) / ((self.high - self.low) or 1.0) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Return a place from the top."""
        share = (self.ceiling - value) / ((self.ceiling - self.floor) or 1.0)
        return round(TOP + share * (HEIGHT - TOP - BOTTOM), 1)

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        """Return a polyline."""
        return " ".join(f"{self.x(a)},{self.y(b)}" for a, b in zip(xs, ys, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A payoff at expiry and today."""

    expiry: str
    today: str
    gain: str
    loss: str
    zero: float
    marks: tuple[tuple[float, str, str], ...]
    """(x, label, class) of upright lines."""
    xs: tuple[tuple[float, str], ...]
    ys: tuple[tuple[float, str], ...]
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dots:
    """Quotes with a curve through them."""

    line: str
    bars: tuple[tuple[float, float, float], ...]
    """(x, y of the bid, y of the ask)."""
    dots: tuple[tuple[float, float], ...]
    level: float | None
    """Of a straight line across: the realised volatility."""
    middle: float | None
    """Of an upright line: the forward."""
    xs: tuple[tuple[float, str], ...]
    ys: tuple[tuple[float, str], ...]
    words: str


def reach(one: Instrument, view: View, level: float) -> list[CentsPerBtc]:
    """Return the prices at which a ticket's profit is drawn, strike and barrier among them, in cents."""
    years = max(one.expiry - view.now, 60) / SECONDS_PER_YEAR
    share = min(max(level * math.sqrt(years) * DEVIATIONS, NARROWEST), WIDEST)
    ends = [view.spot, one.strike, *(() if one.barrier is None else (one.barrier,))]
    low, high = min(ends) * (1 - share), max(ends) * (1 + share)
    corners = {end + side for end in ends for side in (-1, 0, 1)}
    even = {round(cents) for cents in np.linspace(low, high, CURVE_POINTS)}
    return [CentsPerBtc(cents) for cents in sorted(even | corners) if 1 <= cents <= MAX_U32]


def curve(made: Ticket, one: Instrument, spot: CentsPerBtc) -> Curve:
    """Return the picture of a ticket's profit."""
    curves = made.curves
    xs, expiry, today = curves.spots.tolist(), curves.at_expiry.tolist(), curves.today.tolist()
    least, most = min(*expiry, *today, 0.0), max(*expiry, *today, 0.01)
    margin = (most - least) * 0.08
    scale = Scale(low=xs[0], high=xs[-1], floor=least - margin, ceiling=most + margin)
    zero = scale.y(0.0)
    corner = f"{scale.x(xs[0])},{zero}", f"{scale.x(xs[-1])},{zero}"

    def area(values: Sequence[float]) -> str:
        return f"{corner[0]} {scale.points(xs, values)} {corner[1]}"

    marks = [(one.strike, "strike", "strike"), (spot, "price now", "spot")]
    if one.barrier is not None:
        marks.append((one.barrier, "knock-out", "barrier"))
    even = " and ".join(usd(price) for price in made.break_even) or "nowhere"
    held = "you buy" if made.position.bought else "you write"
    return Curve(
        expiry=scale.points(xs, expiry), today=scale.points(xs, today),
        gain=area([max(value, 0.0) for value in expiry]), loss=area([min(value, 0.0) for value in expiry]), zero=zero,
        marks=tuple((scale.x(at / 100), label, name) for at, label, name in marks if xs[0] <= at / 100 <= xs[-1]),
        xs=_dollars(scale),
        ys=tuple(
            (scale.y(v), usd(round(v * 100)).split(".")[0]) for v in (least, 0.0, most)
            if v == 0.0 or abs(scale.y(v) - zero) > LABEL_HEIGHT
        ),
        words=(
            f"Profit if {held} it: at expiry between {usd(round(min(expiry) * 100))} and "
            f"{usd(round(max(expiry) * 100))} in the range drawn, even at {even}."
        ),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What is held, along the price, under a moved market and as it is."""

    then: str
    now: str
    zero: float
    here: float
    """Where the chosen move is."""
    xs: tuple[tuple[float, str], ...]
    ys: tuple[tuple[float, str], ...]
    words: str


def moved(one: WhatIf) -> Moved:
    """Return the picture of a what-if."""
    told = [*one.then, *one.now, 0.0]
    margin = (max(told) - min(told)) * 0.08 or 0.01
    scale = Scale(low=one.moves[0], high=one.moves[-1], floor=min(told) - margin, ceiling=max(told) + margin)
    zero = scale.y(0.0)
    ends = [value for value in (min(told), max(told)) if abs(scale.y(value) - zero) > LABEL_HEIGHT]
    return Moved(
        then=scale.points(one.moves, one.then), now=scale.points(one.moves, one.now), zero=zero,
        here=scale.x(one.chosen.spot / 100),
        xs=tuple((scale.x(at), f"{at * 100:+.0f} %") for at in (-0.5, -0.25, 0.0, 0.25, 0.5)),
        ys=((zero, usd(0).split(".")[0]), *((scale.y(value), usd(round(value * 100)).split(".")[0]) for value in ends)),
        words=(
            f"Profit by the move of the price: from {usd(round(min(one.then) * 100))} to "
            f"{usd(round(max(one.then) * 100))} in the range drawn."
        ),
    )  # fmt: skip


def smile(one: Smile) -> Dots:
    """Return the picture of one expiry's volatilities by strike."""
    strikes = [point.strike / 100 for point in one.points]
    pad = max((strikes[-1] - strikes[0]) * 0.06, strikes[0] * 0.02)
    low, high = strikes[0] - pad, strikes[-1] + pad
    drawn = np.linspace(low, high, CURVE_POINTS).tolist() if one.curve is not None else []
    curved = [one.volatility(strike) or 0.0 for strike in drawn]
    told = [level for p in one.points for level in (p.bid, p.ask, p.middle) if level is not None] + curved
    scale = Scale(low=low, high=high, floor=min(told) * 0.95, ceiling=max(told) * 1.05)
    bars = tuple(
        (scale.x(p.strike / 100), scale.y(p.ask if p.ask is not None else p.bid or 0.0), scale.y(p.bid or p.ask or 0.0))
        for p in one.points
    )  # fmt: skip
    level = f", {one.at_the_money * 100:.1f} % at the forward" if one.at_the_money is not None else ""
    return Dots(
        line=scale.points(drawn, curved), bars=bars, level=None, xs=_dollars(scale), ys=_levels(scale),
        dots=tuple((scale.x(p.strike / 100), scale.y(p.middle)) for p in one.points if p.middle is not None),
        middle=scale.x(one.forward) if low <= one.forward <= high else None,
        words=f"Implied volatility of {len(one.points)} strikes{level}.",
    )  # fmt: skip


def term(smiles: Sequence[Smile], realised: float | None) -> Dots | None:
    """Return the picture of the volatility at the forward by expiry, beside what was realised; None without any."""
    told = [(one.expiry, one.at_the_money) for one in smiles if one.at_the_money is not None]
    if not told:
        return None
    xs = [math.sqrt(one.tau_years) for one in smiles if one.at_the_money is not None]
    ys = [level for _, level in told]
    every = [*ys, *([] if realised is None else [realised])]
    scale = Scale(low=0.0, high=xs[-1] * 1.08, floor=min(every) * 0.9, ceiling=max(every) * 1.1)
    days = [datetime.fromtimestamp(expiry, UTC).strftime("%-d %b") for expiry, _ in told]
    labels = [(scale.x(x), name) for x, name in zip(xs, days, strict=True)]
    apart: list[tuple[float, str]] = []
    for label in labels:
        if not apart or label[0] - apart[-1][0] > LABEL_WIDTH:
            apart.append(label)
    beside = "" if realised is None else f"; realised {realised * 100:.1f} %"
    return Dots(
        line=scale.points(xs, ys), bars=(), dots=tuple((scale.x(x), scale.y(y)) for x, y in zip(xs, ys, strict=True)),
        level=None if realised is None else scale.y(realised), middle=None, xs=tuple(apart), ys=_levels(scale),
        words=f"Implied volatility at the forward of {len(ys)} expiries, {ys[0] * 100:.1f} % the next one{beside}.",
    )  # fmt: skip


def _dollars(scale: Scale) -> tuple[tuple[float, str], ...]:
    values = [scale.low + (scale.high - scale.low) * i / 4 for i in range(5)]
    return tuple((scale.x(value), f"${value:,.0f}") for value in values)


def _levels(scale: Scale) -> tuple[tuple[float, str], ...]:
    values = [scale.floor + (scale.ceiling - scale.floor) * i / 4 for i in range(1, 4)]
    return tuple((scale.y(value), f"{value * 100:.0f} %") for value in values)
