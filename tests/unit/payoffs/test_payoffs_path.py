"""Payoffs of a path's value: a share in an index, books over a path, legs that begin by a barrier."""

import random
from dataclasses import replace

import numpy as np
import pytest

from btcfi.contracts.buckets import ToleranceRule
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import OF_PATH
from btcfi.oracle.fixing import MINUTE
from btcfi.oracle.path import Cliquet, Ladder, parse_path
from btcfi.payoffs.book import book_net, book_of, contract_of
from btcfi.payoffs.book_guest import by_guest, outputs_by
from btcfi.payoffs.curve import Leg, LegKind
from btcfi.payoffs.knock_in import book_with
from btcfi.payoffs.netted import netted
from btcfi.payoffs.participation import Participation
from btcfi.payoffs.path_value import path_value
from btcfi.payoffs.shapes import SHAPES, Ask
from btcfi.payoffs.vector import prices_of
from btcfi.pricing import barrier, black_scholes
from btcfi.units import BasisPoints, CentsPerBtc, Sats
from tests.support.net_books import EXPIRY, FLOOR, PROGRAM, condors, event_of, legs_of
from tests.support.path_events import path_event

C, P = LegKind.CALL, LegKind.PUT
RULE = ToleranceRule(tolerance=BasisPoints(500))
SHARE = Participation(strike=CentsPerBtc(10_000_000), cap=CentsPerBtc(13_000_000), quantity=100)
MARKET = {"spot": 6_000_000, "tau_years": 0.1, "volatility": 0.6, "rate": 0.05}


def over(book, text, **more):
    return event_of(book, version=OF_PATH, path=parse_path(text), fixing=MINUTE, **more)


# ---- a share in an index


def test_a_share_pays_bitcoin_for_points_between_strike_and_cap_at_every_index():
    one = netted(SHARE, path_event("cliquet:60x24:-100:200"))
    assert (one.holder, one.writer) == (0, 30_000_000)
    prices = prices_of(one.event)
    expected = 100_000_000 * (np.clip(prices, 10_000_000, 13_000_000) - 10_000_000) // 10_000_000
    assert SHARE.net(prices.tolist()) == expected.tolist()
    assert one.payouts([CentsPerBtc(11_234_500)]) == [12_345_000]


def test_ranges_of_an_index_cover_every_outcome_and_pay_within_their_tolerance():
    one = netted(SHARE, path_event("cliquet:60x24:-100:200"))
    follows = 0
    for bucket in one.buckets(RULE, premium=Sats(5_000_000)):
        width = 1 << (18 - bucket.length)
        assert bucket.prefix * width == follows
        exact = SHARE.net([one.event.price_of(at) for at in (follows, follows + width - 1)])
        assert exact[0] <= bucket.payout <= exact[1]
        assert exact[1] - exact[0] <= max(5_000_000, exact[0]) * 0.05 + 1
        follows += width
    assert follows == 1 << 18


@pytest.mark.parametrize("changes", [
    {"strike": 0}, {"cap": 10_000_000}, {"cap": 26_214_301}, {"quantity": 0},
])  # fmt: skip
def test_what_makes_no_share_is_refused(changes):
    with pytest.raises(InvalidInputError):
        replace(SHARE, **changes)


# ---- a book says nothing of a path


def test_a_book_is_no_contract_over_a_path_that_nobody_named():
    book = condors()
    named = over(book, "asian:60x24")
    assert contract_of(book, named, path=named.path).collateral == contract_of(book, event_of(book)).collateral
    for event, path in (
        (named, None),
        (event_of(book), named.path),
        (over(book, "asian:60x23"), named.path),
        (over(book, f"ladder:up:{EXPIRY - 600}:120000"), named.path),
    ):
        with pytest.raises(InvalidInputError) as refused:
            contract_of(book, event, path=path)
        assert refused.value.field == "event.path"


