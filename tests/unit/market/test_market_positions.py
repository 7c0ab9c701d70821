"""Marks, Greeks, explained profit and tickets: against finite differences, the portfolio's sums and known payoffs."""

from dataclasses import replace

import numpy as np
import pytest

from btcfi.errors import InvalidInputError
from btcfi.market.instrument import parse_instrument
from btcfi.market.listing import listed
from btcfi.market.positions import (
    Position,
    View,
    at_risk,
    break_even,
    curves,
    explain,
    greeks,
    greeks_by,
    holdings,
    implied_volatilities,
    mark_instruments,
    marks,
    ticket,
    what_if,
)
from btcfi.pricing import portfolio
from btcfi.pricing.surface import VolatilityQuote, fit_surface, flat_surface
from btcfi.units import MAX_U32
from settings.market_preset import load_market_preset

EXPIRY = 1_795_766_400
NOW = EXPIRY - 10 * 86_400
YEAR = 365 * 86_400

SMILE = fit_surface(
    [
        VolatilityQuote(strike=strike, tau_years=days * 86_400 / YEAR, volatility=level, forward=60_000.0)
        for days, up in ((3, 0.05), (30, 0.0))
        for strike, level in (
            (45_000, 0.72 + up), (52_000, 0.64 + up), (60_000, 0.58 + up), (68_000, 0.60 + up), (80_000, 0.67 + up))
    ],
    refuse_arbitrage=False,
)  # fmt: skip
VIEW = View(spot=6_000_000, surface=SMILE, rate=0.05, now=NOW)
FLAT = View(spot=6_000_000, surface=flat_surface(0.6), rate=0.05, now=NOW)

NAMES = (
    "BTC-27NOV26-60000-C", "BTC-27NOV26-50000-P", "BTC-25DEC26-65000-BC", "BTC-25DEC26-50000-BP",
    "BTC-27NOV26-60000-C-KO90000", "BTC-25DEC26-62000-P-AM", "BTC-25DEC26-70000-C-MEDIAN5", "BTC-27NOV26-50000-C",
)  # fmt: skip


def position(name, quantity=50, *, bought=True, cents=10_000, sats=200_000, knocked_out=False):
    return Position(
        option_id=name, terms=parse_instrument(name).terms(quantity, cents), bought=bought, premium=sats,
        knocked_out=knocked_out,
    )  # fmt: skip


BOOK = [position(name, 10 * (i + 1), bought=i % 3 != 1) for i, name in enumerate(NAMES)]


def worth(positions, view):
    return sum(one.value_cents for one in marks(positions, view)) / 100


# ---- marks


def test_a_position_is_worth_its_quantity_of_the_instruments_mark():
    at = {one.instrument.name: one for one in mark_instruments([parse_instrument(name) for name in NAMES], VIEW)}
    for one in marks(BOOK, VIEW):
        unit = at[one.position.option_id]
        assert one.value_cents == pytest.approx(
            one.position.sign * unit.price_cents * one.position.terms.quantity / 100, abs=2
        )
        assert one.value_sats == pytest.approx(one.value_cents / VIEW.spot * 1e8, abs=100)
        assert one.volatility == unit.volatility


def test_profit_is_the_value_against_what_was_paid_or_got():
    bought, written = marks([position(NAMES[0]), position(NAMES[0], bought=False)], VIEW)
    assert bought.profit_cents == bought.value_cents - 10_000
    assert written.profit_cents == 10_000 + written.value_cents
    assert bought.profit_cents == -written.profit_cents
    assert bought.profit_sats == bought.value_sats - 200_000


def test_a_knocked_out_position_is_worth_nothing_and_keeps_its_place():
    dead = position("BTC-27NOV26-60000-C-KO90000", knocked_out=True)
    before, at, after = marks([BOOK[0], dead, BOOK[1]], VIEW)
    assert (at.value_cents, at.profit_cents, at.greeks.delta_btc) == (0, -10_000, 0.0)
    assert (before, after) == (marks([BOOK[0]], VIEW)[0], marks([BOOK[1]], VIEW)[0])
    assert greeks([BOOK[0], dead], VIEW) == greeks([BOOK[0]], VIEW)


