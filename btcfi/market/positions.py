"""What an account holds, in money: marks, Greeks by expiry and strike, explained profit, what-ifs, and a ticket.

Everything is priced by ``btcfi.pricing``; here it is asked option by option at the surface's volatility of that strike
and time. Floats are dollars; money that is shown leaves as whole cents, rounded half-even, or whole satoshis. A
volatility stays with its strike when the spot moves ("sticky strike").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from typing import Final, TypeVar, cast

import numpy as np

from btcfi.errors import InvalidInputError
from btcfi.market.instrument import Instrument
from btcfi.options.terms import OptionTerms
from btcfi.oracle.fixing import FixingKind, Said
from btcfi.pricing import portfolio
from btcfi.pricing.domain import RANGES, SECONDS_PER_YEAR, ArrayLike, FloatArray, IntArray
from btcfi.pricing.portfolio import BookGreeks, ScenarioGrid
from btcfi.pricing.premium import CENTS_PER_USD, Book, Premiums, PriceableOption, premiums, to_cents
from btcfi.pricing.surface import VolatilitySurface
from btcfi.units import MAX_U32, SECONDS_PER_MINUTE, CentiBtc, Cents, CentsPerBtc, Sats, Slot, UnixSeconds

K = TypeVar("K", bound=Hashable)

CURVE_POINTS: Final = 81
CURVE_WIDTH: Final = 0.5
"""A ticket's curve reaches so far to each side of the spot, relatively."""

