"""The risk of a book: aggregate Greeks, value at risk, stress grids, margin and the use of collateral.

A position is an option of a ``Book`` with a signed quantity in hundredths of a bitcoin: bought above 0, written below.
Every loss is found by pricing the whole book again under the moved market, never by a Taylor expansion: binaries and
knock-outs have no use for one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from btcfi.errors import InvalidInputError
from btcfi.oracle.fixing import Said
from btcfi.pricing.domain import (
    SECONDS_PER_YEAR,
    ArrayLike,
    FloatArray,
    IntArray,
    PricingDomainError,
    UnequalLengthsError,
    check,
)
from btcfi.pricing.kernels import intrinsic
from btcfi.pricing.premium import CENTS_PER_USD, Book, premiums, to_cents
from btcfi.pricing.volatility import TooFewCandlesError, ewma
from btcfi.units import CentsPerBtc, Slot, UnixSeconds, cents_per_btc

CENTI: Final = 100
"""Quantities come in hundredths of a bitcoin."""

SATS_PER_BTC: Final = 100_000_000


class ThinTailError(InvalidInputError):
    """A confidence that the sample cannot carry: fewer than one of its returns lies beyond it."""

    def __init__(self, *, confidence: float, returns: int) -> None:
        needed = math.ceil(1.0 / (1.0 - confidence) - ROUNDING)
        super().__init__(
            "confidence",
            f"{confidence} of {returns} returns leaves none beyond it",
            f"at least {needed} returns, or a confidence of at most {1.0 - 1.0 / returns:.4g}",
        )
        self.confidence, self.returns, self.needed = confidence, returns, needed


ROUNDING: Final = 1e-9
"""Of a probability: 1 - 0.99 is not quite a hundredth."""

LEAST_RETURNS: Final = 30
"""A tail quantile of fewer returns than this is one observation with a confident name."""

MARGIN_SPOT_MOVES: Final = (-0.30, -0.20, -0.15, -0.10, -0.05, 0.0, 0.05, 0.10, 0.15, 0.20, 0.30)
MARGIN_VOLATILITY_MOVES: Final = (-0.25, 0.0, 0.25)
"""Relative moves over which the writer's margin takes the worst: a day of March 2020 or November 2022 fits inside."""

SHORT_OPTION_FLOOR: Final = 0.02
"""Least margin of a written bitcoin of options, as a share of the spot: far strikes are not free to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What a book is priced under."""

    spot: CentsPerBtc
    """Integer cents per BTC."""
    volatility: float | FloatArray
    """Per square-root year; one number, or one an option of the book."""
    rate: float
    """Continuously compounded per year."""
    now: UnixSeconds
    """The time that the price is of."""
    known: Mapping[Slot, Said] = field(default_factory=dict)
    """What the closed minutes of open windows say, as ``premium.premiums`` takes it."""
    sampled: bool = True
    """Whether medians that are near are sampled, as ``premium.premiums`` takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """A book and how much of each option is held."""

    book: Book
    quantity_centi_btc: IntArray
    """Hundredths of a bitcoin; below 0 for options that were written."""
    collateral_sats: IntArray
    """Locked for each option; counted for written ones."""

    def __post_init__(self) -> None:
        shapes = {
            "book": (len(self.book),),
            "quantity_centi_btc": np.shape(self.quantity_centi_btc),
            "collateral_sats": np.shape(self.collateral_sats),
        }
        if len(set(shapes.values())) > 1:
            raise UnequalLengthsError(shapes)

    @property
    def quantity_btc(self) -> FloatArray:
        """Signed quantities in BTC."""
        btc: FloatArray = self.quantity_centi_btc / CENTI
        return btc

    @property
    def written(self) -> Positions:
        """The written positions alone."""
        chosen = self.quantity_centi_btc < 0
        book = Book(
            kind=self.book.kind[chosen],
            strike_cents=self.book.strike_cents[chosen],
            expiry_unix=self.book.expiry_unix[chosen],
            barrier_cents=self.book.barrier_cents[chosen],
            american=self.book.american[chosen],
            collateral_ratio=None if self.book.collateral_ratio is None else self.book.collateral_ratio[chosen],
            fixing=None if self.book.fixing is None else self.book.fixing[chosen],
        )
        return Positions(
            book=book,
            quantity_centi_btc=self.quantity_centi_btc[chosen],
            collateral_sats=self.collateral_sats[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BookGreeks:
    """Sums over the book, in dollars unless said otherwise."""

    value: float
    """USD: what the book is worth to its holder, negative for a writer."""
    delta_btc: float
    """BTC of spot with the same exposure."""
    gamma_btc: float
    """Change of ``delta_btc`` per 1 % move of the spot."""
    vega: float
    """USD per percentage point of volatility."""
    theta: float
    """USD per calendar day."""
    rho: float
    """USD per percentage point of the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TailRisk:
    """Value at risk and expected shortfall over one horizon, as losses: positive numbers are money lost."""

    confidence: float
    """E.g. 0.99."""
    value_at_risk: float
    """USD: the loss that is exceeded with probability 1 - confidence."""
    expected_shortfall: float
    """USD: the mean loss in those cases; at least the value at risk."""
    observations: int
    """Returns that it rests on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioGrid:
    """Profit and loss of the book under moved markets."""

    spot_moves: FloatArray
    """Relative: -0.1 is a fall by 10 %."""
    volatility_moves: FloatArray
    """Relative: 0.25 raises 60 % to 75 %."""
    days: FloatArray
    """Calendar days ahead."""
    profit: FloatArray
    """USD, shape (days, volatility moves, spot moves)."""

    @property
    def worst(self) -> float:
        """The lowest profit of the grid, in USD."""
        return float(self.profit.min())


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """What the writer's book must hold, and what it holds."""

    required_cents: int
    """The larger of the worst scenario's liability and the floor."""
    worst_liability_cents: int
    """What the written options cost to buy back in the worst scenario."""
    floor_cents: int
    """The least margin of the written quantity."""
    liability_cents: int
    """What they cost to buy back now."""
    collateral_cents: int
    """The locked collateral at the spot."""
    utilisation: float
    """liability / collateral, 0 without written options."""
    stressed_collateral_cents: int
    """The locked collateral at the price of the scenario that it covers least: bitcoin falls with what it secures."""
    coverage: float
    """The least, over the scenarios, of the collateral at a scenario's price over what is required there (the liability
    or the floor); infinite when nothing is. Below 1 is a margin call."""


