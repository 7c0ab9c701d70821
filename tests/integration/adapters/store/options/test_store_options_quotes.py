"""What a quote rounds, and the least that it asks."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from btcfi.adapters.store.options.options import MIN_PREMIUM_SATS, SATS_PER_BTC, least_premium, sats_of
from btcfi.adapters.store.options.premiums import total_premium

MILLIONTH = Fraction(1, 1_000_000)


def test_the_dollar_total_is_rounded_up_once_and_not_for_each_bitcoin():
    # a cent and a half a bitcoin: a hundred of them are a dollar and a half, and were one dollar or two
    assert total_premium(np.array([0.015, 0.0149]), np.array([10_000, 10_000])).tolist() == [150, 149]
    assert total_premium(np.array([72.881]), np.array([5])).tolist() == [365]
    assert total_premium(np.array([0.0, 1e-9]), np.array([100, 100])).tolist() == [0, 0]


@given(st.floats(0, 1e7), st.integers(1, 100_000))
def test_a_total_is_never_less_than_the_model_and_less_than_a_cent_above_it(usd_per_btc, quantity):
    exact = Fraction(usd_per_btc) * quantity
    total = int(total_premium(np.array([usd_per_btc]), quantity)[0])
    assert exact - 2 * MILLIONTH * max(exact / 10**6, 1) <= total < exact + 1 + MILLIONTH


@given(st.integers(1, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_what_the_funding_pays_is_worth_the_dollars_that_were_quoted_to_the_satoshi(spot, premium):
    sats = sats_of(premium, spot)
    assert sats == max(MIN_PREMIUM_SATS, math.ceil(Fraction(premium * SATS_PER_BTC, spot)))
    least = least_premium(spot)
    assert least >= 1
    # what is asked at least pays the least output, and a cent less would not
    assert sats_of(least, spot) * spot >= least * SATS_PER_BTC
    assert (least - 1) * SATS_PER_BTC < MIN_PREMIUM_SATS * spot
