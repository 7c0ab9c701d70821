"""Each named shape against its published formula, in fractions, to the satoshi; each wrong request by its field."""

from fractions import Fraction
from math import floor

import pytest

from btcfi.errors import ConflictError, InvalidInputError, NotFoundError
from btcfi.payoffs.curve import FloorMissingError, Leg, LegKind
from btcfi.payoffs.netted import netted
from btcfi.payoffs.shapes import SHAPES, Ask, find, shape, shapes_with
from btcfi.units import CentiBtc, CentsPerBtc
from tests.support.contracts import event

SATS = 1_000_000
"""A hundredth of a bitcoin."""


def call(s, k):
    return max(s - k, 0)


def put(s, k):
    return max(k - s, 0)


def clip(s, low, high):
    return min(max(s, low), high)


FORMULAS = {
    "call": call,
    "put": put,
    "binary_call": lambda s, k: k if s > k else 0,
    "binary_put": lambda s, k: k if s < k else 0,
    "forward": lambda s, k: s - k,
    "call_spread": lambda s, a, b: min(call(s, a), b - a),
    "put_spread": lambda s, a, b: min(put(s, b), b - a),
    "straddle": lambda s, k: abs(s - k),
    "strangle": lambda s, a, b: max(a - s, s - b, 0),
    "butterfly": lambda s, a, b, _: max(b - a - abs(s - b), 0),
    "iron_butterfly": lambda s, a, b, c: -min(abs(s - b), b - a if s < b else c - b),
    "condor": lambda s, a, b, c, d: min(call(s, a), b - a, put(s, d)),
    "iron_condor": lambda s, a, b, c, d: -min(put(s, b), b - a) - min(call(s, c), d - c),
    "collar": lambda s, a, b: clip(s, a, b) - s,
    "risk_reversal": lambda s, a, b: s - clip(s, a, b),
    "capped_forward": lambda s, a, b: min(s, b) - a,
    "floored_forward": lambda s, a, b: max(s, a) - b,
    "range_forward": lambda s, a, b, c: clip(s, a, c) - b,
    "digital_ladder": lambda s, *k: 1_234 * sum(s > one for one in k),
}
"""Dollars of one bitcoin at the price, each written in another way than the shape has it."""

STRIKES = {1: (9_437_750,), 2: (9_100_001, 10_750_099), 3: (8_800_000, 9_312_345, 9_824_690), 4: (8_750_050, 9_250_000,
    10_400_000, 10_899_950)}  # fmt: skip
FLOOR = 4_000_033
QUANTITIES = (1, 37, 100, 12_345)
PRICES = sorted({
    1, 50, FLOOR - 1, FLOOR, FLOOR + 1, 26_214_300, *range(4_000_000, 26_000_000, 777_777),
    *(strike + extra for strikes in STRIKES.values() for strike in strikes for extra in (-100, -1, 0, 1, 100)),
})  # fmt: skip


def asked(name, *, quantity=100, floor=FLOOR, count=None):
    one = SHAPES[name]
    amounts = {"step": CentsPerBtc(1_234), "period": CentsPerBtc(2_000_000)}
    return Ask(
        strikes=STRIKES[count or len(one.strikes)], quantity=CentiBtc(quantity), floor=floor,
        amounts={word: amounts[word] for word in one.amounts},
    )  # fmt: skip


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("name", FORMULAS)
def test_a_named_shape_is_its_published_formula_to_the_satoshi(name, quantity):
    count = 4 if name == "digital_ladder" else len(SHAPES[name].strikes)
    payoff = SHAPES[name].payoff(asked(name, quantity=quantity, count=count))
    for price in PRICES:
        at = max(price, FLOOR)
        dollars = Fraction(FORMULAS[name](at, *STRIKES[count]))
        assert payoff.net_at(price) == floor(dollars * quantity * SATS / at), price


def test_every_named_shape_is_held_against_a_formula():
    assert set(FORMULAS) | {"stable_dollar", "sinusoid"} == set(SHAPES)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_stable_dollar_position_is_worth_its_dollars_within_the_range_and_its_bitcoin_outside(quantity):
    bottom, entry, top = STRIKES[3]
    payoff = SHAPES["stable_dollar"].payoff(asked("stable_dollar", quantity=quantity, floor=None))
    held = quantity * SATS
    for price in PRICES:
        assert held + payoff.net_at(price) == floor(Fraction(held * entry, clip(price, bottom, top))), price


def test_what_a_shape_s_seller_gains_its_buyer_loses_and_both_put_in_their_worst_alone():
    for name, one in SHAPES.items():
        each = netted(one.payoff(asked(name)), event())
        prices = [CentsPerBtc(100 * dollars) for dollars in range(30_000, 262_000, 997)]
        paid = each.payouts(prices)
        assert all(0 <= payout <= each.collateral for payout in paid), name
        assert each.collateral == each.holder + each.writer


