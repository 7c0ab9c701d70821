"""``btcfi dispute cost``: a shape becomes a payoff's file that says what it weighs, and what it rounds away."""

import json

import pytest
from typer.testing import CliRunner

from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled.deal import Kind
from btcfi.errors import InvalidInputError
from btcfi.options.order import InvalidTermsError
from btcfi.payoffs.netted import ANY_EVENT, netted
from btcfi.payoffs.shapes import SHAPES, Ask
from btcfi.surfaces import dispute_cli

SPREAD = ("cost", "call_spread", "--strikes", "60000/75000", "--premium-sats", "4,000,000")


def said(*words):
    done = CliRunner().invoke(dispute_cli.app, [str(one) for one in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refused(*words):
    return CliRunner().invoke(dispute_cli.app, [str(one) for one in words]).exception


def test_the_file_is_what_a_proposal_takes_and_no_price_loses_more_than_is_printed(tmp_path):
    file = tmp_path / "payoff.json"
    row = json.loads(said(*SPREAD, "--kind", "mean", "--minutes", 3, "--lazy", "--out", file, "--json"))
    payoff = wire.PAYOFF.read(json.loads(file.read_text()), "payoff")
    assert payoff.kind is Kind.MEAN
    assert len(payoff.claim(3).payouts) == row["ranges"] == len(payoff.ranges.starts)
    contract = netted(SHAPES["call_spread"].payoff(Ask(strikes=(6_000_000, 7_500_000))), ANY_EVENT)
    exact = contract.payouts([ANY_EVENT.price_of(outcome) for outcome in range(1 << 18)])
    paid, starts = payoff.ranges.payouts, [*payoff.ranges.starts, 1 << 18]
    off = [abs(exact[one] - pays) for at, pays in enumerate(paid) for one in range(starts[at], starts[at + 1])]
    assert len(off) == 1 << 18
    assert max(off) == row["largest_loss_sats"]
    assert row["largest_loss_percent_of_premium"] == round(max(off) / 40_000, 3)


def test_a_smaller_tolerance_loses_less_and_has_more_ranges_than_256():
    wide, fine = (json.loads(said(*SPREAD, "--json", *more)) for more in ((), ("--tolerance-bps", 100)))
    assert wide["ranges"] < 257 < fine["ranges"]
    assert 1.9 < wide["largest_loss_sats"] / fine["largest_loss_sats"] < 2.1
    assert wide["happy_vb"] <= fine["happy_vb"]


def test_what_it_costs_is_said_in_words_with_the_loss_beside():
    text = said(*SPREAD, "--kind", "knock-out", "--minutes", 2, "--barrier", 80_000, "--rebate-sats", 500)
    for part in ("2 of 3 oracles", "% of the premium", "ANDs", "vB", "disproof"):
        assert part in text
    collar = said("cost", "collar", "--strikes", "50000/70000", "--premium-sats", 900_000, "--floor", "20000")
    assert "of its own" in collar


def test_every_claim_stands_in_one_table():
    rows = json.loads(said("cost", "--json"))["claims"]
    assert {row["claim"] for row in rows} >= {
        "price",
        "mean of 30",
        "median of 5",
        "knock-out over 30",
        "average-strike call over 30",
    }
    assert all(row["happy_vb"] <= 625 for row in rows if row["lazy"])
    assert max(row["ranges"] for row in rows) > 257


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("cost", "call_spread", "--strikes", "60000/75000"), InvalidInputError),
        ((*SPREAD, "--kind", "sum"), InvalidInputError),
        ((*SPREAD, "--kind", "average-strike-call", "--minutes", 3), InvalidInputError),
        ((*SPREAD, "--barrier", "80000"), InvalidInputError),
        ((*SPREAD, "--kind", "knock-out", "--barrier", "80000.50"), InvalidInputError),
        ((*SPREAD, "--kind", "median", "--minutes", 4), InvalidInputError),
        ((*SPREAD, "--oracles", 2, "--threshold", 3), InvalidInputError),
        ((*SPREAD[:-1], "1.5"), InvalidTermsError),
    ],
)
def test_terms_that_make_no_contract_are_refused(words, error):
    assert isinstance(refused(*words), error)
