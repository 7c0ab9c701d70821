"""A volatility smile and term structure from quotes, and the checks that it holds no free money.

Each expiry with enough quotes gets a raw SVI slice (Gatheral 2004): total variance
w(k) = a + b (rho (k - m) + sqrt((k - m)**2 + s**2)) of log-moneyness k = log(strike/forward). Between expiries total
variance is linear in time at fixed k; before the first and after the last the volatility stays what it is. Without
quotes the surface is flat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from btcfi.errors import InvalidInputError
from btcfi.pricing.domain import ArrayLike, FloatArray, PricingDomainError, admit, check, shaped

LEAST_QUOTES: Final = 5
"""SVI has five parameters; with fewer quotes an expiry is flat at their mean variance."""

EXACT: Final = 1e-14
"""Relative improvement at which a fit ends: as far as a double goes."""

CHECK_WIDTH: Final = 1.5
"""Log-moneyness to each side at which arbitrage is looked for: strikes from 0.22 to 4.5 times the forward."""

CHECK_POINTS: Final = 121

CHECK_DEVIATIONS: Final = 8.0
"""Standard deviations to each side that are looked at as well, whatever the expiry: an hour's smile is a thousand times
narrower than a year's."""

STEEPEST_WING: Final = 2.0
"""Total variance cannot grow faster in log-moneyness (Lee 2004)."""

TOLERANCE: Final = 1e-9
"""Rounding that is not arbitrage, in units of total variance and of the density's factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolatilityQuote:
    """One observed implied volatility."""

    strike: float
    """USD per BTC."""
    tau_years: float
    """Years of 365 days to expiry, above 0."""
    volatility: float
    """Per square-root year."""
    forward: float
    """USD per BTC, of that expiry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SviSlice:
    """One expiry's smile."""

    tau_years: float
    a: float
    """Level of total variance."""
    b: float
    """Slope of the wings, >= 0."""
    rho: float
    """Tilt, -1 to 1."""
    m: float
    """Log-moneyness of the smile's centre."""
    s: float
    """Its smoothness, > 0."""

    def total_variance(self, k: FloatArray) -> FloatArray:
        """Return w at log-moneyness ``k``."""
        away = k - self.m
        variance: FloatArray = self.a + self.b * (self.rho * away + np.sqrt(away * away + self.s * self.s))
        return variance

    @property
    def least_variance(self) -> tuple[float, float]:
        """The log-moneyness of the least total variance, and that variance."""
        bend = math.sqrt(1.0 - self.rho * self.rho)
        if bend == 0.0:
            return self.m, self.a
        return self.m - self.rho * self.s / bend, self.a + self.b * self.s * bend

    @property
    def steepest_wing(self) -> float:
        """The slope of the steeper wing, total variance per log-moneyness."""
        return self.b * (1.0 + abs(self.rho))

    def check_points(self) -> FloatArray:
        """Return where arbitrage is looked for: a wide range, one that scales with the root of time, and the bend."""
        unit = np.linspace(-1.0, 1.0, CHECK_POINTS)
        deviation = math.sqrt(max(float(self.total_variance(np.zeros(1))[0]), self.least_variance[1], 0.0))
        bend = self.m + self.s * np.sinh(5.0 * unit)
        return np.unique(np.concatenate((CHECK_WIDTH * unit, CHECK_DEVIATIONS * deviation * unit, bend)))

    def density_factor(self, k: FloatArray) -> FloatArray:
        """Return Gatheral & Jacquier's g(k): negative where the slice implies a negative probability."""
        away = k - self.m
        root = np.sqrt(away * away + self.s * self.s)
        w = self.total_variance(k)
        first = self.b * (self.rho + away / root)
        second = self.b * self.s * self.s / root**3
        factor: FloatArray = (1.0 - k * first / (2.0 * w)) ** 2 - 0.25 * first * first * (1.0 / w + 0.25) + 0.5 * second
        return factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Arbitrage:
    """A place where the surface would pay for nothing."""

    kind: str
    """``negative`` (total variance below 0), ``wing`` (one steeper than Lee's bound), ``butterfly`` (a negative
    density) or ``calendar`` (total variance that falls with time)."""
    tau_years: float
    """Of the slice, or of the later of two."""
    log_moneyness: float
    """Where it is worst."""
    amount: float
    """How far below zero: total variance, the room below Lee's bound, g, or the difference of total variances."""


