"""The broker's door: what is not a message of ours is refused before Celery looks at it. Counted, kept, never executed.

Whoever can write to the broker can put anything there. kombu's Redis transport lets an envelope that is not JSON end
the whole worker, so every envelope is looked at before kombu makes a message of it: its shape, the seal of the
deployment (``workers/seal.py``), the names and kinds of its headers and properties; for tasks, remote control, answers
and events alike. What came by a queue of tasks and fails becomes a message that says of itself why it is refused; a
consumer of our own then asks the rest: JSON, small, uncompressed, a task that we registered, a schema that we know,
arguments in Celery's shape.
"""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections.abc import Callable, Container, Mapping, MutableMapping
from queue import Empty
from typing import TYPE_CHECKING, Any, Final

import structlog
from celery import Celery, signals
from celery.worker.consumer import Consumer
from kombu.transport import redis as redis_transport

from btcfi.documents import printable
from btcfi.errors import BtcfiError
from btcfi.units import UnixSeconds
from workers import own_keys
from workers.liveness import LIFE, progress
from workers.seal import (
    AT_HEADER,
    MAC_HEADER,
    ONCE_HEADER,
    OPTION,
    QUEUE,
    REDELIVERED,
    REPLY,
    place_delivered,
)
from workers.signals import SENT_AT

if TYPE_CHECKING:
    from workers.seal import Seal

SCHEMA: Final = 1
"""Version of our messages: a task's name and what its arguments mean. It grows when a meaning changes."""

OLDEST_SCHEMA: Final = 0
"""Still understood, so that a fleet is restarted worker by worker: 0 is a message from before there was a header."""

SCHEMA_HEADER: Final = "btcfi_schema"
REFUSED_HEADER: Final = "btcfi_refused"

MAX_BODY_BYTES: Final = 262_144
"""Messages carry ids: the largest honest one, a batch of 1,024, has a fifth of it."""


def _text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _count(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31)


def _seconds(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 31)


def _two_limits(value: object) -> bool:
    match value:
        case [hard, soft]:
            return _seconds(hard) and _seconds(soft)
        case _:
            return False


_HEADERS: Final[Mapping[str, Callable[[object], bool]]] = {
    "id": lambda value: isinstance(value, str),
    **dict.fromkeys(
        ("root_id", "parent_id", "group", "eta", "expires", "shadow", "origin", "lang", "argsrepr", "kwargsrepr"),
        _text_or_none,
    ),
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting"), _count),
    "timelimit": lambda value: value is None or _two_limits(value),
    "ignore_result": lambda value: value is None or isinstance(value, bool),
    "stamped_headers": lambda value: (
        value is None or (isinstance(value, list) and all(isinstance(v, str) for v in value))
    ),
    "stamps": lambda value: value is None or isinstance(value, dict),
}
"""What Celery reads of a message before any task runs, and its kinds: another one ends the worker that takes it."""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_ALSO: Final[Mapping[str, Callable[[object], bool]]] = {
    **dict.fromkeys(("task", MAC_HEADER, ONCE_HEADER, "hostname", "ticket", "compression", "meth"), _text_or_none),
    **dict.fromkeys((SENT_AT, AT_HEADER, "clock"), _seconds),
    SCHEMA_HEADER: lambda value: isinstance(value, int),
    REDELIVERED: lambda value: isinstance(value, bool),
    "celery_beat_task": lambda value: isinstance(value, bool),
    # of remote control, a moment; of a task, a text as above
    "expires": lambda value: _text_or_none(value) or _seconds(value),
    # OpenTelemetry's, by its propagators
    **dict.fromkeys(("traceparent", "tracestate", "baggage", "b3"), _is_text),
}
_ALLOWED: Final = {**_HEADERS, **_ALSO}
"""Every header that a message of ours can have; of another name or kind there is none."""

_PROPERTIES: Final[Mapping[str, Callable[[object], bool]]] = {
    **dict.fromkeys(("correlation_id", "reply_to", "expiration", "type"), _text_or_none),
    "delivery_mode": lambda value: value in (1, 2) and not isinstance(value, bool),
    "priority": lambda value: _count(value) and (value is None or value in range(256)),
    "body_encoding": lambda value: value is None or value == "base64",
    "delivery_tag": _is_text,
    "delivery_info": lambda value: isinstance(value, dict),
}
_TOP: Final = frozenset({"body", "content-type", "content-encoding", "headers", "properties", REDELIVERED})

