"""The page on paths prints what the command prints, and its table's texts are paths."""

import re

from typer.testing import CliRunner

from btcfi.oracle.path import parse_path
from btcfi.surfaces.payoff_cli import app
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/explanation/path-payoffs.md").read_text(encoding="utf-8")


def test_the_command_of_the_page_prints_what_the_page_prints():
    ((words, printed),) = re.findall(r"\$ btcfi payoff (show [^\n]*)\n(.*?)```", PAGE, re.DOTALL)
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.exception
    assert done.output == printed


def test_the_paths_of_the_page_s_table_are_read():
    texts = re.findall(r"^\| `((?:asian|cliquet|ladder)[^`]*)` \|", PAGE, re.MULTILINE)
    assert len(texts) == 4
    for text in texts:
        plain = text.replace("SINCE", "1795000020")
        assert str(parse_path(plain)) == plain
