"""What the how-to prints of a payoff without C is run: its files are read, its command says what the page says."""

import re

from typer.testing import CliRunner

from btcfi.payoffs.shape_file import read_shape
from btcfi.payoffs.shapes import Ask
from btcfi.surfaces.payoff_cli import app
from btcfi.units import CentsPerBtc
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/how-to/write-a-payoff.md").read_text()
SEAGULL, SHARK_FIN = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def test_the_command_of_the_page_prints_what_the_page_prints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seagull.toml").write_text(SEAGULL)
    ((words, printed),) = re.findall(r"\$ btcfi payoff (show [^\n]*)\n(.*?)```", PAGE, re.DOTALL)
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.exception
    assert done.output == printed


def test_the_page_s_pieces_pay_what_the_page_says():
    payoff = read_shape(SHARK_FIN).payoff(Ask(strikes=(CentsPerBtc(9_000_000), CentsPerBtc(11_000_000))))
    assert payoff.net([9_000_000, 10_000_000, 11_000_000]) == [0, 10_000_000, 10**8 * 50_000 // 11_000_000]
