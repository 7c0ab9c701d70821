"""What every worker process does around a task: logs that name it, and no socket shared over a fork."""

from __future__ import annotations

import gc
import logging
import sys
from typing import Any

import structlog
from celery import signals

from settings.deployment import Deployment


def configure_logging(log_format: str) -> None:
    """Send structlog's and the standard library's records to stderr, as JSON lines or for a human."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[structlog.typing.Processor]
    if log_format == "json":
        final = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        final = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for chatty in ("celery", "kombu", "httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def connect(deployment: Deployment) -> None:
    """Connect the handlers, once a process; a second application replaces the logging format of the first."""

    def set_up_logging(**_: object) -> None:
        configure_logging(deployment.log_format)

    # connecting this signal is what stops Celery from configuring logging itself
    signals.setup_logging.connect(set_up_logging, weak=False, dispatch_uid="btcfi.logging")
    signals.task_prerun.connect(_bind, weak=False, dispatch_uid="btcfi.bind")
    signals.task_postrun.connect(_unbind, weak=False, dispatch_uid="btcfi.unbind")
    signals.worker_process_init.connect(_after_fork, weak=False, dispatch_uid="btcfi.fork")


def _bind(task_id: str, task: Any, **_: object) -> None:  # noqa: ANN401 - Celery has no types
    request = task.request
    queue = (request.delivery_info or {}).get("routing_key")
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(
        task=task.name, task_id=task_id, root_id=request.root_id, queue=queue, attempt=request.retries + 1
    )


def _unbind(**_: object) -> None:
    structlog.contextvars.clear_contextvars()


def _after_fork(**_: object) -> None:
    """Forget the parent's database connections without closing them: the sockets are still the parent's."""
    if "sqlalchemy" not in sys.modules:
        return
    from sqlalchemy import Engine  # noqa: PLC0415 - beat and Flower need no database

    for engine in [thing for thing in gc.get_objects() if isinstance(thing, Engine)]:
        engine.dispose(close=False)
