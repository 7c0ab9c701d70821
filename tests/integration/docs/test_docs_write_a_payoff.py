"""docs/how-to/write-a-payoff.md, the part with a program, typed as printed: each command prints what the page does."""

import re
import shlex
import struct

import pytest
from typer.testing import CliRunner

from btcfi.surfaces.vm_cli import app
from tests.support.paths import ROOT

pytest.importorskip("ziglang", reason="ziglang is not installed")

PAGE = (ROOT / "docs/how-to/write-a-payoff.md").read_text(encoding="utf-8")
PART = PAGE[PAGE.index("## With a program") :]


def typed():
    """Each command of the part, with what the page prints after it."""
    for block in re.findall(r"^```console\n(.*?)^```", PART, re.MULTILINE | re.DOTALL):
        for command in re.findall(r"^\$ (.*(?:\n(?!\$ ).*)*)", block, re.MULTILINE):
            line, _, printed = command.partition("\n")
            yield line, printed.rstrip("\n")


def test_each_command_of_the_page_prints_what_the_page_prints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (given,) = re.findall(r"^```json\n(.*?)^```", PART, re.MULTILINE | re.DOTALL)
    (tmp_path / "input.json").write_text(given)
    done = []
    for line, printed in typed():
        if line.startswith("mkdir"):  # we stand in it
            continue
        done.append(line)
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        assert result.exit_code == 0, (line, result.exception)
        if printed:
            assert result.stdout.rstrip("\n") == printed, line
        if "guest run" in line:
            cents, kind, _, profit, sats, _, error = struct.unpack(
                "<QIIqQII", bytes.fromhex(re.search(r"output: (\w+)", result.stdout)[1])
            )
            assert (kind, error) == (1, 0)
            assert f"{cents / 100:.2f} dollars, in the money, {profit / 100:.2f} after the premium, {sats} sat" in PART
    assert [line.split()[1] for line in done] == ["guest", "guest", "guest", "guest", "prove", "verify"]
