"""docs/explanation/scale.md against the commands that it prints: a simulation is repeated word for word."""

import re

import pytest
from typer.testing import CliRunner

from tests.support.paths import ROOT
from workers.commands import simulate

PAGE = (ROOT / "docs" / "explanation" / "scale.md").read_text(encoding="utf-8")
PRINTED = {
    command: said
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for command, said in re.findall(r"^\$ btcfi simulate (.*)\n((?:[^$].*\n)*)", block, re.MULTILINE)
}


def run(words):
    done = CliRunner().invoke(simulate.app, words.split(), catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def lines(text):
    return [line.rstrip() for line in text.splitlines()]


def cases():
    """Every command; a million one by one takes a quarter of a minute each, so those are the night's."""
    for words, said in PRINTED.items():
        if said:
            slow = words.startswith("friday --options 1000000")
            yield pytest.param(words, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("words", cases())
def test_what_the_page_prints_is_what_the_command_prints(words):
    assert lines(run(words)) == lines(PRINTED[words])


def test_the_error_of_the_queue_model_stands_on_the_page(monkeypatch):
    monkeypatch.chdir(ROOT)
    (words,) = (words for words, said in PRINTED.items() if not said)
    found = re.search(r"predicted (.*?) s, measured (.*?) s, error (.*?)%", run(words))
    said = re.search(r"predicts (.*?) s where (.*?) s were measured \((.*?) %\)", PAGE)
    assert found.groups() == said.groups()