MAX_HEADER_CHARACTERS: Final = 8_192
"""Of one text in a header: Celery shortens its own, arguments as text, to a thousand."""

LONGEST_REASON: Final = 120

FLUSH_SECONDS: Final = 1.0
MOST_KEPT: Final = 32
"""Refused messages that are kept at once and how often that is: of a flood the rest is only counted, so that what is
ours and stands behind it waits for a count and not for the database."""

_GUARDED: Final[list[object]] = []
_LOG = structlog.get_logger("btcfi.guard")


class _Unreadable(str):
    """What came instead of an envelope."""

    __slots__ = ()


def connect() -> None:
    """Seal and stamp what this process sends, look at what it is sent. Safe to call twice.

    Each connection has the seal of its own application; one without is a stranger's, or a test's.
    """
    signals.before_task_publish.connect(_stamp, weak=False, dispatch_uid="btcfi.schema")
    if _GUARDED:
        return
    transport: Any = redis_transport
    _GUARDED.append(transport)
    transport.loads = _reads(json.loads)  # kombu's own would make more than JSON of JSON
    transport.bytes_to_str = _text
    own_keys.install(transport, lambda key, reason: _drop(key, reason, QUEUE))
    deliver = transport.Transport._deliver  # noqa: SLF001 - the one place that every envelope passes
    augment = transport.Channel._inplace_augment_message  # noqa: SLF001 - and the one before it is written

    def _deliver(self: Any, envelope: Any, queue: str) -> Any:  # noqa: ANN401 - kombu has no types
        seal: Seal | None = self.client.transport_options.get(OPTION)
        reason = _problem(envelope, queue, seal)
        if reason is None:
            return deliver(self, _as_delivered(envelope, queue), queue)
        kind, _ = place_delivered(queue)
        if kind == QUEUE:
            return deliver(self, _refusable(envelope, queue, reason), queue)
        _drop(_raw(envelope), reason, kind)
        if kind == REPLY:
            raise Empty  # who waits for so many answers must not take this for one of them
        return None

    def _inplace_augment_message(self: Any, message: Any, exchange: str, routing_key: str) -> None:  # noqa: ANN401 - as above
        augment(self, message, exchange, routing_key)
        seal: Seal | None = self.connection.client.transport_options.get(OPTION)
        if seal is not None:
            seal.sign(message, exchange, routing_key)

    restore = transport.QoS.restore_by_tag

    def restore_by_tag(self: Any, tag: Any, client: Any = None, leftmost: bool = False) -> None:  # noqa: ANN401, FBT001, FBT002 - as kombu's
        try:
            restore(self, tag, client, leftmost)
        except (ValueError, TypeError, KeyError) as e:  # one that cannot be read keeps those behind it from returning
            self._remove_from_indices(tag).execute()
            _drop(_raw(_text(tag)), f"held for a worker, and not readable: {type(e).__name__}", QUEUE)

    transport.QoS.restore_by_tag = restore_by_tag
    transport.Transport._deliver = _deliver  # noqa: SLF001 - as above
    transport.Channel._inplace_augment_message = _inplace_augment_message  # noqa: SLF001 - as above


def _stamp(headers: MutableMapping[str, Any] | None = None, **_: object) -> None:
    if headers is not None:
        headers[SCHEMA_HEADER] = SCHEMA


def _text(data: Any) -> Any:  # noqa: ANN401 - bytes or text
    return data.decode(errors="backslashreplace") if isinstance(data, bytes) else data


