"""The page of installing says what the lock file and the code say."""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib

import pytest
from packaging.specifiers import SpecifierSet

from btcfi.adapters.files import make_private
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/how-to/install.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def matrix():
    spec = importlib.util.spec_from_file_location("install_matrix", ROOT / "docs/install_matrix.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_wheels_was_made_of_the_pins_of_the_lock_file(matrix):
    """After `make lock`: `.venv/bin/python docs/install_matrix.py --write`, where there is a network."""
    assert f"{matrix.BEGIN}{matrix.digest()} -->" in PAGE


def test_the_table_of_wheels_has_every_platform_and_names_pins_alone(matrix):
    table = PAGE.partition(matrix.BEGIN)[2].partition(matrix.END)[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert {platform for platform, _, _ in rows} == set(matrix.PLATFORMS)
    named = {
        pin.strip("`") for _, _, what in rows for pin in what.removeprefix("no wheel of ").split(", ") if "==" in pin
    }
    assert named
    assert named <= set(matrix.pins())


def test_the_project_is_for_the_pythons_that_have_a_wheel_of_each_package_on_linux(matrix):
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| Linux x86-64, glibc")]
    all_wheels = {python for _, pythons, what in rows if what == "a wheel of each" for python in pythons.split(", ")}
    allowed = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    assert {python for python in matrix.PYTHONS if python in allowed} == all_wheels


def on_a_system_without(names, *command):
    """Run a command of btcfi where ``os`` lacks these names, as on another system."""
    lacking = "; ".join(f"hasattr(os, {name!r}) and delattr(os, {name!r})" for name in names)
    program = f"import os; {lacking}; from workers.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=200,
        check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


MACOS_LACKS = ("O_PATH",)
WINDOWS_LACKS = (*MACOS_LACKS, "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK", "geteuid")


def test_a_system_without_the_calls_that_only_linux_has_runs_a_program_and_makes_no_party_s_folder(
    tmp_path, monkeypatch
):
    given = tmp_path / "input.json"
    fields = {"option_type": 0, "strike": 6_000_000, "spot": 6_600_000, "quantity": 10, "barrier_level": 0}
    fields |= {"early_exercise": 0, "time_to_expiry": 0, "volatility": 5000, "observed_low": 6_600_000}
    fields |= {"observed_high": 6_600_000, "premium": 1, "rate": 0, "collateral": 10_000_000}
    given.write_text(json.dumps(fields))
    done = on_a_system_without(MACOS_LACKS, "guest", "run", "option_settlement", "--input", given)
    assert "payout_sats 909090" in done.stdout, done.stderr
    monkeypatch.delattr(os, "O_PATH")
    with pytest.raises(AttributeError):
        make_private(tmp_path / "party")


def test_a_system_without_posix_files_computes_risk_and_opens_no_proof(tmp_path):
    book = tmp_path / "book.csv"
    book.write_text("kind,strike,expiry,quantity\ncall,60000,2026-12-25T08:00:00Z,0.10\n")
    risk = on_a_system_without(WINDOWS_LACKS, "risk", book, "--spot", "60000", "--volatility", "0.5")
    assert risk.returncode == 0, risk.stderr
    assert on_a_system_without(WINDOWS_LACKS, "verify", book).returncode != 0
