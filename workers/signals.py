"""What every process does around a task: its logs name it, its messages carry the time of sending, its traces join.

Forked children share no socket with their parent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

import structlog
from celery import signals

from settings.deployment import Deployment
from workers import logs, tracing, warm

SENT_AT: Final = "btcfi_sent_at"
"""Header of every message: unix seconds at which it was sent, from which its age in a queue follows."""

_SAID: Final[dict[str, tuple[str | None, ...]]] = {}
_QUIET: Final[list[str]] = []
"""What the table of systems says of tasks, kept when the handlers are connected: Celery's signals take no more."""

SHOWN_IDS: Final = 3
"""Ids of a batch that a log line repeats; the rest is counted."""

log = structlog.get_logger("btcfi.task")

_began: ContextVar[float] = ContextVar("btcfi_task_began", default=0.0)


def connect(deployment: Deployment, *, said: Mapping[str, tuple[str | None, ...]], quiet: Sequence[str]) -> None:
    """Connect the handlers, once a process; a second application replaces what the first one set.

    said, quiet: as the table of systems has them.
    """
    _SAID.clear()
    _SAID.update(said)
    _QUIET[:] = quiet

    def set_up_logging(**_: object) -> None:
        logs.configure_logging(deployment.log_format, logs.secrets_of(deployment))

    def after_fork(**_: object) -> None:
        _drop_inherited_connections()
        tracing.start()  # its exporter's thread does not survive a fork

    # connecting this signal is what stops Celery from configuring logging itself
    signals.setup_logging.connect(set_up_logging, weak=False, dispatch_uid="btcfi.logging")
    signals.before_task_publish.connect(_stamp, weak=False, dispatch_uid="btcfi.stamp")
    signals.task_prerun.connect(_bind, weak=False, dispatch_uid="btcfi.bind")
    signals.task_postrun.connect(_unbind, weak=False, dispatch_uid="btcfi.unbind")
    signals.worker_process_init.connect(after_fork, weak=False, dispatch_uid="btcfi.fork")
    # beat publishes, and a pool of threads never forks
    signals.beat_init.connect(_trace, weak=False, dispatch_uid="btcfi.trace_beat")
    signals.worker_ready.connect(_trace_threads, weak=False, dispatch_uid="btcfi.trace_threads")


def _stamp(headers: MutableMapping[str, Any] | None = None, **_: object) -> None:
    if headers is not None:
        headers[SENT_AT] = round(time.time(), 3)


def _bind(  # the names are Celery's
    task_id: str,
    task: Any,  # noqa: ANN401 - Celery has no types
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    **_: object,
) -> None:
    request = task.request
    queue = (request.delivery_info or {}).get("routing_key")
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(
        task=task.name, task_id=task_id, root_id=request.root_id, queue=queue, attempt=request.retries + 1,
        **about(_SAID.get(task.name, ()), args, kwargs or {}),
    )  # fmt: skip
    _began.set(time.monotonic())


def about(names: Sequence[str | None], args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, object]:
    """Return what a task is about, by the names of its arguments: option, settlement, feed and minute."""
    found = {name: value for name, value in zip(names, args, strict=False) if name is not None}
    found |= {name: kwargs[name] for name in names if name is not None and name in kwargs}
    batch = found.get("settlements")
    if isinstance(batch, list | tuple):
        more = [f"and {len(batch) - SHOWN_IDS} more"] if len(batch) > SHOWN_IDS else []
        found["settlements"] = [*batch[:SHOWN_IDS], *more]
    if "feed" in found and "slot" in found:
        found["round"] = f"{found.pop('feed')}@{found.pop('slot')}"
    return found


def _unbind(task: Any = None, state: str | None = None, **_: object) -> None:  # noqa: ANN401 - as above
    # what beat sends every few seconds would hide the rest; its failures are logged by Celery itself
    if not str(getattr(task, "name", "")).startswith(tuple(_QUIET)):
        log.info("task ended", state=state, seconds=round(time.monotonic() - _began.get(), 3))
    structlog.contextvars.clear_contextvars()


def _trace(**_: object) -> None:
    tracing.start()


def _trace_threads(sender: Any = None, **_: object) -> None:  # noqa: ANN401 - the worker's consumer
    pool = getattr(getattr(sender, "controller", None), "pool_cls", None)
    if "prefork" not in str(getattr(pool, "__module__", "")):
        tracing.start()


def _drop_inherited_connections() -> None:
    """Forget the parent's database connections without closing them: the sockets are still the parent's."""
    for engine in (*warm.INHERITED, *warm.engines()):
        engine.dispose(close=False)
