"""The broker's door: what is not a message of ours is refused before Celery looks at it. Counted, kept, never executed.

Whoever can write to the broker can put anything there. kombu's Redis transport lets an envelope that is not JSON end
the whole worker, so unreadable envelopes become refusable messages first; a consumer of our own then asks of every
message: JSON, small, uncompressed, a task that we registered, a schema that we know, arguments in Celery's shape.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Container, Mapping, MutableMapping
from typing import Any, Final

import structlog
from celery import Celery, signals
from celery.worker.consumer import Consumer
from kombu.transport import redis as redis_transport

from btcfi.errors import BtcfiError
from btcfi.units import UnixSeconds

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

_GUARDED: Final[list[object]] = []
_LOG = structlog.get_logger("btcfi.guard")


class _Unreadable(str):
    """What came instead of an envelope."""

    __slots__ = ()


def connect() -> None:
    """Stamp what this process sends, and make the Redis transport survive what others send. Safe to call twice."""
    signals.before_task_publish.connect(_stamp, weak=False, dispatch_uid="btcfi.schema")
    if _GUARDED:
        return
    transport: Any = redis_transport
    _GUARDED.append(transport)
    transport.loads = _reads(transport.loads)
    transport.bytes_to_str = _text
    deliver = transport.Transport._deliver  # noqa: SLF001 - the one place that every envelope passes

    def _deliver(self: Any, envelope: Any, queue: str) -> Any:  # noqa: ANN401 - kombu has no types
        return deliver(self, envelope if _is_envelope(envelope) else _refusable(envelope, queue), queue)

    transport.Transport._deliver = _deliver  # noqa: SLF001 - as above


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


def _is_envelope(envelope: object) -> bool:
    if not isinstance(envelope, dict) or not isinstance(envelope.get("body"), str):
        return False
    properties = envelope.get("properties")
    if not isinstance(properties, dict) or not isinstance(envelope.get("headers"), dict):
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


def _refusable(envelope: object, queue: str) -> dict[str, Any]:
    """Return an envelope that says of itself that it is to be refused."""
    text = envelope if isinstance(envelope, str) else json.dumps(envelope, default=str)
    raw = str(text).encode(errors="backslashreplace")
    return {
        "body": base64.b64encode(raw).decode(),
        "content-encoding": "binary",
        "content-type": "application/data",
        "headers": {REFUSED_HEADER: "not an envelope of a message"},
        "properties": {
            "delivery_tag": f"refused-{time.monotonic_ns()}",
            "delivery_info": {"exchange": queue, "routing_key": queue},
            "body_encoding": "base64",
            "delivery_mode": 2,
            "priority": 0,
        },
    }


def refusal(message: Any, known: Container[str]) -> str | None:  # noqa: ANN401, PLR0911 - kombu's message; one return a reason
    """Return why a message is not ours, None for one that is. ``known``: the names of our tasks."""
    headers: Mapping[str, Any] = message.headers or {}
    if REFUSED_HEADER in headers:
        return str(headers[REFUSED_HEADER])
    if len(message.body or b"") > MAX_BODY_BYTES:
        return f"{len(message.body):,} bytes, at most {MAX_BODY_BYTES:,}"
    if message.content_type != "application/json":
        return f"content type {str(message.content_type)[:60]!r}, only JSON is read"
    if message.content_encoding != "utf-8":
        return f"content encoding {repr(message.content_encoding)[:20]}, only UTF-8 is read"
    if headers.get("compression"):
        return "compressed"
    task = headers.get("task")
    if not isinstance(task, str) or task not in known:
        return f"no task {str(task)[:60]!r}"
    for name, fits in _HEADERS.items():
        if not fits(headers.get(name)):
            return f"header {name}: {repr(headers.get(name))[:40]}"
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


class GuardedConsumer(Consumer):  # type: ignore[misc]
    """Celery's consumer, which refuses first."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - as Celery's
        """Return Celery's handler behind the guard."""
        handle = super().create_task_handler(*args, **kwargs)
        app: Celery = self.app
        known = {name for name in app.tasks if not name.startswith("celery.")}

        def on_message(message: Any) -> Any:  # noqa: ANN401 - kombu's
            reason = refusal(message, known)
            if reason is None:
                return handle(message)
            _refuse(app, message, reason)
            message.ack_log_error(_LOG, self.connection_errors)
            return None

        return on_message


def _refuse(app: Celery, message: Any, reason: str) -> None:  # noqa: ANN401 - kombu's message
    from btcfi.adapters.store.spine import refusals  # noqa: PLC0415 - beat has a broker and no store
    from btcfi.adapters.store.spine.database import Store  # noqa: PLC0415 - as above

    body = message.body if isinstance(message.body, bytes) else str(message.body).encode(errors="backslashreplace")
    queue = str((message.delivery_info or {}).get("routing_key"))
    _LOG.warning("message refused", reason=reason, queue=queue, size_bytes=len(body))
    store = Store(app.conf.deployment.database_url)
    try:
        with store.transaction() as session:
            refusals.refuse(session, body, queue=queue, reason=reason, now=UnixSeconds(int(time.time())))
    except BtcfiError as e:
        _LOG.error("refused message not kept", problem=str(e))
    finally:
        store.close()
