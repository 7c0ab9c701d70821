"""Notes of liveness that say what is not so: of another start, of another process, from a full or frozen place."""

import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import asdict, replace

import pytest
from typer.testing import CliRunner

from workers import guard, liveness
from workers.cli import build
from workers.commands import health
from workers.liveness import BROKER_WAIT_SECONDS, LIFE, MOST_STRAIN, STANDSTILL_SECONDS, Life, Note, node_name

CANARY = 30.0
LONG = MOST_STRAIN * BROKER_WAIT_SECONDS + 100
"""After which nothing explains a standstill, however much this machine has to do."""


def mine(*, age, **more):
    """A note of this very process, so many seconds old."""
    at = time.monotonic() - age
    return Note(pid=os.getpid(), at=at, progress_at=at, boot=liveness.boot(), born=liveness.born(os.getpid()), **more)


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Write a note of a worker `settle` of this machine; return what `btcfi health settle` says."""
    monkeypatch.setenv("BTCFI_DATA_DIR", str(tmp_path))
    (tmp_path / "alive").mkdir()

    def write(note, *more):
        (tmp_path / "alive" / f"{node_name('settle')}.json").write_text(json.dumps(asdict(note)))
        return CliRunner().invoke(build(), ["health", "settle", *more])

    return write


def test_a_note_of_this_start_and_this_process_is_one(said):
    assert said(mine(age=1)).exit_code == 0


def test_a_note_of_before_the_machine_started_anew_is_no_note(said):
    then = time.monotonic() + 30 * 86_400  # the clock of before stood at thirty days, and the number is the same again
    note = Note(pid=os.getpid(), at=then, progress_at=then, waiting_since=then - 500, waiting=900)
    assert said(note).exit_code != 0
    assert said(replace(mine(age=1), boot="another")).exit_code != 0


@pytest.mark.parametrize("born", [None, 1.0])
def test_the_health_check_ends_no_process_that_was_given_a_dead_worker_s_number(said, born):
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        old = max(time.monotonic() - LONG, 0.0)
        assert said(Note(pid=innocent.pid, at=old, progress_at=old, born=born), "--end").exit_code != 0
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_the_health_check_ends_the_process_whose_note_it_is_and_that_alone():
    stuck = subprocess.Popen(["sleep", "60"])
    try:
        note = Note(pid=stuck.pid, at=0.0, progress_at=0.0, boot=liveness.boot(), born=liveness.born(stuck.pid))
        health._end(replace(note, born=note.born - 10))
        assert stuck.poll() is None
        assert liveness.may_be_ended(note)
        assert not liveness.may_be_ended(replace(note, born=None))
        reaper = threading.Thread(target=stuck.wait)
        reaper.start()
        health._end(note)
        reaper.join(20)
        assert stuck.returncode == -signal.SIGTERM
    finally:
        stuck.kill()
        stuck.wait()
    assert not liveness.may_be_ended(note)


def test_refusing_what_a_stranger_broadcasts_is_no_work_that_clears_a_stuck_worker(monkeypatch):
    long_ago = time.monotonic() - 10_000
    monkeypatch.setattr(LIFE, "progress_at", long_ago)
    for kind in ("control", "event", "reply", "queue"):
        guard._drop(b"{}", "not sealed: no process of this deployment sent it", kind)
    now = time.monotonic()
    note = Note(pid=1, at=now, progress_at=LIFE.progress_at, waiting_since=long_ago, waiting=50)
    assert liveness.stuck(note, now=now, canary_seconds=CANARY) is not None


@pytest.fixture
def life(tmp_path):
    made = Life()
    made.name(tmp_path, "settle@here")
    return made


def no_room(monkeypatch):
    """A disk on which no new file has room."""
    really = os.open

    def opened(path, flags, *more, **options):
        if flags & os.O_CREAT:
            raise OSError(28, "No space left on device")
        return really(path, flags, *more, **options)

    monkeypatch.setattr(liveness.os, "open", opened)


def test_where_no_new_file_has_room_the_old_note_says_what_the_new_one_would(life, monkeypatch):
    life.write()
    before = liveness.read_note(life.file)
    life.drained.add("settle")
    with monkeypatch.context() as patch:
        no_room(patch)
        life.write(busy_since=7.0)
    found = liveness.read_note(life.file)
    assert found.at > before.at
    assert (found.drained, found.busy_since) == (("settle",), 7.0)
    assert [p.name for p in life.file.parent.iterdir()] == [life.file.name]


def test_a_worker_of_which_no_byte_can_be_written_works_on(life, monkeypatch):
    life.write()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(liveness.os, "pwrite", full)
        life.write()
        with life.asking():
            pass
    assert liveness.read_note(life.file) is not None


def test_a_note_on_a_disk_that_has_become_read_only_says_nothing_of_who_would_write_it(tmp_path, monkeypatch):
    file = tmp_path / "settle@here.json"
    file.write_text(json.dumps(asdict(mine(age=LONG))))
    assert liveness.judged(file, canary_seconds=CANARY) is not None
    monkeypatch.setattr(liveness, "_read_only", lambda folder: folder == tmp_path)
    assert liveness.judged(file, canary_seconds=CANARY) is None


def test_a_main_loop_that_waits_for_the_broker_says_so_while_it_waits(life):
    life.write()
    assert not liveness.read_note(life.file).asking
    with life.asking():
        assert liveness.read_note(life.file).asking
        life.write()
        assert liveness.read_note(life.file).asking
    assert not liveness.read_note(life.file).asking


def test_waiting_for_a_frozen_broker_is_no_standstill_and_has_an_end():
    note = replace(mine(age=0), at=0.0, asking=True)
    assert liveness.stuck(note, now=STANDSTILL_SECONDS + 60, canary_seconds=CANARY) is None
    assert liveness.stuck(note, now=BROKER_WAIT_SECONDS + 1, canary_seconds=CANARY) is not None
    assert liveness.stuck(replace(note, asking=False), now=STANDSTILL_SECONDS + 1, canary_seconds=CANARY) is not None


def test_on_an_overloaded_machine_everybody_has_more_time_and_never_without_an_end(monkeypatch):
    waits = replace(mine(age=0), at=0.0, progress_at=0.0, waiting=3, waiting_since=0.0)
    for note, limit in ((waits, liveness.IDLE_SECONDS), (replace(waits, waiting_since=None), STANDSTILL_SECONDS)):
        fresh = replace(note, at=2 * limit if note.waiting_since is not None else 0.0)
        assert liveness.stuck(fresh, now=2 * limit, canary_seconds=CANARY) is not None
        assert liveness.stuck(fresh, now=2 * limit, canary_seconds=CANARY, strain=3.0) is None
    for load, least in ((0.0, 1.0), (10_000.0, MOST_STRAIN)):
        monkeypatch.setattr(liveness.os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert liveness.strain() == least