def aggregate(positions: Positions, market: Market) -> BookGreeks:
    """Return the book's value and Greeks. Raises the errors of ``premium.premiums``."""
    at = premiums(
        positions.book, spot=market.spot, volatility=market.volatility, rate=market.rate, now=market.now,
        known=market.known, sampled=market.sampled,
    )  # fmt: skip
    held = positions.quantity_btc
    spot = market.spot / CENTS_PER_USD
    return BookGreeks(
        value=float(held @ at.premium),
        delta_btc=float(held @ at.delta),
        gamma_btc=float(held @ at.gamma) * spot / 100.0,
        vega=float(held @ at.vega),
        theta=float(held @ at.theta),
        rho=float(held @ at.rho),
    )


def value(
    positions: Positions, market: Market, *, spot_move: float = 0.0, volatility_move: float = 0.0, days: float = 0.0
) -> float:
    """Return the book's value in USD under the market moved by relative moves and ``days`` ahead.

    Raises the errors of ``premium.premiums``, InvalidInputError for a move that leaves no price.
    """
    if not (math.isfinite(spot_move) and spot_move > -1.0):
        raise InvalidInputError("spot_move", f"{spot_move!r} leaves no price", "a relative move above -1")
    if not (math.isfinite(volatility_move) and volatility_move >= -1.0):
        raise InvalidInputError("volatility_move", f"{volatility_move!r} is no move", "a relative move of at least -1")
    if not (math.isfinite(days) and days >= 0.0):
        raise InvalidInputError("days", f"{days!r} is no time ahead", "a number of days of at least 0")
    later = premiums(
        positions.book,
        spot=cents_per_btc(max(round(market.spot * (1.0 + spot_move)), 1)),
        volatility=market.volatility * (1.0 + volatility_move),
        rate=market.rate,
        now=UnixSeconds(market.now + round(days * SECONDS_PER_YEAR / 365)),
        known=market.known,
        sampled=market.sampled,
    )
    return float(positions.quantity_btc @ later.premium)


def scenarios(
    positions: Positions,
    market: Market,
    *,
    spot_moves: ArrayLike,
    volatility_moves: ArrayLike = (0.0,),
    days: ArrayLike = (0.0,),
) -> ScenarioGrid:
    """Return the profit of the book on the grid of all moves, against its value now.

    At most 100,000 cells. Raises the errors of ``value``, InvalidInputError for a larger grid.
    """
    spots, vols, times = (np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in (spot_moves, volatility_moves, days))
    cells = spots.size * vols.size * times.size
    if not 1 <= cells <= 100_000:  # noqa: PLR2004 - in the message
        raise InvalidInputError("scenarios", f"{cells} cells", "a grid of 1 to 100000 cells")
    now = value(positions, market)
    profit = np.array(
        [
            [[value(positions, market, spot_move=x, volatility_move=v, days=d) - now for x in spots] for v in vols]
            for d in times
        ]
    )
    return ScenarioGrid(spot_moves=spots, volatility_moves=vols, days=times, profit=profit)


def historical_risk(
    positions: Positions, market: Market, closes: ArrayLike, *, confidence: float = 0.99, interval_days: float = 1.0
) -> TailRisk:
    """Return VaR and expected shortfall over one interval, each past return of ``closes`` taken as equally likely.

    closes: USD per BTC, one every ``interval_days``, at least LEAST_RETURNS + 1. Raises TooFewCandlesError,
    ThinTailError where no return lies beyond the confidence (0.999 needs a thousand), PricingDomainError.
    """
    return _tail(positions, market, _returns(closes), confidence, interval_days)


