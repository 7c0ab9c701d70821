"""``btcfi payoff``: what it lists, says and draws, and one line for whatever is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from btcfi.payoffs.shapes import SHAPES
from btcfi.surfaces import cli
from btcfi.surfaces.payoff_cli import app

CONDOR = ["iron-condor", "--strikes", "90000/95,000/105000/110000.00", "--floor", "50000"]
SHARK_FIN = """
name = "shark_fin"
about = "a rise up to the cap, and a rebate above it"
strikes = ["low", "cap"]
[[piece]]
[[piece]]
from = "low"
bitcoin = 1
dollars = { low = -1 }
[[piece]]
from = "cap"
dollars = 500
"""


@dataclass
class Ended:
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch, capsys):
    def words(*arguments):
        monkeypatch.setattr("sys.argv", ["btcfi payoff", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.run(app)
        said = capsys.readouterr()
        return Ended(ended.value.code, said.out, said.err)

    return words


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "fin.toml"
    file.write_text(SHARK_FIN)
    return file


def test_every_named_shape_is_listed_with_what_it_asks_for(run):
    listed = json.loads(run("list", "--json").stdout)["shapes"]
    assert [one["name"] for one in listed] == list(SHAPES)
    said = run("list").stdout
    assert "condor           low wing / low / high / high wing: no move out of the range" in said
    assert "digital_ladder   step / … + step: " in said


def test_both_sides_money_is_said_in_whole_satoshis(run):
    said = json.loads(run("show", *CONDOR, "--premium-sats", "-1,000,000", "--at-price", "92500", "--json").stdout)
    assert (said["holder_collateral_sats"], said["writer_collateral_sats"]) == (10_000_000, 0)
    assert said["break_even_cents"] == [9_406_000, 10_606_100]
    assert said["holder_worst"]["profit_sats"] == -9_000_000
    assert said["holder_best"]["profit_sats"] == 1_000_000
    assert said["at"] == [
        {"price_cents": 9_250_000, "net_sats": -2_702_703, "profit_sats": -1_702_703, "holder_sats": 7_297_297,
         "writer_sats": 2_702_703},
    ]  # fmt: skip
    assert [leg["quantity_centibtc"] for leg in said["legs"]] == [100, -100, -100, 100]
    assert said["value"] is None


def test_for_a_person_the_same_stands_in_lines(run):
    said = run("show", *CONDOR, "--premium-sats", "-1000000", "--at-price", "92500").stdout
    assert "break-evens: $94,060.00, $106,061.00" in said
    (holder,) = [line.split() for line in said.splitlines() if line.startswith("holder  ")]
    assert holder == ["holder", "0.10000000", "BTC", "0.01000000", "BTC", "$95,000.00", "0.09000000", "BTC",
                      "$50,000.00"]  # fmt: skip
    assert "  $92,500.00        -0.01702703 BTC         0.07297297 BTC         0.02702703 BTC" in said


def test_with_a_market_it_is_priced(run):
    market = ("--spot", "95000", "--volatility", "0.6", "--days", "36.5", "--rate", "0.04")
    words = ("straddle", "--strikes", "100000", "--floor", "1000", *market)
    worth = json.loads(run("show", *words, "--json").stdout)["value"]
    assert worth["premium"] == pytest.approx(15_161.1247, rel=1e-8)
    assert worth["delta"] == pytest.approx(-0.1226971, rel=1e-6)
    assert "worth, USD of the whole: premium 15,161.1" in run("show", *words).stdout


def test_without_a_file_it_is_drawn_in_plain_characters(run):
    said = run("draw", "butterfly", "--strikes", "90000/100000/110000").stdout.splitlines()
    assert said[0].startswith("butterfly $90,000.00 / $100,000.00 / $110,000.00, 1.00 BTC: ")
    chart = said[1:18]
    assert all(line.isascii() and len(line) <= 80 for line in chart)
    columns = {at for line in chart for at, sign in enumerate(line) if sign == "*"}
    assert columns == set(range(8, 80))
    assert "*" in chart[0]
    assert "-" in chart[-1]


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_the_picture_is_a_png_or_an_svg_and_the_same_twice(run, tmp_path, suffix, magic):
    one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    for path in (one, two):
        assert run("draw", *CONDOR, "--out", str(path)).exit_code == 0
    assert one.read_bytes().startswith(magic)
    assert one.read_bytes() == two.read_bytes()


def test_the_points_of_a_picture_are_printed_for_programs(run):
    said = json.loads(run("draw", *CONDOR, "--between", "80000/120000", "--json").stdout)
    points = dict(zip(said["points"]["price_cents"], said["points"]["profit_sats"], strict=True))
    assert (min(points), max(points)) == (8_000_000, 12_000_000)
    assert points[9_000_000] == -(10**8) * 5_000 // 90_000
    assert said["picture"] is None


def test_a_shape_of_ones_own_is_read_from_a_file_of_data(run, own):
    said = json.loads(run("show", "shark-fin", "--file", str(own), "--strikes", "90000/110000", "--json").stdout)
    assert said["writer_collateral_sats"] == 10**8 * 19_999 // 109_999
    assert "shark_fin" in run("list", "--file", str(own)).stdout


WRONG = {
    "another strike's number": (["show", "condor", "--strikes", "90000/95000"], 2, "strikes"),
    "no number": (["show", "call", "--strikes", "90000/x"], 2, "strikes"),
    "an unknown shape": (["show", "iron-lady", "--strikes", "1"], 3, None),
    "no floor where one is needed": (["show", "put", "--strikes", "90000"], 2, "floor"),
    "no step": (["show", "digital_ladder", "--strikes", "90000"], 2, "step"),
    "a period of another shape": (["show", "call", "--strikes", "90000", "--period", "5000"], 2, "period"),
    "half a hundredth": (["show", "call", "--strikes", "90000", "--quantity", "0.005"], 2, "quantity"),
    "half a satoshi": (["show", "call", "--strikes", "90000", "--premium-sats", "0.5"], 2, "premium-sats"),
    "two signs": (["show", "call", "--strikes", "90000", "--premium-sats", "--5"], 2, "premium-sats"),
    "a price above all of the oracle's": (["show", "call", "--strikes", "9", "--at-price", "262144"], 2, "at_price"),
    "a wave at its expiry": (["show", "sinusoid", "--strikes", "9", "--period", "5000", "--spot", "9"], 2, "days"),
    "an expiry that has passed": (["show", "call", "--strikes", "9", "--spot", "9", "--days", "-1"], 2, "days"),
    "no number of days": (["show", "call", "--strikes", "9", "--spot", "9", "--days", "nan"], 2, "days"),
    "a picture of another kind": (["draw", "call", "--strikes", "90000", "--out", "x.gif"], 2, "out"),
    "a range that falls": (["draw", "call", "--strikes", "90000", "--between", "2/1"], 2, "between"),
    "a file that is not there": (["list", "--file", "/nowhere/at/all"], 3, None),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line_and_the_field_for_programs(run, case):
    words, code, field = WRONG[case]
    ended = run(*words, "--json")
    assert ended.exit_code == code
    assert ended.stderr.count("\n") == 1
    assert json.loads(ended.stdout)["error"]["field"] == field


def test_a_file_whose_shape_has_a_name_of_ours_is_refused(run, own):
    own.write_text(SHARK_FIN.replace("shark_fin", "call"))
    ended = run("list", "--file", str(own), "--json")
    assert ended.exit_code == 65
    assert "call already" in ended.stderr
