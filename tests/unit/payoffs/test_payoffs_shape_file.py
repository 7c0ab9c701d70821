"""A shape from a file of data: what it makes, and every wrong line by the path of its field."""

import sys

import pytest

from btcfi.errors import InvalidInputError
from btcfi.payoffs.curve import FloorMissingError, Leg, LegKind, curve_of
from btcfi.payoffs.shape_file import read_shape
from btcfi.payoffs.shapes import SHAPES, Ask, shapes_with
from btcfi.units import CentiBtc

SEAGULL = """
name = "seagull"
about = "a call spread paid for by a sold put"
strikes = ["put", "low", "high"]

[[leg]]
kind = "put"
strike = "put"
times = -1

[[leg]]
kind = "call"
strike = "low"

[[leg]]
kind = "call"
strike = "high"
times = -1
"""

SHARK_FIN = """
name = "shark_fin"
about = "a rise up to the cap, and a rebate above it"
formula = "S - K1 between K1 and K2, 500 above"
strikes = ["low", "cap"]

[[piece]]

[[piece]]
from = "low"
bitcoin = 1
dollars = { low = -1 }

[[piece]]
from = "cap"
dollars = 500.25
"""

STRIKES = (8_000_000, 9_000_000, 10_000_000)


def test_legs_of_a_file_are_the_legs_of_the_shape():
    one = read_shape(SEAGULL)
    found = one.payoff(Ask(strikes=STRIKES, quantity=CentiBtc(250), floor=5_000_000))
    legs = ((LegKind.PUT, 0, -1), (LegKind.CALL, 1, 1), (LegKind.CALL, 2, -1))
    assert found == curve_of(
        [Leg(kind=kind, strike=STRIKES[at], quantity=250 * times) for kind, at, times in legs], floor=5_000_000
    )
    assert shapes_with([one])["seagull"].strikes == ("put", "low", "high")


