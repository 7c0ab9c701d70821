"""What the broker holds: waiting and unacknowledged messages and their age, and whether it is set up to keep them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kombu.connection import Connection
from redis.exceptions import ResponseError

from btcfi.errors import InvalidInputError, UnreachableError
from settings.deployment import Deployment
from workers.app import configuration
from workers.own_keys import wrong_kind
from workers.signals import SENT_AT

ANSWER_SECONDS: Final = 3.0
"""For one answer of a broker that a human or a scrape waits for."""

UNACKED: Final = "unacked"
UNACKED_INDEX: Final = "unacked_index"
"""kombu's own keys: what was handed to a worker, and when."""

MAX_HEAD_BYTES: Final = 1_048_576
"""Of a message that is read to tell its age: of ours the largest, in its envelope, has a third of it."""

_HEAD: Final = """
local message = redis.call('LINDEX', KEYS[1], -1)
if message and #message > tonumber(ARGV[1]) then return '' end
return message
"""
"""The message that workers take next, empty if it is longer than it may be: a stranger's may have half a gigabyte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueReading:
    """One queue."""

    waiting: int
    oldest_seconds: float | None
    """Since the next message was sent; None for an empty queue or a message that does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerReading:
    """The broker at one moment."""

    queues: dict[str, QueueReading]
    unacked: int
    oldest_unacked_seconds: float | None
    version: str
    aof_enabled: bool
    """Whether it writes down what it accepts: otherwise a restart empties every queue."""
    aof_ok: bool
    """Whether its last write succeeded."""
    eviction_policy: str
    """``noeviction``, or it may forget messages to make room."""
    memory_bytes: int
    clients: int


def read_broker(deployment: Deployment, queues: Sequence[str]) -> BrokerReading:
    """Ask the broker, once, for everything.

    Raises UnreachableError that shows the URL without its password, InvalidInputError when the deployment names none.
    """
    if deployment.broker_url is None:
        raise InvalidInputError("BROKER_URL", "not set", "redis://HOST:PORT/0; `btcfi up` prints its own")
    prefix = configuration(deployment)["broker_transport_options"]["global_keyprefix"]
    options = {"socket_connect_timeout": ANSWER_SECONDS, "socket_timeout": ANSWER_SECONDS}
    url = deployment.broker_url
    with Connection(url, connect_timeout=ANSWER_SECONDS, transport_options=options) as connection:  # type: ignore[no-untyped-call]
        try:
            connection.connect()  # once: `default_channel` would try for half a minute
            return _read(connection.channel().client, prefix, queues, time.time())
        except Exception as e:  # each transport has errors of its own
            problem = str(e).splitlines()[0][:120] if str(e) else type(e).__name__
            raise UnreachableError("broker", connection.as_uri(), problem, "start it, or correct BROKER_URL") from e


def prove_broker_writable(deployment: Deployment) -> str | None:
    """Have the broker keep a key for a second; return why it does not: it is full, or a replica.

    Raises UnreachableError, InvalidInputError as ``read_broker``.
    """
    if deployment.broker_url is None:
        raise InvalidInputError("BROKER_URL", "not set", "redis://HOST:PORT/0; `btcfi up` prints its own")
    prefix = configuration(deployment)["broker_transport_options"]["global_keyprefix"]
    options = {"socket_connect_timeout": ANSWER_SECONDS, "socket_timeout": ANSWER_SECONDS}
    with Connection(deployment.broker_url, connect_timeout=ANSWER_SECONDS, transport_options=options) as connection:  # type: ignore[no-untyped-call]
        try:
            connection.connect()
            connection.channel().client.set(f"{prefix}precondition", "", px=1_000)
        except ResponseError as e:
            return str(e).splitlines()[0][:120]
        except Exception as e:  # as above
            problem = str(e).splitlines()[0][:120] if str(e) else type(e).__name__
            raise UnreachableError("broker", connection.as_uri(), problem, "start it, or correct BROKER_URL") from e
    return None


def _read(client: Any, prefix: str, queues: Sequence[str], now: float) -> BrokerReading:  # noqa: ANN401 - redis-py's
    pipe = client.pipeline(transaction=False)
    for queue in queues:
        pipe.llen(prefix + queue)
        pipe.eval(_HEAD, 1, prefix + queue, MAX_HEAD_BYTES)  # workers take from this end
    pipe.hlen(prefix + UNACKED)
    pipe.zrange(prefix + UNACKED_INDEX, 0, 0, withscores=True)
    pipe.info()
    *pairs, unacked, first, info = pipe.execute(raise_on_error=False)
    if isinstance(info, ResponseError):
        raise info
    return BrokerReading(
        queues={
            queue: QueueReading(waiting=_count(pairs[2 * i]), oldest_seconds=_age(pairs[2 * i + 1], now))
            for i, queue in enumerate(queues)
        },
        unacked=_count(unacked),
        oldest_unacked_seconds=_since(first[0][1], now) if isinstance(first, list) and first else None,
        version=str(info.get("valkey_version") or info.get("redis_version") or "unknown"),
        aof_enabled=bool(info.get("aof_enabled")),
        aof_ok=info.get("aof_last_write_status", "ok") == "ok",
        eviction_policy=str(info.get("maxmemory_policy", "unknown")),
        memory_bytes=int(info.get("used_memory", 0)),
        clients=int(info.get("connected_clients", 0)),
    )


def _count(found: object) -> int:
    """Return how many lie under a key. Raises ResponseError, unless a stranger's key of another kind lies there.

    Such a one holds no message of ours, and the first worker that comes to it moves it aside.
    """
    if isinstance(found, ResponseError) and not wrong_kind(found):
        raise found
    return found if isinstance(found, int) else 0


def _since(then: object, now: float) -> float | None:
    """Return the seconds since a moment that somebody wrote; None for what is no moment."""
    if isinstance(then, bool) or not isinstance(then, int | float):
        return None
    try:
        found = max(now - float(then), 0.0)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _age(message: object, now: float) -> float | None:
    """Return the age of a message by the header that ``workers.signals`` gives it; None for a stranger's that has none.

    Nothing that lies there may keep the rest of the broker from being read.
    """
    if not isinstance(message, bytes | str):
        return None
    try:
        headers: Mapping[str, Any] = json.loads(message)["headers"]
        return _since(headers[SENT_AT], now)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
