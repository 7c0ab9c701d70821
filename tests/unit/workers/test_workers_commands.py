"""The table of commands: complete, true to the modules, and read without importing them."""

import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from btcfi.errors import InvalidInputError, NotFoundError
from tests.support.paths import ROOT
from workers import cli, commands
from workers.cli import COMMANDS, Who, build, every_command, load
from workers.commands import bench

MODULES = {row.target.partition(":")[0] for row in COMMANDS.values()}
HEAVY = {
    "celery", "sqlmodel", "sqlalchemy", "numba", "numpy", "ccxt", "fastapi", "pydantic_settings", "matplotlib",
    "unicorn",
}  # fmt: skip
LISTED = [row.name for row in COMMANDS.values() if row.who is not None and " " not in row.name]


def imported(*words, **environment):
    """What the command line says, and every module that it imported, in a process of its own."""
    code = (
        "import json, sys; from workers.cli import main\n"
        f"sys.argv = {['btcfi', *words]!r}\n"
        "try: main()\n"
        "finally: sys.stderr.write(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home()), **environment},
    )  # fmt: skip
    return done.stdout, set(json.loads(done.stderr[done.stderr.index("[") :]))


def completed(*words):
    """What bash offers for the last of the words, and the modules that were imported for it."""
    line = {"COMP_WORDS": " ".join(["btcfi", *words]), "COMP_CWORD": str(len(words))}
    said, modules = imported(**line, _BTCFI_COMPLETE="complete_bash")
    return said.split(), modules


def test_the_list_of_commands_imports_no_command_and_nothing_heavy():
    said, modules = imported("--help")
    assert [name for name in LISTED if name not in said] == []
    assert not modules & (MODULES | HEAVY)


def test_completing_a_command_s_name_imports_no_command_and_nothing_heavy():
    names, modules = completed("op")
    assert names == ["options"]
    assert not modules & (MODULES | HEAVY)
    everything, _ = completed("")
    assert everything == LISTED


@pytest.mark.parametrize(
    ("words", "offered", "module"),
    [
        (("anchor", ""), ["verify", "prove"], "btcfi.surfaces.anchor_cli"),
        (("verify", "--ro"), ["--root"], "btcfi.surfaces.vm_cli"),
        (("anchor", "prove", "--ou"), ["--out"], "workers.commands.anchor"),
    ],
)
def test_completing_what_follows_a_command_imports_that_command_alone(words, offered, module):
    found, modules = completed(*words)
    assert found == offered
    assert module in modules
    assert len(modules & MODULES - {"btcfi.surfaces.anchor_cli", "btcfi.surfaces.oracle_cli"} - {module}) == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_a_row_says_what_the_command_s_own_help_says_first(name):
    row = COMMANDS[name]
    first = (load(name).help or "").split("\n\n")[0]
    assert " ".join(first.split()) == row.about
    shown = CliRunner().invoke(build(), [*name.split(), "--help"], terminal_width=4000, prog_name="btcfi")
    assert shown.exit_code == 0
    assert f"Usage: btcfi {name} " in shown.output


def test_every_module_of_commands_is_in_the_table_under_its_own_name():
    there = {f"workers.commands.{module.name}" for module in pkgutil.iter_modules(commands.__path__)}
    named = {row.target.partition(":")[0]: row.name for row in COMMANDS.values() if row.target.startswith("workers.")}
    assert set(named) == there
    assert {module: name.split()[0].replace("-", "_") for module, name in named.items()} == {
        module: module.rpartition(".")[2] for module in there
    }


def test_the_list_is_grouped_by_who_uses_a_command():
    shown = CliRunner().invoke(build(), ["--help"], terminal_width=200).output
    panels = re.findall(r"╭─ (\w[^─]*?) ─+╮\n(.*?)╰", shown, re.DOTALL)
    found = {title: re.findall(r"^│ ([a-z][a-z-]*)", body, re.MULTILINE) for title, body in panels}
    assert found.pop("Options") == []
    assert list(found) == [who.value for who in Who]
    for who in Who:
        assert found[who.value] == [name for name in LISTED if COMMANDS[name].who is who]


def test_a_command_for_machines_runs_without_being_in_the_list():
    assert "health" not in CliRunner().invoke(build(), ["--help"]).output
    assert CliRunner().invoke(build(), ["health", "--help"]).exit_code == 0
    assert every_command().commands["health"].hidden


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["option"], "btcfi: No such command 'option'. Did you mean 'options'? Try `btcfi --help`"),
        (["options", "lst"], "btcfi: No such command 'lst'. Did you mean 'list'? Try `btcfi options --help`"),
        (["anchor", "prov"], "btcfi: No such command 'prov'. Did you mean 'prove'? Try `btcfi anchor --help`"),
        (["anchor", "health"], "btcfi: No such command 'health'; try `btcfi anchor --help`"),
        (["help"], "btcfi: No such command 'help'; try `btcfi --help`"),
        (["--versio"], "btcfi: No such option: --versio (Possible options: --version); try `btcfi --help`"),
        (["options", "create"], "btcfi: Missing option '--kind'; try `btcfi options create --help`"),
        (["worker"], "btcfi: Missing argument 'role'; try `btcfi worker --help`"),
    ],
)
def test_what_is_mistyped_is_one_line_with_the_next_step(words, line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["btcfi", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr()) == (2, ("", f"{line}\n"))


def test_bench_says_once_that_it_goes_and_hands_its_options_to_the_checkout_s_benchmarks(tmp_path):
    (tmp_path / "tests").mkdir()  # a `tests` of somebody else's does not get in the way
    (tmp_path / "tests" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "workers.cli", "bench", "--only", "nothing"], capture_output=True, text=True,
        cwd=tmp_path, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    warning, error = done.stderr.splitlines()
    assert "`python -m tests.benchmarks`" in warning
    assert error.startswith("python -m tests.benchmarks: --only: 'nothing'; expected one of pipeline, vm, ")
    assert (done.returncode, done.stdout) == (2, "")


def test_bench_of_an_installed_package_says_where_the_benchmarks_are(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    with pytest.raises(NotFoundError, match="only in a checkout"):
        bench.bench(only="vm")


def test_the_benchmarks_refuse_two_formats_at_once():
    command = [sys.executable, "-m", "tests.benchmarks", "--json", "--markdown"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert json.loads(done.stdout)["error"]["field"] == "--markdown"


def test_what_ships_imports_nothing_of_the_tests_and_edits_no_path():
    files = [file for folder in ("btcfi", "tasks", "workers", "settings", "dashboards", "guest_programs")
             for file in (ROOT / folder).rglob("*.py")]  # fmt: skip
    reaching = re.compile(r"^\s*(?:from|import) tests\b|import_module\(.tests\b|\bsys\.path\b", re.MULTILINE)
    assert len(files) > 200
    assert [str(file) for file in files if reaching.search(file.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("option", ["--fixing", "--barrier"])
def test_an_empty_term_of_an_option_is_refused_and_not_the_default(tmp_path, option):
    """As a shell gives it for a variable that is not set: what was sold had another fixing, or no barrier."""
    terms = ["--kind", "call", "--strike", "55000", "--quantity", "0.05", "--expiry", "+90", option, ""]
    for words in (["options", "create"], ["party", "option", "--out", str(tmp_path / "option.json")]):
        done = CliRunner().invoke(build(), [*words, *terms], env={"BTCFI_DATA_DIR": str(tmp_path)})
        assert done.exit_code != 0, words
        assert isinstance(done.exception, InvalidInputError), done.exception
        assert option.strip("-") in str(done.exception)
    assert not (tmp_path / "option.json").exists()
