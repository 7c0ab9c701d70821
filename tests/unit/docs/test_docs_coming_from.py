"""What the pages for traders and for bitcoiners print is what the commands print, and each instrument is one."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from btcfi.market.instrument import parse_instrument
from tests.support.paths import ROOT

PAGES = ("docs/explanation/coming-from-bitcoin.md", "docs/explanation/coming-from-deribit.md")
NAME = re.compile(r"\bBTC-\d{1,2}[A-Z]{3}\d{2}[A-Za-z0-9-]*")


def sessions(page):
    """The commands of a page's listings, each with the lines that it shows."""
    for block in re.findall(
        r"^```console\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield command, shown.splitlines()


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_the_page_print_what_it_shows(page, tmp_path):
    ran = 0
    for command, shown in sessions(page):
        words = shlex.split(command)
        if words[0] == "cat":
            (tmp_path / words[1]).write_text("\n".join(shown) + "\n")
            continue
        start = {"btcfi": [sys.executable, "-m", "workers.cli"], "python": [sys.executable]}[words[0]]
        done = subprocess.run(
            [*start, *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "110"},
        )  # fmt: skip
        printed = iter(done.stdout.splitlines())
        for line in (line for line in shown if line != "…"):  # what stands between two of them is left out
            assert line in printed, f"{command}: {line!r} in\n{done.stdout}{done.stderr}"
        ran += 1
    assert ran


@pytest.mark.parametrize("page", sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")))
def test_every_instrument_that_a_page_names_is_one_in_its_one_spelling(page):
    for name in NAME.findall((ROOT / page).read_text(encoding="utf-8")):
        assert parse_instrument(name).name == name
