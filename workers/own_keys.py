"""Our keys on the broker are of one kind each: what a stranger put there in another is moved aside, and work goes on.

Whoever reaches the broker can write one key of another kind (``SET btcfi:unacked x``), and every command on it fails
from then on: kombu hands out nothing, gives nothing back, or ends its worker, which starts into the same. Here a
command that fails for that reason has the key taken out of its way, under a name of its own for a week, and is given
again. A lock that nobody of ours took is no lock; a binding that is not in three parts is none.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from queue import Empty
from typing import Any, Final

import redis
from redis.exceptions import ResponseError

from workers.liveness import LIFE
from workers.roles import QUEUES

WRONG: Final = "WRONGTYPE"
"""How the broker calls it, also out of a script."""

ASIDE_SECONDS: Final = 7 * 86_400
"""For which what was moved aside is kept to be looked at: a stranger's flood of them ends by itself."""

NONE: Final = "none"
LIST: Final = "list"
HASH: Final = "hash"
SORTED: Final = "zset"
SET: Final = "set"

_LISTS: Final = frozenset({"LLEN", "LPUSH", "RPUSH", "RPOP"})
_EXCHANGES: Final = ("celery.pidbox", "reply.celery.pidbox", "celeryev")

Refused = Callable[[bytes, str], None]
"""Is told a key and why it was moved aside."""


def wrong_kind(e: object) -> bool:
    """Return whether an error says that a key is of another kind than its command wants."""
    return isinstance(e, ResponseError) and WRONG in str(e)


def kinds(transport: Any, prefix: str, lists: Iterable[str] = ()) -> dict[str, str]:  # noqa: ANN401 - kombu's module
    """Return every key that kombu uses for us with the kind that it has. lists: queues beside our own."""
    channel = transport.Channel
    found = {
        channel.unacked_key: HASH,
        channel.unacked_index_key: SORTED,
        channel.keyprefix_binding_deadlines: SORTED,
    }
    for exchange in (*QUEUES, *_EXCHANGES):
        found |= {channel.keyprefix_queue % exchange: SET, channel.keyprefix_binding_permanent % exchange: SET}
    for queue in dict.fromkeys((*QUEUES, *lists)):
        for step in channel.priority_steps:
            found[f"{queue}{channel.sep}{step}" if step else queue] = LIST
    return {f"{prefix}{key}": kind for key, kind in found.items()}


def make_way(client: Any, wanted: Mapping[str, str], refused: Refused) -> None:  # noqa: ANN401 - redis-py's
    """Move every key of another kind than ``wanted`` says out of the way."""
    raw = redis.Redis(connection_pool=client.connection_pool)
    pipe = raw.pipeline(transaction=False)
    for key in wanted:
        pipe.type(key)
    for (key, kind), found in zip(wanted.items(), pipe.execute(), strict=True):
        if _text(found) not in {NONE, kind}:
            _move_aside(raw, client.global_keyprefix, key, refused, wrong=_other_than(key, kind))


def end_strange_lock(client: Any, name: str, *, longest_ms: int, refused: Refused) -> None:  # noqa: ANN401 - as above
    """Move a lock aside that has no end, or a later one than we give it: nobody would ever release it."""
    key = f"{client.global_keyprefix}{name}"

    def wrong(asked: Any) -> str | None:  # noqa: ANN401 - as above
        left = int(asked.pttl(key))
        return "a lock without an end that we give it" if left == -1 or left > longest_ms else None

    raw = redis.Redis(connection_pool=client.connection_pool)
    if wrong(raw) is not None:
        _move_aside(raw, client.global_keyprefix, key, refused, wrong=wrong)


def _other_than(key: str, kind: str) -> Callable[[Any], str | None]:
    def wrong(asked: Any) -> str | None:  # noqa: ANN401 - as above
        found = _text(asked.type(key))
        return None if found in {NONE, kind} else f"a key of ours of another kind: {found}, not {kind}"

    return wrong


def _move_aside(raw: Any, prefix: str, key: str, refused: Refused, *, wrong: Callable[[Any], str | None]) -> None:  # noqa: ANN401 - as above
    name = f"{prefix}aside.{uuid.uuid4().hex}"
    reason: list[str] = []

    def move(pipe: Any) -> None:  # noqa: ANN401 - as above
        # looked at again under WATCH: another worker may have made way, and what lies there now be ours
        found = wrong(pipe)
        pipe.multi()
        reason[:] = [] if found is None else [found]
        if found is not None:
            pipe.rename(key, name)
            pipe.expire(name, ASIDE_SECONDS)

    raw.transaction(move, key)
    for found in reason:
        refused(key.encode(errors="backslashreplace"), f"{found}; moved to {name}")


