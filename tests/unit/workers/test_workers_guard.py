"""What is refused at the broker's door, message by message; the envelopes that kombu would choke on."""

import json
from types import SimpleNamespace

import pytest
from celery import Celery

from workers.guard import (
    MAX_BODY_BYTES,
    OLDEST_SCHEMA,
    REFUSED_HEADER,
    SCHEMA,
    SCHEMA_HEADER,
    _is_envelope,
    _reads,
    _refusable,
    _text,
    refusal,
)

KNOWN = {"settlement.execute_batch"}
BODY = json.dumps([[["st-1"]], {}, {"chord": None}])


def message(body=BODY, content_type="application/json", *, encoding="utf-8", **headers):
    given = {"task": "settlement.execute_batch", "id": "one", SCHEMA_HEADER: SCHEMA, **headers}
    return SimpleNamespace(headers=given, body=body, content_type=content_type, content_encoding=encoding)


def test_a_message_of_ours_is_taken():
    assert refusal(message(), KNOWN) is None
    assert refusal(message(BODY.encode()), KNOWN) is None


def test_what_celery_itself_writes_is_taken():
    app = Celery("test", set_as_current=False)
    plain = app.amqp.as_task_v2("one", "settlement.execute_batch", args=[["st-1"]])
    full = app.amqp.as_task_v2(
        "one", "settlement.execute_batch", args=[["st-1"]], countdown=3, expires=5, group_id="g", group_index=2,
        retries=4, root_id="r", parent_id="p", shadow="s", time_limit=3, soft_time_limit=2.5, ignore_result=True,
        replaced_task_nesting=1,
    )  # fmt: skip
    for made in (plain, full):
        assert refusal(message(json.dumps(made.body), **made.headers), KNOWN) is None


@pytest.mark.parametrize("schema", range(OLDEST_SCHEMA, SCHEMA + 1))
def test_every_schema_since_the_oldest_is_read(schema):
    assert refusal(message(**{SCHEMA_HEADER: schema}), KNOWN) is None


def test_a_message_without_a_schema_is_of_the_oldest():
    ours = message()
    del ours.headers[SCHEMA_HEADER]
    assert refusal(ours, KNOWN) is None


@pytest.mark.parametrize(
    "foreign",
    [
        message(task="os.system"),
        message(task=None),
        message(task=["settlement.execute_batch"]),
        message(content_type="application/x-python-serialize"),
        message(content_type=None),
        message(compression="application/x-gzip"),
        message(**{SCHEMA_HEADER: SCHEMA + 1}),
        message(**{SCHEMA_HEADER: -1}),
        message(**{SCHEMA_HEADER: "1"}),
        message(**{SCHEMA_HEADER: True}),
        message(encoding=1),
        message(encoding=["utf-8"]),
        message(encoding="no encoding"),
        message(encoding=None),
        message(id=None),
        message(id=["x"]),
        message(id={"a": 1}),
        message(root_id=["x"]),
        message(group={"a": 1}),
        message(timelimit=1),
        message(timelimit=[1]),
        message(timelimit=["a", "b"]),
        message(retries="1"),
        message(retries=True),
        message(retries=-1),
        message(retries=10**30),
        message(eta=1),
        message(expires=["x"]),
        message(shadow=7),
        message(stamped_headers=[[1]]),
        message(stamps=1),
        message(ignore_result="no"),
        message("not json"),
        message("{}"),
        message("[[], {}]"),
        message("[{}, [], {}]"),
        message("[" * 100_000),
        message(b"\xff"),
        message(" " * (MAX_BODY_BYTES + 1)),
        message(**{REFUSED_HEADER: "not an envelope"}),
    ],
)  # fmt: skip
def test_what_is_not_ours_is_refused_with_a_short_reason(foreign):
    reason = refusal(foreign, KNOWN)
    assert reason
    assert len(reason) < 160


@pytest.mark.parametrize(
    "raw", [b"", b"\xff\xfe", b"no json", b"{}", b"[]", b"[1,2,3]", b"null", b'{"body":"","headers":{}}']
)
def test_whatever_lies_in_the_queue_becomes_something_that_can_be_refused(raw):
    read = _reads(json.loads)(_text(raw))
    assert not _is_envelope(read)
    made = _refusable(read, "settle")
    assert _is_envelope(made)
    assert refusal(
        SimpleNamespace(headers=made["headers"], body=made["body"], content_type=made["content-type"]), KNOWN
    )


@pytest.mark.parametrize(
    ("body", "encoding"), [("x", "base64"), ("\ud800", "base64"), ("e30=", "rot13"), ("e30=", [1])]
)
def test_a_body_that_cannot_be_decoded_makes_no_envelope(body, encoding):
    properties = {"delivery_tag": "t", "delivery_info": {}}
    good = {"body": "e30=", "headers": {}, "properties": properties | {"body_encoding": "base64"}}
    assert _is_envelope(good)
    assert not _is_envelope({**good, "body": body, "properties": properties | {"body_encoding": encoding}})


def test_what_kombu_wrote_is_read_as_before():
    envelope = {"body": "", "headers": {}, "properties": {"delivery_tag": "t", "delivery_info": {}}}
    assert _reads(json.loads)(_text(json.dumps(envelope).encode())) == envelope
    assert _is_envelope(envelope)
