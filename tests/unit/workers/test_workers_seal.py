"""The seal of a message: what it covers, whose key it wants, and how a key changes."""

import base64
import copy
import json
import os
import time

import pytest

from btcfi.errors import InvalidInputError
from settings.deployment import Deployment
from workers import preconditions, seal
from workers.app import create_app
from workers.commands import doctor
from workers.seal import CONTROL, EVENT, QUEUE, REPLY, Key, KeyFile, Seal, parse_keys, place_delivered, place_published

NOW = 1_800_000_000.0
A, B, C = (bytes([n]) * 32 for n in (1, 2, 3))
OURS, OPERATORS = A.hex(), B.hex()


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def made(tmp_path, clock):
    def make(keys=OURS, operator=OPERATORS, **more):
        paths = []
        for name, text in (("broker.key", keys), ("operator.key", operator)):
            paths.append(tmp_path / os.urandom(4).hex() / name)
            paths[-1].parent.mkdir()
            if text is not None:
                paths[-1].write_text(text + "\n")
        own = KeyFile(paths[0], clock=clock) if keys is not None else None
        if own is not None:
            own.load()
        return Seal(own, KeyFile(paths[1], clock=clock), accept_unsigned=more.get("accept", False), clock=clock)

    return make


def envelope(body=b'[["settle"], {}, {}]'):
    return {
        "body": base64.b64encode(body).decode(), "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"task": "control.canary", "id": "1", "expires": None},
        "properties": {"delivery_tag": "t", "delivery_info": {"exchange": ""}, "correlation_id": "1", "priority": 0},
    }  # fmt: skip


def control(method, arguments=None, **more):
    return envelope(json.dumps({"method": method, "arguments": arguments, "destination": None, **more}).encode())


def sealed(by, message, exchange="", key="settle"):
    by.sign(message, exchange, key)
    return message


PIDBOX = ("celery.pidbox", "")


@pytest.mark.parametrize(
    ("published", "delivered", "kind"),
    [
        (("", "settle"), "settle", QUEUE), (("settle", "settle"), "settle", QUEUE),
        (PIDBOX, "w@h.celery.pidbox", CONTROL),
        (("reply.celery.pidbox", "oid"), "oid.reply.celery.pidbox", REPLY),
        (("celeryev", "task.multi"), "celeryev.8a1", EVENT),
    ],
)  # fmt: skip
def test_a_place_is_the_same_where_a_message_is_written_and_where_it_comes(published, delivered, kind):
    assert place_published(*published) == place_delivered(delivered)
    assert place_delivered(delivered)[0] == kind


def test_everything_is_covered_but_what_redelivery_writes(made):
    ours = made()
    good = sealed(ours, envelope())
    assert ours.refusal(good, "settle") is None
    assert ours.refusal(good, "chain")
    for place, name in (*(("headers", n) for n in good["headers"]), ("properties", "priority"), ("headers", "new")):
        changed = copy.deepcopy(good)
        changed[place][name] = "other"
        assert ours.refusal(changed, "settle"), name
    redelivered = copy.deepcopy(good)
    redelivered["headers"]["redelivered"] = True
    redelivered["properties"] |= {"delivery_tag": "u", "delivery_info": {"exchange": "x", "redelivered": True}}
    assert ours.refusal(redelivered, "settle") is None


def test_a_stranger_s_key_and_the_operator_s_seal_no_task(made):
    assert "not have" in made().refusal(sealed(made(C.hex()), envelope()), "settle")
    assert "only steers" in made().refusal(sealed(made(B.hex()), envelope()), "settle")
    assert "not sealed" in made().refusal(envelope(), "settle")


@pytest.mark.parametrize("mac", [1, None, [], "", "2.a.b", "1.é.é", "1", "1..", "\x00"])
def test_what_is_no_seal_is_refused_and_breaks_nothing(made, mac):
    message = envelope()
    message["headers"]["btcfi_mac"] = mac
    assert made().refusal(message, "settle")


def test_who_has_the_deployment_s_key_asks_and_only_the_operator_steers(made, clock):
    ours = made()
    for method, arguments in (("ping", None), ("active", {"safe": True}), ("conf", {"with_defaults": False})):
        assert ours.refusal(sealed(ours, control(method, arguments), *PIDBOX), "w.celery.pidbox") is None
    for method in ("shutdown", "pool_grow", "revoke", "disable_events", "election", "dump_tasks", ""):
        assert ours.refusal(sealed(ours, control(method), *PIDBOX), "w.celery.pidbox"), method
    order = sealed(ours, control("cancel_consumer", {"queue": "settle"}), *PIDBOX)
    assert ours.refusal(order, "w.celery.pidbox") is None
    assert "before" in ours.refusal(order, "w.celery.pidbox")
    late = sealed(ours, control("cancel_consumer", {"queue": "settle"}), *PIDBOX)
    clock.now += 3_600
    assert "clocks" in ours.refusal(late, "w.celery.pidbox")
    with pytest.raises(seal.NoOperatorKeyError):
        made(operator=None).sign(control("add_consumer", {"queue": "settle"}), *PIDBOX)