def test_nothing_held_is_worth_nothing():
    assert marks([], VIEW) == mark_instruments([], VIEW) == ()
    assert greeks([], VIEW).value == 0.0
    assert explain([], VIEW, VIEW).whole == 0
    assert at_risk([]) == 0


def test_each_option_is_priced_at_the_surfaces_volatility_of_its_strike_and_time():
    found = mark_instruments([parse_instrument(name) for name in NAMES], VIEW)
    for one in found:
        tau = (one.instrument.expiry - NOW) / YEAR
        level = SMILE.volatility(
            strike=one.instrument.strike / 100, forward=60_000 * np.exp(0.05 * tau), tau_years=tau
        )  # fmt: skip
        assert one.volatility == pytest.approx(float(level), rel=1e-12)
    assert len({round(one.volatility, 6) for one in found}) > 4


# ---- implied volatility


def test_an_implied_volatility_is_the_one_that_made_the_price():
    many = [parse_instrument(name) for name in NAMES]
    at = mark_instruments(many, VIEW)
    found = implied_volatilities(many, [one.price_cents for one in at], VIEW)
    for one, level in zip(at, found, strict=True):
        plain = not (one.instrument.kind.is_binary or one.instrument.barrier or one.instrument.american)
        assert (level is not None) == plain
        if level is not None:
            assert level == pytest.approx(one.volatility, abs=0.01 / one.vega / 100 + 1e-9)  # a cent's rounding


def test_a_whole_chains_implied_volatilities_cost_its_prices_again():
    rule = load_market_preset("standard").listing
    chain = [one for one in listed(rule, NOW, VIEW.spot) if one.expiry > NOW]
    prices = [one.price_cents for one in mark_instruments(chain, VIEW)]
    found = implied_volatilities(chain, prices, FLAT)  # the search begins elsewhere than the truth
    told = [(one, cents, level) for one, cents, level in zip(chain, prices, found, strict=True) if level is not None]
    assert len(told) > len(chain) / 2  # the others are worth their intrinsic value to the cent
    for one, cents, level in told:
        again = mark_instruments([one], replace(FLAT, surface=flat_surface(level)))[0]
        assert abs(again.price_cents - cents) <= 1


def test_a_price_that_no_volatility_has_implies_none():
    call = parse_instrument("BTC-27NOV26-50000-C")
    assert implied_volatilities([call] * 3, [990_000, 6_000_001, 1], VIEW) == (None, None, None)
    expired = replace(VIEW, now=EXPIRY)
    assert implied_volatilities([call], [1_000_000], expired) == (None,)
    with pytest.raises(InvalidInputError):
        implied_volatilities([call], [], VIEW)


# ---- Greeks


def test_greeks_are_those_of_finite_differences():
    def worth(**moved):
        return greeks(BOOK, replace(FLAT, **moved)).value  # not rounded, as a mark is

    its, here = greeks(BOOK, FLAT), worth()
    up, down = worth(spot=FLAT.spot + 10_000), worth(spot=FLAT.spot - 10_000)
    assert its.delta_btc == pytest.approx((up - down) / 200, rel=1e-4, abs=1e-4)
    assert its.gamma_btc == pytest.approx((up - 2 * here + down) / 10_000 * 600, rel=0.01, abs=1e-4)
    more, less = worth(surface=flat_surface(0.601)), worth(surface=flat_surface(0.599))
    assert its.vega == pytest.approx((more - less) / 0.2, rel=1e-3, abs=1e-3)
    assert its.theta == pytest.approx((worth(now=NOW + 600) - here) * 144, rel=0.01, abs=0.5)