UNBOUNDED = {
    "put", "binary_put", "forward", "put_spread", "straddle", "strangle", "iron_butterfly", "iron_condor", "collar",
    "risk_reversal", "capped_forward", "floored_forward", "range_forward",
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_that_is_worth_dollars_at_no_price_asks_for_a_floor_and_the_others_do_not(name):
    if name in UNBOUNDED:
        with pytest.raises(FloorMissingError) as refused:
            SHAPES[name].payoff(asked(name, floor=None))
        assert refused.value.field == "floor"
    else:
        bare, held = SHAPES[name].payoff(asked(name, floor=None)), SHAPES[name].payoff(asked(name))
        assert bare.net_at(9_300_000) == held.net_at(9_300_000)


WRONG = {
    "too few strikes": ("condor", {"strikes": STRIKES[3]}, "strikes"),
    "too many strikes": ("call", {"strikes": STRIKES[2]}, "strikes"),
    "no strikes": ("digital_ladder", {"strikes": ()}, "strikes"),
    "65 steps": ("digital_ladder", {"strikes": tuple(range(5_000_000, 5_000_065))}, "strikes"),
    "strikes that fall": ("strangle", {"strikes": STRIKES[2][::-1]}, "strikes"),
    "one strike twice": ("collar", {"strikes": (9_000_000, 9_000_000)}, "strikes"),
    "a strike of nothing": ("call", {"strikes": (0,)}, "strikes"),
    "a strike below nothing": ("call", {"strikes": (-100,)}, "strikes"),
    "a strike beyond a word": ("call", {"strikes": (1 << 32,)}, "strikes"),
    "unequal wings": ("butterfly", {"strikes": (9_000_000, 9_500_000, 10_100_000)}, "strikes"),
    "unequal wings of a condor": ("condor", {"strikes": (9_000_000, 9_500_000, 9_600_000, 9_700_000)}, "strikes"),
    "nothing of it": ("call", {"quantity": 0}, "quantity"),
    "less than nothing": ("call", {"quantity": -1}, "quantity"),
    "more than all bitcoin": ("call", {"quantity": 2_100_000_001}, "quantity"),
    "a gain of more than all bitcoin": ("put", {"quantity": 2_100_000_000, "floor": 100}, "quantity"),
    "a floor of nothing": ("put", {"floor": 0}, "floor"),
    "a floor of a cent": ("put", {"floor": 1}, "floor"),
    "a floor above the lowest strike": ("put", {"floor": 9_437_751}, "floor"),
    "a floor between two strikes": ("strangle", {"floor": 9_100_002}, "floor"),
    "no step": ("digital_ladder", {"amounts": {}}, "step"),
    "a step of nothing": ("digital_ladder", {"amounts": {"step": 0}}, "step"),
    "no period": ("sinusoid", {"amounts": {}}, "period"),
    "a period too short to be contracted": ("sinusoid", {"amounts": {"period": 25_599}}, "period"),
    "a period of a call": ("call", {"amounts": {"period": 25_600}}, "period"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_makes_no_shape_is_refused_by_the_name_of_its_field(case):
    name, changes, field = WRONG[case]
    right = asked(name)
    given = {part: getattr(right, part) for part in ("strikes", "quantity", "floor", "amounts")} | changes
    with pytest.raises(InvalidInputError) as refused:
        SHAPES[name].payoff(Ask(**given))
    assert refused.value.field == field


def test_a_shape_is_found_by_its_name_with_a_dash_too_and_another_says_which_there_are():
    assert find("iron-condor") is SHAPES["iron_condor"]
    with pytest.raises(NotFoundError) as unknown:
        find("iron_lady")
    assert "iron_condor" in str(unknown.value)


def test_somebody_s_own_function_is_a_shape_beside_the_named_ones_and_takes_no_name_of_theirs():
    @shape("put", "low", "high", about="a call spread paid for by a sold put", formula="C(K2) - C(K3) - P(K1)")
    def seagull(ask):
        low, middle, high = ask.strikes
        legs = ((LegKind.PUT, low, -1), (LegKind.CALL, middle, 1), (LegKind.CALL, high, -1))
        return tuple(Leg(kind=kind, strike=at, quantity=times * ask.quantity) for kind, at, times in legs)

    every = shapes_with([seagull])
    payoff = every["seagull"].payoff(Ask(strikes=STRIKES[3], floor=FLOOR))
    assert payoff.net_at(9_400_000) == floor(Fraction((9_400_000 - 9_312_345) * 10**8, 9_400_000))
    assert "seagull" not in SHAPES
    with pytest.raises(ConflictError):
        shapes_with([shape("k", about="", formula="", name="call")(seagull.parts)])
