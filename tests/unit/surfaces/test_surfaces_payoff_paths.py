"""``btcfi payoff`` of the value of a path: what it says of it, what it is worth, and one line for whatever is wrong."""

import json

import pytest

from btcfi.surfaces import cli
from btcfi.surfaces.payoff_cli import app

CALL = ["call", "--strikes", "60000", "--path"]
CLIQUET = ["participation", "--strikes", "100000/130000", "--path", "cliquet:10080x12:-200:300"]
MARKET = ["--spot", "60000", "--volatility", "0.6", "--days"]


@pytest.fixture
def run(monkeypatch, capsys):
    def words(*arguments):
        monkeypatch.setattr("sys.argv", ["btcfi payoff", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.run(app)
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return words


def test_a_mean_is_named_and_priced_with_its_error(run):
    code, out, _ = run("show", *CALL, "asian:60x24", *MARKET, "1")
    assert code == 0
    assert "S (or V) is the mean of 24 agreed prices, 60 minutes apart, the last at the expiry" in out
    said = json.loads(run("show", *CALL, "asian:60x24", *MARKET, "1", "--json")[1])
    assert said["path"] == "asian:60x24"
    assert said["value"]["premium"] == pytest.approx(452.45, abs=0.1)
    assert 0.0 < said["value"]["error"] < 0.1
    assert json.loads(run("show", "call", "--strikes", "60000", "--json")[1])["path"] is None


def test_a_share_in_an_index_is_shown_drawn_and_priced_of_a_cliquet_and_unknown_elsewhere(run):
    said = json.loads(run("show", *CLIQUET, *MARKET, "84", "--json")[1])
    assert (said["holder_collateral_sats"], said["writer_collateral_sats"]) == (0, 30_000_000)
    assert said["value"]["premium"] == pytest.approx(4_035.79, abs=0.01)
    assert run("draw", *CLIQUET)[0] == 0
    for rest in ([], ["--path", "asian:60x24"]):
        code, _, err = run("show", *CLIQUET[:3], *rest)
        assert code != 0
        assert "no shape 'participation'" in err


@pytest.mark.parametrize(("arguments", "wrong"), [
    ([*CALL, "asian:60x024"], "path"), ([*CALL, "twap:30"], "path"), ([*CALL, "asian:60x24", *MARKET, "0.5"], "days"),
    ([*CLIQUET, *MARKET, "83"], "days"), ([*CLIQUET, "--floor", "1"], "floor"),
    ([*CALL, "ladder:up:60:70000", *MARKET, "0"], "days"),
])  # fmt: skip
def test_what_is_wrong_is_one_line_with_the_option_s_name(run, arguments, wrong):
    code, out, err = run("show", *arguments)
    assert (code != 0, out) == (True, "")
    assert err.startswith(f"btcfi: {wrong}")
    assert err.count("\n") == 1
