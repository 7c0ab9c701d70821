"""When a process counts as stuck: by the work that waits and that it does, never by its number."""

import json
import os
from dataclasses import asdict, replace

import pytest
from typer.testing import CliRunner

from btcfi.errors import InvalidInputError, NotFoundError, UnreachableError
from settings.deployment import Deployment
from workers import liveness
from workers.app import TIME_LIMIT_SECONDS, VISIBILITY_TIMEOUT_SECONDS
from workers.cli import build
from workers.liveness import IDLE_SECONDS, LONGEST_TASK_SECONDS, STANDSTILL_SECONDS, Life, Note, stuck
from workers.roles import worker_arguments
from workers.seal import KEY_CHANGE_SECONDS

NOW = 100_000.0
IDLE = Note(pid=1, at=NOW - 3, progress_at=NOW - 3)
WAITS = replace(IDLE, waiting=4, waiting_since=NOW - 1_000)


@pytest.mark.parametrize(
    ("note", "is_stuck"),
    [
        (IDLE, False),
        (replace(IDLE, progress_at=NOW - 9_000), False),  # nobody sends: beat's fault, not the worker's
        (WAITS, False),
        (replace(WAITS, progress_at=NOW - IDLE_SECONDS - 1), True),
        (replace(WAITS, progress_at=NOW - IDLE_SECONDS - 1, waiting_since=NOW - 5), False),
        (replace(WAITS, progress_at=NOW - 9_000, busy_since=NOW - 200), False),
        (replace(WAITS, progress_at=NOW - 9_000, busy_since=NOW - LONGEST_TASK_SECONDS - 1), True),
        (replace(WAITS, progress_at=NOW - 9_000, drained=("settle",)), False),
        (replace(WAITS, progress_at=NOW - 9_000, connecting=True, at=NOW - 9_000), False),
        (replace(IDLE, at=NOW - STANDSTILL_SECONDS - 1), True),
        (replace(WAITS, at=NOW - STANDSTILL_SECONDS - 1, drained=("settle",)), True),
    ],
)
def test_a_worker_is_stuck_when_work_waits_and_it_finishes_none_or_its_loop_stands_still(note, is_stuck):
    assert (stuck(note, now=NOW, canary_seconds=30.0) is not None) is is_stuck


def test_slow_canaries_make_patient():
    late = replace(WAITS, progress_at=NOW - 400)
    assert stuck(late, now=NOW, canary_seconds=30.0)
    assert stuck(late, now=NOW, canary_seconds=300.0) is None


def test_the_numbers_of_other_modules_are_those_that_are_meant():
    assert LONGEST_TASK_SECONDS > TIME_LIMIT_SECONDS
    assert KEY_CHANGE_SECONDS == VISIBILITY_TIMEOUT_SECONDS


def test_work_waits_from_the_first_look_at_a_queue_that_is_not_seen_empty_since():
    life = Life()
    life.saw(3)
    first = life.waiting_since
    life.saw(None)
    life.saw(8)
    assert (life.waiting_since, life.waiting) == (first, 8)
    life.saw(0)
    assert life.waiting_since is None


def test_what_was_noted_is_read_and_what_is_no_note_says_nothing(tmp_path):
    life = Life()
    life.name(tmp_path, "settle-1@here")
    life.drained.add("settle")
    life.write(busy_since=7.0)
    file = liveness.path_of(tmp_path, "settle-1@here")
    found = liveness.read_note(file)
    assert (found.pid, found.drained, found.busy_since) == (os.getpid(), ("settle",), 7.0)
    assert file.stat().st_mode & 0o777 == 0o600
    for rubbish in (b"", b"[]", b'{"pid": 1}', b"\xff", b"[" * 9_000):
        file.write_bytes(rubbish)
        assert liveness.read_note(file) is None
        assert liveness.judged(file, canary_seconds=30.0) is None
    with pytest.raises(InvalidInputError):
        liveness.path_of(tmp_path, "../elsewhere")


@pytest.mark.parametrize(
    ("role", "age", "works"),
    [("settle", 1, True), ("settle", 100, False), ("beat", 100, True), ("beat", 400, False), ("chain", None, False)],
)
def test_health_judges_by_the_note_of_this_machine_s_process(tmp_path, role, age, works):
    if age is not None:
        at = liveness.time.monotonic() - age
        file = liveness.path_of(tmp_path, liveness.node_name(role))
        file.parent.mkdir()
        file.write_text(json.dumps(asdict(Note(pid=os.getpid(), at=at, progress_at=at))))
    done = CliRunner().invoke(build(), ["health", role], env=Deployment(data_dir=tmp_path).environment())
    assert (done.exit_code == 0) is works, done.output
    assert works or isinstance(done.exception, UnreachableError)


@pytest.fixture
def settle_1(tmp_path):
    """Ask `btcfi health` on a machine where a worker ``settle-1`` works, and no other."""
    now = liveness.time.monotonic()
    file = liveness.path_of(tmp_path, liveness.node_name("settle-1"))
    file.parent.mkdir()
    file.write_text(json.dumps(asdict(Note(pid=os.getpid(), at=now, progress_at=now))))
    environment = Deployment(data_dir=tmp_path).environment()
    return lambda *words: CliRunner().invoke(build(), ["health", *words], env=environment)


@pytest.mark.parametrize("words", [("settle", "--name", "settle-1"), ("settle-1",)])
def test_a_named_worker_is_asked_for_by_its_name(settle_1, words):
    done = settle_1(*words)
    assert (done.exit_code, done.output) == (0, "settle-1: works\n")


@pytest.mark.parametrize("words", [("settle",), ("settle-2",), ("settle", "--name", "settle-2"), ("chain",)])
def test_another_worker_s_work_says_nothing_of_one_that_is_not_there(settle_1, words):
    assert isinstance(settle_1(*words).exception, UnreachableError)


@pytest.mark.parametrize(
    "words",
    [
        ("chain", "--name", "settle-1"), ("settle-1", "--name", "settle-1"), ("beat", "--name", "settle-1"),
        ("api", "--name", "settle-1"), ("settle", "--name", "../settle-1"), ("settle", "--name", ""),
    ],
)  # fmt: skip
def test_a_name_that_no_worker_of_the_part_has_is_refused(settle_1, words):
    assert isinstance(settle_1(*words).exception, InvalidInputError)


@pytest.mark.parametrize("part", ["settled", "settle-/x", "king-1", "-1", ""])
def test_what_begins_with_no_role_is_no_part(settle_1, part):
    assert isinstance(settle_1("--", part).exception, NotFoundError)


@pytest.mark.parametrize("name", ["settle", "settle-1", "settle-a.b_c", "settle1", "fast"])
def test_a_worker_notes_its_work_under_every_name_that_it_is_started_with(tmp_path, name):
    (hostname,) = [one for one in worker_arguments("settle", Deployment(), name) if one.startswith("--hostname=")]
    assert hostname == f"--hostname={name}@%h"
    liveness.path_of(tmp_path, liveness.node_name(name))


@pytest.mark.parametrize("name", ["chain", "prices-1", "beat", "settle 1", "settle/1", "a@b", "%h", "", "x" * 101])
def test_a_name_that_health_or_draining_would_take_for_another_s_is_refused_at_the_start(name):
    with pytest.raises(InvalidInputError):
        worker_arguments("settle", Deployment(), name)
