"""What the lag of a window's mean is worth to who may exercise early: why no American option is sold on a window."""

import numpy as np

from btcfi.options.expiry import ExerciseType, settlement_input
from btcfi.options.payoff import settle_in_python
from btcfi.options.terms import OptionKind, OptionTerms, required_collateral
from btcfi.oracle.fixing import parse_fixing
from btcfi.pricing.premium import Book, premiums
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Slot, UnixSeconds

NOW, LIFE, WINDOW, PATHS = UnixSeconds(1_700_000_040), 240, 30, 4_000
SPOT, STRIKE, SIGMA, RATE = 60_000.0, 66_000.0, 0.6, 0.05
WAITS_FOR = 0.004
"""The holder exercises once the spot is so far above the mean: 1.5 deviations of that distance."""


def test_who_exercises_a_put_when_the_spot_has_turned_gains_per_cents_that_its_premium_has_not():
    terms = OptionTerms(
        kind=OptionKind.PUT, strike=CentsPerBtc(int(STRIKE * 100)), quantity=CentiBtc(100), barrier=None, american=True,
        expiry=Slot(NOW + LIFE * 60), premium=Cents(0), collateral=required_collateral(OptionKind.PUT, CentiBtc(100)),
        fixing=parse_fixing(f"twap:{WINDOW}"),
    )  # fmt: skip
    book = Book.of([terms])
    paid = float(premiums(book, spot=CentsPerBtc(int(SPOT * 100)), volatility=SIGMA, rate=RATE, now=NOW).premium[0])
    step = SIGMA * np.sqrt(60 / 31_536_000)
    moves = np.random.default_rng(1).standard_normal((PATHS // 2, LIFE)) * step
    spots = SPOT * np.exp(np.cumsum(np.concatenate((moves, -moves)), axis=1))
    means = np.lib.stride_tricks.sliding_window_view(spots, WINDOW, axis=1).mean(axis=2)
    spots = spots[:, WINDOW - 1 :]
    turned = spots > means * (1 + WAITS_FOR)
    at = np.where(turned.any(axis=1), turned.argmax(axis=1), means.shape[1] - 1)
    mean, spot = means[np.arange(PATHS), at], spots[np.arange(PATHS), at]
    gets = (np.maximum(STRIKE - mean, 0.0) / mean * spot).mean()
    assert gets > 1.025 * paid
    # and the guest lets it: to it the mean is the price
    dearest = float(np.quantile(mean, 0.9))
    given = settlement_input(
        terms, price=CentsPerBtc(int(dearest * 100)), low=CentsPerBtc(int(dearest * 100)),
        high=CentsPerBtc(int(dearest * 100)), at=Slot(terms.expiry - 3_600), volatility=BasisPoints(6_000),
        rate=BasisPoints(500),
    )  # fmt: skip
    assert settle_in_python(given).exercise_type is ExerciseType.EARLY_EXERCISE