_CENTI: Final = 100
_SATS_PER_BTC: Final = 100_000_000
_SECONDS_PER_DAY: Final = 86_400
_MOST_STEPS: Final = 60
"""Of a search for a volatility: halving alone needs forty."""
_CLOSE_USD: Final = 1e-5
"""A thousandth of a cent: prices are whole cents."""
_LEAST_VOLATILITY, _MOST_VOLATILITY = 1e-3, 5.0
"""Per square-root year: where an implied volatility is looked for; a window's premium at 2,000 % overflows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The market that positions are looked at under."""

    spot: CentsPerBtc
    surface: VolatilitySurface
    rate: float
    """Continuously compounded per year."""
    now: UnixSeconds
    known: Mapping[Slot, Said] = field(default_factory=dict)
    """What the closed minutes of open windows say."""
    sampled: bool = True
    """Whether medians that are near are sampled, as ``premium.premiums`` takes it."""

    def volatilities(self, book: Book) -> FloatArray:
        """Return the surface's volatility of each option; of one past its expiry that of its last second."""
        tau = np.maximum(book.expiry_unix - self.now, 1) / SECONDS_PER_YEAR
        forward = self.spot / CENTS_PER_USD * np.exp(self.rate * tau)
        level = self.surface.volatility(strike=book.strike_cents / CENTS_PER_USD, forward=forward, tau_years=tau)
        return np.clip(np.atleast_1d(level), RANGES["volatility"].low, RANGES["volatility"].high)

    def market(self, book: Book) -> portfolio.Market:
        """Return the market of a book as ``portfolio`` takes it."""
        return portfolio.Market(
            spot=self.spot, volatility=self.volatilities(book), rate=self.rate, now=self.now, known=self.known,
            sampled=self.sampled,
        )  # fmt: skip

    def premiums(self, book: Book) -> Premiums:
        """Return what a book costs, one bitcoin of each."""
        return premiums(
            book, spot=self.spot, volatility=self.volatilities(book), rate=self.rate, now=self.now, known=self.known,
            sampled=self.sampled,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """One option of an account."""

    option_id: str
    terms: OptionTerms
    """With the premium of the whole in cents, and the collateral."""
    bought: bool
    """Whether the account holds it; else it wrote it."""
    premium: Sats
    """Of the whole, as its funding paid it."""
    knocked_out: bool = False
    """Whether its barrier was reached: it pays nothing any more."""

    @property
    def sign(self) -> int:
        """1 of one that was bought, -1 of one that was written."""
        return 1 if self.bought else -1

    @property
    def at_risk(self) -> Sats:
        """The most that the deal can cost its owner, in satoshis, premium counted and fees apart.

        Nothing is ever called for beyond it. One that is knocked out costs its writer nothing any more.
        """
        if self.knocked_out and not self.bought:
            return Sats(0)
        return self.premium if self.bought else Sats(max(self.terms.collateral - self.premium, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentMark:
    """What one bitcoin of an instrument is worth by the surface."""

    instrument: Instrument
    price_cents: Cents
    price: Sats
    """At the spot."""
    volatility: float
    """Per square-root year."""
    delta: float
    gamma: float
    """Delta per dollar."""
    vega: float
    """Dollars per percentage point."""
    theta: float
    """Dollars per day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a position is worth to its owner: below 0 what it costs a writer to buy it back."""

    position: Position
    value_cents: int
    value_sats: int
    """At the spot."""
    profit_cents: int
    """Against the premium's dollars."""
    profit_sats: int
    """Against the premium's satoshis: of a premium in bitcoin that was worth less then, another profit."""
    volatility: float
    greeks: BookGreeks


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a value changed, in whole cents; the parts and the residual are the whole, exactly."""

    whole: int
    delta: int
    """The spot's move, times the delta before it."""
    gamma: int
    """Half the gamma times the move's square."""
    vega: int
    """Each option's volatility's move, times its vega."""
    theta: int
    """The time that has passed."""
    residual: int
    """What no first or second order says: large near a strike at expiry, and at barriers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """A ticket's drawing: profit in dollars by the price, the whole quantity."""

    spots: FloatArray
    """USD per BTC, ascending."""
    at_expiry: FloatArray
    today: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What somebody looks at before taking."""

    position: Position
    mark: Mark
    at_risk: Sats
    locked: Sats
    """What its owner locks in the funding: a writer's collateral, a buyer's premium."""
    break_even: tuple[CentsPerBtc, ...]
    curves: Curves


def _book(terms: Iterable[OptionTerms]) -> Book:
    return Book.of(cast("Iterable[PriceableOption]", terms))


# ---- instruments


def mark_instruments(instruments: Sequence[Instrument], view: View) -> tuple[InstrumentMark, ...]:
    """Return what one bitcoin of each costs, all in one call. Raises the errors of ``premium.premiums``."""
    if not instruments:
        return ()
    book = _book(one.terms(CentiBtc(_CENTI), Cents(0)) for one in instruments)
    level, at = view.volatilities(book), view.premiums(book)
    cents = at.premium_cents()
    sats = np.rint(at.premium * CENTS_PER_USD / view.spot * _SATS_PER_BTC)
    return tuple(
        InstrumentMark(
            instrument=one, price_cents=Cents(int(cents[i])), price=Sats(int(sats[i])), volatility=float(level[i]),
            delta=float(at.delta[i]), gamma=float(at.gamma[i]), vega=float(at.vega[i]), theta=float(at.theta[i]),
        )
        for i, one in enumerate(instruments)
    )  # fmt: skip


def implied_volatilities(
    instruments: Sequence[Instrument], prices: Sequence[Cents], view: View
) -> tuple[float | None, ...]:  # fmt: skip
    """Return the volatility at which one bitcoin of each costs its price, windows and caps included.

    prices: cents for one bitcoin. None where no volatility has that price, and for what can have two: binaries,
    barriers; American options are left out as well. One search for all of them.
    """
    if len(instruments) != len(prices):
        raise InvalidInputError("prices", f"{len(prices)} of {len(instruments)} instruments", "one each")
    found: list[float | None] = [None] * len(instruments)
    todo = np.array([i for i, one in enumerate(instruments) if _has_one_volatility(one, view.now)], dtype=np.int64)
    if not todo.size:
        return tuple(found)

    def search(which: IntArray) -> tuple[Book, FloatArray]:
        book = _book(instruments[i].terms(CentiBtc(_CENTI), Cents(0)) for i in which)
        return book, np.array([prices[i] for i in which], dtype=np.float64) / CENTS_PER_USD

    def at(book: Book, level: FloatArray) -> Premiums:
        return premiums(
            book, spot=view.spot, volatility=level, rate=view.rate, now=view.now, known=view.known, sampled=view.sampled
        )

    book, wanted = search(todo)
    low, high = np.full(todo.size, _LEAST_VOLATILITY), np.full(todo.size, _MOST_VOLATILITY)
    level = np.clip(view.volatilities(book), 2.0 * _LEAST_VOLATILITY, 0.5 * _MOST_VOLATILITY)
    open_ = (at(book, low).premium < wanted) & (wanted < at(book, high).premium)
    for _ in range(_MOST_STEPS):
        todo, low, high, level = todo[open_], low[open_], high[open_], level[open_]
        if not todo.size:
            break
        if not open_.all():
            book, wanted = search(todo)
        here = at(book, level)
        away = here.premium - wanted
        low, high = np.where(away < 0.0, level, low), np.where(away < 0.0, high, level)
        for i, its in zip(todo, level, strict=True):
            found[i] = float(its)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = level - away / (100.0 * here.vega)
        # Newton where it stays between what is known, else halves
        level = np.where((step > low) & (step < high), step, 0.5 * (low + high))
        open_ = np.abs(away) > _CLOSE_USD
    return tuple(found)


def counting(instrument: Instrument, now: UnixSeconds) -> bool:
    """Return whether the minutes of a median have begun: from then on it has to be sampled to be priced."""
    fixing = instrument.fixing
    return fixing.kind is FixingKind.MEDIAN and instrument.expiry - now < fixing.minutes * SECONDS_PER_MINUTE


def _has_one_volatility(one: Instrument, now: UnixSeconds) -> bool:
    return not (one.kind.is_binary or one.barrier is not None or one.american) and one.expiry > now


# ---- positions


def holdings(positions: Iterable[Position]) -> portfolio.Positions:
    """Return positions as ``portfolio`` takes them; a knocked-out one is none."""
    many = [one for one in positions if not one.knocked_out]
    return portfolio.Positions(
        book=_book(one.terms for one in many),
        quantity_centi_btc=np.array([one.sign * one.terms.quantity for one in many], dtype=np.int64),
        collateral_sats=np.array([one.terms.collateral for one in many], dtype=np.int64),
    )


def marks(positions: Sequence[Position], view: View) -> tuple[Mark, ...]:
    """Return the mark of each position, in order. Raises the errors of ``premium.premiums``."""
    held = holdings(positions)
    nothing = BookGreeks(value=0.0, delta_btc=0.0, gamma_btc=0.0, vega=0.0, theta=0.0, rho=0.0)
    alive = zip(_greeks_of(held, view), view.volatilities(held.book), strict=True)
    found = []
    for one in positions:
        its, level = (nothing, 0.0) if one.knocked_out else next(alive)
        found.append(_mark(one, its, float(level), view))
    return tuple(found)


def _mark(position: Position, its: BookGreeks, level: float, view: View) -> Mark:
    value = int(to_cents(its.value))
    sats = round(its.value * CENTS_PER_USD / view.spot * _SATS_PER_BTC)
    return Mark(
        position=position, value_cents=value, value_sats=sats,
        profit_cents=value - position.sign * position.terms.premium,
        profit_sats=sats - position.sign * position.premium, volatility=level, greeks=its,
    )  # fmt: skip


def greeks(positions: Iterable[Position], view: View) -> BookGreeks:
    """Return the Greeks of all positions together. Raises the errors of ``premium.premiums``."""
    held = holdings(positions)
    return portfolio.aggregate(held, view.market(held.book))


def greeks_by(
    positions: Sequence[Position], view: View, key: Callable[[Position], K]
) -> dict[K, BookGreeks]:  # fmt: skip
    """Return the Greeks of the positions of each key, in order of the keys' first appearance; they sum to ``greeks``.

    key: such as ``lambda one: one.terms.expiry``, or the strike.
    """
    alive = [one for one in positions if not one.knocked_out]
    found: dict[K, BookGreeks] = {}
    for one, its in zip(alive, _greeks_of(holdings(alive), view), strict=True):
        group = key(one)
        found[group] = _sum(found[group], its) if group in found else its
    return found


def _greeks_of(held: portfolio.Positions, view: View) -> list[BookGreeks]:
    """Return ``portfolio.aggregate`` of each position alone, from one call for all."""
    at, many = view.premiums(held.book), held.quantity_btc
    spot = view.spot / CENTS_PER_USD
    return [
        BookGreeks(
            value=float(n * at.premium[i]), delta_btc=float(n * at.delta[i]),
            gamma_btc=float(n * at.gamma[i]) * spot / 100.0, vega=float(n * at.vega[i]),
            theta=float(n * at.theta[i]), rho=float(n * at.rho[i]),
        )
        for i, n in enumerate(many)
    ]  # fmt: skip


def _sum(a: BookGreeks, b: BookGreeks) -> BookGreeks:
    return BookGreeks(
        value=a.value + b.value, delta_btc=a.delta_btc + b.delta_btc, gamma_btc=a.gamma_btc + b.gamma_btc,
        vega=a.vega + b.vega, theta=a.theta + b.theta, rho=a.rho + b.rho,
    )  # fmt: skip


def explain(positions: Sequence[Position], before: View, after: View) -> Explanation:
    """Return why the positions' value changed between two views, in whole cents.

    The parts are those of ``before``; each is rounded, and the residual takes the rounding too, so that the parts sum
    to the whole. A knocked-out position is left out: what its barrier took is no move of any of these. Raises
    InvalidInputError when time runs backwards, the errors of ``premium.premiums``.
    """
    if after.now < before.now:
        raise InvalidInputError("after", f"{before.now - after.now} s before", "a view that is not older")
    held = holdings(positions)
    many = held.quantity_btc
    first, last = before.premiums(held.book), after.premiums(held.book)
    move = (after.spot - before.spot) / CENTS_PER_USD
    points = 100.0 * (after.volatilities(held.book) - before.volatilities(held.book))
    days = (after.now - before.now) / _SECONDS_PER_DAY
    whole = int(to_cents(float(many @ last.premium))) - int(to_cents(float(many @ first.premium)))
    delta, gamma, vega, theta = (
        int(to_cents(part))
        for part in (
            float(many @ first.delta) * move,
            0.5 * float(many @ first.gamma) * move * move,
            float(many @ (first.vega * points)),
            float(many @ first.theta) * days,
        )
    )
    return Explanation(
        whole=whole, delta=delta, gamma=gamma, vega=vega, theta=theta, residual=whole - delta - gamma - vega - theta
    )


def what_if(
    positions: Sequence[Position], view: View, *, spot_moves: ArrayLike, volatility_moves: ArrayLike = (0.0,),
    days: ArrayLike = (0.0,),
) -> ScenarioGrid:  # fmt: skip
    """Return the profit of the positions under moved markets, as ``portfolio.scenarios``; moves are relative.

    Each option keeps the volatility of its strike, times the move.
    """
    held = holdings(positions)
    return portfolio.scenarios(
        held, view.market(held.book), spot_moves=spot_moves, volatility_moves=volatility_moves, days=days
    )


def at_risk(positions: Iterable[Position]) -> Sats:
    """Return the most that all positions can cost together, in satoshis: each is covered by itself, none nets."""
    return Sats(reduce(lambda total, one: total + one.at_risk, positions, 0))


# ---- one ticket


def break_even(terms: OptionTerms) -> tuple[CentsPerBtc, ...]:
    """Return the prices at expiry at which the payoff crosses the premium's dollars, in cents, lowest first.

    Each is the first whole cent on the other side. A put has two where its collateral caps it: below the lower one the
    bitcoin that it pays are worth less than the premium. None: it never gets there. A barrier is judged at that price
    alone.
    """
    held = holdings([Position(option_id="", terms=terms, bought=True, premium=Sats(0))])

    def pays(cents: int) -> bool:
        paid = float(portfolio.payoff_profile(held, cents / CENTS_PER_USD)[0])
        return paid * CENTS_PER_USD >= terms.premium - 1e-6  # a double's own noise is no loss

    found = []
    corners = _corners(terms)
    for low, high in pairwise(corners):
        left, right, here = low, high, pays(low)
        if pays(high) is here:
            continue
        while right - left > 1:
            middle = (left + right) // 2
            left, right = (middle, right) if pays(middle) is here else (left, middle)
        found.append(CentsPerBtc(right))
    return tuple(found)


def _corners(terms: OptionTerms) -> list[int]:
    """Return prices between which a payoff has no corner and no jump, in cents, ascending."""
    ratio = terms.collateral / (terms.quantity * (_SATS_PER_BTC // _CENTI))
    kinks = [terms.strike, terms.strike / (1.0 + ratio), terms.strike / ratio, terms.barrier or terms.strike]
    near = {math.floor(kink) + step for kink in kinks for step in (-1, 0, 1, 2)}
    return sorted({1, MAX_U32, *(cents for cents in near if 1 <= cents <= MAX_U32)})


def curves(position: Position, view: View, spots: Sequence[CentsPerBtc] | None = None) -> Curves:
    """Return a position's profit in dollars at expiry and today, by the price.

    spots: cents, ascending; None: CURVE_POINTS of them around the spot, and the payoff's corners among them.
    Raises the errors of ``premium.premiums``.
    """
    terms = position.terms
    chosen = list(spots) if spots is not None else _around(view.spot, terms)
    held = holdings([position])
    market = view.market(held.book)
    usd = np.array(chosen, dtype=np.float64) / CENTS_PER_USD
    paid = position.sign * terms.premium / CENTS_PER_USD
    if position.knocked_out:
        flat = np.full(usd.size, -paid)
        return Curves(spots=usd, at_expiry=flat, today=flat)
    today = [
        float(
            held.quantity_btc
            @ premiums(
                held.book, spot=spot, volatility=market.volatility, rate=view.rate, now=view.now, known=view.known,
                sampled=view.sampled,
            ).premium
        )
        for spot in chosen
    ]  # fmt: skip
    return Curves(spots=usd, at_expiry=portfolio.payoff_profile(held, usd) - paid, today=np.array(today) - paid)


def _around(spot: CentsPerBtc, terms: OptionTerms) -> list[CentsPerBtc]:
    low, high = spot * (1.0 - CURVE_WIDTH), spot * (1.0 + CURVE_WIDTH)
    even = {round(cents) for cents in np.linspace(low, high, CURVE_POINTS)}
    corners = {cents for cents in _corners(terms) if low < cents < high}
    return [CentsPerBtc(cents) for cents in sorted(even | corners) if 1 <= cents <= MAX_U32]


def ticket(
    instrument: Instrument, quantity: CentiBtc, *, bought: bool, premium: Sats, premium_cents: Cents, view: View
) -> Ticket:  # fmt: skip
    """Return what somebody looks at before taking ``quantity`` at a premium of the whole.

    Raises InvalidTermsError, the errors of ``premium.premiums``.
    """
    terms = instrument.terms(quantity, premium_cents)
    position = Position(option_id="", terms=terms, bought=bought, premium=premium)
    return Ticket(
        position=position, mark=marks([position], view)[0], at_risk=position.at_risk,
        locked=premium if bought else terms.collateral, break_even=break_even(terms), curves=curves(position, view),
    )  # fmt: skip
