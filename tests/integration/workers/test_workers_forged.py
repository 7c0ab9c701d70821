"""What somebody who reaches the broker writes into it, on a real broker and a real worker: nothing of it is followed.

The forger has the password of the broker and our code, and none of our keys. What is ours goes on meanwhile.
"""

import base64
import json
import os
import signal
import time
import uuid
from dataclasses import asdict, replace

import pytest
from celery import Celery
from kombu.connection import Connection
from sqlalchemy import update
from sqlmodel import col, select
from typer.testing import CliRunner

from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.tables import CanaryRow, CounterRow
from btcfi.adapters.store.spine.views import refused
from btcfi.errors import UnreachableError
from settings.deployment import Deployment
from workers import liveness, seal
from workers.app import configuration, create_app
from workers.cli import build
from workers.fleet import Fleet
from workers.machine.cluster import Cluster
from workers.roles import CONTROL
from workers.signals import SENT_AT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

QUEUE = f"btcfi:{CONTROL}"
CHANNELS = ("/0.celery.pidbox", "btcfi:/0.celery.pidbox")
"""On one of which kombu carries remote control."""


class World:
    """A cluster of one worker, our own application, and a stranger's on the same broker."""

    def __init__(self, cluster):
        self.cluster, self.deployment = cluster, cluster.deployment
        self.app = create_app(self.deployment, modules=())
        self.fleet = Fleet(self.app, self.deployment)
        self.stranger = Celery("stranger", set_as_current=False)
        self.stranger.conf.update(configuration(self.deployment))
        self.store = Store(self.deployment.database_url)
        self.redis = Connection(self.deployment.broker_url).channel().client

    @property
    def worker(self):
        return next(part for part in self.cluster.parts if part.name == CONTROL)

    def name(self):
        return liveness.node_name(CONTROL)

    def forget(self):
        with self.store.transaction() as session:
            session.execute(update(CanaryRow).values(seen_at_unix=0))

    def seen(self, queue=CONTROL):
        with self.store.reading() as session:
            row = session.get(CanaryRow, queue)
            return row is not None and row.seen_at_unix > 0

    def refused(self):
        with self.store.reading() as session:
            query = select(col(CounterRow.value)).where(col(CounterRow.name) == "refused_at_the_broker")
            return session.exec(query).one_or_none() or 0

    def works(self):
        """Prove by a canary of our own that the worker takes and finishes what is ours."""
        self.forget()
        self.app.send_task("control.canary", args=[CONTROL])
        until(self.seen, 30)
        return True

    def queues(self):
        """The queues that the worker takes of, as it says itself."""
        asked = self.app.control.inspect(timeout=5, destination=[self.name()]).active_queues() or {}
        return [queue["name"] for queue in asked.get(self.name(), ())]

    def written(self, *args, task="control.canary", **options):
        """Return what our application writes for a task, as it would lie in the worker's queue."""
        self.app.send_task(task, args=list(args), queue="parked", **options)
        envelope = json.loads(self.redis.rpop("btcfi:parked"))
        envelope["properties"]["delivery_info"]["routing_key"] = CONTROL
        seal.seal_of(self.deployment).sign(envelope, "", CONTROL)
        return envelope

    def shout(self, raw):
        """Publish on the channel of remote control, which the worker hears."""
        assert sum(self.redis.execute_command("PUBLISH", channel, raw) for channel in CHANNELS) >= 1

    def push(self, *many):
        self.redis.lpush(QUEUE, *(m if isinstance(m, bytes) else json.dumps(m) for m in many))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    deployment = Deployment(
        data_dir=tmp_path_factory.mktemp("forged"), broker_url=None, node_url=None, result_backend_url=None
    )
    with Cluster(
        deployment, embedded_node=False, roles=(CONTROL,), beat=False, run_parties=False, run_oracles=False
    ) as cluster:
        cluster.start()
        cluster.wait_ready(60)
        yield World(cluster)


def until(true, seconds=15):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_four_orders_to_cancel_the_consumers_stop_nobody(world):
    for queue in ("prices", "settle", "chain", "control"):
        world.stranger.control.cancel_consumer(queue)
    assert world.queues() == [CONTROL]
    assert world.works()


def test_a_stranger_s_task_is_refused_and_counted_and_its_effect_is_not_there(world):
    before = world.refused()
    world.forget()
    world.stranger.send_task("control.canary", args=["prices"])
    until(lambda: world.refused() > before)
    assert not world.seen("prices")
    assert world.works()


