"""What an option on a window is worth by brute force: numpy paths, nothing of btcfi.pricing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

YEAR = 365 * 86_400
BATCH = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One European option on the mean (minutes > 0) or the median (minutes < 0) of a window, and its market."""

    kind: int
    strike: float
    life: int
    """Minutes to expiry, whole."""
    minutes: int
    known: tuple[float, ...] = ()
    """Dollars, of the window's first minutes."""
    barrier: float = 0.0
    cap: float = 0.0
    spot: float = 70_000.0
    sigma: float = 0.6
    rate: float = 0.04


def sample(case: Case, *, paths: int, seed: int = 1) -> tuple[float, float]:
    """Return the premium in dollars and its standard error.

    The holder gets min(payoff(A)/A, cap) bitcoin, each worth the spot at expiry: E[dollars], not a share of a spot. The
    barrier is touched between two minutes with a Brownian bridge's probability.
    """
    n = abs(case.minutes)
    to_come = n - len(case.known)
    times = np.arange(case.life - to_come + 1, case.life + 1) * 60 / YEAR
    steps = np.diff(np.concatenate(([0.0], times)))
    generator = np.random.default_rng(seed)
    known = np.array(case.known)
    means = []
    for _ in range(paths // BATCH):
        half = generator.standard_normal((BATCH // 2, to_come))
        noise = np.concatenate((half, -half))
        drift = (case.rate - 0.5 * case.sigma**2) * steps
        logs = np.cumsum(drift + case.sigma * np.sqrt(steps) * noise, axis=1)
        spots = case.spot * np.exp(logs)
        every = np.concatenate((np.broadcast_to(known, (BATCH, known.size)), spots), axis=1)
        price = every.mean(axis=1) if case.minutes > 0 else np.median(every, axis=1)
        k = case.strike
        bitcoin = (np.maximum(price - k, 0), np.maximum(k - price, 0), k * (price > k), k * (price < k))[
            case.kind
        ] / price
        bitcoin = np.minimum(bitcoin, case.cap) if case.cap else bitcoin
        paid = bitcoin * spots[:, -1] * math.exp(-case.rate * times[-1])
        if case.barrier:
            away = math.log(case.barrier / case.spot) - np.concatenate((np.zeros((BATCH, 1)), logs), axis=1)
            away = away if case.barrier > k else -away
            inside = np.maximum(away, 0.0)
            missed = -np.expm1(-2 * inside[:, :-1] * inside[:, 1:] / (case.sigma**2 * steps))
            paid = paid * missed.prod(axis=1)
        means.append(paid.reshape(2, -1).mean(axis=0))
    every_mean = np.concatenate(means)
    return float(every_mean.mean()), float(every_mean.std() / math.sqrt(every_mean.size))