def test_the_guest_computes_a_book_over_a_path_at_the_path_s_value():
    book = condors(quantity=10)
    event = over(book, "asian:60x24")
    contract = contract_of(book, event, path=event.path)
    run = by_guest(contract, outputs_by(PROGRAM, event))
    assert run.buckets(RULE, premium=Sats(1_000_000)) == contract.buckets(RULE, premium=Sats(1_000_000))


# ---- legs that begin


def knock_in(kind, strike, level, **more):
    leg = legs_of([(1, kind, strike)])
    return book_with(knock_ins=leg, barrier=CentsPerBtc(100_000 * level), expiry=EXPIRY, **more)


@pytest.mark.parametrize(("kind", "strike", "level"), [(C, 100, 120), (P, 100, 80), (C, 100, 80), (P, 100, 120)])
def test_a_leg_that_begins_is_worth_nothing_until_the_barrier_and_the_whole_leg_after_it(kind, strike, level):
    book = knock_in(kind, strike, level, floor=FLOOR)
    whole = book_of(legs_of([(1, kind, strike)]), expiry=EXPIRY, floor=FLOOR)
    prices = prices_of(event_of(book))
    touched = prices >= 100_000 * level if level > strike else prices <= 100_000 * level
    expected = np.where(touched, book_net(whole, prices), 0)
    # two legs that are summed before the division: not a satoshi is lost between them
    assert (book_net(book, prices) == expected).all()
    assert (book_net(book, prices, touched=True) == book_net(whole, prices)).all()
    contract = contract_of(book, event_of(book))
    assert contract.holder == 0
    assert by_guest(contract, outputs_by(PROGRAM, contract.event)).buckets(RULE, premium=Sats(1_000_000)) == (
        contract.buckets(RULE, premium=Sats(1_000_000))
    )


def test_what_begins_and_what_ends_by_one_barrier_are_the_leg_itself_and_need_no_barrier():
    leg, level = legs_of([(1, C, 100)]), CentsPerBtc(12_000_000)
    with pytest.raises(InvalidInputError) as refused:
        book_with(knock_ins=leg, knock_outs=leg, barrier=level, expiry=EXPIRY)
    assert refused.value.field == "barrier"
    more = book_with(knock_ins=leg, knock_outs=legs_of([(1, C, 100)], 101), barrier=level, expiry=EXPIRY)
    assert more == book_of(leg, knock_outs=legs_of([(1, C, 100)], 1), barrier=level, expiry=EXPIRY)


def test_a_leg_that_begins_on_the_other_side_of_the_barrier_than_another_is_refused():
    with pytest.raises(InvalidInputError):
        book_with(knock_ins=legs_of([(1, C, 100), (1, C, 130)]), barrier=CentsPerBtc(12_000_000), expiry=EXPIRY)


def test_random_books_with_legs_that_begin_end_and_stay_equal_the_sum_of_their_parts():
    draw = random.Random(77)
    for _ in range(40):
        level = CentsPerBtc(100 * draw.randrange(60_000, 140_000))
        below = draw.random() < 0.5

        def some(level=level, below=below):
            strikes = [k for k in range(6_000_000, 14_000_000, 50_000) if (k < level) == below and k != level]
            return [Leg(kind=draw.choice((C, P)), strike=CentsPerBtc(draw.choice(strikes)),
                        quantity=draw.choice((-1, 1)) * draw.randrange(1, 100)) for _ in range(3)]  # fmt: skip

        begins, ends, stays = some(), some(), some()
        book = book_with(stays, knock_ins=begins, knock_outs=ends, barrier=level, expiry=EXPIRY, floor=FLOOR)
        if book.barrier is None:
            continue
        prices = np.sort(np.array([draw.randrange(100, 26_000_000) for _ in range(500)]))
        reached = (prices >= level) if below else (prices <= level)
        alive = book_of([*stays, *ends], expiry=EXPIRY, floor=FLOOR)
        begun = book_of([*stays, *begins], expiry=EXPIRY, floor=FLOOR)
        assert (book_net(book, prices) == np.where(reached, book_net(begun, prices), book_net(alive, prices))).all()
        assert (book_net(book, prices, touched=True) == book_net(begun, prices)).all()


