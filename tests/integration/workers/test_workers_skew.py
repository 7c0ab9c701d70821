"""The clock of one role is wrong, and no other one: not its siblings', not the database's, not the steady one."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from workers.chaos.skew import Skew

pytestmark = [pytest.mark.integration]

ASKS = """
import json, sqlite3, sys, time
from datetime import datetime
from pathlib import Path
from workers.chaos.skew import go_by
steady = time.monotonic()
went = go_by(Path(sys.argv[1]))
kernel = sqlite3.connect(":memory:").execute("SELECT unixepoch('now')").fetchone()[0]
print(json.dumps([went, time.time() - kernel, datetime.now().timestamp() - kernel, time.monotonic() - steady]))
"""


def asked(skew, folder, role):
    done = subprocess.run(
        [sys.executable, "-c", ASKS, str(folder / role)], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LD_PRELOAD": ":".join(skew.preload)},
    )  # fmt: skip
    return json.loads(done.stdout)


def test_a_process_goes_by_its_role_s_clock_and_its_database_by_the_kernel_s(tmp_path):
    skew = Skew(tmp_path / "skew")
    skew.set("chain", 7_200)
    went, ahead, also, steady = asked(skew, tmp_path / "skew", "chain")
    assert went
    assert 7_100 < ahead < 7_300
    assert 7_100 < also < 7_300
    assert steady < 3_600
    went, ahead, *_ = asked(skew, tmp_path / "skew", "settle")
    assert went
    assert abs(ahead) < 100
    skew.right()
    assert abs(asked(skew, tmp_path / "skew", "chain")[1]) < 100
