"""Laws that hold for every market: parity, bounds, homogeneity, monotonicity, and finite numbers at the extremes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from btcfi.pricing import american, barrier, black_scholes, implied, inverse
from btcfi.pricing.domain import BINARY_CALL, BINARY_PUT, CALL, PUT
from btcfi.pricing.premium import Book, premiums

MINUTE = 1 / (365 * 24 * 60)

compiled = settings(deadline=None)
"""The first example of a law compiles the kernels."""

spots = st.floats(1.0, 1e6)
moneyness = st.floats(-1.5, 1.5)
taus = st.floats(MINUTE, 3.0)
sigmas = st.floats(0.01, 3.0)
rates = st.floats(-0.05, 0.2)
kinds = st.sampled_from((CALL, PUT, BINARY_CALL, BINARY_PUT))


@st.composite
def markets(draw, rate=rates, carry=rates):
    spot = draw(spots)
    return {
        "spot": spot,
        "strike": spot * math.exp(draw(moneyness)),
        "tau_years": draw(taus),
        "volatility": draw(sigmas),
        "rate": draw(rate),
        "carry_yield": draw(carry),
    }


def forwards(m):
    return m["spot"] * math.exp(-m["carry_yield"] * m["tau_years"]), m["strike"] * math.exp(-m["rate"] * m["tau_years"])


@compiled
@given(markets())
def test_a_call_less_a_put_is_the_forward_less_the_strike(m):
    asset, cash = forwards(m)
    assert black_scholes.call(**m) - black_scholes.put(**m) == pytest.approx(asset - cash, abs=1e-12 * (asset + cash))


@compiled
@given(markets())
def test_the_two_binaries_together_pay_the_strike_for_sure(m):
    _, cash = forwards(m)
    assert black_scholes.binary_call(**m) + black_scholes.binary_put(**m) == pytest.approx(cash, rel=1e-13)


@compiled
@given(markets(), kinds)
def test_a_premium_lies_inside_its_no_arbitrage_bounds(m, kind):
    asset, cash = forwards(m)
    low = (max(asset - cash, 0), max(cash - asset, 0), 0, 0)[kind]
    high = (asset, cash, cash, cash)[kind]
    slack = 4e-16 * (asset + cash)
    assert low - slack <= black_scholes.premium(kind, **m) <= high + slack


@compiled
@given(markets(), kinds, st.floats(0.001, 1000))
def test_a_premium_scales_with_the_unit_of_money(m, kind, scale):
    scaled = {**m, "spot": m["spot"] * scale, "strike": m["strike"] * scale}
    slack = 1e-11 * scale * (m["spot"] + m["strike"])
    whole = black_scholes.premium(kind, **scaled)
    assert whole == pytest.approx(scale * black_scholes.premium(kind, **m), rel=1e-9, abs=slack)


@compiled
@given(markets(), st.floats(1.001, 3.0))
def test_vanilla_premiums_rise_with_volatility(m, factor):
    slack = 1e-13 * (m["spot"] + m["strike"])
    for kind in (CALL, PUT):
        higher = black_scholes.premium(kind, **{**m, "volatility": m["volatility"] * factor})
        assert higher >= black_scholes.premium(kind, **m) - slack


@compiled
@given(markets(), st.floats(1.0001, 2.0))
def test_a_call_falls_and_a_put_rises_with_the_strike(m, factor):
    higher = {**m, "strike": m["strike"] * factor}
    slack = 1e-13 * (m["spot"] + higher["strike"])
    assert black_scholes.call(**higher) <= black_scholes.call(**m) + slack
    assert black_scholes.put(**higher) >= black_scholes.put(**m) - slack


@compiled
@given(markets(), kinds)
def test_the_premium_obeys_the_black_scholes_equation(m, kind):
    g = black_scholes.greeks(kind, **m)
    s, sigma, r, q = m["spot"], m["volatility"], m["rate"], m["carry_yield"]
    diffusion = 0.5 * sigma**2 * s**2 * g.gamma
    terms = (g.theta * 365, diffusion, (r - q) * s * g.delta, -r * g.premium)
    assert sum(terms) == pytest.approx(0.0, abs=1e-9 * (sum(map(abs, terms)) + s * 1e-6))


@compiled
@given(markets(), kinds, st.floats(0.01, 2.0), st.booleans())
def test_knocked_in_and_knocked_out_together_are_the_plain_option(m, kind, away, up):
    m["barrier"] = m["strike"] * math.exp(away if up else -away)
    out = barrier.premium(kind, **m)
    into = barrier.premium(kind, knock_in=True, **m)
    level = m.pop("barrier")
    whole = black_scholes.premium(kind, **m)
    assert out + into == pytest.approx(whole, abs=1e-12 * (m["spot"] + m["strike"]))
    assert 0 <= out <= whole
    assert 0 <= into <= whole
    if (m["spot"] >= level) if up else (m["spot"] <= level):
        assert out == 0


@compiled
@given(markets(), kinds, st.floats(0.05, 1.0), st.floats(1.05, 2.0))
def test_a_farther_barrier_is_worth_no_less(m, kind, away, factor):
    slack = 1e-11 * (m["spot"] + m["strike"])
    for sign in (1, -1):
        near = barrier.premium(kind, barrier=m["strike"] * math.exp(sign * away), **m)
        far = barrier.premium(kind, barrier=m["strike"] * math.exp(sign * away * factor), **m)
        assert far >= near - slack


@compiled
@given(markets(), st.sampled_from((CALL, PUT)))
def test_the_implied_volatility_of_a_premium_has_that_premium(m, kind):
    asset, cash = forwards(m)
    premium = black_scholes.premium(kind, **m)
    floor = max(asset - cash if kind == CALL else cash - asset, 0)
    ceiling = asset if kind == CALL else cash
    if premium - floor < 1e-12 * m["spot"] or ceiling - premium < 1e-12 * m["spot"]:
        return
    del m["volatility"]
    volatility = implied.implied_volatility(kind, premium, **m)
    again = black_scholes.premium(kind, volatility=volatility, **m)
    assert again == pytest.approx(premium, abs=1e-13 * (m["spot"] + m["strike"]))


@settings(max_examples=60, deadline=None)
@example(
    # no interest: waiting costs nothing, and the European value is rounded to just below the exercise
    m={
        "spot": 1.0, "strike": math.e, "tau_years": 1.902587519025875e-06, "volatility": 1.0, "rate": 1e-9,
        "carry_yield": 0.0,
    },
    kind=PUT,
)  # fmt: skip
@given(markets(rate=st.floats(0.0, 0.2), carry=st.floats(0.0, 0.2)), st.sampled_from((CALL, PUT)))
def test_an_american_option_is_worth_the_european_one_and_its_exercise(m, kind):
    value = american.premium(kind, **m)
    now = max((m["spot"] - m["strike"]) * (1 if kind == CALL else -1), 0)
    slack = 1e-6 * (m["spot"] + m["strike"])
    assert value >= max(black_scholes.premium(kind, **m) - slack, now)
    assert value <= (m["spot"] if kind == CALL else m["strike"]) + slack


@compiled
@given(markets(), kinds, st.floats(0.1, 3.0))
def test_collateral_only_takes_away_from_a_premium(m, kind, collateral):
    plain = black_scholes.premium(kind, **m)
    capped = inverse.premium(kind, collateral_btc=collateral, **m)
    asset, _ = forwards(m)
    slack = 1e-12 * (m["spot"] + m["strike"])
    assert -slack <= capped <= min(plain, collateral * asset) + slack


EXTREMES = [
    {"spot": 70_000.0, "strike": 70_000.0 * ratio, "tau_years": tau, "volatility": sigma, "rate": rate}
    for ratio, tau, sigma, rate in itertools.product(
        (1e-4, 0.5, 0.999, 1.0, 1.001, 2.0, 1e4), (MINUTE, 1 / 365, 1.0, 10.0), (0.001, 0.5, 5.0), (0.0, 0.05)
    )
]


@pytest.mark.parametrize("kind", [CALL, PUT, BINARY_CALL, BINARY_PUT])
def test_extreme_markets_have_finite_premiums_and_greeks_inside_the_bounds(kind):
    for m in EXTREMES:
        cash = m["strike"] * math.exp(-m["rate"] * m["tau_years"])
        low = (max(m["spot"] - cash, 0), max(cash - m["spot"], 0), 0, 0)[kind]
        high = (m["spot"], cash, cash, cash)[kind]
        slack = 1e-15 * (m["spot"] + m["strike"])
        g = black_scholes.greeks(kind, **m)
        assert all(math.isfinite(getattr(g, name)) for name in g.__slots__), m
        assert low - slack <= g.premium <= high + slack, m
        for away in (0.5, 0.9999, 1.0001, 2.0):
            knocked = barrier.greeks(kind, barrier=m["strike"] * away, **m)
            assert all(math.isfinite(getattr(knocked, name)) for name in knocked.__slots__), (m, away)
            assert 0 <= knocked.premium <= g.premium, (m, away)


@pytest.mark.parametrize("kind", [CALL, PUT])
def test_extreme_markets_give_their_volatility_back_wherever_the_premium_shows_it(kind):
    found = 0
    for m in EXTREMES:
        premium = float(black_scholes.premium(kind, **m))
        cash = m["strike"] * math.exp(-m["rate"] * m["tau_years"])
        floor = max(m["spot"] - cash if kind == CALL else cash - m["spot"], 0)
        ceiling = m["spot"] if kind == CALL else cash
        vega = float(black_scholes.greeks(kind, **m).vega) * 100
        # the volatility that one rounding of the premium's two terms is worth; where it is large, nothing shows
        blur = 2e-16 * (m["spot"] + cash) / vega if vega > 0 else math.inf
        if not floor < premium < ceiling or blur > 1e-3 * m["volatility"]:
            continue
        asked = {k: v for k, v in m.items() if k != "volatility"}
        back = implied.implied_volatility(kind, premium, **asked)
        assert abs(back - m["volatility"]) <= 20 * blur + 1e-13 * m["volatility"], m
        found += 1
    assert found > 40


@pytest.mark.parametrize("kind", [CALL, PUT, BINARY_CALL, BINARY_PUT])
def test_extreme_american_options_are_finite_and_worth_their_exercise(kind):
    for m in EXTREMES:
        now = (max(m["spot"] - m["strike"], 0), max(m["strike"] - m["spot"], 0))[kind] if kind < 2 else 0
        high = (m["spot"], m["strike"], m["strike"], m["strike"])[kind]
        for away in (0.0, 0.5, 2.0):
            g = american.greeks(kind, barrier=m["strike"] * away, **m)
            assert all(math.isfinite(getattr(g, name)) for name in g.__slots__), (m, away)
            assert g.premium <= high * (1 + 1e-12), (m, away)
            if away == 0.0:
                assert g.premium >= now, m


def test_at_the_expiry_a_premium_is_the_payoff_and_binaries_need_to_be_strictly_in_the_money():
    spot = np.array([50.0, 99.99, 100.0, 100.01, 200.0])
    m = {"spot": spot, "strike": 100.0, "tau_years": 0.0, "volatility": 0.6, "rate": 0.05}
    assert black_scholes.call(**m).tolist() == pytest.approx([0, 0, 0, 0.01, 100])
    assert black_scholes.put(**m).tolist() == pytest.approx([50, 0.01, 0, 0, 0])
    assert black_scholes.binary_call(**m).tolist() == [0, 0, 0, 100, 100]
    assert black_scholes.binary_put(**m).tolist() == [100, 100, 0, 0, 0]


@compiled
@given(
    st.lists(
        st.tuples(kinds, moneyness, st.floats(-1, 1), st.booleans(), st.integers(60, 10**7)), min_size=1, max_size=8
    )
)
def test_a_book_is_priced_as_its_options_one_by_one(rows):
    now = 1_700_000_000
    strikes = np.array([max(round(7_000_000 * math.exp(m)), 2) for _, m, *_ in rows])
    barriers = np.array(
        [0 if abs(b) < 0.2 else max(round(k * math.exp(b)), 1) for k, (_, _, b, *_) in zip(strikes, rows, strict=True)]
    )
    book = Book(
        kind=np.array([r[0] for r in rows], dtype=np.int8),
        strike_cents=strikes,
        expiry_unix=np.array([now + r[4] for r in rows]),
        barrier_cents=barriers,
        american=np.array([r[3] for r in rows]),
    )
    whole = premiums(book, spot=7_000_000, volatility=0.6, rate=0.04, now=now)
    for i, (kind, _, _, early, seconds) in enumerate(rows):
        m = {
            "spot": 70_000.0, "strike": strikes[i] / 100, "tau_years": seconds / (365 * 86_400), "volatility": 0.6,
            "rate": 0.04,
        }  # fmt: skip
        level = barriers[i] / 100
        if early:
            one = american.premium(kind, barrier=level, **m)
        elif level:
            one = barrier.premium(kind, barrier=level, **m)
        else:
            one = black_scholes.premium(kind, **m)
        # a book shares one exercise boundary among its options; alone, each has its own
        assert whole.premium[i] == pytest.approx(one, rel=1e-9, abs=1e-7 * 70_000 if early else 1e-9)


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from([CALL, PUT]),
    log_moneyness=st.floats(-9.0, 9.0),
    tau=st.one_of(st.floats(0.0, 1e-6), st.floats(1e-6, 100.0)),
    volatility=st.one_of(st.floats(0.0, 1e-3), st.floats(1e-3, 100.0)),
    carry=st.tuples(st.floats(0.0, 1.0), st.one_of(st.just(0.0), st.floats(-1.0, 1.0))),
)
def test_an_american_option_is_never_below_its_european_twin_at_extreme_inputs(
    kind, log_moneyness, tau, volatility, carry
):
    rate, carry_yield = carry
    market = {
        "spot": 70_000.0, "strike": 70_000.0 * math.exp(log_moneyness), "tau_years": tau, "volatility": volatility,
        "rate": rate, "carry_yield": carry_yield,
    }  # fmt: skip
    early, late = american.premium(kind, **market), black_scholes.premium(kind, **market)
    assert early >= late