def _text(found: object) -> str:
    return found.decode(errors="backslashreplace") if isinstance(found, bytes) else str(found)


def install(transport: Any, refused: Refused) -> None:  # noqa: ANN401 - kombu's module
    """Have each command of kombu's Redis transport make its way, once, and say that it waits for the broker.

    Idempotent commands are given again as they are; of a pipeline, only those that failed.
    """

    def clear(client: Any, lists: Iterable[str] = ()) -> None:  # noqa: ANN401 - redis-py's
        make_way(client, kinds(transport, client.global_keyprefix, lists), refused)

    def made_way(execute: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(execute)
        def execute_command(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - redis-py's
            try:
                return execute(self, *args, **kwargs)
            except ResponseError as e:
                if not wrong_kind(e):
                    raise
                clear(self, [str(args[1])] if args[0] in _LISTS else ())
                return execute(self, *args, **kwargs)

        return execute_command

    def noted(work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def waiting(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as above
            with LIFE.asking():
                return work(*args, **kwargs)

        return waiting

    client, pipeline = transport.PrefixedStrictRedis, transport.PrefixedRedisPipeline
    client.execute_command = noted(made_way(client.execute_command))
    pipeline.execute_command = made_way(pipeline.execute_command)  # of a transaction, what it asks before it changes
    pipeline.execute = noted(_whole_pipeline(pipeline.execute, clear))
    poller = transport.MultiChannelPoller
    poller._register = noted(poller._register)  # noqa: SLF001 - where a worker connects anew, in its main loop
    _install_channel(transport, clear, refused)


def _whole_pipeline(run: Callable[..., Any], clear: Callable[..., None]) -> Callable[..., Any]:
    @wraps(run)
    def execute(self: Any, raise_on_error: bool = True) -> Any:  # noqa: ANN401, FBT001, FBT002 - as redis-py's
        stack = list(self.command_stack)
        found = run(self, raise_on_error=False)
        failed = [at for at, one in enumerate(found) if wrong_kind(one)]
        if failed:
            clear(self, [str(stack[at][0][1]).removeprefix(self.global_keyprefix) for at in failed
                         if stack[at][0][0] in _LISTS])  # fmt: skip
            again = redis.Redis(connection_pool=self.connection_pool)
            for at in failed:
                args, options = stack[at]
                try:
                    found[at] = again.execute_command(*args, **options)  # type: ignore[no-untyped-call]
                except ResponseError as e:
                    found[at] = e
        if raise_on_error:
            self.raise_first_error(stack, found)
        return found

    return execute


def _install_channel(transport: Any, clear: Callable[..., None], refused: Refused) -> None:  # noqa: ANN401 - kombu's
    channel, qos = transport.Channel, transport.QoS
    read, table, visible = channel._brpop_read, channel.get_table, qos.restore_visible  # noqa: SLF001 - no other place

    @wraps(read)
    def _brpop_read(self: Any, **options: Any) -> Any:  # noqa: ANN401 - as above
        try:
            return read(self, **options)
        except ResponseError as e:
            if not wrong_kind(e):
                raise
            with self.conn_or_acquire() as client:
                clear(client, self.active_queues)
            raise Empty from e  # asked for again in the next round

    @wraps(table)
    def get_table(self: Any, exchange: str) -> list[tuple[str, ...]]:  # noqa: ANN401 - as above
        return [row for row in table(self, exchange) if len(row) == 3]  # noqa: PLR2004 - key, pattern, queue

    @wraps(visible)
    def restore_visible(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as above
        with contextlib.suppress(ResponseError), self.channel.conn_or_acquire() as client:
            longest = int(self.unacked_mutex_expire * 1_000)
            end_strange_lock(client, self.unacked_mutex_key, longest_ms=longest, refused=refused)
        return visible(self, *args, **kwargs)

    channel._brpop_read, channel.get_table, qos.restore_visible = _brpop_read, get_table, restore_visible  # noqa: SLF001 - as above
