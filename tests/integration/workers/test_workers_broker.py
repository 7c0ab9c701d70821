"""The broker's figures come from a real one: what waits, since when, what workers hold, and whether it would forget."""

import os
import signal
import time

import pytest
from kombu.connection import Connection
from prometheus_client import CollectorRegistry, generate_latest

from btcfi.errors import InvalidInputError, UnreachableError
from settings.deployment import Deployment
from workers.app import create_app
from workers.broker import read_broker
from workers.exporter import Exporter
from workers.machine.cluster import Cluster
from workers.roles import QUEUES

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    for name in ("BROKER_URL", "RESULT_BACKEND_URL", "DATABASE_URL"):
        if name in os.environ:
            pytest.skip(f"{name} is set: this test starts its own")
    folder = tmp_path_factory.mktemp("broker")
    with Cluster(Deployment(data_dir=folder), embedded_node=False, roles=(), beat=False, run_parties=False) as made:
        made.start()
        yield made


@pytest.fixture
def here(cluster):
    yield cluster.deployment
    with Connection(cluster.deployment.broker_url) as connection:
        connection.channel().client.flushall()


def read(deployment):
    return read_broker(deployment, QUEUES)


def test_an_idle_broker_of_ours_keeps_what_it_accepts_and_holds_nothing(here):
    found = read(here)
    assert {name: queue.waiting for name, queue in found.queues.items()} == dict.fromkeys(QUEUES, 0)
    assert (found.unacked, found.oldest_unacked_seconds) == (0, None)
    assert found.aof_enabled
    assert found.aof_ok
    assert found.eviction_policy == "noeviction"
    assert found.memory_bytes > 100_000
    assert found.version[0].isdigit()


def test_messages_that_wait_are_counted_by_queue_and_the_next_one_s_age_is_known(here):
    app = create_app(here)
    app.send_task("options.answer_request", args=["first"])
    time.sleep(1.1)
    app.send_task("options.answer_request", args=["second"])
    app.send_task("settlement.execute_batch", args=[["st-one"]])
    found = read(here)
    assert (found.queues["control"].waiting, found.queues["settle"].waiting) == (2, 1)
    assert 1.0 < found.queues["control"].oldest_seconds < 30, "the first one is next"
    assert found.queues["settle"].oldest_seconds < found.queues["control"].oldest_seconds
    assert found.queues["prices"].oldest_seconds is None


def test_what_a_worker_took_and_has_not_acknowledged_is_held(here):
    app = create_app(here)
    app.send_task("options.answer_request", args=["held"])
    with app.connection_for_read() as connection, connection.SimpleQueue("control") as queue:
        message = queue.get(timeout=5)
        found = read(here)
        assert found.queues["control"].waiting == 0
        assert found.unacked == 1
        assert 0 <= found.oldest_unacked_seconds < 30
        message.ack()
        assert read(here).unacked == 0


def test_a_foreign_message_has_no_age_and_breaks_nothing(here):
    with Connection(here.broker_url) as connection:
        client = connection.channel().client
        for rubbish in ("not json", '"text"', '{"headers": null}', '{"headers": {"btcfi_sent_at": "soon"}}'):
            client.rpush("btcfi:prices", rubbish)
            assert read(here).queues["prices"].oldest_seconds is None
    assert read(here).queues["prices"].waiting == 4


def test_a_broker_that_hangs_is_down_in_the_next_scrape_and_up_again_when_it_answers(cluster, here):
    broker = next(part for part in cluster.parts if part.name == "broker").process
    registry = CollectorRegistry()
    registry.register(Exporter(here, deadline=1.0))
    assert 'btcfi_up{part="broker"} 1.0' in generate_latest(registry).decode()
    broker.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        page = generate_latest(registry).decode()
        assert time.monotonic() - began < 10
        assert 'btcfi_up{part="broker"} 0.0' in page
        assert 'btcfi_up{part="database"} 1.0' in page
        assert "btcfi_queue_messages{" not in page
    finally:
        broker.send_signal(signal.SIGCONT)
    for _ in range(60):
        if 'btcfi_up{part="broker"} 1.0' in generate_latest(registry).decode():
            return
        time.sleep(0.1)
    pytest.fail("the broker answers and is said to be down")


def test_an_address_without_a_broker_is_named_without_its_password(tmp_path):
    nowhere = Deployment(data_dir=tmp_path, broker_url="redis://:hunter22@127.0.0.1:1/0")
    with pytest.raises(UnreachableError) as caught:
        read(nowhere)
    assert "127.0.0.1:1" in str(caught.value)
    assert "hunter22" not in str(caught.value)
    with pytest.raises(InvalidInputError):
        read(Deployment(data_dir=tmp_path, broker_url=None))
