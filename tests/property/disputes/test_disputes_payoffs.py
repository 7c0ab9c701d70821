"""A payoff is written once: its C in the machine, its twin and its gates give one number, at every price."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.disputes.leaves.program import compile_words
from btcfi.disputes.payoffs import expression as ex
from btcfi.disputes.payoffs import library as lib
from btcfi.disputes.payoffs.gates import width_of
from btcfi.errors import InvalidInputError
from btcfi.options.expiry import SettlementInput, SettlementOutput
from btcfi.options.payoff import settle_in_python
from btcfi.payoffs.netted import ANY_EVENT, netted
from btcfi.payoffs.shapes import SHAPES, Ask
from btcfi.units import MAX_MONEY_SATS, BasisPoints, CentiBtc, Cents, CentsPerBtc, Minutes, Sats
from btcfi.vm.interpreter import run_many
from btcfi.vm.program import load_program
from tests.support.payoff_guest import PayoffGuest
from tests.support.payoff_roads import gates_say, in_whole_numbers, random_expression

EVERY = np.arange(1 << ex.OUTCOME_BITS)[None]
SPOT, STRIKE, CAP, QUANTITY = lib.cents(ex.price(0)), CentsPerBtc(6_000_000), CentsPerBtc(1_500_000), CentiBtc(37)
COLLATERAL = Sats(9_000_000)

SPREADS = {
    "call_spread": (6_000_000, 7_500_000),
    "put_spread": (4_500_000, 6_000_000),
    "butterfly": (5_000_000, 6_000_000, 7_000_000),
    "condor": (4_000_000, 5_500_000, 6_500_000, 8_000_000),
    "collar": (5_000_000, 7_000_000),
    "iron_condor": (4_000_000, 5_500_000, 6_500_000, 8_000_000),
}


def shape_of(name):
    floor = CentsPerBtc(1_000_000)
    return netted(SHAPES[name].payoff(Ask(strikes=SPREADS[name], quantity=QUANTITY, floor=floor)), ANY_EVENT)


def spread(name):
    """A shape of **Payoffs** as an expression of its pieces."""
    found = shape_of(name)
    return lib.of_pieces(found.payoff.pieces, SPOT, holder=found.holder, collateral=found.collateral)


ONE_PRICE = {
    "capped call, cents": lib.in_cents(lib.capped(lib.call_gain(SPOT, STRIKE), CAP), QUANTITY),
    "capped put, cents": lib.in_cents(lib.capped(lib.put_gain(SPOT, STRIKE), CAP), QUANTITY),
    "call, sats": lib.in_sats(lib.call_gain(SPOT, STRIKE), SPOT, QUANTITY, COLLATERAL),
    "put, sats": lib.in_sats(lib.put_gain(SPOT, STRIKE), SPOT, QUANTITY, COLLATERAL),
    "binary call, sats": lib.in_sats(lib.binary_gain(SPOT, STRIKE, up=True), SPOT, QUANTITY, COLLATERAL),
    "binary put, sats": lib.in_sats(lib.binary_gain(SPOT, STRIKE, up=False), SPOT, QUANTITY, COLLATERAL),
    **{name: spread(name) for name in SPREADS},
}
"""Of which every price is compared."""

MINUTES = lib.prices(30)
AVERAGE, LAST = lib.cents(lib.mean(MINUTES)), lib.cents(MINUTES[-1])
PATHS = {
    "mean of 30": lib.mean(MINUTES),
    "median of 5": lib.median(MINUTES[:5]),
    "call on the mean": lib.in_sats(lib.call_gain(AVERAGE, STRIKE), AVERAGE, QUANTITY, COLLATERAL),
    "average strike of 30": lib.average_strike(MINUTES, call=False),
    "call struck at the mean": lib.in_sats(lib.call_gain(LAST, AVERAGE), LAST, QUANTITY, COLLATERAL),
    "put struck at the mean": lib.in_sats(lib.put_gain(LAST, AVERAGE), LAST, QUANTITY, COLLATERAL),
    "up-and-out call": lib.knocked_out(
        lib.touched(MINUTES, 75_000, up=True),
        lib.in_sats(lib.call_gain(LAST, STRIKE), LAST, QUANTITY, COLLATERAL), Sats(21_000),
    ),
    "down-and-out put": lib.knocked_out(
        lib.touched(MINUTES, 50_000, up=False),
        lib.in_sats(lib.put_gain(LAST, STRIKE), LAST, QUANTITY, COLLATERAL), Sats(0),
    ),
}  # fmt: skip

JUDGED = {
    "sum of 8": ex.sum_of(MINUTES[:8]),
    "mean of 4": lib.mean(MINUTES[:4]),
    "median of 3": lib.median(MINUTES[:3]),
    "average strike of 4": lib.average_strike(MINUTES[:4], call=True),
    "binary": lib.binary_gain(ex.price(0), CentsPerBtc(60_000), up=False),
}
"""Whose C has no branch, no memory and nothing wider than a register: engine A computes it, word by word."""

UNTHOUGHT = {f"random {seed}": random_expression(random.Random(seed)) for seed in range(40)}
PAIRS = np.array(np.meshgrid(np.arange(16), np.arange(16))).reshape(2, -1)


@pytest.fixture(scope="module")
def machine():
    return PayoffGuest(ONE_PRICE | PATHS | JUDGED | UNTHOUGHT)


def minutes(seed, count=4_000):
    """Thirty minutes of a price that hardly moves, walks by a barrier, or jumps; ties and ends among them."""
    dice = np.random.default_rng(seed)
    walk = 60_000 + dice.integers(-400, 401, (30, count)).cumsum(axis=0) * dice.choice([1, 5, 20], count)
    third = count // 3
    walk[:, :third] = 60_000 + dice.integers(-2, 3, (30, third))
    walk[:, third : third + 500] = dice.integers(0, 1 << ex.OUTCOME_BITS, (30, 500))
    walk[:, 0], walk[:, 1], walk[:, 2], walk[:, 3] = 0, (1 << ex.OUTCOME_BITS) - 1, 75_000, 50_000
    return np.clip(walk, 0, (1 << ex.OUTCOME_BITS) - 1)


@pytest.mark.parametrize("name", list(ONE_PRICE))
def test_a_payoff_of_one_price_is_one_number_by_three_roads_at_every_price(machine, name):
    value = ONE_PRICE[name]
    twin = ex.values_of(value, EVERY)
    assert (machine.values(name, EVERY) == twin).all()
    assert gates_say(value, EVERY, twin).all()
    assert not gates_say(value, EVERY[:, ::9], twin[::9] ^ 1).any()
    assert len(set(twin.tolist())) > 1


@pytest.mark.parametrize("name", list(PATHS))
def test_a_payoff_of_thirty_minutes_is_one_number_by_three_roads(machine, name):
    value = PATHS[name]
    outcomes = minutes(seed=len(name))
    twin = ex.values_of(value, outcomes)
    assert (machine.values(name, outcomes) == twin).all()
    assert gates_say(value, outcomes[: ex.events_of(value)], twin).all()
    assert len(set(twin.tolist())) > 10


@pytest.mark.parametrize("name", list(UNTHOUGHT))
def test_an_expression_that_nobody_thought_of_is_one_number_by_four_roads(machine, name):
    value = UNTHOUGHT[name]
    twin = ex.values_of(value, PAIRS)
    assert twin.tolist() == [in_whole_numbers(value, pair) for pair in PAIRS.T]
    assert (machine.values(name, PAIRS) == twin).all()
    assert gates_say(value, PAIRS[: ex.events_of(value)], twin, bits=4).all()


@pytest.mark.parametrize("name", list(JUDGED))
def test_what_leaves_judge_is_the_same_c_instruction_by_instruction(machine, name):
    value = JUDGED[name]
    outcomes = minutes(seed=3)[: ex.events_of(value)]
    twin = ex.values_of(value, outcomes)
    program = compile_words(name, machine.words(name), [f"price{at}" for at in range(len(outcomes))])
    assert (program.run(list(outcomes))[program.result] == twin).all()
    assert (machine.values(name, outcomes) == twin).all()
    assert gates_say(value, outcomes, twin).all()


def test_c_that_needs_one_type_alone_compiles():
    for name in ("binary", "mean of 4"):
        assert PayoffGuest({name: JUDGED[name]}).values(name, minutes(seed=4)[:4, :9]).size == 9


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 40))
def test_no_value_leaves_its_bounds_and_gates_have_as_many_wires(seed):
    value = random_expression(random.Random(seed))
    twin = ex.values_of(value, PAIRS)
    assert value.low <= twin.min() <= twin.max() <= value.high
    assert width_of(value) <= 36
    assert gates_say(value, PAIRS[: ex.events_of(value)], twin, bits=4).all()


# ---- what is shipped already


def settlement(kind, spot):
    return SettlementInput(
        option_type=kind, strike=STRIKE, spot=CentsPerBtc(spot), quantity=QUANTITY, barrier_level=CentsPerBtc(0),
        early_exercise=0, time_to_expiry=Minutes(0), volatility=BasisPoints(0), observed_low=CentsPerBtc(spot),
        observed_high=CentsPerBtc(spot), premium=Cents(0), rate=BasisPoints(0), collateral=COLLATERAL,
    )  # fmt: skip


def sampled():
    edges = [0, 1, 2, 59_999, 60_000, 60_001, 94_117, 94_118, (1 << ex.OUTCOME_BITS) - 1]
    return np.unique(np.concatenate([np.arange(0, 1 << ex.OUTCOME_BITS, 97), edges]))


@pytest.mark.parametrize(
    ("kind", "name", "gain"),
    [
        (0, "call, sats", lib.call_gain(SPOT, STRIKE)),
        (1, "put, sats", lib.put_gain(SPOT, STRIKE)),
        (2, "binary call, sats", lib.binary_gain(SPOT, STRIKE, up=True)),
        (3, "binary put, sats", lib.binary_gain(SPOT, STRIKE, up=False)),
    ],
)
def test_the_shipped_guest_and_its_twin_pay_what_the_expression_says(kind, name, gain):
    outcomes = sampled()
    inputs = [settlement(kind, max(100 * one, 1)) for one in outcomes.tolist()]
    raw = run_many(load_program("option_settlement"), [one.to_bytes() for one in inputs])
    said = [SettlementOutput.from_bytes(one) for one in raw]
    assert said == [settle_in_python(one) for one in inputs]
    assert [one.payout_sats for one in said] == ex.values_of(ONE_PRICE[name], outcomes[None]).tolist()
    assert [one.payout for one in said] == ex.values_of(lib.in_cents(gain, QUANTITY), outcomes[None]).tolist()


@pytest.mark.parametrize("name", list(SPREADS))
def test_a_shape_s_expression_pays_its_holder_what_the_shape_does_at_every_price(name):
    paid = shape_of(name).payouts([CentsPerBtc(max(100 * one, 1)) for one in EVERY[0].tolist()])
    assert (ex.values_of(ONE_PRICE[name], EVERY) == np.array(paid)).all()


# ---- what cannot be written


def test_what_could_divide_by_nothing_or_leave_its_bounds_cannot_be_written():
    one = ex.price(0)
    for wrong in (
        lambda: one // one, lambda: one // 0, lambda: (one - 1) // 2, lambda: ex.choose(one, 1, 2),
        lambda: one * (1 << 45), lambda: ex.expressed(-(1 << 62)), lambda: ex.price(-1), lambda: ex.sum_of([]),
        lambda: lib.median([one, one]), lambda: lib.of_pieces([], one, holder=Sats(0), collateral=COLLATERAL),
        lambda: lib.touched([], 1, up=True), lambda: ex.negated(one),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            wrong()
    assert (one * (1 << 44)).high < 1 << 62
    assert MAX_MONEY_SATS < 1 << 62


def test_outcomes_that_no_oracle_attests_have_no_value():
    for outcomes in (np.array([[1 << ex.OUTCOME_BITS]]), np.array([[-1]]), np.empty((0, 1), dtype=np.int64)):
        with pytest.raises(InvalidInputError, match="outcomes"):
            ex.values_of(ex.price(0), outcomes)


def test_an_expression_of_too_many_nodes_is_refused_before_it_is_computed():
    value = ex.price(0)
    for _ in range(ex.MAX_NODES):
        value = ex.least(value, value)
    with pytest.raises(InvalidInputError, match="nodes"):
        ex.nodes_of(value)