def test_no_order_but_the_operator_s_two_is_followed_whoever_seals_it(world):
    pid = world.worker.process.pid
    control = world.app.control
    control.broadcast("shutdown")
    control.pool_shrink(1)
    control.rate_limit("control.canary", "1/h")
    control.time_limit("control.canary", soft=1, hard=1)
    control.revoke("an id", terminate=True)
    control.disable_events()
    control.broadcast("ping", arguments={"more": 1})
    control.broadcast("cancel_consumer", arguments={"queue": CONTROL}, pattern="(a+)+$", matcher="pcre")
    assert world.queues() == [CONTROL]
    assert world.works()
    assert world.worker.process.pid == pid


def test_the_deployment_s_key_asks_and_does_not_steer(world, tmp_path):
    asking = create_app(world.deployment.model_copy(update={"operator_key_file": tmp_path / "none"}), modules=())
    with pytest.raises(seal.NoOperatorKeyError):
        asking.control.cancel_consumer(CONTROL)
    # a process that has the one key and says that it is the operator's
    (tmp_path / "same").write_bytes(world.deployment.broker_key_file.read_bytes())
    claiming = create_app(world.deployment.model_copy(update={"operator_key_file": tmp_path / "same"}), modules=())
    claiming.control.cancel_consumer(CONTROL)
    assert world.works()
    asked = asking.control.inspect(timeout=5, limit=1)
    for question in ("ping", "stats", "active_queues", "registered", "scheduled", "active", "reserved", "revoked"):
        assert world.name() in (getattr(asked, question)() or {}), question
    told = json.dumps(asked.conf(with_defaults=True))
    for key in (world.deployment.broker_key_file, world.deployment.operator_key_file):
        assert key.read_text().strip() not in told


def test_an_operator_s_order_that_was_recorded_is_no_order_again(world):
    heard = world.redis.pubsub()
    heard.psubscribe("*celery.pidbox")
    world.fleet.drain(world.name())
    until(lambda: not world.queues())
    recorded = [
        one["data"] for one in iter(lambda: heard.get_message(timeout=0.5), None)
        if one["type"] == "pmessage" and seal.control_body(json.loads(one["data"]))["method"] == "cancel_consumer"
    ]  # fmt: skip
    heard.close()
    assert len(recorded) == 1
    world.fleet.resume(world.name())
    until(world.queues)
    world.shout(recorded[0])
    assert world.queues() == [CONTROL]
    assert world.works()


def changed(envelope, **changes):
    """A copy of an envelope with other headers or properties."""
    made = json.loads(json.dumps(envelope))
    for place, values in changes.items():
        made[place].update(values)
    return made


def test_a_sealed_message_that_was_changed_in_one_place_is_refused(world):
    ours = world.written("prices", ignore_result=True)
    other = base64.b64encode(json.dumps([["settle"], {}, {}]).encode()).decode()
    wrong = [
        changed(ours) | {"body": other},
        changed(ours) | {"content-encoding": "utf-16"},
        changed(ours, headers={"task": "control.relay"}),
        changed(ours, headers={"id": str(uuid.uuid4())}),
        changed(ours, headers={"expires": None, "eta": "2030-01-01T00:00:00+00:00"}),
        changed(ours, headers={"btcfi_schema": 0}),
        changed(ours, headers={SENT_AT: 1.0}),
        changed(ours, headers={"one": "more"}),
        changed(ours, headers={seal.MAC_HEADER: None}),
        changed(ours, headers={seal.MAC_HEADER: "1." + "0" * 12 + "." + "0" * 64}),
        changed(ours, properties={"correlation_id": "x"}),
        changed(ours, properties={"reply_to": "x"}),
        {k: v for k, v in ours.items() if k != "content-type"},
    ]
    before = world.refused()
    world.forget()
    world.push(*wrong)
    until(lambda: world.refused() >= before + len(wrong))
    assert not world.seen("prices")
    # another queue's message, whole: its seal names where it belongs
    world.app.send_task("control.canary", args=["prices"], queue="settle")
    world.push(world.redis.rpop("btcfi:settle"))
    until(lambda: world.refused() > before + len(wrong))
    assert not world.seen("prices")
    # what redelivery writes, and what a broker may have lost, is no change
    world.push(changed(ours, headers={"redelivered": True}, properties={"delivery_info": {"exchange": "elsewhere"}}))
    until(lambda: world.seen("prices"))


POISON = [
    {"headers": {"expires": {}}}, {"headers": {"id": [1]}}, {"properties": {"body_encoding": "rot13"}},
    {"properties": {"body_encoding": [1]}}, {"headers": {"timelimit": "soon"}}, {"headers": {"retries": {}}},
    {"properties": {"priority": {}}}, {"properties": {"correlation_id": {}}}, {"properties": {"delivery_info": []}},
    {"properties": {"delivery_tag": None}}, {"headers": {"redelivered": "yes"}}, {"headers": {"stamps": 1}},
    {"headers": {"compression": "application/x-gzip"}}, {"headers": {"x" * 9_000: 1}},
    {"headers": {"origin": "\x1b[2J"}},
    {"headers": {"btcfi_refused": "\x1b[2J" * 1_000}}, {"headers": {"btcfi_mac": {}}},
]  # fmt: skip


