"""What happens by the clock. Every entry expires about when the next is due, so that nothing piles up unread."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any, Final

from celery.beat import BeatLazyFunc
from celery.schedules import BaseSchedule, schedstate

from settings.deployment import Deployment
from workers.roles import PARKED, QUEUES

SLOT_SECONDS: Final = 60

TICK_DELAY_SECONDS: Final = 5
"""Exchanges publish a closed candle a moment after the minute; asking at once would mostly see the open one."""


class EveryMinute(BaseSchedule):  # type: ignore[misc]
    """Due once a minute, ``offset`` seconds after it began, by the wall clock; a missed minute is not made up for."""

    def __init__(self, offset: int, **options: Any) -> None:  # noqa: ANN401 - passed on to Celery
        super().__init__(**options)
        self.offset = offset

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return the time until the next run."""
        due = _last_boundary(last_run_at.timestamp(), self.offset) + SLOT_SECONDS
        return timedelta(seconds=due - self.now().timestamp())

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Return whether a minute's mark lies between the last run and now, and the seconds until the next mark."""
        now = self.now().timestamp()
        mark = _last_boundary(now, self.offset)
        return schedstate(is_due=last_run_at.timestamp() < mark, next=mark + SLOT_SECONDS - now)

    def __reduce__(self) -> tuple[type[EveryMinute], tuple[int]]:
        return type(self), (self.offset,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EveryMinute) and other.offset == self.offset

    def __hash__(self) -> int:
        return hash(self.offset)


def _last_boundary(at: float, offset: int) -> int:
    return int(at - offset) // SLOT_SECONDS * SLOT_SECONDS + offset


def closed_slot(now: float) -> int:
    """Return the minute that a tick sent at ``now`` is about: the last one that is over, by its opening second.

    Two beats that tick in the same minute name the same slot, which the database accepts once.
    """
    return int(now) // SLOT_SECONDS * SLOT_SECONDS - SLOT_SECONDS


def _slot_now() -> int:
    return closed_slot(time.time())


def beat_schedule(deployment: Deployment) -> dict[str, dict[str, Any]]:
    """Return Celery's ``beat_schedule``."""
    periods = {
        "control.relay": deployment.relay_seconds,
        "control.reconcile": deployment.reconcile_seconds,
        "pricing.refresh": deployment.premium_seconds,
        "chain.watch": deployment.watch_seconds,
        "control.prune": 3_600.0,
        "contracts.exchange": deployment.exchange_seconds,
    }
    if deployment.mine_seconds > 0:
        periods["chain.mine"] = deployment.mine_seconds
    if deployment.anchor_seconds > 0:
        periods["chain.anchor"] = deployment.anchor_seconds
    entries: dict[str, dict[str, Any]] = {name: _entry(name, seconds) for name, seconds in periods.items()}
    for queue in QUEUES:
        if queue != PARKED:
            entries[f"canary.{queue}"] = _entry("control.canary", deployment.canary_seconds, args=[queue], queue=queue)
    if deployment.tick:
        entries["oracle.tick"] = {
            "task": "oracle.tick",
            "schedule": EveryMinute(TICK_DELAY_SECONDS),
            "kwargs": {"slot": BeatLazyFunc(_slot_now)},
            "options": {"expires": SLOT_SECONDS - TICK_DELAY_SECONDS},
        }
    return entries


def _entry(task: str, seconds: float, args: list[str] | None = None, queue: str | None = None) -> dict[str, Any]:
    options: dict[str, Any] = {"expires": max(seconds, 1.0)}
    if queue is not None:
        options["queue"] = queue
    return {"task": task, "schedule": seconds, "args": args or [], "options": options}
