"""A deployment that is started in a folder into which others write: none of its processes runs code from there."""

import os
import sys
import time

import pytest

from workers.machine.nursery import Nursery
from workers.machine.part import Part

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """Run in a folder with modules of somebody else's; give where they say that they ran."""
    folder, said = tmp_path / "open", tmp_path / "said"
    for package in ("btcfi", "workers"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(f"open({str(said)!r}, 'a').write('{package}')\n")
    (folder / "json.py").write_text(f"open({str(said)!r}, 'a').write('json')\n")
    monkeypatch.chdir(folder)
    return said


@pytest.mark.parametrize("forked", [False, True])
def test_a_part_takes_no_code_from_the_folder_in_which_it_is_started(hostile, tmp_path, forked):
    nursery = Nursery(tmp_path / "nursery.log") if forked else None
    command = [sys.executable, "-m", "btcfi.surfaces.party_cli", "--help"]
    part = Part(name="party", command=command, environment=dict(os.environ), log=tmp_path / "part.log", nursery=nursery)
    try:
        part.start()
        deadline = time.monotonic() + 60
        while (code := part.process.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        if nursery is not None:
            nursery.close()
    assert (code, hostile.exists()) == (0, False), (tmp_path / "part.log").read_text()
