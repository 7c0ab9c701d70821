"""What keeps an embedded cluster's parts running: no failure of one, however often or at which moment, ends that."""

import errno
import json
import os
import threading
import time
from pathlib import Path

import pytest

from settings.deployment import Deployment
from workers.machine.cluster import LONGEST_BACKOFF_SECONDS, Cluster
from workers.machine.part import Part


@pytest.fixture
def cluster(tmp_path):
    return Cluster(Deployment(data_dir=tmp_path), roles=(), beat=False)


class Dead:
    """A process that ended."""

    pid = 2**22 + 1  # above every number that the kernel gives

    def poll(self):
        return 1

    def wait(self, _timeout=None):
        return 1


def a_dead_part(folder, name="one"):
    return Part(name=name, command=["none"], environment={}, log=folder / f"{name}.log", process=Dead())


def test_a_part_that_fails_for_days_is_still_started_again(cluster, tmp_path):
    part = a_dead_part(tmp_path)
    part.failures, part.started = 5_000, time.monotonic()
    cluster._restart(part)
    assert LONGEST_BACKOFF_SECONDS - 1 < part.retry_at - time.monotonic() <= LONGEST_BACKOFF_SECONDS


def test_a_log_that_cannot_be_written_does_not_end_the_supervision(cluster, tmp_path):
    first, second = a_dead_part(tmp_path), a_dead_part(tmp_path, "two")
    first.log.mkdir()  # as a full disk does, it refuses
    cluster._shared.parts += [first, second]
    threading.Timer(0.7, cluster._shared.stopping.set).start()
    cluster._supervise()
    assert first.retry_at is not None
    assert second.retry_at is not None


def test_what_is_known_of_the_parts_is_never_half_written(cluster, tmp_path, monkeypatch):
    cluster._write_down()
    before = json.loads((tmp_path / "cluster.json").read_text())

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(Path, "write_text", lambda self, _: (self.open("w").close(), full()))
    with pytest.raises(OSError, match="space"):
        cluster._write_down()
    assert json.loads((tmp_path / "cluster.json").read_text()) == before


def test_whatever_one_part_s_files_do_the_others_are_watched_and_it_again(cluster, tmp_path, monkeypatch):
    looked = []

    class Broken:
        name, log = "broken", tmp_path / "broken.log"

        @property
        def exit_code(self):
            looked.append("broken")
            raise RuntimeError("whatever")

    class Fine:
        name, log, exit_code, process, works_as = "fine", tmp_path / "fine.log", None, None, None

    cluster._shared.parts[:] = [Broken(), Fine()]
    monkeypatch.setattr("workers.machine.cluster.bound_log", lambda log: looked.append(log.name))
    rounds = iter([False, False, True])
    monkeypatch.setattr(cluster._shared.stopping, "wait", lambda _: next(rounds))
    cluster._supervise()
    assert looked == ["broken", "fine.log"] * 2
    cluster._shared.parts.clear()