@pytest.mark.parametrize(
    "key", [lambda one: one.terms.expiry, lambda one: one.terms.strike, lambda one: one.option_id, lambda one: None]
)
def test_greeks_by_expiry_or_strike_sum_to_those_of_all(key):
    parts = greeks_by(BOOK, VIEW, key)
    assert set(parts) == {key(one) for one in BOOK}
    whole = greeks(BOOK, VIEW)
    for name in ("value", "delta_btc", "gamma_btc", "vega", "theta", "rho"):
        assert sum(getattr(one, name) for one in parts.values()) == pytest.approx(getattr(whole, name), abs=1e-9)
    for group, its in parts.items():
        alone = greeks([one for one in BOOK if key(one) == group], VIEW)
        assert its.value == pytest.approx(alone.value, abs=1e-9)
        assert its.delta_btc == pytest.approx(alone.delta_btc, abs=1e-12)


# ---- explained profit


AFTER = View(spot=6_030_000, surface=flat_surface(0.61), rate=0.05, now=NOW + 3_600)


def test_the_parts_of_a_profit_are_the_whole_to_the_cent():
    for positions in (BOOK, BOOK[:1], BOOK[2:5]):
        told = explain(positions, VIEW, AFTER)
        assert told.delta + told.gamma + told.vega + told.theta + told.residual == told.whole
        assert told.whole / 100 == pytest.approx(worth(positions, AFTER) - worth(positions, VIEW), abs=0.05)


def test_a_small_move_of_one_thing_is_explained_by_its_own_part():
    book = [position("BTC-25DEC26-60000-C", 1_000), position("BTC-25DEC26-55000-P", 700, bought=False)]
    spot = explain(book, FLAT, replace(FLAT, spot=6_010_000))
    assert (spot.vega, spot.theta) == (0, 0)
    assert abs(spot.residual) < 0.01 * abs(spot.whole)
    level = explain(book, FLAT, replace(FLAT, surface=flat_surface(0.605)))
    assert (level.delta, level.gamma, level.theta) == (0, 0, 0)
    assert abs(level.residual) < 0.02 * abs(level.whole)
    time = explain(book, FLAT, replace(FLAT, now=NOW + 3_600))
    assert (time.delta, time.gamma, time.vega) == (0, 0, 0)
    assert abs(time.residual) < 0.02 * abs(time.whole)


def test_a_smile_that_moves_at_one_strike_moves_what_is_there():
    book = [position("BTC-25DEC26-70000-C", 1_000)]
    told = explain(book, FLAT, replace(FLAT, surface=SMILE))
    volatility = marks(book, replace(FLAT, surface=SMILE))[0].volatility
    assert told.vega == pytest.approx(greeks(book, FLAT).vega * (volatility - 0.6) * 100 * 100, abs=1)
    assert told.delta == told.gamma == told.theta == 0


def test_time_does_not_run_backwards():
    with pytest.raises(InvalidInputError):
        explain(BOOK, VIEW, replace(VIEW, now=NOW - 1))


# ---- what if


def test_a_what_if_is_the_value_under_the_moved_market():
    grid = what_if(BOOK, VIEW, spot_moves=[-0.1, 0.0, 0.1], volatility_moves=[0.0], days=[0.0, 1.0])
    assert grid.profit[0, 0, 1] == 0.0
    moved = replace(VIEW, now=NOW + 86_400)
    held = holdings(BOOK)
    market = replace(moved.market(held.book), volatility=VIEW.volatilities(held.book))
    assert grid.profit[1, 0, 1] == pytest.approx(
        portfolio.value(held, market) - portfolio.value(held, VIEW.market(held.book)), abs=1e-9
    )


def test_a_margin_takes_a_volatility_an_option():
    held = holdings(BOOK)
    each = portfolio.margin(held, VIEW.market(held.book))
    written = [one for one in BOOK if not one.bought]
    alone = holdings(written)
    assert each == portfolio.margin(alone, VIEW.market(alone.book))
    assert each.liability_cents == pytest.approx(-100 * worth(written, VIEW), abs=5)


# ---- worst case


def test_no_position_costs_more_than_what_its_owner_put_in():
    bought, written = position(NAMES[3], 10), position(NAMES[3], 10, bought=False)
    assert bought.at_risk == 200_000
    assert written.at_risk == 20_000_000 - 200_000
    assert at_risk([bought, written]) == 20_000_000


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("price", [100, 1_000, 20_000, 49_999, 60_001, 100_000, 40_000_000])
def test_a_writer_never_pays_more_than_the_collateral_at_any_price(name, price):
    held = holdings([position(name, 100)])
    paid = float(portfolio.payoff_profile(held, float(price))[0])
    assert paid <= held.collateral_sats[0] / 1e8 * price + 1e-9


