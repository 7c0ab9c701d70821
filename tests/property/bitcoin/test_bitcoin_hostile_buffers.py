"""No buffer, however long or short, reaches libsecp256k1 unless it is what the library reads."""

import json
import subprocess
import sys

from tests.support.paths import ROOT


def test_every_buffer_of_0_to_70_bytes_and_every_scalar_outside_the_order_is_refused_and_ends_no_process():
    """In a process of its own: what the library takes for misuse ends the process, and the last line says at what."""
    lengths, fillings = list(range(71)), [0x00, 0x01, 0x02, 0x7F, 0xFF]
    command = [sys.executable, "-m", "tests.support.hostile_buffers", json.dumps(lengths), json.dumps(fillings)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    *_, last = done.stdout.splitlines() or [""]
    assert done.returncode == 0, (last, done.stderr[-2_000:])
    found = json.loads(last)
    assert found["wrong"] == []
    assert all(count >= 350 for count in found["tried"].values())