class ArbitrageError(InvalidInputError):
    """Quotes whose surface has static arbitrage."""

    def __init__(self, found: Sequence[Arbitrage]) -> None:
        worst = min(found, key=lambda one: one.amount)
        super().__init__(
            "quotes",
            f"{worst.kind} arbitrage of {worst.amount:.3g} at log-moneyness {worst.log_moneyness:.2f}, "
            f"{worst.tau_years:.4f} years",
            "quotes without static arbitrage, or check=False",
        )
        self.found = tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolatilitySurface:
    """Implied volatility of every strike and expiry."""

    slices: tuple[SviSlice, ...]
    """In order of time, at least one."""

    def volatility(self, *, strike: ArrayLike, forward: ArrayLike, tau_years: ArrayLike) -> FloatArray:
        """Return volatilities per square-root year; arguments broadcast. Raises PricingDomainError."""
        shape, (k, f, tau) = admit(strike=strike, spot=forward, positive_tau_years=tau_years)
        moneyness = np.log(k / f)
        times = np.array([one.tau_years for one in self.slices])
        grid = np.stack([one.total_variance(moneyness) for one in self.slices])
        after = np.clip(np.searchsorted(times, tau), 0, len(times) - 1)
        before = np.maximum(after - 1, 0)
        index = np.arange(tau.size)
        w0, w1 = grid[before, index], grid[after, index]
        t0, t1 = times[before], times[after]
        inside = (t1 > t0) & (tau < t1) & (tau > t0)
        share = np.where(inside, (tau - t0) / np.where(t1 > t0, t1 - t0, 1.0), 0.0)
        # outside the quoted times the nearest slice's volatility goes on
        edge = np.where(tau <= times[0], 0, len(times) - 1)
        flat = grid[edge, index] / times[edge]
        variance = np.where(inside, (w0 + share * (w1 - w0)) / tau, np.where(tau == t1, w1 / t1, flat))
        return shaped(np.sqrt(np.maximum(variance, 0.0)), shape)

    def arbitrage(self) -> tuple[Arbitrage, ...]:
        """Return the static arbitrage of the surface, worst place per slice; empty when there is none."""
        found = []
        for i, one in enumerate(self.slices):
            k = one.check_points()
            if i:
                k = np.union1d(k, self.slices[i - 1].check_points())
            at, least = one.least_variance
            wing = math.copysign(float(np.abs(k).max()), one.rho)
            measures = [
                ("negative", np.array([at]), np.array([least])),
                ("wing", np.array([wing]), np.array([STEEPEST_WING - one.steepest_wing])),
            ]
            positive = k[one.total_variance(k) > 0.0]  # elsewhere there is no density to speak of
            if positive.size:
                measures.append(("butterfly", positive, one.density_factor(positive)))
            if i:
                measures.append(("calendar", k, one.total_variance(k) - self.slices[i - 1].total_variance(k)))
            for kind, places, amounts in measures:
                worst = int(np.argmin(amounts))
                if amounts[worst] < -TOLERANCE:
                    where, amount = float(places[worst]), float(amounts[worst])
                    found.append(Arbitrage(kind=kind, tau_years=one.tau_years, log_moneyness=where, amount=amount))
        return tuple(found)


def flat_surface(volatility: float) -> VolatilitySurface:
    """Return the surface that is ``volatility`` everywhere. Raises PricingDomainError."""
    level = float(check("volatility", volatility))
    return VolatilitySurface(slices=(_flat_slice(1.0, level * level),))


def fit_surface(
    quotes: Sequence[VolatilityQuote], *, refuse_arbitrage: bool = True, tolerance: float = EXACT
) -> VolatilitySurface:
    """Return the surface through ``quotes``, one SVI slice an expiry, by least squares in total variance.

    refuse_arbitrage: raise when the fitted surface has butterfly or calendar arbitrage; else fit as it is. tolerance:
    at which relative improvement the search ends; a drawing needs no more than 1e-6, in a tenth of the time. Raises
    PricingDomainError for a quote outside its range, ArbitrageError, InvalidInputError without a quote.
    """
    if not quotes:
        raise InvalidInputError("quotes", "none given", "at least one, or flat_surface")
    by_time: dict[float, list[VolatilityQuote]] = {}
    for quote in quotes:
        admit(strike=quote.strike, spot=quote.forward, positive_tau_years=quote.tau_years, volatility=quote.volatility)
        by_time.setdefault(quote.tau_years, []).append(quote)
    surface = VolatilitySurface(slices=tuple(_fit_slice(tau, many, tolerance) for tau, many in sorted(by_time.items())))
    found = surface.arbitrage()
    if found and refuse_arbitrage:
        raise ArbitrageError(found)
    return surface


def _flat_slice(tau: float, total_variance: float) -> SviSlice:
    if total_variance <= 0.0:
        raise PricingDomainError("volatility", total_variance, "a volatility above 0")
    return SviSlice(tau_years=tau, a=total_variance, b=0.0, rho=0.0, m=0.0, s=0.1)


def _fit_slice(tau: float, quotes: Sequence[VolatilityQuote], tolerance: float) -> SviSlice:
    k = np.array([math.log(quote.strike / quote.forward) for quote in quotes])
    w = np.array([quote.volatility**2 * tau for quote in quotes])
    if len(np.unique(k)) < LEAST_QUOTES:
        return _flat_slice(tau, float(w.mean()))
    from scipy.optimize import least_squares  # noqa: PLC0415 - half a second that only a fit should pay

    level = float(w.min())
    spread = max(float(np.ptp(k)), 1e-3)

    def miss(p: FloatArray) -> FloatArray:
        away = k - p[3]
        difference: FloatArray = p[0] + p[1] * (p[2] * away + np.sqrt(away * away + p[4] * p[4])) - w
        return difference / level

    def slope_of_miss(p: FloatArray) -> FloatArray:
        away = k - p[3]
        root = np.sqrt(away * away + p[4] * p[4])
        columns = (np.ones_like(k), p[2] * away + root, p[1] * away, -p[1] * (p[2] + away / root), p[1] * p[4] / root)
        return np.stack(columns, axis=1) / level

    low = [-2.0 * level - 1.0, 0.0, -0.999, float(k.min()) - spread, 1e-4]
    high = [2.0 * float(w.max()) + 1.0, 10.0, 0.999, float(k.max()) + spread, 10.0]
    slope, centre = max(float(np.ptp(w)) / spread, 1e-4), float(k[np.argmin(w)])
    # the problem has local minima; of three starts the best is kept
    starts = [np.clip([0.5 * level, slope, tilt, centre, 0.2 * spread], low, high) for tilt in (-0.5, 0.0, 0.5)]
    ends = {"xtol": tolerance, "ftol": tolerance, "gtol": tolerance}
    found = [least_squares(miss, start, jac=slope_of_miss, bounds=(low, high), **ends) for start in starts]
    a, b, rho, m, s = (float(x) for x in min(found, key=lambda one: float(one.cost)).x)
    return SviSlice(tau_years=tau, a=a, b=b, rho=rho, m=m, s=s)
