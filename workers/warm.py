"""Before a worker forks: load what its tasks run, so that its children share those pages instead of each making them.

A page stays shared until somebody writes to it. CPython counts references inside its objects and the collector marks
them, so what stands at the fork is frozen: no collection in a child touches it.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final

import structlog
from celery import signals

INHERITED: Final[list[Any]] = []
"""The parent's database engines: frozen objects are not among those that ``gc.get_objects`` lists in a child."""

log = structlog.get_logger("btcfi.warm")


def connect(modules: Sequence[str]) -> None:
    """Have a parent warm up once, by the ``before_fork`` of each of its task ``modules`` that has one, then freeze."""

    def before_fork(**_: object) -> None:
        _warm(tuple(modules))
        INHERITED.extend(engines())
        gc.collect()
        gc.freeze()

    signals.worker_before_create_process.connect(before_fork, weak=False, dispatch_uid="btcfi.warm")


@cache
def _warm(modules: tuple[str, ...]) -> None:
    for name in modules:
        work: Callable[[], None] | None = getattr(import_module(name), "before_fork", None)
        if work is not None:
            try:
                work()
            except Exception as e:  # noqa: BLE001 - the task itself will say what is wrong, to whom it concerns
                log.warning("not warmed up", module=name, problem=str(e) or type(e).__name__)


def engines() -> list[Any]:
    """Return the database engines of this process, those inherited and frozen left out."""
    if "sqlalchemy" not in sys.modules:
        return []
    from sqlalchemy import Engine  # noqa: PLC0415 - beat and Flower need no database

    return [thing for thing in gc.get_objects() if isinstance(thing, Engine)]
