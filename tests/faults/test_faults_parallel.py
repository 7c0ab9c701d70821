"""Clusters side by side: what ends one costs its own cases alone, and what came out stands in the matrix's order."""

import json
import os
import time

import pytest

from workers.chaos import parallel
from workers.chaos.matrix import Case, Outcome
from workers.commands.chaos import BEGIN, END, _Report

CELLS = [(f"round.open:{number}", "kill-child") for number in range(6)]


def outcome(point, kind, seed=1):
    return Outcome(case=Case(point=point, kind=kind, slot=0, seed=seed), seconds=1.0, problems=(), reached=True)


def all_of(share, pipe):
    for point, kind in share.cells:
        pipe.send(outcome(point, kind))
    pipe.close()


def work_of_a_cluster_that_dies(share, pipe):
    """Stands in for a share's process: the first share runs one case and dies, the second runs all of its own."""
    if share.first:
        all_of(share, pipe)
        return
    pipe.send(outcome(*share.cells[0]))
    time.sleep(0.5)
    if share.keep:
        pipe.send("StalledError: no funding")
    os._exit(9)


@pytest.mark.parametrize(("says", "reason"), [(True, "StalledError: no funding"), (False, "its process ended with 9")])
def test_a_cluster_that_dies_breaks_the_cases_that_it_did_not_get_to_and_no_others(monkeypatch, says, reason):
    monkeypatch.setattr(parallel, "_work", work_of_a_cluster_that_dies)
    heard = []
    found = parallel.run_all(CELLS, seed=1, database_url=None, keep=says, at_once=2, said=heard.append)
    assert [(one.case.point, one.case.kind) for one in found] == CELLS
    assert [one.ok for one in found] == [True, False, False, True, True, True]
    assert {problem for one in found for problem in one.problems} == {f"not run, its cluster is gone: {reason}"}
    assert sorted(one.case.point for one in heard) == sorted(point for point, _ in CELLS)


def work_of_a_cluster_that_stalls(share, pipe):
    """Stands in for a share's process: the first share begins its second case and never ends it."""
    if share.first:
        all_of(share, pipe)
        return
    pipe.send(outcome(*share.cells[0]))
    pipe.send(parallel.Began("kill-child at round.open:1", 0.5))
    time.sleep(600)


def test_a_case_that_stalls_ends_its_cluster_with_a_reason_and_not_the_run(monkeypatch):
    monkeypatch.setattr(parallel, "_work", work_of_a_cluster_that_stalls)
    found = parallel.run_all(CELLS, seed=1, database_url=None, at_once=2)
    assert [(one.case.point, one.case.kind) for one in found] == CELLS
    assert [one.ok for one in found] == [True, False, False, True, True, True]
    (reason,) = {problem for one in found for problem in one.problems}
    assert reason.endswith("stalled: kill-child at round.open:1 took more than 0.5 s")


def test_a_share_whose_cases_take_too_long_together_has_stalled_though_each_of_them_is_in_time():
    share = parallel.Share(first=0, cells=tuple(CELLS), seed=1, database_url=None, keep=False, options_each=1)
    team = parallel._Team(share=share, process=None)
    team.comes_to(parallel.Began("kill-child at round.open:1", 60.0))
    assert team.stalled() == ""
    team.began -= share.limit_seconds
    assert team.stalled() == (
        f"its 6 cases took more than {share.limit_seconds:g} s together; it was at kill-child at round.open:1"
    )


def test_a_run_that_is_stopped_leaves_what_it_has_and_says_how_much_is_missing(tmp_path):
    file = tmp_path / "page.md"
    file.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    report = _Report(CELLS, seed=7, store="SQLite", file=file)
    report.write()
    assert file.read_text() == f"before\n{BEGIN}\n{END}\nafter\n"
    for place in (4, 1):
        report.take(outcome(*CELLS[place]))
    report.write()
    text = file.read_text()
    assert "PARTIAL: 2 of 6 cases were run" in text
    assert text.index("`round.open:1`") < text.index("`round.open:4`")
    assert json.loads(json.dumps(report.summary()))["partial"] == "2 of 6 cases were run"
    for cell in CELLS:
        report.take(outcome(*cell))
    report.write()
    assert "PARTIAL" not in file.read_text()
    assert "partial" not in report.summary()
