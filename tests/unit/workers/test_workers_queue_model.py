"""The queue model: a burst through stages that share cores, and what it says beside runs that were measured."""

import json

import pytest

from btcfi.errors import InvalidInputError
from tests.support.paths import ROOT
from workers.queue_model import Stage, blocks, compare, drain, free_cores, stages_of

RUNS = ROOT / "tests" / "vectors" / "scale"
STATED_ERROR = 0.4
"""docs/explanation/scale.md says it: of runs on two cores that others use too."""


def stage(name, processes, milliseconds, **more):
    return Stage(name=name, processes=processes, seconds_each=milliseconds / 1_000, **more)


def test_one_stage_takes_its_work_by_its_processes():
    found = drain([stage("prove", 2, 10)], 1_000, cores=4)
    assert found.seconds == pytest.approx(5.0, rel=0.002)
    assert found.bottleneck == "prove"
    assert found.stages[0].utilisation == pytest.approx(1.0, rel=0.01)
    assert found.cores_utilisation == pytest.approx(0.5, rel=0.01)


def test_more_processes_than_cores_help_nothing():
    four, eight = (drain([stage("prove", many, 10)], 1_000, cores=2) for many in (4, 8))
    assert four.seconds == pytest.approx(5.0, rel=0.002)
    assert eight.seconds == pytest.approx(5.0, rel=0.002)
    assert eight.bottleneck == "cores"


def test_the_slowest_stage_decides_and_those_after_it_keep_up():
    found = drain([stage("prove", 1, 1), stage("build", 1, 4), stage("send", 1, 1)], 1_000, cores=3)
    assert found.bottleneck == "build"
    assert found.seconds == pytest.approx(4.0, rel=0.01)
    assert found.stages[0].last_s == pytest.approx(1.0, rel=0.01)
    assert found.stages[2].utilisation == pytest.approx(0.25, rel=0.02)


def test_stages_that_want_more_cores_than_there_are_share_them():
    found = drain([stage("prove", 2, 2), stage("build", 2, 2)], 1_000, cores=2)
    assert found.seconds == pytest.approx(2.0, rel=0.02)
    assert found.cores_utilisation == pytest.approx(1.0, rel=0.02)


def test_a_million_options_wait_for_blocks_and_not_for_us():
    found = drain([stage("prove", 2, 2), blocks()], 1_000_000, cores=2)
    assert found.bottleneck == "blocks"
    assert found.seconds == pytest.approx(1_000_000 / (499_000 / 419) * 600, rel=0.01)


def run(name):
    return json.loads((RUNS / f"{name}.json").read_text())


def test_a_measured_run_is_predicted_from_another_one_within_the_error_that_is_stated():
    small, large = run("one_process_3000"), run("two_processes_20000")
    for fed, against in ((small, large), (large, small)):
        assert abs(compare(fed, against).error) <= STATED_ERROR


def test_the_cores_of_others_are_not_ours():
    measured = run("two_processes_20000")
    assert 0 < free_cores(measured) < 2
    assert free_cores(measured | {"machine_busy_s": 0.0}) > free_cores(measured)


@pytest.mark.parametrize(
    "wrong", [{}, {"proven": 0}, {"cpu_s": []}, {"cpu_s": {"settle": "x"}}, {"settle_processes": None}]
)
def test_what_is_no_measured_run_is_refused(wrong):
    with pytest.raises(InvalidInputError):
        stages_of((run("one_process_3000") | wrong) if wrong else {})


def test_a_stage_of_nothing_is_refused():
    for processes, milliseconds in ((0, 1), (1, 0), (1, float("nan")), (1_001, 1)):
        with pytest.raises(InvalidInputError):
            stage("prove", processes, milliseconds)
    for many, cores in ((0, 1), (1, 0), (1, float("nan"))):
        with pytest.raises(InvalidInputError):
            drain([stage("prove", 1, 1)], many, cores=cores)