# ---- break-even


@pytest.mark.parametrize(
    ("name", "cents", "expected"),
    [
        ("BTC-27NOV26-60000-C", 100_000, (6_100_000,)),
        ("BTC-27NOV26-60000-P", 100_000, (100_000, 5_900_001)),  # the collateral is worth the premium at $1,000
        ("BTC-27NOV26-60000-BC", 100_000, (6_000_001,)),
        ("BTC-27NOV26-60000-BP", 100_000, (50_000, 6_000_000)),
        ("BTC-27NOV26-60000-BC", 6_000_001, ()),  # more than it can ever pay
        ("BTC-27NOV26-60000-P", 3_000_001, ()),
        ("BTC-27NOV26-60000-C-KO70000", 100_000, (6_100_000, 7_000_000)),
        ("BTC-27NOV26-60000-C-KO60500", 100_000, ()),
        ("BTC-27NOV26-60000-P-KO50000", 100_000, (5_000_001, 5_900_001)),
        ("BTC-27NOV26-60000-C", 0, ()),
    ],
)
def test_an_option_breaks_even_where_its_payoff_is_its_premium(name, cents, expected):
    assert break_even(parse_instrument(name).terms(100, cents)) == expected


def test_the_break_even_of_a_part_is_that_of_its_share_of_the_premium():
    assert break_even(parse_instrument(NAMES[0]).terms(10, 10_000)) == (6_100_000,)


# ---- tickets


def test_a_ticket_shows_what_is_locked_lost_at_worst_and_where_it_turns():
    call = parse_instrument(NAMES[0])
    for bought, locked, risked in ((True, 200_000, 200_000), (False, 10_000_000, 9_800_000)):
        shown = ticket(call, 10, bought=bought, premium=200_000, premium_cents=12_000, view=VIEW)
        assert (shown.locked, shown.at_risk, shown.break_even) == (locked, risked, (6_120_000,))
        assert shown.mark.profit_cents == shown.mark.value_cents - (1 if bought else -1) * 12_000
    with pytest.raises(InvalidInputError):
        ticket(call, 0, bought=True, premium=200_000, premium_cents=12_000, view=VIEW)


@pytest.mark.parametrize("name", NAMES)
def test_the_curves_of_both_sides_mirror_each_other_and_meet_the_mark(name):
    long, short = (position(name, 100, bought=bought, cents=50_000) for bought in (True, False))
    one, other = curves(long, VIEW), curves(short, VIEW)
    assert np.all(np.diff(one.spots) > 0)
    np.testing.assert_allclose(one.at_expiry, -other.at_expiry)
    np.testing.assert_allclose(one.today, -other.today)
    here = curves(long, VIEW, [VIEW.spot])
    assert here.today[0] == pytest.approx(marks([long], VIEW)[0].profit_cents / 100, abs=0.01)
    # a buyer's worst is its premium, and so is the curve's
    assert one.at_expiry.min() >= -500.0


def test_a_curve_at_expiry_is_the_payoff_less_the_premium():
    drawn = curves(position(NAMES[0], 100, cents=100_000), VIEW, [5_000_000, 6_000_000, 6_100_000, 7_000_000])
    np.testing.assert_allclose(drawn.at_expiry, [-1_000, -1_000, 0, 9_000])
    gone = curves(position(NAMES[4], 100, cents=100_000, knocked_out=True), VIEW, [5_000_000, 7_000_000])
    np.testing.assert_allclose(gone.today, [-1_000, -1_000])


def test_the_largest_and_the_smallest_price_are_drawn():
    for spot in (1, 100, MAX_U32):
        drawn = curves(position(NAMES[0], 1), replace(VIEW, spot=spot))
        assert drawn.spots.size >= 1
        assert np.isfinite(drawn.today).all()