def test_pieces_of_a_file_say_what_one_bitcoin_of_the_shape_is_worth():
    payoff = read_shape(SHARK_FIN).payoff(Ask(strikes=STRIKES[:2], quantity=CentiBtc(50)))
    rise = 50_000_000 * 999_999 // 8_999_999
    rebate = 50_000_000 * 50_025
    prices = (7_999_999, 8_999_999, 9_000_000, 20_000_000)
    assert payoff.net(prices) == [0, rise, rebate // 9_000_000, rebate // 20_000_000]


@pytest.mark.parametrize("name", ["call_spread", "condor", "straddle"])
def test_a_named_shape_written_as_a_file_of_legs_is_that_shape(name):
    names = ["a", "b", "c", "d"][: len(SHAPES[name].strikes)]
    strikes = tuple(8_000_000 + 500_000 * at for at in range(len(names)))
    ask = Ask(strikes=strikes, floor=5_000_000)
    legs = "".join(
        f'[[leg]]\nkind = "{leg.kind.value}"\nstrike = "{names[strikes.index(leg.strike)]}"\n'
        f"times = {leg.quantity // 100}\n"
        for leg in SHAPES[name].parts(ask)
    )
    text = f'name = "mine"\nabout = "a copy"\nstrikes = {names}\n{legs}'
    assert read_shape(text).payoff(ask) == SHAPES[name].payoff(ask)


def test_a_file_that_is_worth_dollars_at_no_price_asks_for_a_floor_too():
    with pytest.raises(FloorMissingError):
        read_shape(SEAGULL).payoff(Ask(strikes=STRIKES))


def test_multiples_have_six_decimals_and_make_whole_satoshis():
    text = SHARK_FIN.replace("bitcoin = 1", "bitcoin = 0.000001").replace("low = -1", "low = -0.000001, fixed = 0.01")
    one = read_shape(text).payoff(Ask(strikes=STRIKES[:2], quantity=CentiBtc(1)))
    assert (one.pieces[1].constant, one.pieces[1].numerator) == (1, 1_000_000 - 8_000_000)


def changed(text, old, new):
    assert old in text
    return text.replace(old, new, 1)


WRONG = {
    "no TOML": ("name = ", "shape"),
    "a key twice": (SEAGULL + '\n[x]\n"a" = 1\n"a" = 2\n', "shape"),
    "nested without end": ("a = " + "[" * 3_000, "shape"),
    "nothing": ("", "shape.name"),
    "an unknown word": (changed(SEAGULL, "about", "code = 1\nabout"), "shape.code"),
    "a name with a path in it": (changed(SEAGULL, '"seagull"', '"../seagull"'), "shape.name"),
    "a terminal's commands": (changed(SEAGULL, "a call spread", "\\u001b[2J"), "shape.about"),
    "a key of a terminal's commands": (changed(SEAGULL, "about", '"\\u001b[2J" = 1\nabout'), "shape.?[2J"),
    "a strike of a terminal's commands": (changed(SHARK_FIN, "{ low", '{ "\\u001b[2J"'), "shape.piece[1].dollars.?[2J"),
    "no strikes": (changed(SEAGULL, '["put", "low", "high"]', "[]"), "shape.strikes"),
    "one strike's name twice": (changed(SEAGULL, '"low", "high"]', '"low", "low"]'), "shape.strikes"),
    "a strike called as a sum's dollars": (changed(SEAGULL, '"high"]', '"fixed"]'), "shape.strikes"),
    "an unknown kind": (changed(SEAGULL, '"put"\nstrike', '"putt"\nstrike'), "shape.leg[0].kind"),
    "an unknown strike": (changed(SEAGULL, 'strike = "low"', 'strike = "lo"'), "shape.leg[1].strike"),
    "a leg held no times": (changed(SEAGULL, "times = -1", "times = 0"), "shape.leg[0].times"),
    "a leg held half": (changed(SEAGULL, "times = -1", "times = 0.5"), "shape.leg[0].times"),
    "a leg held too often": (changed(SEAGULL, "times = -1", "times = 1001"), "shape.leg[0].times"),
    "a leg held yes": (changed(SEAGULL, "times = -1", "times = true"), "shape.leg[0].times"),
    "dollars of a call": (changed(SEAGULL, 'strike = "low"', 'strike = "low"\ndollars = 5'), "shape.leg[1].dollars"),
    "a digital without dollars": (changed(SEAGULL, '"call"', '"digital_call"'), "shape.leg[1].dollars"),
    "legs and pieces": (SEAGULL + "[[piece]]\n", "shape"),
    "neither": (SEAGULL[: SEAGULL.index("[[")], "shape"),
    "a first piece that starts later": (changed(SHARK_FIN, "[[piece]]\n", '[[piece]]\nfrom = "low"\n'),
        "shape.piece[0].from"),
    "a piece from an unknown strike": (changed(SHARK_FIN, 'from = "low"', 'from = "lo"'), "shape.piece[1].from"),
    "dollars of an unknown strike": (changed(SHARK_FIN, "{ low", "{ lo"), "shape.piece[1].dollars.lo"),
    "a number as text": (changed(SHARK_FIN, "500.25", '"500.25"'), "shape.piece[2].dollars"),
    "a third of a cent": (changed(SHARK_FIN, "500.25", "500.253"), "shape.piece[2].dollars"),
    "no number": (changed(SHARK_FIN, "500.25", "nan"), "shape.piece[2].dollars"),
    "without end": (changed(SHARK_FIN, "500.25", "inf"), "shape.piece[2].dollars"),
    "a number of a million digits": (changed(SHARK_FIN, "500.25", "1e1000000"), "shape.piece[2].dollars"),
    "seven decimals": (changed(SHARK_FIN, "bitcoin = 1", "bitcoin = 0.0000001"), "shape.piece[1].bitcoin"),
    "a multiple of a strike that is a list": (changed(SHARK_FIN, "low = -1", "low = []"), "shape.piece[1].dollars.low"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_in_a_file_is_refused_by_the_path_of_its_field(case):
    text, field = WRONG[case]
    with pytest.raises(InvalidInputError) as refused:
        read_shape(text)
    assert refused.value.field == field
    assert "\x1b" not in str(refused.value)


def test_pieces_out_of_order_are_refused_when_the_strikes_are_known():
    text = changed(SHARK_FIN, 'from = "cap"', "from = 80000")
    with pytest.raises(InvalidInputError) as refused:
        read_shape(text).payoff(Ask(strikes=STRIKES[:2]))
    assert refused.value.field == "shape.piece[2].from"


def test_reading_a_file_imports_no_module_that_it_names():
    before = set(sys.modules)
    with pytest.raises(InvalidInputError):
        read_shape('name = "__import__(\'antigravity\')"\nabout = "x"\nstrikes = ["antigravity"]\n')
    assert "antigravity" not in set(sys.modules) - before
