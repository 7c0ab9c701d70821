"""What a user of the wheel gets: everything that runs, and the library's types."""

import shutil
import subprocess
import sys
import venv
import zipfile

import pytest

from tests.support.paths import ROOT

PACKAGES = ("btcfi", "tasks", "workers", "settings", "dashboards", "guest_programs")

PROGRAM = """\
from btcfi.units import Sats, sats
amount: Sats = sats(5)
wrong: str = sats(5)
reveal_type(sats)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of a copy: setuptools writes beside the sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # what a used tree holds beside its sources must stay out
    (source / "btcfi" / "__pycache__").mkdir()
    (source / "btcfi" / "__pycache__" / "units.stale.nbi").write_bytes(b"compiled")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "-w", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_every_committed_file_of_the_packages_is_in_the_wheel_and_nothing_else(wheel):
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *PACKAGES],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = {path for path in listed.stdout.splitlines() if (ROOT / path).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert shipped == files


def test_a_user_of_the_wheel_gets_types(wheel, tmp_path):
    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (tmp_path / "user.py").write_text(PROGRAM)

    def mypy():
        command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
        command += ["--python-executable", str(python), "user.py"]
        return subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, timeout=200, check=False)

    typed = mypy().stdout
    assert 'user.py:3: error: Incompatible types in assignment (expression has type "Sats"' in typed
    assert 'Revealed type is "def (value: int) -> btcfi.units.Sats"' in typed
    assert typed.count("error:") == 1
    # and it is the marker that gives them
    (packages / "btcfi" / "py.typed").unlink()
    assert "missing library stubs or py.typed marker" in mypy().stdout