def test_poison_stops_no_role_and_what_is_shown_of_it_is_short_and_prints(world):
    ours = world.written("prices")
    before, pid = world.refused(), world.worker.process.pid
    # what kombu holds for workers that died: rubbish, and behind it something of ours
    world.forget()
    whole = json.dumps([ours, "", CONTROL]).encode()
    for at, (tag, held) in enumerate((("a", b"\xff"), ("b", b"[1]"), ("c", whole))):
        world.redis.hset("btcfi:unacked", tag, held)
        world.redis.zadd("btcfi:unacked_index", {tag: 3 - at})
    made = [changed(ours, **one) for one in POISON]
    world.push(*made, b"\xff", b"[" * 9_000, b'{"body": 1, "headers": [], "properties": {}}')
    until(lambda: world.refused() >= before + len(made) + 3)
    for raw in (b"\xff", b"[]", json.dumps(made[0]).encode(), json.dumps(made[1]).encode()):
        world.shout(raw)
    assert world.queues() == [CONTROL]
    until(lambda: world.seen("prices"))
    assert world.works()
    assert world.worker.process.pid == pid
    with world.store.reading() as session:
        rows = refused(session)
    assert all(row.reason.isprintable() and len(row.reason) <= 200 and row.excerpt.isprintable() for row in rows)


@pytest.mark.parametrize("key", ["btcfi:unacked_index", "btcfi:unacked", QUEUE, f"{QUEUE}\x06\x163"])
def test_a_key_of_another_kind_ends_no_worker_and_stops_no_work(world, key):
    assert world.works()
    aside, pid = len(world.redis.keys("btcfi:aside.*")), world.worker.process.pid
    world.redis.delete(key)
    if key.endswith("3"):
        world.redis.hset(key, "a", "x")
    else:
        world.redis.set(key, "x")
    assert world.works()
    until(lambda: len(world.redis.keys("btcfi:aside.*")) == aside + 1)
    assert world.worker.exit_code is None
    assert world.worker.process.pid == pid


def test_a_binding_that_a_stranger_wrote_silences_no_worker_s_answers(world):
    for exchange in ("reply.celery.pidbox", CONTROL):
        world.redis.sadd(f"btcfi:_kombu.binding.{exchange}", "garbage")
    assert world.queues() == [CONTROL]
    assert world.works()


def test_a_flood_of_strangers_messages_is_counted_whole_and_what_is_ours_is_taken_behind_it(world):
    before = world.refused()
    world.push(*(json.dumps({"n": n}).encode() for n in range(500)))
    assert world.works()
    until(lambda: world.refused() >= before + 500)


def test_a_change_of_the_key_accepts_both_for_one_visibility_timeout(world):
    old = world.written("prices")
    unsent = world.written("settle")
    seal.change_key(world.deployment.broker_key_file, now=time.time())
    time.sleep(seal.RELOAD_SECONDS + 0.2)
    world.forget()
    assert world.works()
    world.push(old)
    until(lambda: world.seen("prices"))
    # the time is over: as if it were fifteen minutes later
    file = world.deployment.broker_key_file
    new, kept = file.read_text().splitlines()
    file.write_text(f"{new}\n{' '.join([*kept.split()[:2], str(int(time.time()) - 1)])}\n")
    time.sleep(seal.RELOAD_SECONDS + 0.2)
    before = world.refused()
    world.push(unsent)
    until(lambda: world.refused() > before)
    assert world.works()


def test_a_worker_that_stands_still_is_unhealthy_and_started_anew(world):
    environment = world.deployment.environment()
    file = liveness.path_of(world.deployment.data_dir.resolve(), world.name())
    until(file.exists)
    before = liveness.read_note(file)
    assert world.works()
    until(lambda: liveness.read_note(file).progress_at > before.progress_at)
    assert CliRunner().invoke(build(), ["health", CONTROL], env=environment).exit_code == 0
    pid = world.worker.process.pid
    os.killpg(pid, signal.SIGSTOP)
    long_ago = replace(before, at=before.at - 10 * liveness.STANDSTILL_SECONDS)
    file.write_text(json.dumps(asdict(long_ago)))  # as if it had stood so long
    told = CliRunner().invoke(build(), ["health", CONTROL], env=environment)
    assert isinstance(told.exception, UnreachableError)
    until(lambda: world.worker.process.pid != pid, 30)
    assert "stood still" in world.worker.log.read_text()
    assert world.works()
