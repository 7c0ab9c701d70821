from datetime import UTC, datetime

import pytest
from celery.beat import BeatLazyFunc, Scheduler

from btcfi.errors import InvalidInputError, NotFoundError
from settings.deployment import Deployment
from workers.app import configuration, create_app
from workers.beat import EveryMinute, closed_slot
from workers.roles import PARKED, QUEUES, roles, worker_arguments
from workers.systems import schedule

DEPLOYMENT = Deployment(broker_url="redis://u:hunter2@cache/0")
APP = create_app(Deployment(broker_url="memory://"))
MINUTE = 1_700_000_040
assert MINUTE % 60 == 0


@pytest.mark.parametrize(
    ("task", "queue"),
    [
        ("oracle.fetch", "prices"),
        ("oracle.tick", "control"),
        ("settlement.execute", "settle"),
        ("chain.watch", "chain"),
        ("control.relay", "control"),
        ("pricing.refresh", "settle"),
        ("canary.settle", "settle"),
        ("canary.nowhere", "control"),
    ],
)
def test_a_task_goes_to_the_queue_of_its_name(task, queue):
    assert APP.amqp.router.route({}, task)["queue"].name == queue


def test_a_queue_by_a_wrong_name_fails_at_once():
    with pytest.raises(Exception, match="setle"):
        APP.amqp.router.route({"queue": "setle"}, "control.canary")


def test_a_task_ends_before_its_message_would_be_given_to_another():
    conf = configuration(DEPLOYMENT)
    assert conf["task_soft_time_limit"] < conf["task_time_limit"]
    assert conf["task_time_limit"] < conf["broker_transport_options"]["visibility_timeout"]
    assert DEPLOYMENT.lease_seconds < conf["broker_transport_options"]["visibility_timeout"]


def test_celery_accepts_json_and_nothing_else():
    assert configuration(DEPLOYMENT)["accept_content"] == ["json"]


def test_without_a_broker_there_is_no_application():
    with pytest.raises(InvalidInputError) as caught:
        create_app(Deployment(broker_url=None))
    assert caught.value.field == "BROKER_URL"


def test_every_queue_but_the_parked_one_has_one_role():
    read = [queue for role in roles(DEPLOYMENT).values() for queue in role.queues]
    assert sorted(read) == sorted(set(QUEUES) - {PARKED})


def test_no_secret_is_in_the_arguments_of_a_worker():
    for role in roles(DEPLOYMENT):
        assert "hunter2" not in " ".join(worker_arguments(role, DEPLOYMENT, f"{role}1"))


def test_an_unknown_role_is_not_found():
    with pytest.raises(NotFoundError):
        worker_arguments("king", DEPLOYMENT, "k")


def test_nothing_on_the_schedule_can_pile_up():
    for entry in schedule(DEPLOYMENT).values():
        period = 60 if isinstance(entry["schedule"], EveryMinute) else entry["schedule"]
        assert entry["options"]["expires"] <= max(period, 1)


def test_each_worked_queue_has_a_canary_of_its_own():
    canaries = [e for e in schedule(DEPLOYMENT).values() if e["task"] == "control.canary"]
    assert sorted(e["options"]["queue"] for e in canaries) == sorted(set(QUEUES) - {PARKED})
    assert all(e["args"] == [e["options"]["queue"]] for e in canaries)


def test_blocks_are_mined_and_rounds_opened_only_where_asked():
    assert "chain.mine" not in schedule(DEPLOYMENT)
    assert "chain.mine" in schedule(DEPLOYMENT.model_copy(update={"mine_seconds": 2.0}))
    assert "oracle.tick" in schedule(DEPLOYMENT)
    assert "oracle.tick" not in schedule(DEPLOYMENT.model_copy(update={"tick": False}))
    assert schedule(DEPLOYMENT)["chain.anchor"]["schedule"] == 3_600
    assert "chain.anchor" not in schedule(DEPLOYMENT.model_copy(update={"anchor_seconds": 0.0}))


@pytest.mark.parametrize("after", [5, 30, 59.9])
def test_a_tick_is_about_the_minute_that_has_just_closed(after):
    assert closed_slot(MINUTE + after) == MINUTE - 60


def test_the_slot_is_filled_in_when_the_tick_is_sent():
    slot = schedule(DEPLOYMENT)["oracle.tick"]["kwargs"]["slot"]
    assert isinstance(slot, BeatLazyFunc)
    assert slot() % 60 == 0


@pytest.mark.parametrize(
    ("last", "now", "due", "wait"),
    [
        (-30, 4, False, 1),
        (-30, 5, True, 60),
        (-30, 20, True, 45),
        (5, 6, False, 59),
        (5.5, 64, False, 1),
        (6, 65, True, 60),
    ],
)
def test_the_tick_is_due_five_seconds_into_each_minute(last, now, due, wait):
    def at(seconds):
        return datetime.fromtimestamp(MINUTE + seconds, UTC)

    schedule = EveryMinute(5, nowfun=lambda: at(now))
    assert tuple(schedule.is_due(at(last))) == (due, pytest.approx(wait))
    assert (schedule.remaining_estimate(at(last)).total_seconds() <= 0) is due


def test_beat_keeps_its_schedule_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scheduler = Scheduler(APP)
    assert set(schedule(DEPLOYMENT)) <= set(scheduler.schedule)
    scheduler.close()
    assert list(tmp_path.iterdir()) == []