def test_a_leg_that_begins_is_priced_as_the_whole_less_the_one_that_ends():
    market = {"spot": 60_000.0, "strike": 62_000.0, "tau_years": 0.2, "volatility": 0.6, "rate": 0.05}
    for kind, level in ((0, 70_000.0), (1, 55_000.0)):
        begins = barrier.premium(kind, barrier=level, knock_in=True, **market)
        ends = barrier.premium(kind, barrier=level, **market)
        assert begins + ends == pytest.approx(black_scholes.premium(kind, **market), rel=1e-12)
        assert begins > 0.0


# ---- what it is worth


def curve(name, *strikes, floor=None):
    return SHAPES[name].payoff(Ask(strikes=strikes, floor=floor))


def test_a_payoff_of_a_path_is_worth_less_as_a_mean_and_more_as_a_ladder_than_at_the_end():
    call = curve("call", 6_000_000)
    at_the_end = black_scholes.premium(0, spot=6e4, strike=6e4, tau_years=0.1, volatility=0.6, rate=0.05)
    mean = path_value(call, parse_path("asian:1440x30"), **MARKET)
    assert 0.4 * at_the_end < mean.premium < 0.75 * at_the_end
    assert mean.error < 0.001 * mean.premium
    assert mean == path_value(call, parse_path("asian:1440x30"), **MARKET)
    up = path_value(call, parse_path("ladder:up:60:65000/70000"), **MARKET)
    assert at_the_end < up.premium < 2 * at_the_end
    far = path_value(call, parse_path("ladder:up:60:250000"), **MARKET)
    assert far.premium == pytest.approx(at_the_end, rel=1e-9)


def test_known_observations_count_and_missing_ones_are_asked_for():
    call, path = curve("call", 6_000_000), parse_path("asian:1440x4")
    market = MARKET | {"tau_years": 1.5 / 365}
    for wrong in ((), (6_000_000,), (6_000_000,) * 3):
        with pytest.raises(InvalidInputError) as refused:
            path_value(call, path, observed=wrong, **market)
        assert refused.value.field == "observed"
    low, high = (path_value(call, path, observed=(at,) * 2, **market).premium for at in (5_900_000, 6_600_000))
    assert low < high
    assert high == pytest.approx((6_300_000 - 6_000_000) / 100 * 60_000 / 63_000, rel=0.05)


def test_a_cliquet_is_priced_by_its_whole_and_not_once_it_has_begun():
    path = parse_path("cliquet:1440x30:-200:300")
    assert isinstance(path, Cliquet)
    worth = path_value(SHARE, path, **MARKET)
    assert 0.0 < worth.premium < 0.3 * 60_000
    assert worth.error < 0.01
    with pytest.raises(InvalidInputError) as refused:
        path_value(SHARE, path, **(MARKET | {"tau_years": 29 / 365}))
    assert refused.value.field == "tau_years"


def test_a_wave_of_a_path_has_no_price_and_a_reached_rung_counts():
    wave = SHAPES["sinusoid"].payoff(Ask(strikes=(6_000_000,), amounts={"period": 1_000_000}, floor=100_000))
    with pytest.raises(InvalidInputError):
        path_value(wave, parse_path("asian:60x24"), **MARKET)
    ladder = parse_path("ladder:up:60:65000/70000")
    assert isinstance(ladder, Ladder)
    call = curve("call", 6_000_000)
    held = path_value(call, ladder, reached=2, **MARKET).premium
    assert held > path_value(call, ladder, reached=1, **MARKET).premium > path_value(call, ladder, **MARKET).premium
    assert held >= 10_000 / 70_000 * 60_000
