"""What lies under a key of ours in another kind, or in place of a binding or a lock: moved aside, and work goes on.

One broker, our application in this process: kombu runs the same commands in a worker.
"""

import signal
import subprocess
import threading
import time

import pytest
import redis

from settings.deployment import Deployment
from workers import guard, liveness, own_keys, seal
from workers.app import create_app
from workers.broker import MAX_HEAD_BYTES, read_broker
from workers.liveness import LIFE
from workers.machine.broker import valkey_server
from workers.roles import CONTROL, QUEUES
from workers.signals import SENT_AT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

PRIORITIES = f"btcfi:{CONTROL}\x06\x163"


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    socket = folder / "b"
    process = subprocess.Popen(
        [str(valkey_server()), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        while not socket.exists():
            time.sleep(0.02)
        yield (
            process,
            Deployment(
                data_dir=folder,
                broker_url=f"redis+socket://{socket}?virtual_host=0",
                node_url=None,
                result_backend_url=None,
            ),
        )
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait()


@pytest.fixture
def here(broker):
    _, deployment = broker
    seal.prepare(deployment)
    return deployment


@pytest.fixture
def raw(broker):
    client = redis.Redis(unix_socket_path=str(broker[1].data_dir / "b"))
    client.flushall()
    return client


@pytest.fixture
def app(here):
    return create_app(here, modules=())


@pytest.fixture
def told(monkeypatch):
    """What is counted as refused."""
    found = []
    monkeypatch.setattr(guard._BOOK, "note", lambda body, *, queue, reason: found.append((body.decode(), reason)))
    return found


def goes_through(app):
    """Send one message of ours, take it as a worker does, acknowledge it."""
    app.send_task("control.canary", args=[CONTROL])
    with app.connection_for_read() as connection, connection.SimpleQueue(CONTROL) as queue:
        message = queue.get(timeout=20)
        assert message.headers["task"] == "control.canary"
        message.ack()


def foreign(raw, key, kind):
    raw.delete(key)
    {"string": lambda: raw.set(key, "x"), "hash": lambda: raw.hset(key, "a", "x"), "list": lambda: raw.lpush(key, "x")}[
        kind
    ]()


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("btcfi:unacked", "string"), ("btcfi:unacked", "list"), ("btcfi:unacked_index", "string"),
        ("btcfi:unacked_index", "hash"), (f"btcfi:{CONTROL}", "string"), (PRIORITIES, "hash"),
        (f"btcfi:_kombu.binding.{CONTROL}", "string"), (f"btcfi:_kombu.binding_permanent.{CONTROL}", "hash"),
    ],
)  # fmt: skip
def test_a_key_of_ours_of_another_kind_is_moved_aside_counted_and_what_is_ours_goes_through(app, raw, told, key, kind):
    goes_through(app)
    foreign(raw, key, kind)
    goes_through(app)
    assert [one for one, _ in told] == [key]
    (aside,) = raw.keys("btcfi:aside.*")
    assert raw.type(aside).decode() == kind
    assert 0 < raw.ttl(aside) <= own_keys.ASIDE_SECONDS
    assert raw.hlen("btcfi:unacked") == raw.zcard("btcfi:unacked_index") == 0


def test_a_key_that_becomes_another_kind_while_a_message_is_held_ends_nothing(app, raw, told):
    app.send_task("control.canary", args=[CONTROL])
    with app.connection_for_read() as connection, connection.SimpleQueue(CONTROL) as queue:
        message = queue.get(timeout=20)
        foreign(raw, "btcfi:unacked", "string")
        foreign(raw, "btcfi:unacked_index", "string")
        message.ack()
    assert sorted(one for one, _ in told) == ["btcfi:unacked", "btcfi:unacked_index"]
    goes_through(app)


def test_what_was_held_returns_though_keys_of_ours_are_of_another_kind_and_a_stranger_has_the_lock(app, raw, told):
    app.send_task("control.canary", args=[CONTROL])
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        channel.qos.restore_at_shutdown = False
        with connection.SimpleQueue(CONTROL) as queue:
            (tag,) = [queue.get(timeout=20).delivery_tag]
            raw.set("btcfi:unacked_mutex", "mine for ever")
            foreign(raw, f"btcfi:{CONTROL}", "string")
            raw.zadd("btcfi:unacked_index", {tag: 1})
            channel.qos.restore_visible(num=10, interval=1)
            channel.qos._delivered.clear()
    assert {one for one, _ in told} == {"btcfi:unacked_mutex", f"btcfi:{CONTROL}"}
    assert raw.llen(f"btcfi:{CONTROL}") == 1
    assert raw.hlen("btcfi:unacked") == 0
    goes_through(app)


