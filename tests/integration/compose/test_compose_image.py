"""The image itself, mounted by `make image`: what it holds, and the demo inside it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.in_image import image_environment, inside
from tests.support.paths import ROOT

IMAGE = os.environ.get("BTCFI_TEST_IMAGE", "")
ENVIRONMENT = image_environment((ROOT / "Dockerfile").read_text())

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not IMAGE, reason="`make image` builds and mounts the image, and sets BTCFI_TEST_IMAGE"),
]


def run(*command, timeout=60):
    return subprocess.run(
        inside(Path(IMAGE), command, environment=ENVIRONMENT, volumes=[]),
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def test_what_runs_is_no_root_has_no_privilege_and_writes_nowhere_but_in_tmp():
    status = run("cat", "/proc/self/status").stdout
    held = {line.split(":")[0]: line.split()[1:] for line in status.splitlines() if ":" in line}
    assert held["Uid"] == held["Gid"] == ["10001"] * 4
    assert all(int(held[name][0], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    assert held["NoNewPrivs"] == ["1"]
    for place in ("/data", "/", "/opt/btcfi"):
        assert "Read-only" in run("touch", f"{place}/x").stderr
    assert run("touch", "/tmp/x").returncode == 0


def test_it_has_no_tool_to_install_or_compile_with():
    for program in ("pip", "gcc", "cc"):
        assert run("sh", "-c", f"command -v {program}").returncode != 0, program
    assert run("python3", "-c", "import pip").returncode != 0


def test_its_version_is_this_checkout_s():
    said = run("btcfi", "--version")
    here = subprocess.run([".venv/bin/btcfi", "--version"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (said.returncode, said.stdout) == (0, here.stdout)


@pytest.mark.timeout(400)
def test_the_demo_ends_in_the_image():
    done = run("btcfi", "demo", "--json", timeout=380)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
