"""Laws of a maker's quotes: never crossed, within every limit whatever is taken, lower the more it holds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.market.firm_offer import TICK_SATS, Side
from btcfi.market.instrument import Instrument
from btcfi.market.making import (
    Held,
    Inventory,
    MakingRule,
    firm_offer,
    locked_by,
    quotes,
    scenario_returns,
)
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE, parse_fixing
from btcfi.oracle.freshness import MarketStatus
from btcfi.pricing.portfolio import Market, Positions, aggregate
from btcfi.pricing.premium import Book, premiums
from btcfi.pricing.surface import flat_surface
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats, Slot, UnixSeconds

NOW = UnixSeconds(1_800_000_000)
DAY = 86_400

laws = settings(deadline=None, max_examples=20)
"""The first example compiles the kernels; each prices its chain some hundred times."""

spots = st.integers(1_000_000, 20_000_000).map(CentsPerBtc)


@st.composite
def chains(draw, most=6):
    spot = draw(spots)
    found = {}
    for _ in range(draw(st.integers(1, most))):
        kind = OptionKind(draw(st.integers(0, 3)))
        strike = CentsPerBtc(max(round(spot * draw(st.floats(0.6, 1.6))) // 100 * 100, 100))
        barrier = None
        if draw(st.integers(0, 4)) == 0:
            barrier = CentsPerBtc(round(max(strike, spot) * 1.3))
        one = Instrument(
            kind=kind, strike=strike, barrier=barrier, expiry=Slot(NOW + draw(st.integers(1, 60)) * DAY),
            fixing=draw(st.sampled_from((MINUTE, parse_fixing("twap:30")))),
        )  # fmt: skip
        found[one.name] = one
    return spot, tuple(found.values())


@st.composite
def rules(draw):
    return MakingRule(
        half_spread_points=draw(st.floats(0.05, 10.0)), level_points=draw(st.floats(0.05, 5.0)),
        levels=draw(st.integers(1, 3)), size=CentiBtc(draw(st.integers(1, 200))), skew=draw(st.floats(0.0, 1.0)),
        delta_limit_btc=draw(st.floats(0.0, 3.0)), gamma_limit_btc=draw(st.floats(0.0, 1.0)),
        vega_limit_usd=draw(st.floats(0.0, 500.0)), shortfall_limit_usd=draw(st.floats(0.0, 20_000.0)),
        coin_share=draw(st.floats(0.0, 1.0)),
    )  # fmt: skip


WIDE = MakingRule(
    delta_limit_btc=1e6, gamma_limit_btc=1e6, vega_limit_usd=1e9, shortfall_limit_usd=1e12, coin_share=1.0, levels=2
)
"""Limits that leave no quote out; the skew is against limits of its own where a test sets them."""

RICH = Sats(10_000 * 100_000_000)


def market_at(spot, volatility=0.6):
    return Market(spot=spot, volatility=volatility, rate=0.05, now=NOW)


def holdings(instruments, quantities):
    return tuple(Held(instrument=one, quantity=q) for one, q in zip(instruments, quantities, strict=False) if q)


def greeks_of(held, market):
    """Return delta, gamma and vega of a holding, priced by the portfolio module: another road to the same numbers."""
    if not held:
        return np.zeros(3)
    book = Book.of([one.instrument.terms(CentiBtc(100), Cents(0)) for one in held])
    quantities = np.array([one.quantity for one in held], dtype=np.int64)
    found = aggregate(
        Positions(book=book, quantity_centi_btc=quantities, collateral_sats=np.zeros(len(held), dtype=np.int64)), market
    )  # fmt: skip
    return np.array([found.delta_btc, found.gamma_btc, found.vega])


def shortfall_of(held, market, rule):
    """Return the expected shortfall of a holding, every scenario priced again."""
    if not held:
        return 0.0
    book = Book.of([one.instrument.terms(CentiBtc(100), Cents(0)) for one in held])
    btc = np.array([one.quantity for one in held]) / 100
    moves = scenario_returns(market.volatility, rule.shortfall_days)
    now = btc @ premiums(book, spot=market.spot, volatility=market.volatility, rate=market.rate, now=NOW).premium
    later = UnixSeconds(NOW + round(rule.shortfall_days * DAY))
    losses = sorted(
        now
        - btc
        @ premiums(
            book, spot=CentsPerBtc(max(round(market.spot * math.exp(x)), 1)), volatility=market.volatility,
            rate=market.rate, now=later,
        ).premium
        for x in moves
    )  # fmt: skip
    k = math.ceil(len(losses) * (1 - rule.shortfall_confidence) - 1e-9)
    return sum(losses[-k:]) / k


@laws
@given(chains(), rules(), st.lists(st.integers(-100, 100), max_size=6))
def test_no_bid_of_a_maker_reaches_its_own_ask_and_every_price_is_one_that_an_offer_may_have(chain, rule, quantities):
    spot, instruments = chain
    inventory = Inventory(held=holdings(instruments, quantities), free=RICH)
    found = quotes(rule, market_at(spot), flat_surface(0.6), inventory, instruments)
    best = {}
    for draft in found.drafts:
        best.setdefault((draft.instrument, draft.side), []).append(draft)
        # an offer of it is made without a refusal
        offer = firm_offer(draft, maker=b"m" * 32, desk=b"d" * 32, valid_until=UnixSeconds(NOW + 30), number=1)
        assert offer.price % TICK_SATS == 0
        assert draft.minimum <= draft.quantity <= rule.size
        assert draft.price * draft.minimum >= rule.least_premium_sats * 100
        worth = draft.price * spot / 100_000_000
        assert abs(draft.price_cents - worth) * 10_000 <= rule.price_distance_bps * worth
    for one in instruments:
        bids, asks = best.get((one, Side.BID), []), best.get((one, Side.ASK), [])
        if bids and asks:
            assert max(d.price for d in bids) < min(d.price for d in asks)
            assert max(d.price_cents for d in bids) <= min(d.price_cents for d in asks)
        for many in (bids, asks):
            assert len({d.price for d in many}) == len(many)


@laws
@given(chains(), rules(), st.lists(st.integers(-100, 100), max_size=6), st.data())
def test_whatever_is_taken_of_its_offers_a_maker_passes_no_limit_that_it_had_not_passed(chain, rule, quantities, data):
    spot, instruments = chain
    market = market_at(spot)
    held = holdings(instruments, quantities)
    inventory = Inventory(held=held, free=Sats(30 * 100_000_000))
    found = quotes(rule, market, flat_surface(0.6), inventory, instruments)
    taken = [
        Held(instrument=draft.instrument, quantity=(1 if draft.side is Side.BID else -1) * quantity)
        for draft in found.drafts
        if (quantity := data.draw(st.one_of(st.just(0), st.just(draft.quantity), st.integers(0, draft.quantity))))
    ]
    before, after = greeks_of(held, market), greeks_of([*held, *taken], market)
    limits = np.array([rule.delta_limit_btc, rule.gamma_limit_btc, rule.vega_limit_usd])
    assert (np.abs(after) <= np.maximum(limits, np.abs(before)) * (1 + 1e-9) + 1e-6).all()
    was, became = shortfall_of(held, market, rule), shortfall_of([*held, *taken], market, rule)
    assert became <= max(rule.shortfall_limit_usd, was) + 1e-4
    locked = sum(locked_by(d.side, d.instrument, d.price, d.quantity) + rule.fee_sats for d in found.drafts)
    assert locked <= inventory.free * rule.coin_share


@laws
@given(chains(), st.integers(0, 5), st.integers(-300, 300), st.integers(1, 300), st.floats(0.1, 1.0))
def test_the_more_a_maker_holds_of_an_instrument_the_lower_are_both_its_prices(chain, place, held, more, skew):
    spot, instruments = chain
    one = instruments[place % len(instruments)]
    rule = replace(WIDE, skew=skew, vega_limit_usd=200.0, delta_limit_btc=5.0, shortfall_limit_usd=1e12)

    def prices(quantity, side):
        inventory = Inventory(held=(Held(instrument=one, quantity=quantity),), free=RICH)
        found = quotes(rule, market_at(spot), flat_surface(0.6), inventory, instruments)
        return [draft.price for draft in found.drafts if draft.instrument == one and draft.side is side]

    bids = prices(held, Side.BID), prices(held + more, Side.BID)
    asks = prices(held, Side.ASK), prices(held + more, Side.ASK)
    assert all(max(less) >= max(larger) for less, larger in [bids] if less and larger)
    assert all(min(less) >= min(larger) for less, larger in [asks] if less and larger)


@laws
@given(chains(), st.lists(st.integers(-300, 300), max_size=6))
def test_a_maker_never_sells_below_its_mark_nor_buys_above_it(chain, quantities):
    spot, instruments = chain
    rule = replace(WIDE, skew=1.0, vega_limit_usd=100.0, delta_limit_btc=1.0)
    inventory = Inventory(held=holdings(instruments, quantities), free=RICH)
    found = quotes(rule, market_at(spot), flat_surface(0.6), inventory, instruments)
    marks = {one.instrument: one.mark for one in found.marks}
    for draft in found.drafts:
        dollars = draft.price * spot / 100_000_000 / 100
        away = dollars - marks[draft.instrument]
        assert away >= -1e-6 if draft.side is Side.ASK else away <= 1e-6


@laws
@given(chains(), st.sampled_from([status for status in MarketStatus if status is not MarketStatus.TRADING]))
def test_nothing_is_quoted_in_a_market_that_is_not_trading_and_the_reason_is_its_status(chain, status):
    spot, instruments = chain
    found = quotes(WIDE, market_at(spot), flat_surface(0.6), Inventory(free=RICH), instruments, status=status)
    assert found.drafts == ()
    assert [one.reason for one in found.left_out] == [f"pause: {status.value}"]
