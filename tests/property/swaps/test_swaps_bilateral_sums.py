"""Laws of a bilateral swap's amounts: sums, dust, digits, and who owes."""

from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from btcfi.bitcoin.fees import SatsPerKvb, dust_limit
from btcfi.swaps.bilateral.grid import ReturnGrid
from btcfi.swaps.bilateral.terms import SETTLE_FEE, Owner, least_required
from btcfi.swaps.contract import LOT
from btcfi.units import Sats
from tests.support.bilateral_swap import WALLETS, graph_of, terms

GRIDS = [ReturnGrid(digits=digits) for digits in (9, 10)]
CAP = SatsPerKvb(100_000)
TERMS = terms(oracles=1, threshold=1, fee_cap=CAP)

grids = st.sampled_from(GRIDS)
margins = st.integers(1, 10_000).map(lambda lots: Sats(LOT * lots))


@given(grids, st.fractions(-1, 1))
def test_a_return_is_rounded_to_the_nearest_step_and_a_loss_as_the_same_gain(grid, part):
    step = grid.step(part)
    assert abs(Fraction(step, grid.half) - part) <= Fraction(1, 2 * grid.half)
    assert grid.step(-part) == -step
    assert grid.step_of(grid.number(step)) == step


@given(grids, margins, st.data())
def test_a_profit_is_the_nearest_satoshi_and_both_parts_of_a_settlement_are_above_dust(grid, required, data):
    step = data.draw(st.integers(-grid.half, grid.half))
    profit = grid.profit(step, required)
    assert 2 * abs(profit * grid.half - step * required) < grid.half
    assert grid.profit(-step, required) == -profit
    assert abs(profit) in {0, required} or 330 <= abs(profit) <= required - 330


@given(grids, st.data())
def test_prefixes_of_a_range_hold_each_of_its_numbers_once_and_no_other(grid, data):
    low = data.draw(st.integers(0, (1 << grid.digits) - 1))
    high = data.draw(st.integers(low, (1 << grid.digits) - 1))
    held = []
    for prefix in grid.covering(low, high):
        size = grid.digits - prefix.length
        assert 1 <= prefix.length <= grid.digits
        held += range(prefix.bits << size, (prefix.bits + 1) << size)
    assert held == list(range(low, high + 1))


def test_every_number_belongs_to_one_step_and_is_free_for_who_owes_nothing_there():
    for grid in GRIDS:
        prefixes = {step: grid.prefix(step) for step in grid.steps}
        for number in range(1 << grid.digits):
            step = grid.step_of(number)
            (mine,) = [one for one, at in prefixes.items() if number >> (grid.digits - at.length) == at.bits]
            assert mine == step
            for taker, owes in ((True, step < 0), (False, step > 0)):
                inside = [at for at in grid.free(taker=taker) if number >> (grid.digits - at.length) == at.bits]
                assert len(inside) == (not owes)


@given(st.integers(1, 1_000), st.integers(-255, 255))
def test_each_spend_of_a_margin_conserves_it_and_pays_nobody_dust(lots, step):
    required = Sats(max(least_required(CAP), LOT * lots))
    graph = graph_of(replace(TERMS, required=required))
    if (debt := graph.debt(step)) is None:
        assert step == 0
        return
    assert debt.debtor is (Owner.TAKER if step < 0 else Owner.PROVIDER)
    settlement = graph.settle(step)
    assert sum(output.value for output in settlement.outputs) + SETTLE_FEE == graph.terms.margin
    assert all(output.value >= dust_limit(output.script) for output in settlement.outputs)
    by_script = {output.script: output.value for output in settlement.outputs}
    assert by_script.get(WALLETS[debt.debtor.other].script) == debt.amount
    assert by_script.get(WALLETS[debt.debtor].script, 0) == required - debt.amount
    assert graph.burn(step).outputs[0].value == debt.amount + -(-required // 4)