def _reads(loads: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:  # noqa: ANN401 - JSON
        try:
            return loads(text)
        except (ValueError, TypeError, RecursionError, KeyError, AttributeError):
            return _Unreadable(text)

    return read


def _problem(envelope: Any, queue: str, seal: Seal | None) -> str | None:  # noqa: ANN401 - whatever lay there
    """Return why an envelope is not handed on: its shape first, its seal next, then every name and kind in it."""
    if not _is_envelope(envelope):
        return "not an envelope of a message"
    try:
        if seal is not None and (reason := seal.refusal(envelope, queue)) is not None:
            return reason
        return _not_allowed(envelope)
    except Exception as e:  # noqa: BLE001 - nothing that lies there may end the worker: what we choke on is refused
        return f"unreadable: {type(e).__name__}"


def _not_allowed(envelope: Mapping[str, Any]) -> str | None:
    for what, names, found in (
        ("header", _ALLOWED, envelope["headers"]),
        ("property", _PROPERTIES, envelope["properties"]),
    ):
        for name, value in found.items():
            fits = names.get(name)
            if fits is None:
                return f"a {what} that is none of ours: {printable(name, 40)}"
            if not fits(value) or (isinstance(value, str) and len(value) > MAX_HEADER_CHARACTERS):
                return f"{what} {name}: {printable(repr(value), 40)}"
    return None


def _as_delivered(envelope: dict[str, Any], queue: str) -> dict[str, Any]:
    """Return the envelope with what no seal covers made anew, from where it truly came."""
    properties = envelope["properties"]
    info = properties["delivery_info"]
    if place_delivered(queue)[0] == QUEUE:
        info = {"exchange": "", "routing_key": queue} | ({REDELIVERED: True} if info.get(REDELIVERED) is True else {})
        # a recording has the tag of what was recorded: acknowledging one would acknowledge the other
        properties = {**properties, "delivery_tag": str(uuid.uuid4())}
    else:
        info = {k: v for k, v in info.items() if k in {"exchange", "routing_key"} and isinstance(v, str)}
    return {**envelope, "properties": {**properties, "delivery_info": info}}


def _is_envelope(envelope: object) -> bool:
    if not isinstance(envelope, dict) or not isinstance(envelope.get("body"), str):
        return False
    properties = envelope.get("properties")
    if not isinstance(properties, dict) or not isinstance(envelope.get("headers"), dict) or set(envelope) - _TOP:
        return False
    kinds = (envelope.get("content-type"), envelope.get("content-encoding"))
    if not all(isinstance(kind, str | None) for kind in kinds):
        return False
    if not _decodes(envelope["body"], properties.get("body_encoding")):
        return False
    return isinstance(properties.get("delivery_tag"), str) and isinstance(properties.get("delivery_info"), dict)


def _decodes(body: str, encoding: object) -> bool:
    if encoding is None:
        return True
    try:
        base64.b64decode(body)
    except ValueError:
        return False
    return encoding == "base64"


def _refusable(envelope: object, queue: str, reason: str = "not an envelope of a message") -> dict[str, Any]:
    """Return an envelope that says of itself why it is to be refused."""
    return {
        "body": base64.b64encode(_raw(envelope)).decode(),
        "content-encoding": "binary",
        "content-type": "application/data",
        "headers": {REFUSED_HEADER: reason},
        "properties": {
            "delivery_tag": f"refused-{time.monotonic_ns()}",
            "delivery_info": {"exchange": queue, "routing_key": queue},
            "body_encoding": "base64",
            "delivery_mode": 2,
            "priority": 0,
        },
    }


def _raw(envelope: object) -> bytes:
    """Return what was sent, for the record: an envelope's body where there is one."""
    if isinstance(envelope, str):
        return str(envelope).encode(errors="backslashreplace")
    if _is_envelope(envelope) and isinstance(envelope, dict):
        body = str(envelope["body"])
        return base64.b64decode(body) if envelope["properties"].get("body_encoding") else body.encode(errors="replace")
    return json.dumps(envelope, default=str).encode(errors="backslashreplace")


def _drop(raw: bytes, reason: str, kind: str) -> None:
    """Count what came by another way than a queue of tasks; nobody acknowledges it."""
    _BOOK.note(raw, queue=kind, reason=reason)


def refusal(message: Any, known: Container[str]) -> str | None:  # noqa: ANN401, PLR0911 - kombu's message; one return a reason
    """Return why a message is not ours, None for one that is. ``known``: the names of our tasks."""
    headers: Mapping[str, Any] = message.headers or {}
    if REFUSED_HEADER in headers:
        return printable(str(headers[REFUSED_HEADER]), LONGEST_REASON)
    if len(message.body or b"") > MAX_BODY_BYTES:
        return f"{len(message.body):,} bytes, at most {MAX_BODY_BYTES:,}"
    if message.content_type != "application/json":
        return f"content type {printable(message.content_type, 60)}, only JSON is read"
    if message.content_encoding != "utf-8":
        return f"content encoding {repr(message.content_encoding)[:20]}, only UTF-8 is read"
    if headers.get("compression"):
        return "compressed"
    task = headers.get("task")
    if not isinstance(task, str) or task not in known:
        return f"no task {printable(repr(task), 60)}"
    for name, fits in _HEADERS.items():
        if not fits(headers.get(name)):
            return f"header {name}: {printable(repr(headers.get(name)), 40)}"
    schema = headers.get(SCHEMA_HEADER, OLDEST_SCHEMA)
    if isinstance(schema, bool) or not isinstance(schema, int) or not OLDEST_SCHEMA <= schema <= SCHEMA:
        return f"schema {repr(schema)[:20]}, this process reads {OLDEST_SCHEMA} to {SCHEMA}"
    return _shape(message.body)


def _shape(body: Any) -> str | None:  # noqa: ANN401 - text or bytes
    try:
        arguments = json.loads(body)
    except (ValueError, TypeError, RecursionError):
        return "the body is not JSON"
    match arguments:
        case [list(), dict(), dict()]:
            return None
        case _:
            return "the body is not [arguments, keywords, embedded]"


class _Book:
    """What was refused and is not yet in the store."""

    def __init__(self) -> None:
        self.database_url: str | None = None
        """None: this process has no store, and only its log says what was refused."""
        self._kept: list[tuple[bytes, str, str]] = []
        self._more = 0
        self._flushed = float("-inf")
        self._lock = threading.Lock()

    def note(self, body: bytes, *, queue: str, reason: str) -> None:
        """Take in one. That is no work of the worker's: anybody can broadcast what is refused."""
        with self._lock:
            if len(self._kept) < MOST_KEPT:
                self._kept.append((body, queue, reason))
            else:
                self._more += 1
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Say and keep what was taken in."""
        with self._lock:
            kept, more = self._kept, self._more
            self._kept, self._more, self._flushed = [], 0, time.monotonic()
        if not kept:
            return
        body, queue, reason = kept[-1]
        _LOG.warning(
            "message refused", reason=reason, queue=printable(queue, 100), size_bytes=len(body),
            more=len(kept) - 1 + more,
        )  # fmt: skip
        if self.database_url is not None:
            _keep(self.database_url, kept, more)


_BOOK: Final = _Book()


def flush() -> None:
    """Keep what was refused since the last time; the worker's main loop calls this every few seconds."""
    _BOOK.flush()


class GuardedConsumer(Consumer):  # type: ignore[misc]
    """Celery's consumer, which refuses first, and notes what it was told to leave alone and whether it has a broker."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - as Celery's
        """Return Celery's handler behind the guard."""
        handle = super().create_task_handler(*args, **kwargs)
        app: Celery = self.app
        known = {name for name in app.tasks if not name.startswith("celery.")}
        _BOOK.database_url = app.conf.deployment.database_url

        def on_message(message: Any) -> Any:  # noqa: ANN401 - kombu's
            reason = refusal(message, known)
            if reason is None:
                return handle(message)
            progress()  # it came by a queue of the worker's own, and would have waited for it
            body = message.body if isinstance(message.body, bytes) else _encoded(message.body)
            queue = str((message.delivery_info or {}).get("routing_key"))
            _BOOK.note(body, queue=queue, reason=reason)
            message.ack_log_error(_LOG, self.connection_errors)
            return None

        return on_message

    def connect(self) -> Any:  # noqa: ANN401 - kombu's
        """Return Celery's connection; while it is waited for, no restart would help."""
        LIFE.connecting = True
        LIFE.write()
        found = super().connect()
        LIFE.connecting = False
        progress()
        return found

    def cancel_task_queue(self, queue: str) -> None:
        """Take no more of a queue: only an operator's order comes here."""
        LIFE.drained.add(queue)
        super().cancel_task_queue(queue)

    def add_task_queue(self, queue: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's
        """Take of a queue again."""
        LIFE.drained.discard(queue)
        progress()
        super().add_task_queue(queue, *args, **kwargs)


def _encoded(body: object) -> bytes:
    return str(body).encode(errors="backslashreplace")


def _keep(database_url: str, kept: list[tuple[bytes, str, str]], more: int) -> None:
    from btcfi.adapters.store.spine import refusals  # noqa: PLC0415 - beat has a broker and no store
    from btcfi.adapters.store.spine.database import Store  # noqa: PLC0415 - as above

    many = [refusals.Refused(body=body, queue=queue, reason=reason) for body, queue, reason in kept]
    store = Store(database_url)
    try:
        with store.transaction() as session:
            refusals.refuse(session, many, more=more, now=UnixSeconds(int(time.time())))
    except BtcfiError as e:
        _LOG.error("refused messages not kept", problem=str(e))
    finally:
        store.close()
