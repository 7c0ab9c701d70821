"""A chain: marks from what stands, volatilities that invert our own premium, and smiles through them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from btcfi.market.chain import Best, MarkFrom, lines_of, priced_cells, smile_of
from btcfi.market.instrument import Instrument, parse_instrument
from btcfi.market.positions import View
from btcfi.options.terms import OptionKind
from btcfi.pricing.premium import Book, premiums
from btcfi.pricing.surface import flat_surface
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats, Slot, UnixSeconds

NOW = UnixSeconds(1_790_000_000)
EXPIRY = Slot((NOW // 86_400 + 7) * 86_400 + 8 * 3_600)
MARKET = View(spot=CentsPerBtc(6_000_000), surface=flat_surface(0.5), rate=0.03, now=NOW)
STRIKES = [CentsPerBtc(usd * 100) for usd in range(52_000, 69_000, 2_000)]


def instruments(*kinds: OptionKind) -> list[Instrument]:
    return [Instrument(kind=kind, strike=strike, expiry=EXPIRY) for strike in STRIKES for kind in kinds]


def best(cents: float) -> Best:
    sats = Sats(round(cents * 1e8 / MARKET.spot / 1_000) * 1_000)
    return Best(price=sats, price_cents=Cents(round(cents)), quantity=CentiBtc(5), depth=CentiBtc(20), offers=2)


def worth(many: list[Instrument], volatility: float | np.ndarray) -> np.ndarray:
    book = Book.of(one.terms(CentiBtc(100), Cents(0)) for one in many)
    at = premiums(book, spot=MARKET.spot, volatility=volatility, rate=MARKET.rate, now=NOW)
    return at.premium * 100


def two_sided(many: list[Instrument], volatility: float = 0.7, spread: float = 0.02) -> dict:
    low, high = worth(many, volatility - spread), worth(many, volatility + spread)
    return {one.name: (best(low[i]), best(high[i])) for i, one in enumerate(many)}


def test_a_mark_is_the_middle_of_two_sides_and_says_where_else_it_comes_from():
    many = instruments(OptionKind.CALL, OptionKind.PUT)
    assert {cell.mark_from for cell in priced_cells(many, {}, MARKET)} == {MarkFrom.MODEL}
    tops = two_sided(many[8:12])
    bid, _ = tops[many[8].name]
    tops[many[2].name] = (bid, None)
    cells = {cell.instrument.name: cell for cell in priced_cells(many, tops, MARKET)}
    quoted, one_sided, bare = (cells[many[i].name] for i in (8, 2, 0))
    low, high = tops[many[8].name]
    assert (low.price_cents + high.price_cents) / 2 == pytest.approx(quoted.mark_cents, abs=0.51)
    assert quoted.mark_from is MarkFrom.OFFERS
    assert quoted.bid_volatility < quoted.volatility < quoted.ask_volatility
    assert one_sided.mark_from is bare.mark_from is MarkFrom.NEIGHBOURS
    assert bare.volatility == pytest.approx(0.7, abs=0.01), "not the realised volatility, which is 0.5"
    assert bare.mark_cents == pytest.approx(worth([many[0]], bare.volatility)[0], abs=1)


def test_the_strikes_are_lines_with_calls_to_one_side_and_puts_to_the_other():
    cells = priced_cells(instruments(*OptionKind), {}, MARKET)
    lines = lines_of(cells)
    assert [line.strike for line in lines] == STRIKES
    for line in lines:
        assert [c.instrument.kind for c in line.calls] == [OptionKind.CALL, OptionKind.BINARY_CALL]
        assert [c.instrument.kind for c in line.puts] == [OptionKind.PUT, OptionKind.BINARY_PUT]
        assert 0 <= line.calls[0].delta <= 1
        assert -1 <= line.puts[0].delta <= 0
    assert priced_cells([], {}, MARKET) == ()


def test_a_smile_goes_through_the_middles_of_the_side_that_is_out_of_the_money():
    many = instruments(OptionKind.CALL, OptionKind.PUT)
    smile = smile_of(EXPIRY, priced_cells(many, two_sided(many), MARKET), MARKET)
    assert [point.strike for point in smile.points] == STRIKES
    assert smile.at_the_money == pytest.approx(0.7, abs=0.01)
    assert all(p.bid < p.middle < p.ask for p in smile.points)
    assert all(smile.volatility(p.strike / 100) == pytest.approx(p.middle, abs=0.02) for p in smile.points)
    assert smile.arbitrage == ()
    alone = smile_of(EXPIRY, priced_cells(many, {}, MARKET), MARKET)
    assert (alone.points, alone.curve, alone.at_the_money) == ((), None, None)
    assert smile_of(EXPIRY, (), replace(MARKET, now=UnixSeconds(EXPIRY))) is None


def test_a_barrier_has_no_implied_volatility_and_no_place_on_the_smile():
    one = parse_instrument(Instrument(kind=OptionKind.CALL, strike=STRIKES[5], expiry=EXPIRY).name + "-KO80000")
    (cell,) = priced_cells([one], {one.name: (best(10_000.0), best(30_000.0))}, MARKET)
    assert cell.mark_from is MarkFrom.OFFERS
    assert (cell.mark_cents, cell.volatility) == (20_000, None)
    assert smile_of(EXPIRY, [cell], MARKET).points == ()


def test_a_price_deep_in_the_money_tells_no_volatility_and_leaves_the_other_side_alone():
    many = instruments(OptionKind.CALL, OptionKind.PUT)
    soon = [replace(one, expiry=Slot(NOW // 86_400 * 86_400 + 86_400 + 8 * 3_600)) for one in many]
    view = replace(MARKET, now=UnixSeconds(soon[0].expiry - 3_600))
    deep = soon[0]  # a call an hour before its end, 8,000 dollars in the money: a tick is many points
    cents = Cents(view.spot - deep.strike + 80)
    cells = {c.instrument.name: c for c in priced_cells(soon, {deep.name: (best(cents), best(cents + 300))}, view)}
    assert cells[deep.name].volatility is None
    assert cells[deep.name].mark_from is MarkFrom.OFFERS
    put = cells[soon[1].name]
    assert (put.volatility, put.mark_from) == (0.5, MarkFrom.MODEL), "no neighbour has said anything"
