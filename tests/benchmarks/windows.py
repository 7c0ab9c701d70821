"""How far the premiums of windows lie from sampled paths: ``python -m tests.benchmarks.windows`` prints the table."""

from __future__ import annotations

import math

import numpy as np

from btcfi.pricing.premium import Book, premiums
from btcfi.units import CentsPerBtc, Slot, UnixSeconds
from tests.support.sampled_windows import YEAR, Case, sample

NOW = 1_700_000_040
KNOWN = tuple(round(70_000 + 60 * math.sin(i), 2) for i in range(60))
STATES = ((1440, 0), (240, 0), (30, 0), (20, 10), (5, 25))
"""Minutes to expiry, and how many of the thirty are known."""
PATHS = 200_000


def quoted(case: Case) -> float:
    """Return the premium of ``case``, dollars."""
    expiry = NOW + 60 * case.life
    first = expiry - 60 * (abs(case.minutes) - 1)
    book = Book(
        kind=np.array([case.kind], dtype=np.int8),
        strike_cents=np.array([round(case.strike * 100)]),
        expiry_unix=np.array([expiry]),
        barrier_cents=np.array([round(case.barrier * 100)]),
        american=np.array([False]),
        fixing=np.array([case.minutes]),
    )
    known = {Slot(first + 60 * i): CentsPerBtc(round(price * 100)) for i, price in enumerate(case.known)}
    spot = CentsPerBtc(round(case.spot * 100))
    return float(
        premiums(
            book, spot=spot, volatility=case.sigma, rate=case.rate, now=UnixSeconds(NOW), known=known
        ).premium[0]
    )  # fmt: skip


def main() -> None:
    """Print the worst difference of each group of cases, and the sampling's own error there."""
    print("| settles on | barrier | pays | minutes left, known | worst difference, bp | standard error, bp |")
    print("|---|---|---|---|---|---|")
    for minutes in (30, -30):
        for level in (0.0, 1.0, -1.0):
            for kinds, name in (((0, 1), "call, put"), ((2, 3), "binary")):
                for life, known in STATES:
                    width = 0.6 * math.sqrt(life * 60 / YEAR)
                    worst = (-1.0, 0.0, 0.0)
                    for kind in kinds:
                        for shift in (0.0, -0.5 * level if level else 0.7):
                            case = Case(
                                kind=kind, strike=round(70_000 * math.exp(shift * width), 2), life=life,
                                minutes=minutes, known=KNOWN[:known],
                                barrier=round(70_000 * math.exp(level * width), 2) if level else 0.0,
                            )  # fmt: skip
                            expected, error = sample(case, paths=PATHS)
                            off = quoted(case) - expected
                            worst = max(worst, (abs(off), off, error))
                    label = f"{'twap' if minutes > 0 else 'median'}:30"
                    where = {0.0: "none", 1.0: "1 deviation above", -1.0: "1 deviation below"}[level]
                    off, error = (x / 7 for x in worst[1:])
                    print(f"| {label} | {where} | {name} | {life}, {known} | {off:+.3f} | {error:.3f} |", flush=True)


if __name__ == "__main__":
    main()
