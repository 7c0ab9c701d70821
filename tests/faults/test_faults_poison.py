"""Work that can never succeed is parked with its reason, and harms nothing else; nor does what is not ours."""

import base64
import json
import pickle
import time
import uuid
from pathlib import Path

import pytest
import redis
from sqlalchemy import select, update
from sqlmodel import col
from typer.testing import CliRunner

from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.adapters.store.spine.refusals import COUNTER
from btcfi.adapters.store.spine.tables import CanaryRow, CounterRow
from btcfi.adapters.store.spine.views import refused
from workers import seal
from workers.chaos.points import KILL_CHILD, PAUSE, Order
from workers.cli import build
from workers.guard import SCHEMA_HEADER

pytestmark = [
    pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("one cluster")
]  # fmt: skip


def operator(world, *words):
    done = CliRunner().invoke(build(), words, env=world.cluster.fleet.deployment.environment())
    assert done.exit_code == 0, done.output
    return done.stdout


def test_poison_is_parked_after_five_attempts_and_the_rest_of_its_batch_is_settled(world):
    killer, unread, *honest = names = ("killer", "unread", "honest-1", "honest-2")
    expiry = world.sell(*names)
    orders = world.cluster.orders
    orders.arm(Order(name="stop", point="task.settlement.execute_batch:before", action=PAUSE))
    orders.arm(Order(name="poison", point="settlement.claimed:after", action=KILL_CHILD, times=50, about="st-killer"))
    world.expire(expiry)
    world.cluster.wait("the batch", lambda: orders.reached("stop") is not None)
    given = world.settlement(unread).input_hex
    with world.cluster.store.transaction() as session:
        session.execute(update(SettlementRow).where(col(SettlementRow.id) == "st-unread").values(input_hex="zz"))
    orders.release("stop")
    world.until("EXERCISED", *honest)
    world.cluster.wait(
        "both to be parked", lambda: [world.settlement(n).state for n in (killer, unread)] == ["parked"] * 2, 120
    )
    orders.disarm("poison")

    parked = {row["id"]: row for row in json.loads(operator(world, "parked", "list", "--json"))["parked"]}
    assert {name: row["attempts"] for name, row in parked.items()} == {"st-killer": 5, "st-unread": 5}
    assert "the worker died in each of 5 attempts" in parked["st-killer"]["last_error"]
    assert "hexadecimal" in parked["st-unread"]["last_error"]
    assert world.broken(*honest) == []

    with world.cluster.store.transaction() as session:
        session.execute(update(SettlementRow).where(col(SettlementRow.id) == "st-unread").values(input_hex=given))
    for name in ("st-killer", "st-unread"):
        operator(world, "parked", "requeue", name)
    world.until("EXERCISED", *names)
    assert world.broken() == []


def envelope(world, task, *, body=None, content_type="application/json", **headers):
    """Return a message as kombu puts it into Redis, sealed: what a process of ours gone mad writes."""
    body = json.dumps([["settle"], {}, {}]).encode() if body is None else body
    given = {"lang": "py", "task": task, "id": str(uuid.uuid4()), "root_id": None, "argsrepr": "", **headers}
    made = {
        "body": base64.b64encode(body).decode(), "content-encoding": "utf-8", "content-type": content_type,
        "headers": given,
        "properties": {
            "correlation_id": given["id"], "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()), "delivery_info": {"exchange": "", "routing_key": "settle"},
        },
    }  # fmt: skip
    seal.seal_of(world.cluster.fleet.deployment).sign(made, "", "settle")
    return json.dumps(made).encode()


class Explodes:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_what_is_not_ours_is_refused_counted_and_kept_and_never_executed(world, tmp_path):
    trace = tmp_path / "executed"
    foreign = {
        "no task 'os.system'": envelope(world, "os.system", body=json.dumps([[f"touch {trace}"], {}, {}]).encode()),
        "no task 'celery.backend_cleanup'": envelope(world, "celery.backend_cleanup", body=b"[[], {}, {}]"),
        "only JSON is read": envelope(
            world, "control.canary", content_type="application/x-python-serialize", body=pickle.dumps(Explodes(trace))
        ),
        "the body is not JSON": envelope(world, "control.canary", body=b'[["settle"], {'),
        "the body is not [arguments": envelope(world, "control.canary", body=b'{"queue": "settle"}'),
        "schema 99": envelope(world, "control.canary", **{SCHEMA_HEADER: 99}),
        "bytes, at most": envelope(world, "control.canary", body=b"[" + b" " * 400_000 + b"[], {}, {}]"),
        "not an envelope": b"\xff\xfe not even text",
    }
    more = [b"{}", b"[1, 2, 3]", b"null", b"[" * 5_000, b'{"body": 1, "headers": [], "properties": {}}']
    workers = {part.name: part.process.pid for part in world.cluster.workers()}
    before = refusals(world)
    world.cluster.push_raw("settle", *foreign.values(), *more)
    world.cluster.wait("the refusals", lambda: refusals(world) >= before + len(foreign) + len(more), 60)

    with world.cluster.store.reading() as session:
        reasons = [row.reason for row in refused(session)]
    assert [start for start in foreign if not any(start in reason for reason in reasons)] == []
    assert {part.name: part.process.pid for part in world.cluster.workers()} == workers
    assert world.cluster.alive()
    assert not trace.exists()
    assert "refused" in operator(world, "parked", "messages")


def test_a_body_of_a_hundred_megabytes_does_not_even_reach_the_queue(world):
    with pytest.raises(redis.exceptions.RedisError):
        world.cluster.push_raw("settle", b"x" * 100_000_000)
    assert world.cluster.waiting("settle") == []


def test_a_message_from_before_the_schema_header_is_still_understood(world):
    with world.cluster.store.transaction() as session:
        session.execute(update(CanaryRow).where(col(CanaryRow.queue) == "settle").values(seen_at_unix=0))
    world.cluster.push_raw("settle", envelope(world, "control.canary"))

    def seen():
        with world.cluster.store.reading() as session:
            row = session.get(CanaryRow, "settle")
            return row is not None and row.seen_at_unix > time.time() - 60

    world.cluster.wait("the old message", seen, 20)


def refusals(world):
    with world.cluster.store.reading() as session:
        query = select(col(CounterRow.value)).where(col(CounterRow.name) == COUNTER)
        return session.execute(query).scalar_one_or_none() or 0
