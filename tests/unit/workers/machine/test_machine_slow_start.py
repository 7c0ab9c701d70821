"""A part that still runs and does not answer had too little time: who started it reads that a new start goes on."""

import subprocess
import sys
from types import SimpleNamespace

from workers.machine.part import todo


def test_a_part_that_runs_and_is_mute_is_told_apart_from_one_that_has_ended(tmp_path):
    log = tmp_path / "api.log"
    running = todo(SimpleNamespace(exit_code=None, log=log))
    assert "start again, it goes on where it was" in running
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as ended:
        pass
    assert todo(SimpleNamespace(exit_code=ended.returncode, log=log)) == f"see {log}"
    assert str(log) in running
