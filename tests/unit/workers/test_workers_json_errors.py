"""Who asks for JSON gets one object on stdout, whatever fails: of every command that has ``--json``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from typer.core import TyperGroup

from btcfi.errors import InvalidInputError
from btcfi.surfaces.cli import run
from tests.support.paths import ROOT
from workers import cli
from workers.cli import every_command

PARTS = {"field", "problem", "expected", "exit_code"}


def with_json(command, path=()):
    """The words of every command that prints JSON."""
    if isinstance(command, TyperGroup):
        for name, under in command.commands.items():
            yield from with_json(under, (*path, name))
    elif any("--json" in parameter.opts for parameter in command.params):
        yield path


COMMANDS = list(with_json(every_command()))

NOTHING = "/nowhere/at/all"
FAILING = {
    "options create": ["--kind", "call", "--strike", "60000,50", "--expiry", "+60", "--quantity", "0.10"],
    "options show": ["x"], "options cancel": ["x"], "settle": ["x"], "party verify": ["a", "b"],
    "party mandate show": ["--dir", NOTHING], "risk": [NOTHING, "--spot", "1", "--volatility", "0.5"],
    "parked show": ["x"], "parked requeue": ["x"], "backup": [f"{NOTHING}/file"], "restore": [NOTHING],
    "oracle import": [NOTHING], "verify": [NOTHING], "prove": ["--out", NOTHING, "--hex", "zz"],
    "trace show": [NOTHING], "trace diff": [NOTHING, NOTHING], "guest new": ["A name"], "guest build": ["nothing"],
    "guest run": ["nothing"], "guest check": ["nothing"], "chaos": ["--only", "nothing"],
    "clauses compare": ["--levels", "1"], "simulate friday": ["--parties", "1"], "simulate fees": ["--options", "0"],
    "simulate queue": ["--stage", "prove"],
    "payoff list": ["--file", NOTHING], "payoff show": ["nothing", "--strikes", "1"],
    "payoff margin": [NOTHING, "--spot", "1", "--volatility", "0.5"], "book show": ["x"],
    "book list": ["--dir", NOTHING], "dispute cost": ["nothing", "--strikes", "1"],
    "payoff draw": ["call", "--strikes", "0"], "options list": ["--state", "gone"], "demo": ["--replay", NOTHING],
    "swaps study": ["--rational", "31"],
}  # fmt: skip
"""Words that each command takes and cannot follow; without any it fails by the settings, which name no database."""


def said(capsys, monkeypatch, *words):
    """The object on stdout, the line on stderr and the exit code of a command that fails."""
    monkeypatch.setattr(sys, "argv", ["btcfi", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err, ended.value.code


def test_there_are_commands_that_print_json():
    assert {"verify", "options list", "doctor"} <= {" ".join(path) for path in COMMANDS}
    assert set(FAILING) <= {" ".join(path) for path in COMMANDS}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_mistyped_command_is_an_object_with_the_exit_code(path, capsys, monkeypatch):
    answer, line, code = said(capsys, monkeypatch, *path, "--json", "--no-such-option")
    assert set(answer) == {"error"}
    assert set(answer["error"]) == PARTS
    assert (answer["error"]["exit_code"], code) == (2, 2)
    assert answer["error"]["field"] == "--no-such-option"
    assert answer["error"]["problem"] in line


@pytest.mark.parametrize("path", [p for p in COMMANDS if " ".join(p) not in {"bench", "doctor"}], ids=" ".join)
def test_a_command_that_cannot_is_an_object_with_the_exit_code(path, capsys, monkeypatch, tmp_path):
    """bench hands its words to a process of its own; doctor's answer tells of what does not work."""
    monkeypatch.setenv("DATABASE_URL", "mysql://nobody/knows")
    monkeypatch.setenv("BTCFI_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BTCFI_BACKUP_PASSPHRASE", "long enough for a backup, this")
    monkeypatch.chdir(tmp_path)
    answer, line, code = said(capsys, monkeypatch, *path, *FAILING.get(" ".join(path), []), "--json")
    assert set(answer) == {"error"}
    assert set(answer["error"]) == PARTS
    assert (answer["error"]["exit_code"], code != 0) == (code, True)
    assert answer["error"]["problem"].replace("\n", " ") in line


def test_the_parts_of_a_wrong_field_stand_apart(capsys, monkeypatch):
    words = ["options", "create", *FAILING["options create"], "--json"]
    answer, line, _ = said(capsys, monkeypatch, *words)
    field, problem, expected, _ = answer["error"].values()
    assert field == "strike"
    assert "60000,50" in problem
    assert line == f"btcfi: {field}: {problem}; expected {expected}\n"


def test_without_json_a_failure_says_nothing_on_stdout_and_after_two_dashes_it_is_a_name(capsys, monkeypatch):
    for words in (["options", "show", "--no-such-option"], ["options", "list", "x", "--", "--json"]):
        monkeypatch.setattr(sys, "argv", ["btcfi", *words])
        with pytest.raises(SystemExit):
            cli.main()
        assert capsys.readouterr().out == ""


def ends(body, monkeypatch, *words):
    """The exit code of a command of ours whose body is this."""
    app = typer.Typer()
    app.command()(body)
    monkeypatch.setattr(sys, "argv", ["mine", "--json", *words])
    with pytest.raises(SystemExit) as ended:
        run(app)
    return ended.value.code


def test_who_has_answered_before_it_fails_is_not_followed_by_a_second_object(capsys, monkeypatch):
    def body(*, as_json: bool = typer.Option(False, "--json")) -> None:
        typer.echo(json.dumps({"held": not as_json}))
        raise InvalidInputError("it", "is broken", "whole")

    assert ends(body, monkeypatch) == 2
    assert json.loads(capsys.readouterr().out) == {"held": False}


def test_a_failure_of_the_machine_names_its_file(capsys, monkeypatch):
    def body(*, as_json: bool = typer.Option(False, "--json")) -> None:
        raise PermissionError(13, "Permission denied", "/a/file" if as_json else "")

    assert ends(body, monkeypatch) == 74
    assert json.loads(capsys.readouterr().out)["error"] == {
        "field": "/a/file", "problem": "Permission denied (/a/file)", "expected": None, "exit_code": 74,
    }  # fmt: skip


def test_an_object_that_nobody_can_take_leaves_the_exit_code_and_the_line():
    command = [sys.executable, "-m", "workers.cli", "options", "show", "--json"]
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - a device
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "btcfi: Missing argument 'option_id'; try `btcfi options show --help`"
    ]  # fmt: skip


def test_a_command_that_is_interrupted_says_so_in_one_object_and_one_line(monkeypatch, capsys):
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def wait(*, as_json: bool = typer.Option(False, "--json")):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["btcfi", "--json"])
    with pytest.raises(SystemExit) as ended:
        run(app)
    out, err = capsys.readouterr()
    assert ended.value.code == 130
    assert json.loads(out)["error"] == {"field": None, "problem": "interrupted", "expected": None, "exit_code": 130}
    assert err == "btcfi: interrupted\n"
