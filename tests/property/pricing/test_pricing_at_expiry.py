"""At expiry three things say the same: the payoff in Python, the guest in the machine, and the limit of the premium."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.options.expiry import SettlementInput, SettlementOutput
from btcfi.options.payoff import settle_in_python
from btcfi.pricing import barrier as barriers
from btcfi.pricing import black_scholes
from btcfi.pricing.inverse import payout_btc
from btcfi.pricing.premium import to_cents
from btcfi.vm.interpreter import run
from btcfi.vm.program import load_program

prices = st.integers(100, 4_000_000_000)
kinds = st.sampled_from((0, 1, 2, 3))
COLLATERAL = 10**8


def settled(kind, strike, price, level):
    return SettlementInput(
        option_type=kind, strike=strike, spot=price, quantity=100, barrier_level=level, early_exercise=0,
        time_to_expiry=0, volatility=6_000, observed_low=price, observed_high=price, premium=0, rate=300,
        collateral=COLLATERAL,
    )  # fmt: skip


def limit_cents(kind, strike, price, level):
    market = {"spot": price / 100, "strike": strike / 100, "tau_years": 0.0, "volatility": 0.6, "rate": 0.03}
    if level:
        return int(to_cents(barriers.premium(kind, barrier=level / 100, **market)))
    return int(to_cents(black_scholes.premium(kind, **market)))


def agree(kind, strike, price, level):
    given_ = settled(kind, strike, price, level)
    out = settle_in_python(given_)
    assert out.payout == limit_cents(kind, strike, price, level)
    if not level:
        exact = payout_btc(kind, settlement_price=price / 100, strike=strike / 100, collateral_btc=COLLATERAL / 10**8)
        assert abs(out.payout_sats - exact * 10**8) <= 1
    return given_, out


@settings(deadline=None)
@given(kinds, prices, prices, st.one_of(st.just(0), prices))
def test_the_payoff_is_the_limit_of_the_premium(kind, strike, price, level):
    agree(kind, strike, price, 0 if level == strike else level)


@settings(deadline=None, max_examples=15)
@given(kinds, prices, st.integers(-1, 1), st.one_of(st.just(0), prices))
def test_at_and_around_the_strike_the_guest_says_so_too(kind, strike, beside, level):
    given_, out = agree(kind, strike, strike + beside, 0 if level == strike else level)
    trace = run(load_program("option_settlement"), given_.to_bytes(), max_steps=1 << 20)
    assert SettlementOutput.from_bytes(trace.output) == out
