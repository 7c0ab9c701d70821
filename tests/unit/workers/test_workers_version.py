"""The command line says which version it is."""

import tomllib
from pathlib import Path

from typer.testing import CliRunner

from workers.cli import build


def test_the_version_is_that_of_the_project_and_needs_no_command():
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    said = CliRunner().invoke(build(), ["--version"])
    assert (said.exit_code, said.stdout) == (0, f"btcfi {project['version']}\n")