def test_a_binding_that_a_stranger_wrote_keeps_no_answer_back(app, raw):
    goes_through(app)
    for exchange in (CONTROL, "reply.celery.pidbox"):
        raw.sadd(f"btcfi:_kombu.binding.{exchange}", "garbage", "a\x06\x16b", b"\xff", "1\x06\x162\x06\x163\x06\x164")
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        assert channel.typeof("reply.celery.pidbox").lookup(
            channel.get_table("reply.celery.pidbox"), "reply.celery.pidbox", "me", None
        ) == set()  # fmt: skip
    goes_through(app)


def test_making_way_takes_nothing_that_is_as_it_should_be(app, raw, told):
    goes_through(app)
    raw.lpush("btcfi:settle", "x")
    before = sorted(raw.keys("*"))
    with app.connection_for_read() as connection:
        client = connection.default_channel._create_client()
        own_keys.make_way(client, own_keys.kinds(guard.redis_transport, "btcfi:"), lambda *one: told.append(one))
    assert sorted(raw.keys("*")) == before
    assert told == []


def dated(moment, more=""):
    return f'{{"headers": {{"{SENT_AT}": {moment}}}, "x": "{more}"}}'


BAD = {
    "a moment of 400 digits": dated("1" + "0" * 400),
    "a moment of 5,000 digits": dated("1" + "0" * 5_000),
    "nested": "[" * 100_000 + "]" * 100_000,
    "no number": dated("NaN"),
    "before all time": dated("-Infinity"),
    "true": dated("true"),
    "too long": dated("1", "x" * MAX_HEAD_BYTES),
}


@pytest.mark.parametrize("what", BAD)
def test_a_stranger_s_message_makes_no_reader_say_that_the_broker_is_away(here, raw, what):
    raw.rpush("btcfi:settle", BAD[what])
    found = read_broker(here, QUEUES).queues["settle"]
    assert (found.waiting, found.oldest_seconds) == (1, None)


def test_a_moment_of_ours_has_an_age_and_a_key_of_another_kind_holds_nothing(app, here, raw):
    app.send_task("control.canary", args=[CONTROL], queue="settle")
    for key in ("btcfi:chain", "btcfi:unacked", "btcfi:unacked_index"):
        raw.set(key, "x")
    found = read_broker(here, QUEUES)
    assert 0 <= found.queues["settle"].oldest_seconds < 60
    assert (found.queues["chain"].waiting, found.unacked, found.oldest_unacked_seconds) == (0, 0, None)
    raw.delete("btcfi:unacked_index")
    for score in ("-inf", "inf"):
        raw.zadd("btcfi:unacked_index", {"x": score})
        assert read_broker(here, QUEUES).oldest_unacked_seconds in {None, 0.0}


def test_while_the_broker_is_frozen_a_main_loop_s_note_says_that_it_waits_for_it(broker, app, here, monkeypatch):
    process, _ = broker
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "socket_timeout": 1.0}
    LIFE.name(here.data_dir, "control@frozen")
    LIFE.write()
    seen = []
    answered = threading.Event()

    def watch():
        while not answered.wait(0.02):
            note = liveness.read_note(LIFE.file)
            seen.append(note is not None and note.asking)
            if seen[-1]:
                process.send_signal(signal.SIGCONT)

    try:
        with app.connection_for_read() as connection:
            client = connection.default_channel._create_client()
            assert client.llen(CONTROL) == 0
            assert not liveness.read_note(LIFE.file).asking
            process.send_signal(signal.SIGSTOP)
            thread = threading.Thread(target=watch)
            thread.start()
            assert client.llen(CONTROL) == 0  # the watcher lets the broker go on once the note says it
            answered.set()
            thread.join()
        assert True in seen
        assert not liveness.read_note(LIFE.file).asking
    finally:
        process.send_signal(signal.SIGCONT)
        answered.set()
        monkeypatch.setattr(LIFE, "file", None)
        LIFE._descriptor = None
