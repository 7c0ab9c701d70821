"""What the console asks the workers through the broker, on a real one."""

from __future__ import annotations

import time

import pytest

from btcfi.errors import NotFoundError, UnreachableError
from settings.deployment import Deployment
from workers.app import create_app
from workers.fleet import Fleet
from workers.machine.cluster import Cluster
from workers.roles import CONTROL

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def _no_services_from_outside(monkeypatch):
    for name in ("BROKER_URL", "NODE_URL", "DATABASE_URL", "RESULT_BACKEND_URL"):
        monkeypatch.delenv(name, raising=False)


def test_a_worker_is_listed_drained_and_resumed_and_a_lost_broker_is_named(tmp_path):
    with Cluster(Deployment(data_dir=tmp_path), embedded_node=False, roles=(CONTROL,), beat=False) as cluster:
        cluster.start()
        cluster.wait_ready(60)
        fleet = Fleet(create_app(cluster.deployment), cluster.deployment)
        (worker,) = fleet.workers()
        assert worker.name.startswith("control@")
        assert worker.queues == (CONTROL,)
        assert worker.answered
        fleet.drain(worker.name)
        wait_for(lambda: not fleet.workers()[0].queues)
        fleet.resume(worker.name)
        wait_for(lambda: fleet.workers()[0].queues == (CONTROL,))
        for stranger in ("control@elsewhere", "nobody@here", ""):
            with pytest.raises(NotFoundError):
                fleet.drain(stranger)
    with pytest.raises(UnreachableError):
        fleet.workers()


def wait_for(true):
    deadline = time.monotonic() + 15
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)
