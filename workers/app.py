"""The Celery application of a deployment.

Delivery is at least once, on purpose: a message is acknowledged after its work, and a lost worker's messages return.
That an effect happens once is the database's business (docs/decisions), never the broker's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from celery import Celery
from kombu.entity import Exchange, Queue

from btcfi.errors import InvalidInputError
from settings.deployment import Deployment
from workers import guard, signals, warm
from workers.beat import beat_schedule
from workers.roles import CHAIN, CONTROL, PRICES, QUEUES, SETTLE

FAULTS: Final = "BTCFI_TEST_FAULTS"
"""Names the folder of orders of workers/chaos/points.py. No deployment sets it."""

ROLE_MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    PRICES: ("tasks.canary", "tasks.venues"),
    SETTLE: ("tasks.canary", "tasks.machine", "tasks.settlement", "tasks.checks", "tasks.pricing"),
    CHAIN: ("tasks.canary", "tasks.chain"),
    CONTROL: ("tasks.canary", "tasks.control", "tasks.oracle", "tasks.options", "tasks.contracts"),
}
"""The tasks of each role, and with them what its processes import: ROUTES sends a task where its module stands.

A module's ``before_fork``, if it has one, is run before the first child is forked (workers/warm.py)."""

TASK_MODULES: Final = tuple(dict.fromkeys(module for modules in ROLE_MODULES.values() for module in modules))

CHAIN_HANDLERS: Final = ("btcfi.adapters.store.options.on_chain:OPTIONS_ON_CHAIN",)
"""What each system does with chain outputs of its own; imported by the chain worker alone."""

TIME_LIMIT_SECONDS: Final = 300
"""A task that runs longer is killed; the longest honest one, a proof of 2**20 steps, takes a tenth of it in parts."""

VISIBILITY_TIMEOUT_SECONDS: Final = 900
"""When the broker hands an unacknowledged message to another worker. Never below the time limit, or honest work
would run twice; above it by the longest wait behind one prefetched message, and half again."""

RESULT_EXPIRES_SECONDS: Final = 86_400
"""A chord's count must outlive its slowest part, or its body silently never runs."""


def create_app(deployment: Deployment, *, modules: Sequence[str] = TASK_MODULES) -> Celery:
    """Return the application: its queues, routes and schedule; tasks find ``conf.deployment`` on it.

    modules: what a worker imports when it starts, ``ROLE_MODULES`` of its role; who only sends needs none.
    Raises InvalidInputError when the deployment names no broker.
    """
    if deployment.broker_url is None:
        raise InvalidInputError("BROKER_URL", "not set", "redis://HOST:PORT/0 or redis+socket:///PATH?virtual_host=0")
    app = Celery("btcfi", set_as_current=True, include=list(modules))
    app.conf.update(configuration(deployment))
    app.conf.deployment = deployment
    app.conf.chain_handlers = CHAIN_HANDLERS
    signals.connect(deployment)
    guard.connect()
    warm.connect(modules)
    if folder := os.environ.get(FAULTS):  # only in the cluster of a test or of `btcfi chaos`
        import_module("workers.chaos.points").install(Path(folder))
    return app


def configuration(deployment: Deployment) -> dict[str, Any]:
    """Return Celery's settings, each by its documented name."""
    return {
        "broker_url": deployment.broker_url,
        "result_backend": _result_backend(deployment),
        # JSON only: a pickle from the broker would be code
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "worker_consumer": "workers.guard:GuardedConsumer",
        "enable_utc": True,
        "timezone": "UTC",
        # delivery
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure_or_timeout": True,
        "task_time_limit": TIME_LIMIT_SECONDS,
        "task_soft_time_limit": TIME_LIMIT_SECONDS - 60,
        "worker_prefetch_multiplier": 1,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
            # kombu's defaults look for a lost worker's messages only every 10 * 10 s
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "socket_timeout": 30,
            "global_keyprefix": "btcfi:",
        },
        "broker_connection_retry_on_startup": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # results: only chords use them, as the fast path; the database closes what they lose
        "task_ignore_result": True,
        "result_expires": RESULT_EXPIRES_SECONDS,
        "result_backend_always_retry": True,
        "result_backend_max_retries": 20,
        "result_backend_transport_options": {"global_keyprefix": "btcfi:"},
        # stopping: SIGTERM becomes a soft shutdown (REMAP_SIGTERM=SIGQUIT in the worker's environment)
        "worker_soft_shutdown_timeout": 5.0,
        "worker_enable_soft_shutdown_on_idle": False,
        "worker_max_tasks_per_child": 500,
        # a typo in a queue's name fails at once instead of filling a queue that nobody reads
        "task_create_missing_queues": False,
        "task_queues": tuple(_queue(name) for name in QUEUES),
        "task_default_queue": CONTROL,
        "task_default_exchange": CONTROL,
        "task_default_routing_key": CONTROL,
        "task_routes": (route,),
        # what Flower and the exporter see
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "task_track_started": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # beat: in memory, so no file stays behind; every entry is harmless when sent twice
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_max_loop_interval": 5,
        "beat_schedule": beat_schedule(deployment),
    }


def _queue(name: str) -> Any:  # noqa: ANN401 - kombu has no types
    return Queue(name, Exchange(name, type="direct"), routing_key=name)  # type: ignore[no-untyped-call]


def _result_backend(deployment: Deployment) -> str | None:
    if deployment.result_backend_url is None and (deployment.broker_url or "").startswith("memory:"):
        return "cache+memory://"
    return deployment.result_backend_url or deployment.broker_url


def route(name: str, *_: object, **__: object) -> dict[str, str]:
    """Return the queue of a task by the first matching prefix of its name (Celery's router protocol)."""
    if name.startswith("canary."):
        queue = name.removeprefix("canary.")
        return {"queue": queue if queue in QUEUES else CONTROL}
    return {"queue": next((queue for prefix, queue in ROUTES if name.startswith(prefix)), CONTROL)}


ROUTES: Final = (
    ("oracle.fetch", PRICES),
    ("settlement.", SETTLE),
    ("contracts.check", SETTLE),
    ("pricing.", SETTLE),
    ("chain.", CHAIN),
)
"""Prefix of a task's name and its queue; everything else is control's."""
