"""What `make` does to a checkout: it deletes no key, and both lock files are of one resolution."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.support.paths import ROOT
from workers.commands import doctor
from workers.findings import Status

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)\s*(;[^\\]*)?", re.MULTILINE)


def pins(lock):
    return {(name, version) for name, version, _ in PIN.findall((ROOT / lock).read_text(encoding="utf-8"))}


def make(folder, *words, **variables):
    file = "Makefile" if (folder / "Makefile").exists() else str(ROOT / "Makefile")
    return subprocess.run(
        ["make", "-f", file, *words], cwd=folder, capture_output=True, text=True, timeout=120, input="",
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **variables}, check=False,
    )  # fmt: skip


def test_both_lock_files_agree_on_every_package_that_they_share():
    released, developed = pins("requirements.lock"), pins("requirements-dev.lock")
    shared = {name for name, _ in released} & {name for name, _ in developed}
    assert len(shared) > 50
    assert {one for one in released if one[0] in shared} == {one for one in developed if one[0] in shared}
    assert {name for name, _ in released} == shared


def test_the_release_s_lock_is_resolved_within_the_developers():
    recipe = make(ROOT, "-n", "-o", ".venv/installed-dev", "lock").stdout.splitlines()
    compiled = [line for line in recipe if "pip compile" in line]
    assert [line.split()[-1] for line in compiled] == ["requirements-dev.lock", "requirements.lock"]
    assert "-c requirements-dev.lock" in compiled[1]


@pytest.fixture
def checkout(tmp_path):
    for path in ("var/wallet.seed", "var/btcfi.db", "var/oracles/oracle-0/oracle.key", ".venv/bin/x", "build/x"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    return tmp_path


def kept(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_clean_leaves_database_seed_and_keys(checkout):
    assert make(checkout, "clean").returncode == 0
    assert kept(checkout) == ["var/btcfi.db", "var/oracles/oracle-0/oracle.key", "var/wallet.seed"]


def test_data_is_deleted_by_who_says_so_and_by_nobody_else(checkout):
    before = kept(checkout)
    for said in ({}, {"CONFIRM": "yes"}):
        assert make(checkout, "delete-data", **said).returncode != 0
        assert kept(checkout) == before
    assert make(checkout, "delete-data", "CONFIRM=delete").returncode == 0
    assert kept(checkout) == [".venv/bin/x", "build/x"]


BACKEND = """
import base64, hashlib, os, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "ours-1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("ours-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: ours\\nVersion: 1\\n")
        wheel.writestr("ours-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("ours-1.dist-info/RECORD", "")
    return name
"""


def wheel_of(folder, name, version):
    """A package of nothing; returns its line of a lock file."""
    file = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        inside = f"{name}-{version}.dist-info"
        wheel.writestr(f"{inside}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{inside}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{inside}/RECORD", "")
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_what_the_doctor_says_of_other_versions_is_mended_by_its_line(tmp_path, monkeypatch):
    shutil.copy(ROOT / "Makefile", tmp_path)
    # a checkout of nothing, with an environment whose pip is this one's: no index is asked
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True, timeout=60)
    pip = tmp_path / ".venv" / "bin" / "pip"
    pip.write_text(f'#!/bin/sh\nexec {sys.executable} -m pip --python {tmp_path}/.venv/bin/python "$@"\n')
    pip.chmod(0o755)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    old, new = wheel_of(wheels, "btcfi_test_package", "1"), wheel_of(wheels, "btcfi_test_package", "2")
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    lock = tmp_path / "requirements.lock"
    lock.write_text(old)
    done = make(tmp_path, "install", **index)
    assert done.returncode == 0, done.stderr
    lock.write_text(new)
    monkeypatch.syspath_prepend(next((tmp_path / ".venv" / "lib").glob("python*/site-packages")))
    (wrong,) = doctor.dependencies(lock)
    assert wrong.status is Status.WARN
    assert "btcfi_test_package 1, locked 2" in wrong.said
    words = wrong.do.split()
    assert words[0] == "make"
    done = make(tmp_path, *words[1:], **index)
    assert done.returncode == 0, done.stderr
    (mended,) = doctor.dependencies(lock)
    assert mended.status is Status.OK
