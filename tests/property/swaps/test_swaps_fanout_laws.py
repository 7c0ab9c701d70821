"""Laws of the fan-out: every satoshi is somebody's at every outcome of any book, whoever burns."""

from fractions import Fraction
from functools import cache
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.bitcoin.fees import DUST_P2TR
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.swaps.contract import CONTRACTS, LOT, MAX_BASIS_PPM, MAX_TARGET_PPM, Rates
from btcfi.swaps.fanout.dues import apportion, debits_of, dues
from btcfi.swaps.fanout.terms import MAX_TAKERS
from btcfi.swaps.onchain import prefixes
from btcfi.swaps.returns import Prices, Side, taker_profit, taker_return
from tests.support.fanning import LOCK, announcements, fan_terms, on_paper

said = cache(lambda digits: announcements(LOCK, digits=digits))
takers = st.lists(
    st.tuples(st.sampled_from(Side), st.integers(7, 500).map(lambda lots: lots * LOT)), min_size=1, max_size=MAX_TAKERS
)
rates = st.builds(
    Rates, target_ppm=st.integers(0, MAX_TARGET_PPM), basis_ppm=st.integers(-MAX_BASIS_PPM, MAX_BASIS_PPM)
)  # fmt: skip
digits = st.sampled_from([4, 5, 9, 10])


@given(takers, rates, digits, st.data())
@settings(max_examples=150, deadline=None)
def test_profits_sum_to_nothing_and_nobody_can_lose_more_than_its_margin(taken, at, size, data):
    terms = fan_terms(taken, rates=at, said=said(size))
    profits = terms.profits(data.draw(st.integers(0, (1 << size) - 1)))
    assert sum(profits) == 0
    for won, required in zip(profits, terms.required, strict=True):
        assert won >= -required  # the provider's too, netted: a matched book at any rates costs it nothing
    for won, taker in zip(profits[1:], terms.takers, strict=True):
        assert won <= taker.required


@given(takers, rates, digits, st.data())
@settings(max_examples=150, deadline=None)
def test_a_settlement_pays_its_margin_out_exactly_and_no_output_is_dust(taken, at, size, data):
    terms = fan_terms(taken, rates=at, said=said(size))
    fan, outcome = on_paper(terms), data.draw(st.integers(0, (1 << size) - 1))
    profits = terms.profits(outcome)
    got = dict.fromkeys((owner.script for owner in terms.owners), 0)
    for loser, debit in debits_of(profits).items():
        settled = fan.settle(loser, outcome)
        assert sum(output.value for output in settled.outputs) == terms.margins[loser].value - terms.settle_fee
        assert settled.outputs[-1].script == P2A_SCRIPT
        assert all(output.value >= DUST_P2TR for output in settled.outputs[:-1])
        for output in settled.outputs[:-1]:
            got[output.script] += output.value
        back = sum(o.value for o in settled.outputs[:-1] if o.script == terms.owners[loser].script)
        assert 0 <= terms.required[loser] - debit - back < DUST_P2TR
    losers = len(debits_of(profits))
    moved = losers * DUST_P2TR * len(taken)  # what no output could carry
    for won, owner in zip(profits, terms.owners, strict=True):
        assert won <= 0 or abs(got[owner.script] - won) <= moved


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=MAX_TAKERS))
def test_every_loser_pays_exactly_its_debit_and_each_winner_in_proportion(taken):
    profits = (-sum(taken), *taken)
    owed, won = dues(profits), {place: one for place, one in enumerate(profits) if one > 0}
    total = sum(won.values())
    assert {loser: sum(parts.values()) for loser, parts in owed.items()} == debits_of(profits)
    for loser, parts in owed.items():
        assert all(part >= DUST_P2TR for part in parts.values())
        for winner, part in parts.items():
            exact = Fraction(-profits[loser] * won[winner], total)
            assert abs(part - exact) <= 2 * len(profits) + DUST_P2TR * len(profits)
    if set(debits_of(profits)) == {place for place, one in enumerate(profits) if one < 0} and all(
        len(parts) == len(won) for parts in owed.values()
    ):
        assert {winner: sum(parts[winner] for parts in owed.values()) for winner in won} == won


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20).filter(any), st.data())
def test_parts_sum_to_the_whole_and_are_within_one_of_their_share(weights, data):
    total = data.draw(st.integers(0, sum(weights)))
    parts = apportion(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Fraction(total * weight, sum(weights))) < 1
        assert 0 <= part <= weight


@given(st.integers(1, 12), st.data())
def test_a_range_of_outcomes_is_covered_by_fewer_than_two_prefixes_a_digit(size, data):
    low = data.draw(st.integers(0, (1 << size) - 1))
    high = data.draw(st.integers(low, (1 << size) - 1))
    found = prefixes(low, high, size)
    ranges = [(prefix << size - length, (prefix + 1 << size - length) - 1) for prefix, length in found]
    assert ranges[0][0] == low
    assert ranges[-1][1] == high
    assert all(before[1] + 1 == after[0] for before, after in pairwise(ranges))
    assert len(found) <= 2 * size


@given(takers, rates, st.integers(700_000, 1_400_000))
@settings(max_examples=100, deadline=None)
def test_a_week_of_the_fan_out_is_the_engine_s_to_half_a_step(taken, at, end):
    contract = CONTRACTS["ETHBTC"]  # quoted in the margin: no exchange rate, so the rates are the published formula's
    terms = fan_terms(taken, rates=at, said=said(9), contract=contract)
    prices = Prices(asset=1_000_000, margin=1), Prices(asset=end, margin=1)
    moved = taker_return(contract, Side.LONG, *prices, Rates(target_ppm=0, basis_ppm=0))
    profits = terms.profits(terms.grid.outcome(moved))
    for won, taker in zip(profits[1:], terms.takers, strict=True):
        exact = taker_profit(taker.required, taker_return(contract, taker.side, *prices, at))
        beyond = max(0, abs(contract.leverage * (Fraction(end, 1_000_000) - 1)) - 1) * taker.required
        assert abs(won - exact) <= Fraction(taker.required, 2 * terms.grid.steps) + 1 + beyond
