"""Premiums of what the contract really pays: bitcoin at the settlement price, and no more than the collateral."""

from __future__ import annotations

import numpy as np
import pytest

from btcfi.options.terms import OptionKind, OptionTerms, required_collateral
from btcfi.pricing import inverse
from btcfi.pricing.domain import PricingDomainError
from btcfi.pricing.premium import Book, collateral_ratio, premiums

NOW = 1_700_000_000
SPOT = 7_000_000
YEAR = 365 * 86_400


def book(kind, strikes, *, cap=None, american=False, barrier=0, seconds=YEAR):
    count = len(strikes)
    return Book(
        kind=np.full(count, kind, dtype=np.int8),
        strike_cents=np.array(strikes),
        expiry_unix=np.full(count, NOW + seconds),
        barrier_cents=np.full(count, barrier),
        american=np.full(count, american),
        collateral_ratio=None if cap is None else np.full(count, float(cap)),
    )


def priced(*args, volatility=0.9, rate=0.03, spot=SPOT, **kwargs):
    return premiums(book(*args, **kwargs), spot=spot, volatility=volatility, rate=rate, now=NOW)


STRIKES = [5_000_000, 7_000_000, 9_000_000]


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
@pytest.mark.parametrize("cap", [1.0, 2.0, 3.5])
def test_a_capped_european_premium_is_the_exact_one(kind, cap):
    exact = inverse.premium(
        kind,
        spot=70_000.0,
        strike=np.array(STRIKES) / 100,
        tau_years=1.0,
        volatility=0.9,
        rate=0.03,
        collateral_btc=cap,
    )
    assert priced(kind, STRIKES, cap=cap).premium == pytest.approx(exact, rel=1e-12)


def test_the_cap_takes_value_from_long_puts_and_none_from_calls():
    assert (priced(1, STRIKES, cap=1.0).premium < 0.99 * priced(1, STRIKES).premium).all()
    assert priced(0, STRIKES, cap=1.0).premium.tolist() == priced(0, STRIKES).premium.tolist()


@pytest.mark.parametrize("kind", [1, 3])
@pytest.mark.parametrize("rate", [0.0, 0.03, 0.2])
def test_a_capped_american_option_lies_between_the_european_one_and_the_uncapped_one(kind, rate):
    cap = 1.0 if kind == 1 else 2.0
    capped = priced(kind, STRIKES, cap=cap, american=True, rate=rate).premium
    slack = 1e-5 * 70_000
    assert (capped >= priced(kind, STRIKES, cap=cap, rate=rate).premium - slack).all()
    assert (capped <= priced(kind, STRIKES, american=True, rate=rate).premium + slack).all()


def test_a_capped_american_put_equals_a_lattice_of_its_payoff():
    # the volatility, near 0.9, that lays a level of the lattice on half the strike, where the payoff has its peak
    strike, cap, rate, steps = 70_000.0, 1.0, 0.03, 2_974
    sigma = np.log(2) / 42 * np.sqrt(steps)
    dt = 1.0 / steps
    up = np.exp(sigma * np.sqrt(dt))
    p = (np.exp(rate * dt) - 1 / up) / (up - 1 / up)
    prices = 70_000.0 * up ** np.arange(-steps, steps + 1, 2)
    pays = lambda s: np.minimum(np.maximum(strike - s, 0), cap * s)  # noqa: E731
    value = pays(prices)
    for level in range(steps, 0, -1):
        prices = prices[1:] / up
        value = np.maximum(np.exp(-rate * dt) * (p * value[1:] + (1 - p) * value[:-1]), pays(prices))
        assert len(value) == level
    ours = priced(1, [7_000_000], cap=1.0, american=True, volatility=sigma).premium[0]
    assert ours == pytest.approx(float(value[0]), abs=1e-4 * 70_000)


@pytest.mark.parametrize("american", [False, True])
def test_at_expiry_and_deep_below_the_payout_is_the_collateral(american):
    at_end = priced(1, [7_000_000], cap=1.0, seconds=0, spot=2_000_000, american=american)
    assert at_end.premium_cents().tolist() == [2_000_000]
    deep = priced(1, [7_000_000], cap=1.0, spot=500_000, american=True)
    assert deep.premium_cents().tolist() == [500_000]
    assert deep.delta.tolist() == [1.0]


def test_a_knocked_out_put_is_capped_only_where_it_lives():
    barrier = 4_000_000
    plain = priced(1, [7_000_000], barrier=barrier).premium
    assert priced(1, [7_000_000], barrier=barrier, cap=1.0).premium.tolist() == plain.tolist()
    high = priced(1, [7_000_000], barrier=12_000_000).premium
    assert priced(1, [7_000_000], barrier=12_000_000, cap=1.0).premium[0] < high[0]


def test_a_book_of_terms_knows_the_collateral():
    terms = [
        OptionTerms(
            kind=kind,
            strike=7_000_000,
            quantity=50,
            barrier=None,
            american=False,
            expiry=NOW // 60 * 60 + YEAR,
            premium=0,
            collateral=required_collateral(kind, 50),
        )
        for kind in OptionKind
    ]
    assert Book.of(terms).collateral_ratio.tolist() == [1.0, 1.0, 1.0, 2.0]
    assert collateral_ratio([25, 100], [25_000_000, 2 * 10**8]).tolist() == [1.0, 2.0]


def test_less_than_the_required_collateral_makes_no_book():
    with pytest.raises(PricingDomainError):
        book(1, STRIKES, cap=0.5)
