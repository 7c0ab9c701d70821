"""Laws of a bilateral swap's amounts: sums, dust, digits, and who owes."""

from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from btcfi.bitcoin.fees import SatsPerKvb, dust_limit
from btcfi.swaps.bilateral.grid import begins_with, buckets, owes_nothing, profit_at
from btcfi.swaps.bilateral.terms import Owner, least_required
from btcfi.swaps.contract import LOT
from btcfi.swaps.onchain import SETTLE_FEE, ReturnGrid
from btcfi.units import Sats
from tests.support.bilateral_swap import WALLETS, graph_of, terms

GRIDS = [ReturnGrid(digits=digits) for digits in (9, 10)]
CAP = SatsPerKvb(100_000)
TERMS = terms(oracles=1, threshold=1, fee_cap=CAP)

grids = st.sampled_from(GRIDS)
margins = st.integers(1, 10_000).map(lambda lots: Sats(LOT * lots))


@given(grids, st.fractions(-1, 1))
def test_a_return_is_rounded_to_the_nearest_step_and_a_loss_as_the_same_gain(grid, part):
    outcome = grid.outcome(part)
    assert abs(grid.part(outcome) - part) <= Fraction(1, 2 * grid.steps)
    assert grid.part(grid.outcome(-part)) == -grid.part(outcome)


@given(grids, margins, st.data())
def test_a_profit_is_the_nearest_satoshi_and_both_parts_of_a_settlement_are_above_dust(grid, required, data):
    step = data.draw(st.integers(-grid.steps, grid.steps))
    profit = profit_at(grid, grid.middle + step, required)
    assert 2 * abs(profit * grid.steps - step * required) < grid.steps
    assert profit_at(grid, grid.middle - step, required) == -profit
    assert abs(profit) in {0, required} or 330 <= abs(profit) <= required - 330


def test_every_number_belongs_to_one_return_and_is_free_for_who_owes_nothing_there():
    for grid in GRIDS:
        known = list(buckets(grid))
        for number in grid.outcomes:
            (mine,) = [outcome for outcome, prefix in known if begins_with(number, prefix, grid)]
            assert grid.part(mine) == grid.part(number)
            for taker, owes in ((True, grid.part(number) < 0), (False, grid.part(number) > 0)):
                inside = [one for one in owes_nothing(grid, taker=taker) if begins_with(number, one, grid)]
                assert len(inside) == (not owes)


@given(st.integers(1, 1_000), st.integers(0, 511))
def test_each_spend_of_a_margin_conserves_it_and_pays_nobody_dust(lots, outcome):
    required = Sats(max(least_required(CAP), LOT * lots))
    graph = graph_of(replace(TERMS, required=required))
    if (debt := graph.debt(outcome)) is None:
        assert outcome == 256
        return
    assert debt.debtor is (Owner.TAKER if outcome < 256 else Owner.PROVIDER)
    settlement = graph.settle(outcome)
    assert sum(output.value for output in settlement.outputs) + SETTLE_FEE == graph.terms.margins[debt.debtor].value
    assert all(output.value >= dust_limit(output.script) for output in settlement.outputs)
    by_script = {output.script: output.value for output in settlement.outputs}
    assert by_script.get(WALLETS[debt.debtor.other].script) == debt.amount
    assert by_script.get(WALLETS[debt.debtor].script, 0) == required - debt.amount
    assert graph.burn(outcome).outputs[0].value == debt.amount + -(-required // 4)
