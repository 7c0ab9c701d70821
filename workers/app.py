"""The Celery application of a deployment.

Delivery is at least once, on purpose: a message is acknowledged after its work, and a lost worker's messages return.
That an effect happens once is the database's business (docs/decisions), never the broker's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from celery import Celery
from kombu.entity import Exchange, Queue

from btcfi.errors import InvalidInputError
from settings.deployment import Deployment
from workers import guard, liveness, seal, signals, ticks, warm
from workers.roles import CONTROL, QUEUES
from workers.systems import SYSTEMS, System, all_modules, flows, quiet, route_of, said, schedule

FAULTS: Final = "BTCFI_TEST_FAULTS"
"""Names the folder of orders of workers/chaos/points.py. No deployment sets it."""

TIME_LIMIT_SECONDS: Final = 300
"""A task that runs longer is killed; the longest honest one, a proof of 2**20 steps, takes a tenth of it in parts."""

VISIBILITY_TIMEOUT_SECONDS: Final = 900
"""When the broker hands an unacknowledged message to another worker. Never below the time limit, or honest work
would run twice; above it by the longest wait behind one prefetched message, and half again."""

RESULT_EXPIRES_SECONDS: Final = 86_400
"""A chord's count must outlive its slowest part, or its body silently never runs."""


def create_app(
    deployment: Deployment, *, modules: Sequence[str] | None = None, systems: Sequence[System] = SYSTEMS
) -> Celery:
    """Return the application: its queues, routes and schedule; tasks find what they need of the table on ``conf``.

    modules: what a worker imports when it starts, ``modules_of`` its role; who only sends needs none. Default: all.
    Raises InvalidInputError when the deployment names no broker or has no key for its messages.
    """
    if deployment.broker_url is None:
        raise InvalidInputError("BROKER_URL", "not set", "redis://HOST:PORT/0 or redis+socket:///PATH?virtual_host=0")
    included = all_modules(systems) if modules is None else tuple(modules)
    app = Celery("btcfi", set_as_current=True, include=list(included), task_cls="workers.ticks:TimedTask")
    app.conf.update(configuration(deployment, systems))
    app.conf.tick_intervals = ticks.intervals(app.conf.beat_schedule.values())
    app.conf.deployment = deployment
    if not deployment.broker_url.startswith("memory:"):  # a broker that nobody else reaches
        app.conf.broker_transport_options |= {seal.OPTION: seal.seal_of(deployment)}
        liveness.connect(app, deployment.data_dir, also=guard.flush)
    # names, not things: each is imported by the process that comes to need it
    app.conf.flows = flows(systems)
    app.conf.repairs = tuple(one for system in systems for one in system.repairs)
    app.conf.chain_handlers = tuple(system.on_chain for system in systems if system.on_chain is not None)
    signals.connect(deployment, said=said(systems), quiet=quiet(systems))
    guard.connect()
    warm.connect(included)
    if folder := os.environ.get(FAULTS):  # only in the cluster of a test or of `btcfi chaos`
        import_module("workers.chaos.points").install(Path(folder))
    return app


def configuration(deployment: Deployment, systems: Sequence[System] = SYSTEMS) -> dict[str, Any]:
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
        "task_routes": (_router(systems),),
        # what Flower and the exporter see
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "task_track_started": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # beat: in memory, so no file stays behind; every entry is harmless when sent twice
        "beat_scheduler": "workers.beat:NotingScheduler",
        "beat_max_loop_interval": 5,
        "beat_schedule": schedule(deployment, systems),
    }


def _queue(name: str) -> Any:  # noqa: ANN401 - kombu has no types
    return Queue(name, Exchange(name, type="direct"), routing_key=name)  # type: ignore[no-untyped-call]


def _result_backend(deployment: Deployment) -> str | None:
    if deployment.result_backend_url is None and (deployment.broker_url or "").startswith("memory:"):
        return "cache+memory://"
    return deployment.result_backend_url or deployment.broker_url


def _router(systems: Sequence[System]) -> Callable[..., dict[str, str]]:
    """Return Celery's router protocol over the table's routes."""

    def route(name: str, *_: object, **__: object) -> dict[str, str]:
        if name.startswith("canary."):
            queue = name.removeprefix("canary.")
            return {"queue": queue if queue in QUEUES else CONTROL}
        return {"queue": route_of(name, systems)}

    return route
