"""What the value of a path is worth ahead: means of many prices, sums of bounded returns, rungs that are reached.

Such a contract pays bitcoin by a number that is not the price at its end, so its worth in today's dollars is the spot
times the mean of the bitcoin that it pays, the mean taken with bitcoin as the numeraire: the spot then drifts by
r - q + sigma**2. Flat volatility, no jumps. A mean has no closed form: it is sampled, with the geometric mean, whose
law is known, as the control variate (Kemna & Vorst 1990), and held against the lognormal that has its two moments
(Turnbull & Wakeman 1991, Levy 1992). A sum of independent bounded returns is a convolution, done by Fourier transform.
A ladder is an integral over the price at the end, given how far the path came (the reflection principle).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np

from btcfi.pricing.domain import ArrayLike, FloatArray, PricingDomainError, check
from btcfi.pricing.kernels import norm_cdf

Gain = Callable[[FloatArray], FloatArray]
"""What is paid at many values of a path: bitcoin, or dollars where the caller says so."""

MOST_NUMBERS: Final = 20_000_000
"""Random numbers that one estimate draws."""

CHUNK_NUMBERS: Final = 2_000_000
"""Of them in memory at once."""

LEAST_PAIRS: Final = 2_000

MOST_TIMES: Final = 1_440

TAIL: Final = 10.0
"""Standard deviations of an integral to each side."""

NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)

PANEL: Final = 0.5
"""Standard deviations of a panel at most."""

POINT: Final = 1e-5
"""A point of an index: 1/100,000, what its law's grid is made of."""

BPS: Final = 1e-4

LOST_BPS: Final = 10_000
"""A return of minus all: no price follows it."""

TINY: Final = 1e-12


class Paid(Enum):
    """In what the gain is counted."""

    BITCOIN = "bitcoin"
    """As every contract of ours pays."""
    DOLLARS = "dollars"
    """As the literature has it: for comparing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What a position is worth, and how sure that is."""

    premium: float
    """USD of the whole position, today."""
    error: float
    """Of a sampled premium its standard error; of an integral how much a grid half as fine changes it."""
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMarket:
    """Spot in USD per BTC, volatility per square-root year, rates continuously compounded per year."""

    spot: float
    volatility: float
    tau_years: float
    rate: float = 0.0
    carry_yield: float = 0.0
    paid: Paid = Paid.BITCOIN

    def __post_init__(self) -> None:
        """Raise PricingDomainError for what no pricing function takes, and for no volatility or time."""
        for name in ("spot", "volatility", "rate", "carry_yield"):
            check(name, getattr(self, name))
        check("positive_tau_years", self.tau_years)
        if self.volatility <= 0.0:
            raise PricingDomainError("volatility", self.volatility, "a finite number above 0")

    @property
    def drift(self) -> float:
        """Of the spot, in the numeraire of what is paid."""
        own = self.volatility**2 if self.paid is Paid.BITCOIN else 0.0
        return self.rate - self.carry_yield + own

    @property
    def today(self) -> float:
        """What one unit that is paid at the end is worth today, in USD."""
        if self.paid is Paid.BITCOIN:
            return self.spot * math.exp(-self.carry_yield * self.tau_years)
        return math.exp(-self.rate * self.tau_years)


# ---- a mean


