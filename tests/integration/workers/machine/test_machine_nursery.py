"""Parts that are forked instead of started: seen, ended and told apart as if each were a program of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from btcfi.errors import UnreachableError
from workers.machine import nursery as nursery_module
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
    assert not found & {"unicorn", "ccxt", "fastapi", "uvicorn", "matplotlib"}


def test_the_nursery_has_one_thread_when_it_forks_whatever_it_has_loaded(folder, nursery):
    part = a_part(folder, nursery, "60", "0")
    its = psutil.Process(psutil.Process(part.process.pid).ppid())
    assert any("llvmlite" in one.path for one in its.memory_maps())
    assert its.num_threads() == 1
    part.kill()


def living(word):
    """Return the processes, zombies left out, whose command has ``word``."""
    there = (one.info | {"pid": one.pid} for one in psutil.process_iter(["cmdline", "status"]))
    return [one["pid"] for one in there if one["status"] != "zombie" and word in (one["cmdline"] or ())]


class Interrupted(BaseException):
    pass


def interrupted_after(seconds):
    """Have the main thread interrupted, as by a Ctrl-C."""

    def interrupt(*_):
        raise Interrupted

    old = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    return old


def test_a_start_that_is_interrupted_leaves_no_process_behind(folder):
    nursery = Nursery(folder / "nursery.log")
    old = interrupted_after(0.2)  # it still imports then
    try:
        with pytest.raises(Interrupted):
            a_part(folder, nursery, "60", "0")
    finally:
        signal.signal(signal.SIGALRM, old)
    nursery.close()
    assert living("child_of_a_test") == []


def test_a_nursery_that_hung_never_makes_a_part_twice(folder, nursery, monkeypatch):
    nursery.open()
    a_part(folder, nursery, "0", "0").process.wait(20)
    stuck = nursery._process.pid
    os.kill(stuck, signal.SIGSTOP)
    monkeypatch.setattr(nursery_module, "START_SECONDS", 0.3)
    with pytest.raises(UnreachableError):
        a_part(folder, nursery, "60", "0")
    monkeypatch.setattr(nursery_module, "START_SECONDS", 30.0)
    with contextlib.suppress(ProcessLookupError):
        os.kill(stuck, signal.SIGCONT)
    part = a_part(folder, nursery, "61", "0")
    time.sleep(0.5)
    assert living("child_of_a_test") == [part.process.pid]
    part.kill()


def test_a_nursery_that_hangs_is_closed_all_the_same(folder, monkeypatch):
    nursery = Nursery(folder / "nursery.log")
    a_part(folder, nursery, "0", "0").process.wait(20)
    stuck = nursery._process
    os.kill(stuck.pid, signal.SIGSTOP)
    monkeypatch.setattr(nursery_module, "CLOSE_SECONDS", 0.3, raising=False)
    nursery.close()
    assert stuck.poll() is not None


def test_a_nursery_that_was_killed_unnoticed_is_started_again_by_the_next_part(folder, nursery):
    a_part(folder, nursery, "0", "0").process.wait(20)
    os.kill(nursery._process.pid, signal.SIGKILL)
    wait_until(lambda: psutil.Process(nursery._process.pid).status() == psutil.STATUS_ZOMBIE)
    part = a_part(folder, nursery, "60", "0")
    assert part.exit_code is None
    part.kill()


def test_a_killed_parent_leaves_no_forked_part(folder):
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[4])!r})
from pathlib import Path
from workers.machine.nursery import Nursery
made = Nursery(Path({str(folder / "nursery.log")!r}))
import contextlib
import os
log = os.open({str(folder / "one.log")!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
part = made.fork([sys.executable, "-m", "child_of_a_test", "60", "0"], dict(os.environ), log)
print(part.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with parent:
        assert int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: living("child_of_a_test") == [])


@pytest.mark.parametrize("order", [("nursery", "part"), ("part", "nursery")])
def test_whatever_is_killed_first_nothing_stays(folder, nursery, order):
    parts = [a_part(folder, nursery, "60", "0") for _ in range(2)]
    pids = {"nursery": nursery._process.pid, "part": parts[0].process.pid}
    for one in order:
        os.kill(pids[one], signal.SIGKILL)
    wait_until(lambda: living("child_of_a_test") == [])
    assert [part.process.wait(20) for part in parts] == [-signal.SIGKILL] * 2


def test_where_no_process_can_be_made_one_part_fails_and_the_others_run_on(folder, nursery, monkeypatch):
    (folder / "sitecustomize.py").write_text(NO_FORK)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    first = a_part(folder, nursery, "60", "0")
    (folder / "full").touch()
    with pytest.raises(OSError, match="temporarily unavailable"):
        a_part(folder, nursery, "60", "0")
    assert first.exit_code is None
    (folder / "full").unlink()
    second = a_part(folder, nursery, "60", "0")
    assert (first.exit_code, second.exit_code) == (None, None)
    for part in (first, second):
        part.kill()


NO_FORK = """
import errno, os
from pathlib import Path
fork = os.fork
def limited():
    if (Path(__file__).parent / "full").exists():
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()
os.fork = limited
"""


def test_a_part_that_ended_stays_so_when_its_number_is_given_again(folder, nursery):
    first = a_part(folder, nursery, "0", "3")
    assert first.process.wait(20) == 3
    nursery._codes[first.process.pid] = None  # as a later part's birth does
    assert first.exit_code == 3


def test_a_part_may_be_told_more_than_a_pipe_holds(folder, nursery):
    part = a_part(folder, nursery, "0", "4", SAID="x" * 300_000)
    assert part.process.wait(20) == 4
    assert b"x" * 60_000 in part.said()