def filtered_risk(
    positions: Positions,
    market: Market,
    closes: ArrayLike,
    *,
    confidence: float = 0.99,
    interval_days: float = 1.0,
    half_life: float = 20.0,
) -> TailRisk:
    """Return VaR and expected shortfall from past returns, each scaled to today's volatility.

    A return is divided by the volatility known before it and multiplied by the last one (filtered historical
    simulation): quiet years do not dilute a loud week. Raises as ``historical_risk``. Source: Barone-Adesi,
    Giannopoulos & Vosper (1999); volatilities by exponential weights of ``half_life`` intervals.
    """
    returns = _returns(closes)
    levels = ewma(closes, half_life=half_life, interval_seconds=interval_days * 86_400.0)
    before = levels[:-1]
    scaled = np.where(before > 0.0, returns[1:] * levels[-1] / np.where(before > 0.0, before, 1.0), 0.0)
    return _tail(positions, market, scaled, confidence, interval_days)


def margin(positions: Positions, market: Market) -> Margin:
    """Return the margin of the written options: their cost in the worst of the standard scenarios, or the floor.

    Amounts are cents, rounded half-even. Raises the errors of ``premium.premiums``.
    """
    written = positions.written
    if np.ndim(market.volatility):
        market = replace(market, volatility=np.asarray(market.volatility)[positions.quantity_centi_btc < 0])
    spot = market.spot / CENTS_PER_USD
    if not len(written.book):
        return Margin(
            required_cents=0, worst_liability_cents=0, floor_cents=0, liability_cents=0, collateral_cents=0,
            stressed_collateral_cents=0, utilisation=0.0, coverage=math.inf,
        )  # fmt: skip
    liability = -value(written, market)
    liabilities = {
        x: -min(value(written, market, spot_move=x, volatility_move=v) for v in MARGIN_VOLATILITY_MOVES)
        for x in MARGIN_SPOT_MOVES
    }
    worst = max(liabilities.values())
    floor = SHORT_OPTION_FLOOR * spot * float(-written.quantity_btc.sum())
    collateral = float(written.collateral_sats.sum()) / SATS_PER_BTC * spot
    required = max(worst, floor)
    # the collateral is bitcoin: in each scenario it is worth that scenario's price
    covered = {x: collateral * (1.0 + x) / max(owed, floor * (1.0 + x)) for x, owed in liabilities.items()}
    least = min(covered, key=lambda x: covered[x])
    return Margin(
        required_cents=int(to_cents(required)),
        worst_liability_cents=int(to_cents(worst)),
        floor_cents=int(to_cents(floor)),
        liability_cents=int(to_cents(liability)),
        collateral_cents=int(to_cents(collateral)),
        utilisation=liability / collateral if collateral > 0.0 else math.inf,
        stressed_collateral_cents=int(to_cents(collateral * (1.0 + least))),
        coverage=covered[least],
    )


def payoff_profile(positions: Positions, spots: ArrayLike) -> FloatArray:
    """Return what the book pays at expiry at each of ``spots``, in USD.

    Capped by the collateral where the book knows it; knock-outs are judged at that price alone.
    """
    at = check("spot", spots).reshape(-1)
    book = positions.book
    pays: Callable[[int, float, float], float] = intrinsic
    total = np.zeros(at.size)
    for i, held in enumerate(positions.quantity_btc):
        strike, level = float(book.strike_cents[i]) / CENTS_PER_USD, float(book.barrier_cents[i]) / CENTS_PER_USD
        paid = np.array([pays(int(book.kind[i]), float(s), strike) for s in at])
        if level > 0.0:
            paid = np.where(at >= level if level > strike else at <= level, 0.0, paid)
        if book.collateral_ratio is not None:
            paid = np.minimum(paid, book.collateral_ratio[i] * at)
        total += float(held) * paid
    return total


def _returns(closes: ArrayLike) -> FloatArray:
    prices = check("spot", closes).reshape(-1)
    if prices.size < LEAST_RETURNS + 1:
        raise TooFewCandlesError(candles=prices.size, needed=LEAST_RETURNS + 1)
    steps: FloatArray = np.diff(np.log(prices))
    return steps


def _tail(
    positions: Positions, market: Market, returns: FloatArray, confidence: float, interval_days: float
) -> TailRisk:  # fmt: skip
    if not 0.5 <= confidence < 1.0:  # noqa: PLR2004 - in the message
        raise PricingDomainError("confidence", confidence, "a probability from 0.5 to below 1")
    now = value(positions, market)
    losses = np.sort(
        [now - value(positions, market, spot_move=math.expm1(x), days=interval_days) for x in returns]
    )  # fmt: skip
    if losses.size * (1.0 - confidence) < 1.0 - ROUNDING:
        raise ThinTailError(confidence=confidence, returns=int(losses.size))
    # the k worst of n, k = ceil(n (1 - confidence)): the shortfall is their mean, the value at risk the least of them
    worst = losses[-max(math.ceil(losses.size * (1.0 - confidence) - ROUNDING), 1) :]
    return TailRisk(
        confidence=confidence,
        value_at_risk=float(worst[0]),
        expected_shortfall=float(worst.mean()),
        observations=int(losses.size),
    )