def asian(
    gain: Gain, market: PathMarket, *, times: ArrayLike, known: ArrayLike = (), borders: ArrayLike = (), seed: int,
    pairs: int = 50_000,
) -> Worth:  # fmt: skip
    """Return what ``gain`` of an arithmetic mean is worth, sampled with its geometric mean as control variate.

    times: years until each observation to come, ascending, none below 0. known: prices that were observed already, USD.
    borders: values of the mean between which the gain is smooth. pairs: of mirrored paths, fewer where there are many
    observations. The same seed gives the same result. Raises PricingDomainError.
    """
    ahead, before = _times(times), np.asarray(known, dtype=np.float64)
    count = ahead.size + before.size
    expected = geometric(gain, market, times=times, known=known, borders=borders)
    rng, many = np.random.Generator(np.random.PCG64(seed)), max(min(pairs, MOST_NUMBERS // ahead.size), LEAST_PAIRS)
    steps = np.diff(ahead, prepend=0.0)
    growth = (market.drift - 0.5 * market.volatility**2) * steps
    spread = market.volatility * np.sqrt(steps)
    paid, control = np.empty(many), np.empty(many)
    chunk = max(1, CHUNK_NUMBERS // ahead.size)
    for start in range(0, many, chunk):
        stop = min(start + chunk, many)
        noise = rng.standard_normal((stop - start, ahead.size)) * spread
        sides = []
        for sign in (1.0, -1.0):
            logs = math.log(market.spot) + np.cumsum(growth + sign * noise, axis=1)
            mean = (np.exp(logs).sum(axis=1) + before.sum()) / count
            geo = np.exp((logs.sum(axis=1) + np.log(before).sum()) / count)
            sides.append((gain(mean), gain(geo)))
        paid[start:stop] = 0.5 * (sides[0][0] + sides[1][0])
        control[start:stop] = 0.5 * (sides[0][1] + sides[1][1])
    control -= expected / market.today
    power = float(np.var(control))
    beta = float(np.mean((paid - paid.mean()) * (control - control.mean()))) / power if power > 0.0 else 0.0
    sample = market.today * (paid - beta * control)
    error = float(np.std(sample, ddof=1)) / math.sqrt(many)
    return Worth(premium=float(sample.mean()), error=error, method=f"{2 * many} paths, geometric control variate")


def geometric(
    gain: Gain, market: PathMarket, *, times: ArrayLike, known: ArrayLike = (), borders: ArrayLike = ()
) -> float:  # fmt: skip
    """Return what ``gain`` of the geometric mean is worth: exact but for the integral. Arguments as for ``asian``."""
    ahead, before = _times(times), np.asarray(known, dtype=np.float64)
    count = ahead.size + before.size
    logs = math.log(market.spot) + (market.drift - 0.5 * market.volatility**2) * ahead
    middle = (float(logs.sum()) + float(np.log(before).sum())) / count
    variance = market.volatility**2 * float(np.minimum.outer(ahead, ahead).sum()) / count**2
    return market.today * _lognormal(gain, middle, math.sqrt(variance), 0.0, borders)


def asian_lognormal(
    gain: Gain, market: PathMarket, *, times: ArrayLike, known: ArrayLike = (), borders: ArrayLike = ()
) -> float:  # fmt: skip
    """Return what ``gain`` of an arithmetic mean is worth if what is to come of it were lognormal: an approximation.

    It has the mean and the variance of the observations to come. Arguments as for ``asian``.
    Source: Levy (1992); Turnbull & Wakeman (1991).
    """
    ahead, before = _times(times), np.asarray(known, dtype=np.float64)
    count = ahead.size + before.size
    forward = market.spot * np.exp(market.drift * ahead)
    first = float(forward.sum()) / count
    # E[S_i S_j] = F_i F_j exp(sigma**2 min(t_i, t_j))
    second = float(forward @ np.exp(market.volatility**2 * np.minimum.outer(ahead, ahead)) @ forward) / count**2
    variance = math.log(second / first**2)
    middle = math.log(first) - 0.5 * variance
    return market.today * _lognormal(gain, middle, math.sqrt(variance), float(before.sum()) / count, borders)


def _times(times: ArrayLike) -> FloatArray:
    ahead = np.asarray(times, dtype=np.float64)
    if ahead.ndim != 1 or not 1 <= ahead.size <= MOST_TIMES or ahead[0] < 0.0 or (np.diff(ahead) < 0.0).any():
        raise PricingDomainError("times", f"{ahead.shape} of them", f"1 to {MOST_TIMES} years, ascending, none below 0")
    check("tau_years", ahead)
    return ahead


def _lognormal(gain: Gain, middle: float, deviation: float, fixed: float, borders: ArrayLike) -> float:
    """Return the mean of ``gain(fixed + exp(N(middle, deviation**2)))``."""
    if deviation < TINY:
        return float(gain(np.array([fixed + math.exp(middle)]))[0])
    above = np.asarray(borders, dtype=np.float64) - fixed
    at = (np.log(above[above > 0.0]) - middle) / deviation
    z, weight = _panels(-TAIL, TAIL + deviation, at, PANEL)
    density = weight * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return float(density @ gain(fixed + np.exp(middle + deviation * z)))


def _panels(low: float, high: float, borders: FloatArray, widest: float) -> tuple[FloatArray, FloatArray]:
    """Return Gauss-Legendre nodes and weights over panels that end at the borders."""
    even = np.linspace(low, high, max(math.ceil((high - low) / widest), 1) + 1)
    ends = np.unique(np.concatenate([even, borders[(borders > low) & (borders < high)]]))
    half, middle = 0.5 * np.diff(ends)[:, None], 0.5 * (ends[1:] + ends[:-1])[:, None]
    return (middle + half * NODES).reshape(-1), (half * WEIGHTS).reshape(-1)


# ---- a sum of bounded returns


def cliquet(
    gain: Gain, market: PathMarket, *, every_years: float, count: int, floor_bps: int, cap_bps: int
) -> Worth:  # fmt: skip
    """Return what ``gain`` of 1 + the sum of ``count`` bounded returns is worth, none of them begun.

    gain: of the index as a number, 1.0 at its start. The law of one return is put on a grid of points, each share split
    between its two neighbours so that the mean is kept; the sum is their convolution. error: half the grid's fineness.
    Raises PricingDomainError.
    """
    fine, coarse = (
        _of_law(gain, market, every_years=every_years, count=count, floor=floor_bps, cap=cap_bps, step=step)
        for step in (1, 2)
    )
    return Worth(premium=fine, error=abs(fine - coarse), method="convolution of the returns' law")


def _of_law(
    gain: Gain, market: PathMarket, *, every_years: float, count: int, floor: int, cap: int, step: int
) -> float:  # fmt: skip
    index, share = index_law(market, every_years=every_years, count=count, floor_bps=floor, cap_bps=cap, step=step)
    return market.today * float(share @ gain(index))


def index_law(
    market: PathMarket, *, every_years: float, count: int, floor_bps: int, cap_bps: int, step: int = 1
) -> tuple[FloatArray, FloatArray]:
    """Return the values that an index can have and the probability of each, in the numeraire of what is paid.

    step: points of the grid. Raises PricingDomainError.
    """
    check("positive_tau_years", every_years)
    if count < 1 or not -LOST_BPS < floor_bps <= 0 < cap_bps:
        raise PricingDomainError("returns", f"{count} of {floor_bps} to {cap_bps} bp", "a floor up to 0, a cap above")
    points = (cap_bps - floor_bps) * 10 // step
    if count * points > 1 << 22:
        raise PricingDomainError("returns", f"{count} of {points} steps", f"at most {1 << 22} steps in all")
    level: FloatArray = 1.0 + floor_bps * BPS + step * POINT * np.arange(points + 1, dtype=np.float64)
    calls = _calls(market, every_years, level)
    calls -= calls[-1]
    # a share at each level: the second difference of calls on the bounded return, which is at least its floor
    around = np.concatenate([[calls[0] + step * POINT], calls, [0.0]])
    share = np.maximum(np.diff(around, 2) / (step * POINT), 0.0)
    share /= share.sum()
    size = 1 << (count * points).bit_length()
    law = np.fft.irfft(np.fft.rfft(share, size) ** count, size)[: count * points + 1]
    index: FloatArray = 1.0 + count * floor_bps * BPS + step * POINT * np.arange(count * points + 1, dtype=np.float64)
    chance: FloatArray = np.maximum(law, 0.0)
    return index, chance


def _calls(market: PathMarket, years: float, strike: FloatArray) -> FloatArray:
    """Return the mean of what a growth over so many years is above each strike."""
    sd = market.volatility * math.sqrt(years)
    forward = math.exp(market.drift * years)
    d1 = (np.log(forward / strike) + 0.5 * sd * sd) / sd
    found: FloatArray = forward * _cdf(d1) - strike * _cdf(d1 - sd)
    return found


_cdf: Final = np.vectorize(norm_cdf, otypes=[np.float64])


# ---- rungs


def ladder(
    gain: Gain, market: PathMarket, *, rungs: ArrayLike, up: bool = True, reached: int = 0, borders: ArrayLike = ()
) -> Worth:  # fmt: skip
    """Return what ``gain`` of the end's price, or of the farthest rung that is reached, is worth.

    rungs: USD per BTC in the order in which they are reached. reached: how many were. A rung at or behind the spot is
    reached at once. Rungs are watched all the time, as agreed ranges of minutes watch them. Raises PricingDomainError.
    """
    levels, sign = np.asarray(check("barrier", rungs)).reshape(-1), 1.0 if up else -1.0
    ways = sign * np.log(levels / market.spot)
    if (np.diff(ways) <= 0.0).any():
        raise PricingDomainError("rungs", levels.tolist(), "the order in which they are reached")
    first = max(reached, int((ways <= 0.0).sum()))
    edges = sign * np.log(np.concatenate([np.asarray(borders, dtype=np.float64).reshape(-1), levels]) / market.spot)
    fine, coarse = (
        _over_rungs(gain, market, levels, ways, sign=sign, first=first, edges=edges, panel=panel)
        for panel in (PANEL, 2.0 * PANEL)
    )
    return Worth(premium=fine, error=abs(fine - coarse), method="integral over the end, given the rung")


def _over_rungs(
    gain: Gain, market: PathMarket, levels: FloatArray, ways: FloatArray, *, sign: float, first: int,
    edges: FloatArray, panel: float,
) -> float:  # fmt: skip
    total = 0.0
    for at in range(first, levels.size + 1):
        held = levels[at - 1] if at else None

        def paid(way: FloatArray, held: float | None = held) -> FloatArray:
            price = market.spot * np.exp(sign * way)
            if held is None:
                return gain(price)
            return gain(np.maximum(price, held) if sign > 0.0 else np.minimum(price, held))

        nearer = ways[at] if at < levels.size else math.inf
        total += _below(paid, market, sign=sign, nearer=float(nearer), edges=edges, panel=panel)
        if at > first:  # less those that did not come to this rung
            total -= _below(paid, market, sign=sign, nearer=float(ways[at - 1]), edges=edges, panel=panel)
    return market.today * total


def _below(
    paid: Gain, market: PathMarket, *, sign: float, nearer: float, edges: FloatArray, panel: float
) -> float:  # fmt: skip
    """Return the mean of what is paid at the end on the paths that never came as far as ``nearer`` (a log of price)."""
    sd = market.volatility * math.sqrt(market.tau_years)
    middle = sign * (market.drift - 0.5 * market.volatility**2) * market.tau_years
    low, high = middle - TAIL * sd, min(middle + (TAIL + sd) * sd, nearer)
    if high <= low:
        return 0.0
    way, weight = _panels(low, high, edges, panel * sd)
    density = np.exp(-0.5 * ((way - middle) / sd) ** 2)
    if math.isfinite(nearer):
        mirrored = 2.0 * middle * nearer / sd**2 - 0.5 * ((way - 2.0 * nearer - middle) / sd) ** 2
        density -= np.exp(mirrored)
    return float(weight @ (density * paid(way))) / (sd * math.sqrt(2.0 * math.pi))
