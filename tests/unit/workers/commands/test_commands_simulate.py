"""``btcfi simulate``: every answer says that it is one, sizes are those of the library, wrong input is one line."""

import json

import pytest
from typer.testing import CliRunner

from btcfi.contracts.batch import MAX_CONTRACTS, vsize_for
from btcfi.contracts.schedule import SETTLEMENT_VSIZE
from btcfi.contracts.splice import MAX_VSIZE
from btcfi.errors import BtcfiError
from tests.support.paths import ROOT
from workers.commands import simulate

RUNS = ROOT / "tests" / "vectors" / "scale"


def answer(*words):
    done = CliRunner().invoke(simulate.app, [*words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    return json.loads(done.output)


def said(*words):
    return CliRunner().invoke(simulate.app, list(words), catch_exceptions=False).output


def test_every_answer_and_every_table_says_that_it_is_simulated():
    few = ["--options", "500"]
    for command in ("friday", "fees", "queue"):
        assert answer(command, *few)["simulated"] is True
        assert "SIMULATED" in said(command, *few)


def test_a_friday_of_twenty_thousand_options_of_fifty_parties_is_paid_in_time_at_ten_times_todays_rate():
    found = answer("friday")
    assert (found["options"], found["parties"], found["alone"]) == (20_000, 50, 20_000)
    assert found["vbytes"] == 20_000 * SETTLEMENT_VSIZE
    assert [(row["times"], row["missed"]) for row in found["runs"]] == [(1.0, 0), (10.0, 0)]
    assert all(row["least_spare_blocks"] > 36 for row in found["runs"])


def test_who_is_online_closes_in_batches_that_a_version_3_transaction_may_be():
    sizes, alone = simulate._transactions(20_000, parties=50, there=50)
    assert (alone, len(sizes)) == (0, -(-20_000 // MAX_CONTRACTS))
    assert all(vsize_for(1, 2) <= size <= MAX_VSIZE for size in sizes)
    assert sum(sizes) / 20_000 <= 70
    for there, online in ((40, 0.8), (1, 0.02)):
        some, others = simulate._transactions(20_000, parties=50, there=there)
        contracts = 20_000 - others
        assert len(some) == -(-contracts // MAX_CONTRACTS)
        assert answer("friday", "--online", str(online))["alone"] == others


def test_the_share_that_is_built_in_costs_less_than_whole_blocks_and_far_less_than_all_at_once():
    quarter, half, whole, at_once = (row["fees_sats"] for row in answer("fees")["runs"])
    assert quarter <= half < whole < at_once
    assert at_once > 5 * half


def test_a_queue_is_fed_by_a_measured_run_and_held_against_another():
    fed, against = (str(RUNS / f"{name}.json") for name in ("one_process_3000", "two_processes_20000"))
    found = answer("queue", "--measured", fed, "--against", against, "--no-blocks")
    assert [one["name"] for one in found["stages"]] == ["queue and relay", "run and prove"]
    assert (
        found["against"]["measured_s"] == json.loads((RUNS / "two_processes_20000.json").read_text())["due_to_proven_s"]
    )
    assert "error" in said("queue", "--measured", fed, "--against", against)


def test_the_stages_of_the_command_line_are_those_that_count():
    found = answer("queue", "--options", "1000", "--stage", "prove:2:10", "--cores", "4", "--no-blocks")
    assert found["bottleneck"] == "prove"
    assert found["seconds"] == pytest.approx(5.0, rel=0.01)


@pytest.mark.parametrize(
    "words",
    [
        ["friday", "--options", "0"], ["friday", "--parties", "2001"], ["friday", "--online", "nan"],
        ["friday", "--rate", "0.5"], ["friday", "--rate", "inf"], ["friday", "--times", "-1"],
        ["friday", "--refund-blocks", "0"], ["fees", "--load", "-1"], ["queue", "--stage", "a:b:c"],
        ["queue", "--stage", "a:1:nan"], ["queue", "--cores", "nan"], ["queue", "--against", "x"],
        ["queue", "--measured", "/nowhere"],
    ],
)  # fmt: skip
def test_wrong_input_is_refused_in_words(words):
    with pytest.raises(BtcfiError):
        CliRunner().invoke(simulate.app, words, catch_exceptions=False, standalone_mode=False)
