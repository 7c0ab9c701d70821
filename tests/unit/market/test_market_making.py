"""What a maker quotes, what it leaves out and why, and which of its offers it makes anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from btcfi.errors import InvalidInputError
from btcfi.market.firm_offer import Side
from btcfi.market.instrument import parse_instrument
from btcfi.market.making import (
    Held,
    Inventory,
    MakingRule,
    Written,
    changes,
    consents,
    firm_offer,
    locked_by,
    quotes,
    shortfall,
)
from btcfi.market.request import QuoteRequest, Wanted
from btcfi.oracle.fixing import MINUTE, parse_fixing
from btcfi.pricing import premium
from btcfi.pricing.portfolio import Market, Positions, historical_risk
from btcfi.pricing.premium import Book
from btcfi.pricing.surface import flat_surface
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats, Slot, UnixSeconds

NOW = UnixSeconds(1_795_000_020)
SPOT = CentsPerBtc(6_000_000)
MARKET = Market(spot=SPOT, volatility=0.6, rate=0.05, now=NOW)
CALL = parse_instrument("BTC-27NOV26-60000-C")
PUT = parse_instrument("BTC-27NOV26-60000-P")
FAR = parse_instrument("BTC-27NOV26-90000-C")
RICH = Inventory(free=Sats(100 * 100_000_000))


def quoted(rule=None, inventory=RICH, instruments=(CALL, PUT), **more):
    return quotes(rule or MakingRule(), MARKET, flat_surface(0.6), inventory, instruments, **more)


def reasons(found):
    return {one.reason for one in found.left_out}


def offers_of(found, *, valid_until=NOW + 30):
    return [
        (firm_offer(one, maker=b"m" * 32, desk=b"d" * 32, valid_until=UnixSeconds(valid_until), number=n), one.quantity)
        for n, one in enumerate(found.drafts)
    ]


def test_both_sides_of_each_instrument_are_quoted_on_every_level_and_the_levels_get_worse():
    found = quoted()
    assert len(found.drafts) == 2 * 2 * 2
    for side, better in ((Side.BID, max), (Side.ASK, min)):
        prices = [one.price for one in found.drafts if one.instrument == CALL and one.side is side]
        assert prices[0] == better(prices)
        assert len(set(prices)) == 2


def test_the_first_quotes_are_the_premiums_at_the_mark_s_volatility_less_and_more_the_spread():
    found = quoted(MakingRule(half_spread_points=3.0, levels=1), instruments=(CALL,))
    below, above = (quotes_at(v) for v in (0.57, 0.63))
    by_side = {one.side: one.price_cents for one in found.drafts}
    assert by_side[Side.BID] == pytest.approx(below, abs=61)  # a tick is 60 cents
    assert by_side[Side.ASK] == pytest.approx(above, abs=61)


def quotes_at(volatility):
    return quotes(MakingRule(), MARKET, flat_surface(volatility), RICH, (CALL,)).marks[0].mark * 100


def test_the_shortfall_of_what_is_held_is_that_of_the_portfolio_module():
    closes = [60_000.0]
    for i in range(60):
        closes.append(closes[-1] * (1 + 0.03 * np.sin(i * 1.7)))
    returns = np.diff(np.log(closes))
    held = (Held(instrument=CALL, quantity=-150), Held(instrument=PUT, quantity=40))
    book = Book.of([one.instrument.terms(CentiBtc(100), Cents(0)) for one in held])
    positions = Positions(
        book=book, quantity_centi_btc=np.array([-150, 40]), collateral_sats=np.array([150_000_000, 0])
    )  # fmt: skip
    expected = historical_risk(positions, MARKET, closes, confidence=0.9).expected_shortfall
    found = quoted(
        MakingRule(shortfall_confidence=0.9), Inventory(held=held, free=Sats(0)), returns=[float(x) for x in returns]
    )
    assert found.exposure.shortfall_usd == pytest.approx(expected, abs=2.0)  # the spot moves in whole cents there
    assert shortfall(np.array([1.0, 2.0, 3.0, 4.0]), 0.5) == 3.5


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (MakingRule(delta_limit_btc=0.01), "limit: delta"),
        (MakingRule(gamma_limit_btc=0.001), "limit: gamma"),
        (MakingRule(vega_limit_usd=1.0), "limit: vega"),
        (MakingRule(shortfall_limit_usd=10.0), "limit: shortfall"),
        (MakingRule(coin_share=0.0), "coins: collateral of asks"),
        (MakingRule(most_offers=2), "offers: 2 at most"),
    ],
)
def test_a_limit_that_leaves_a_quote_out_is_named(rule, reason):
    assert reason in reasons(quoted(rule))
    assert len(quoted(rule).drafts) < 8


def test_a_maker_without_coins_quotes_nothing_and_one_with_few_only_what_they_carry():
    assert quoted(inventory=Inventory(free=Sats(0))).drafts == ()
    found = quoted(MakingRule(coin_share=1.0, levels=1), Inventory(free=Sats(15_000_000)), (CALL,))
    asks = [one for one in found.drafts if one.side is Side.ASK]
    assert 0 < asks[0].quantity * 1_000_000 < 15_000_000


def test_coins_for_two_quotes_and_a_half_stand_behind_no_more_than_that():
    found = quoted(MakingRule(coin_share=0.5), Inventory(free=Sats(100_000_000)))
    locked = sum(locked_by(one.side, one.instrument, one.price, one.quantity) + 20_000 for one in found.drafts)
    assert 40_000_000 < locked <= 50_000_000


def test_a_shortfall_for_two_quotes_and_a_half_holds_when_every_ask_is_taken():
    rule = MakingRule(shortfall_limit_usd=800.0, delta_limit_btc=99.0, gamma_limit_btc=99.0, vega_limit_usd=9_999.0)
    found = quoted(rule, instruments=(CALL,))
    taken = tuple(Held(instrument=CALL, quantity=-one.quantity) for one in found.drafts if one.side is Side.ASK)
    after = quoted(rule, Inventory(held=taken, free=RICH.free), (CALL,))
    assert 600.0 < after.exposure.shortfall_usd <= 800.0


def test_over_a_limit_a_maker_still_quotes_what_brings_it_back():
    long = Inventory(held=(Held(instrument=CALL, quantity=10_000),), free=RICH.free)
    found = quoted(MakingRule(vega_limit_usd=500.0, delta_limit_btc=5.0, shortfall_limit_usd=1e9), long, (CALL,))
    assert {one.side for one in found.drafts} == {Side.ASK}
    assert "limit: delta" in reasons(found)


def test_what_settles_too_soon_is_not_quoted_and_a_price_below_a_tick_has_no_bid():
    soon = replace(CALL, expiry=Slot(NOW + 600 - (NOW + 600) % 60))
    assert "life: it settles too soon" in reasons(quoted(instruments=(soon,)))
    found = quoted(instruments=(replace(FAR, strike=CentsPerBtc(40_000_000)),))
    assert {one.side for one in found.drafts} <= {Side.ASK}
    assert "price: below a tick" in reasons(found)


def test_an_option_so_far_away_that_its_greeks_vanish_is_bound_by_its_size_alone():
    soon = replace(CALL, expiry=Slot(NOW + 7_200 - (NOW + 7_200) % 60), fixing=MINUTE)
    gone = [replace(soon, strike=CentsPerBtc(strike)) for strike in range(6_400_000, 9_000_000, 50_000)]
    found = quoted(MakingRule(least_premium_sats=Sats(1)), instruments=(*gone, CALL))
    assert {one.instrument for one in found.drafts} > {CALL}


def test_an_option_that_costs_little_is_sold_in_takes_that_the_chain_can_fund():
    found = quoted(MakingRule(size=CentiBtc(100), levels=1), instruments=(FAR,))
    for one in found.drafts:
        assert one.price * one.minimum // 100 >= 1_000
    assert found.drafts


# ---- what moved


def test_an_offer_whose_price_did_not_move_stays():
    rule, found = MakingRule(), quoted()
    same = changes(rule, offers_of(found), found.drafts, wall=NOW)
    assert (same.withdraw, same.post) == ((), ())
    assert len(same.kept) == len(found.drafts)


def test_only_the_instrument_that_moved_is_quoted_anew_and_both_its_sides_together():
    rule, found = MakingRule(), quoted()
    moved = [
        replace(one, price=Sats(one.price + 100_000)) if one.instrument == CALL and one.side is Side.ASK else one
        for one in found.drafts
    ]
    result = changes(rule, offers_of(found), moved, wall=NOW)
    assert {one.instrument for one in result.withdraw} == {CALL} == {one.instrument for one in result.post}
    assert {one.side for one in result.withdraw} == {Side.BID, Side.ASK}
    assert {one.instrument for one in result.kept} == {PUT}


def test_an_offer_that_runs_out_or_was_mostly_taken_or_is_larger_than_its_draft_is_made_anew():
    rule, found = MakingRule(), quoted(instruments=(CALL,))
    standing = offers_of(found)
    assert changes(rule, standing, found.drafts, wall=UnixSeconds(NOW + 21)).kept == ()
    assert changes(rule, [(one, 3) for one, _ in standing], found.drafts, wall=NOW).kept == ()
    smaller = [replace(one, quantity=CentiBtc(one.quantity - 1)) for one in found.drafts]
    assert changes(rule, standing, smaller, wall=NOW).kept == ()


def test_offers_without_a_draft_are_withdrawn():
    found = quoted()
    result = changes(MakingRule(), offers_of(found), (), wall=NOW)
    assert len(result.withdraw) == len(found.drafts)
    assert result.post == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("skew", 1.5), ("coin_share", -0.1), ("levels", 0), ("half_spread_points", float("nan")), ("renew_seconds", 30),
        ("minimum", 21), ("shortfall_confidence", 1.0), ("vega_limit_usd", float("inf")),
    ],
)  # fmt: skip
def test_a_rule_outside_its_ranges_is_refused_by_its_field(field, value):
    with pytest.raises(InvalidInputError) as refused:
        replace(MakingRule(), **{field: value})
    assert refused.value.field == field


# ---- requests

ODD = parse_instrument("BTC-27NOV26-61500-P")


def asks(instrument=ODD, *, taker=b"t" * 32, wanted=Wanted.BUY, quantity=15, number=1):
    return QuoteRequest(
        taker=taker, desk=b"d" * 32, instrument=instrument, wanted=wanted, quantity=CentiBtc(quantity),
        valid_until=UnixSeconds(NOW + 60), number=number,
    )  # fmt: skip


def answers_of(found):
    return [one for one in found.drafts if one.request is not None]


@pytest.mark.parametrize(
    ("wanted", "sides"),
    [(Wanted.BUY, {Side.ASK}), (Wanted.SELL, {Side.BID}), (Wanted.BOTH, {Side.BID, Side.ASK})],
)
def test_a_request_of_what_no_list_has_is_answered_on_the_sides_that_it_names_and_for_who_asked(wanted, sides):
    request = asks(wanted=wanted)
    found = quoted(asked=[request])
    answers = answers_of(found)
    assert {one.side for one in answers} == sides
    assert all((one.instrument, one.quantity) == (ODD, 15) for one in answers)
    assert all(one.instrument != ODD for one in found.drafts if one.request is None)
    offers = [offer for offer, _ in offers_of(found) if offer.request is not None]
    assert all(offer.taker == request.taker and request.misses(offer) is None for offer in offers)
    mark = next(one.mark for one in found.marks if one.instrument == ODD) * 100
    assert all((one.price_cents > mark) == (one.side is Side.ASK) for one in answers)


def test_an_answer_is_of_the_size_at_most_and_within_the_coins_that_the_chain_has_too():
    (answer,) = answers_of(quoted(asked=[asks(quantity=900)]))
    assert answer.quantity == MakingRule().size
    few = Inventory(free=Sats(100_000_000))
    found = quoted(inventory=few, asked=[asks(number=n, taker=bytes([n]) * 32) for n in range(1, 9)])
    locked = sum(locked_by(one.side, one.instrument, one.price, one.quantity) + 20_000 for one in found.drafts)
    assert answers_of(found)
    assert locked <= 50_000_000


def test_a_request_of_what_is_all_risk_leaves_the_chain_its_half_of_every_limit():
    """Asking is free: one request for an option just above its barrier had the maker quote nothing else at all."""
    risky = parse_instrument("BTC-27NOV26-42949672d95-BP-KO59999")
    many = [asks(risky, number=n, taker=bytes([n]) * 32, wanted=Wanted.BOTH) for n in range(1, 9)]
    for asked in (many[:1], many):
        found = quoted(asked=asked)
        assert answers_of(found)
        chain = sum(one.quantity for one in found.drafts if one.request is None)
        assert 2 * chain >= sum(one.quantity for one in quoted().drafts)


def test_who_asks_often_is_answered_after_everybody_else_and_no_more_than_the_rule_allows():
    often = [asks(number=n) for n in range(20)]
    once = [asks(taker=b"u" * 32), asks(taker=b"v" * 32)]
    found = quoted(MakingRule(most_requests=4), asked=[*often, *once])
    answered = [one.request for one in answers_of(found)]
    assert answered == [often[0], *once, often[1]]
    assert "requests: 4 at most" in reasons(found)
    assert len([one for one in found.drafts if one.request is None]) == len(quoted().drafts)
    assert answers_of(quoted(MakingRule(most_requests=0), asked=often)) == []


def test_an_answer_stays_while_its_request_does_and_goes_with_it():
    rule = MakingRule(levels=1)
    found = quoted(rule, asked=[asks(CALL)])
    offers = offers_of(found, valid_until=NOW + 60)
    assert changes(rule, offers, found.drafts, wall=NOW).withdraw == ()
    over = changes(rule, offers, quoted(rule).drafts, wall=NOW)
    assert [one.request for one in over.withdraw] == [asks(CALL).id]
    assert over.post == ()
    other = changes(rule, offers, quoted(rule, asked=[asks(CALL, number=2)]).drafts, wall=NOW)
    assert [one.request.number for one in other.post] == [2]


def test_who_asks_for_a_median_near_its_window_keeps_nobody_waiting_for_samples(monkeypatch):
    sampled = []
    monkeypatch.setattr(premium, "sample_medians", lambda *given, **_: sampled.append(given))  # a second each, if done
    near = replace(ODD, expiry=Slot(NOW - NOW % 60 + 9_000), fixing=parse_fixing("median:60"), barrier=None)
    found = quoted(asked=[asks(near, quantity=10)])
    assert sampled == []
    assert {one.side for one in answers_of(found)}


def test_what_settles_too_soon_is_not_answered():
    soon = asks(replace(ODD, expiry=Slot(NOW - NOW % 60 + 1_800)))
    found = quoted(asked=[soon])
    assert answers_of(found) == []
    assert "life: it settles too soon" in reasons(found)


def written(option, quantity, **more):
    return Written(option=option, terms=CALL.terms(CentiBtc(quantity), Cents(0)), **more)


def test_a_maker_consents_within_its_rules_collateral_the_smallest_first_and_counts_what_stands():
    many = [written("large", 50), written("small", 10), written("middle", 20), written("said", 30, consented=True)]
    plan = consents(MakingRule(consent_sats=Sats(65_000_000)), MARKET, many)
    assert set(plan.seconds) == {"small", "middle"}
    assert plan.left_out == {"large": "50,000,000 sats of collateral, and 5,000,000 are left"}
    assert consents(MakingRule(consent_sats=Sats(29_999_999)), MARKET, many).seconds == {}


def test_a_maker_consents_to_nothing_without_a_rule_nor_against_its_owner_nor_beyond_what_it_would_quote():
    assert consents(MakingRule(), MARKET, [written("one", 10)]).seconds == {}
    rule = MakingRule(consent_sats=Sats(10**9), consent_seconds=600)
    plan = consents(rule, MARKET, [written("one", 10), written("not", 10, declined=True)])
    assert plan.seconds == {"one": 600}
    assert set(plan.left_out) == {"not"}
    left = CALL.expiry - 29 * 60 - MARKET.now
    for least, seconds in ((left - 60, 60), (left, None)):
        plan = consents(replace(rule, least_life_seconds=least), MARKET, [written("one", 10)])
        assert plan.seconds.get("one") == seconds
        assert ("one" in plan.left_out) == (seconds is None)


@pytest.mark.parametrize("wrong", [{"consent_sats": -1}, {"consent_seconds": 59}, {"consent_seconds": 30 * 86_400 + 1}])
def test_a_rule_of_consents_out_of_its_bounds_is_refused(wrong):
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        MakingRule(**wrong)
