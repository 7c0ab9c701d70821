"""Parts that are forked instead of started: seen, ended and told apart as if each were a program of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from workers.machine.nursery import SHARED, SUPPORTED, Nursery
from workers.machine.part import Part

pytestmark = [pytest.mark.integration, pytest.mark.skipif(not SUPPORTED, reason="parts are forked on Linux only")]

CHILD = """
import os, sys, time
print(os.environ.get("SAID"), os.environ.get("BTCFI_FORGOTTEN"), sys.argv[1:], flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "child_of_a_test.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("BTCFI_FORGOTTEN", "a secret of whoever starts the cluster")
    return tmp_path


@pytest.fixture
def nursery(folder):
    made = Nursery(folder / "nursery.log")
    yield made
    made.close()


def a_part(folder, nursery, *arguments, **environment):
    part = Part(
        name="one", command=[sys.executable, "-m", "child_of_a_test", *arguments], environment=environment,
        log=folder / "one.log", nursery=nursery,
    )  # fmt: skip
    part.start()
    return part


def wait_until(true, seconds=20):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_forked_part_has_its_own_command_environment_log_session_and_end(folder, nursery):
    part = a_part(folder, nursery, "0.5", "7", SAID="hello", PATH=os.environ["PATH"])
    wait_until(lambda: b"hello" in part.said())
    assert part.said().decode() == "hello None ['0.5', '7']\n"
    there = psutil.Process(part.process.pid)
    assert [word for word in there.cmdline() if word] == part.command
    assert os.getsid(there.pid) == os.getpgid(there.pid) == there.pid
    assert part.exit_code is None
    assert part.process.wait(20) == part.exit_code == 7
    assert not psutil.pid_exists(there.pid)


def test_a_signal_ends_a_forked_part_alone(folder, nursery):
    first, second = (a_part(folder, nursery, "60", "0") for _ in range(2))
    first.signal(signal.SIGTERM)
    assert first.process.wait(20) == -signal.SIGTERM
    assert second.exit_code is None
    with pytest.raises(subprocess.TimeoutExpired):
        second.process.wait(0.05)
    second.kill()
    assert second.exit_code == -signal.SIGKILL


def test_what_a_part_is_told_never_reaches_the_nursery_or_the_next_part(folder, nursery):
    secret = "hunter2" * 5
    told = a_part(folder, nursery, "60", "0", SAID=secret)
    wait_until(lambda: secret.encode() in told.said())
    later = a_part(folder, nursery, "60", "0")
    assert secret.encode() in memory_of(told.process.pid)
    for pid in (psutil.Process(told.process.pid).ppid(), later.process.pid):
        assert secret.encode() not in memory_of(pid)
    for part in (told, later):
        part.kill()


def memory_of(pid):
    """Return everything that a process could write to, as bytes."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, rights, *_ = line.split()
            start, end = (int(text, 16) for text in where.split("-"))
            if rights.startswith("rw"):
                memory.seek(start)
                found.append(memory.read(end - start))
    return b"".join(found)


def test_a_killed_nursery_takes_its_parts_along_and_the_next_part_starts_another(folder, nursery):
    part = a_part(folder, nursery, "60", "0")
    first = psutil.Process(part.process.pid).ppid()
    os.kill(first, signal.SIGKILL)
    assert part.process.wait(20) == -signal.SIGKILL
    wait_until(lambda: not psutil.pid_exists(part.process.pid) or psutil.Process(part.process.pid).status() == "zombie")
    part.start()
    assert psutil.Process(part.process.pid).ppid() != first
    assert part.exit_code is None
    part.kill()


def test_the_nursery_imports_nothing_that_is_made_once_a_process():
    program = "import sys\nfrom workers.machine.nursery import share\nshare()\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    assert set(SHARED) <= found
    # a worker's name in the leases is made as `tasks.context` is imported; two must never have the same
    assert not [name for name in found if name.partition(".")[0] == "tasks"]
    assert not found & {"numba", "unicorn", "scipy", "numpy", "ccxt", "fastapi", "uvicorn", "matplotlib"}