@pytest.mark.parametrize(
    "more",
    [
        {"pattern": "(a+)+$", "matcher": "pcre"}, {"destination": "all"}, {"destination": [1]}, {"more": 1},
        {"reply_to": {"exchange": "settle", "routing_key": "settle"}}, {"ticket": 1}, {"arguments": []},
    ],
)  # fmt: skip
def test_remote_control_of_another_shape_than_celery_s_is_refused_whoever_seals_it(made, more):
    ours = made()
    assert ours.refusal(sealed(ours, control("ping", **more), *PIDBOX), "w.celery.pidbox")


def test_while_a_fleet_is_upgraded_old_and_new_code_understand_each_other(made):
    new, old = made(accept=True), envelope()
    assert new.refusal(old, "settle") is None
    assert new.refusal(control("ping"), "w.celery.pidbox") is None
    assert new.refusal(control("cancel_consumer", {"queue": "settle"}), "w.celery.pidbox")
    changed = sealed(new, envelope())
    changed["headers"]["id"] = "2"
    assert new.refusal(changed, "settle"), "a seal that is wrong is worse than none"
    keyless = made(keys=None, accept=True)
    assert keyless.refusal(sealed(new, envelope()), "settle") is None
    assert "btcfi_mac" not in sealed(keyless, envelope())["headers"]


def test_a_key_is_accepted_before_it_seals_and_until_its_time_is_over(made, clock):
    before, both = made(A.hex()), made(f"{A.hex()}\nnext {C.hex()}")
    after = made(f"{C.hex()}\nold {A.hex()} {int(NOW) + 900}")
    for sender in (before, both, after):
        for receiver in (both, after):
            assert receiver.refusal(sealed(sender, envelope()), "settle") is None
    clock.now += 901
    assert after.refusal(sealed(before, envelope()), "settle")
    assert after.refusal(sealed(after, envelope()), "settle") is None


def test_a_change_is_known_to_who_receives_as_soon_as_somebody_sends_by_it(tmp_path):
    deployment = Deployment(data_dir=tmp_path)
    seal.prepare(deployment)
    receiver = seal.seal_of(deployment)
    assert receiver.refusal(sealed(receiver, envelope()), "settle") is None  # it has looked just now
    seal.change_key(deployment.broker_key_file, now=time.time())
    sender = seal.seal_of(deployment)
    assert receiver.refusal(sealed(sender, envelope()), "settle") is None


@pytest.mark.parametrize(
    "text", ["", "zz", A.hex()[:-2], f"{A.hex()}\n{B.hex()}", f"next {A.hex()}", f"{A.hex()}\nold {B.hex()}",
             f"{A.hex()}\nold {B.hex()} soon", "\n".join([A.hex(), *([f"next {B.hex()}"] * 9)])],
)  # fmt: skip
def test_a_file_that_does_not_say_which_key_seals_is_refused_without_its_secret(text):
    with pytest.raises(InvalidInputError) as refused:
        parse_keys(text, where="broker.key")
    assert A.hex() not in str(refused.value)


def test_a_change_of_the_key_keeps_the_old_one_for_a_visibility_timeout_and_those_before_it(tmp_path):
    path = tmp_path / "broker.key"
    assert seal.make_key(path)
    assert not seal.make_key(path)
    first = parse_keys(path.read_text(), where="")[0]
    for _ in range(12):
        seal.change_key(path, now=time.time())
    keys = parse_keys(path.read_text(), where="")
    assert len(keys) == seal.MAX_KEYS
    assert first not in keys
    assert all(key.until_unix > time.time() + 800 for key in keys[1:])
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys[0].secret.hex() not in repr(Key(keys[0].secret)) + repr(KeyFile(path))


def test_a_process_without_a_key_does_not_start_and_says_what_makes_one(tmp_path):
    deployment = Deployment(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0")
    with pytest.raises(InvalidInputError, match="btcfi prepare"):
        create_app(deployment, modules=())
    create_app(deployment.model_copy(update={"broker_unsigned": "accept"}), modules=())
    assert seal.prepare(deployment)
    create_app(deployment, modules=())
    assert not seal.prepare(deployment)


def test_doctor_says_what_is_wrong_with_the_keys_and_its_advice_mends_it(tmp_path):
    deployment = Deployment(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0")

    def found(**changes):
        return {str(f.status): f for f in preconditions.broker_keys(deployment.model_copy(update=changes))}

    assert "btcfi prepare" in found()["fail"].do
    seal.prepare(deployment)
    key_id = KeyFile(deployment.broker_key_file).sealing().id
    assert set(found()) == {"ok"}
    assert key_id in found()["ok"].said
    assert "BTCFI_BROKER_UNSIGNED" in found(broker_unsigned="accept")["warn"].said
    assert "drained" in found(operator_key_file=tmp_path / "none")["warn"].said
    deployment.broker_key_file.chmod(0o644)
    assert [f.status for f in doctor.key_files(deployment)] == [doctor.Status.FAIL]
