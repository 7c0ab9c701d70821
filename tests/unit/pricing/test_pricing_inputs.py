"""What the pricing functions refuse, and how they say it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from btcfi.errors import UnitOutOfRangeError
from btcfi.pricing import american, barrier, black_scholes, implied
from btcfi.pricing.domain import PricingDomainError, UnequalLengthsError
from btcfi.pricing.premium import Book, premiums, to_cents

FAIR = {"spot": 70_000.0, "strike": 65_000.0, "tau_years": 0.1, "volatility": 0.6, "rate": 0.04}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1.0])
@pytest.mark.parametrize("field", ["spot", "strike", "tau_years", "volatility"])
def test_a_number_outside_its_range_is_named_with_the_range(field, bad):
    with pytest.raises(PricingDomainError) as caught:
        black_scholes.premium(0, **{**FAIR, field: np.array([FAIR[field], bad])})
    assert caught.value.field == field
    assert caught.value.value == bad or math.isnan(bad)
    assert "from" in caught.value.expected


@pytest.mark.parametrize("field", ["rate", "carry_yield"])
def test_a_rate_beyond_100_percent_is_refused(field):
    with pytest.raises(PricingDomainError) as caught:
        black_scholes.greeks(1, **{**FAIR, field: 1.5})
    assert caught.value.field == field


@pytest.mark.parametrize("kind", [-1, 4, 1.0, [0, 5], "call"])
def test_an_unknown_kind_is_refused(kind):
    with pytest.raises(PricingDomainError) as caught:
        black_scholes.premium(kind, **FAIR)
    assert caught.value.field == "kind"


def test_arrays_of_unequal_length_are_refused_with_their_shapes():
    with pytest.raises(UnequalLengthsError) as caught:
        black_scholes.premium(0, **{**FAIR, "spot": np.ones(3), "strike": np.ones(4)})
    assert caught.value.lengths["spot"] == (3,)
    assert caught.value.lengths["strike"] == (4,)


def test_text_is_not_a_number():
    with pytest.raises(PricingDomainError):
        black_scholes.premium(0, **{**FAIR, "spot": "expensive"})


def test_scalars_in_make_a_scalar_out_and_arrays_keep_their_shape():
    assert isinstance(black_scholes.call(**FAIR), float)
    strikes = np.linspace(5e4, 9e4, 6).reshape(2, 3)
    assert black_scholes.call(**{**FAIR, "strike": strikes}).shape == (2, 3)
    assert black_scholes.call(**{**FAIR, "strike": np.empty(0)}).shape == (0,)


def test_a_barrier_on_the_strike_is_refused():
    with pytest.raises(PricingDomainError) as caught:
        barrier.premium(0, barrier=65_000.0, **FAIR)
    assert caught.value.field == "barrier"
    with pytest.raises(PricingDomainError):
        american.premium(0, barrier=65_000.0, **FAIR)


def test_an_american_option_needs_a_rate_of_at_least_zero():
    with pytest.raises(PricingDomainError) as caught:
        american.premium(1, **{**FAIR, "rate": -0.01})
    assert caught.value.field == "american_rate"


@pytest.mark.parametrize(("kind", "premium"), [(0, 5_000.0), (0, 70_000.0), (0, 0.0), (1, 64_999.0), (1, 0.0)])
def test_a_premium_at_or_beyond_its_bounds_has_no_volatility(kind, premium):
    market = {k: v for k, v in FAIR.items() if k != "volatility"}
    with pytest.raises(implied.PremiumBoundsError) as caught:
        implied.implied_volatility(kind, [4_999.0 if kind else 6_000.0, premium], **market)
    assert caught.value.index == 1
    assert caught.value.premium == premium
    assert not caught.value.low < premium < caught.value.high


def test_a_binary_has_no_implied_volatility():
    market = {k: v for k, v in FAIR.items() if k != "volatility"}
    with pytest.raises(PricingDomainError):
        implied.implied_volatility(2, 100.0, **market)


def book(**changes):
    columns = {
        "kind": np.array([0, 1], dtype=np.int8),
        "strike_cents": np.array([6_500_000, 6_500_000]),
        "expiry_unix": np.array([1_700_086_400, 1_700_086_400]),
        "barrier_cents": np.array([0, 0]),
        "american": np.array([False, True]),
    }
    return Book(**{**columns, **changes})


def test_a_spot_in_dollars_instead_of_integer_cents_is_refused():
    with pytest.raises(UnitOutOfRangeError):
        premiums(book(), spot=70_000.5, volatility=0.6, now=1_700_000_000)


def test_columns_of_unequal_length_make_no_book():
    with pytest.raises(UnequalLengthsError):
        book(kind=np.array([0], dtype=np.int8))


def test_a_book_with_a_strike_of_zero_is_refused():
    with pytest.raises(PricingDomainError):
        book(strike_cents=np.array([0, 6_500_000]))


def test_a_volatility_for_each_option_is_used_for_that_option():
    both = premiums(book(), spot=7_000_000, volatility=[0.3, 0.9], rate=0.0, now=1_700_000_000)
    low = premiums(book(), spot=7_000_000, volatility=0.3, rate=0.0, now=1_700_000_000)
    high = premiums(book(), spot=7_000_000, volatility=0.9, rate=0.0, now=1_700_000_000)
    assert both.premium.tolist() == [low.premium[0], high.premium[1]]


def test_an_expired_option_is_worth_its_payoff():
    after = premiums(book(), spot=7_000_000, volatility=0.6, rate=0.04, now=1_700_086_400)
    assert after.premium_cents().tolist() == [500_000, 0]


def test_an_empty_book_has_empty_premiums():
    nothing = Book.of([])
    assert premiums(nothing, spot=7_000_000, volatility=0.6, now=1_700_000_000).premium.shape == (0,)


def test_cents_are_rounded_half_even_and_nan_is_never_a_cent():
    assert to_cents([0.125, 0.135, 1.005, -0.125]).tolist() == [12, 14, 100, -12]
    for bad in (math.nan, math.inf, 1e15):
        with pytest.raises(PricingDomainError):
            to_cents(bad)


@pytest.mark.parametrize("kind", range(4))
def test_a_spread_of_next_to_nothing_gives_numbers_and_no_infinity(kind):
    found = black_scholes.greeks(
        kind, spot=70_000.0, strike=np.array([65_000.0, 70_000.0, 1e9]), tau_years=0.1,
        volatility=np.array([[1e-300], [1e-160], [1e-90]]),
    )  # fmt: skip
    for name in ("premium", "delta", "gamma", "vega", "theta", "rho"):
        assert np.isfinite(getattr(found, name)).all(), name
