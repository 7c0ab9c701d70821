"""The market's minutes as Celery's beat sees them."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any, Final

from celery.beat import BeatLazyFunc, Scheduler
from celery.schedules import BaseSchedule, schedstate

from workers.liveness import LIFE, NOTE_SECONDS, progress

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


class NotingScheduler(Scheduler):  # type: ignore[misc]
    """Celery's scheduler, in memory, which notes that it ticks (``workers/liveness.py``)."""

    def tick(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Celery's
        """Send what is due; return the seconds until the next."""
        wait = super().tick(*args, **kwargs)
        if time.monotonic() - LIFE.progress_at >= NOTE_SECONDS - 1:
            progress()
            LIFE.write()
        return wait


def closed_slot(now: float) -> int:
    """Return the minute that a tick sent at ``now`` is about: the last one that is over, by its opening second.

    Two beats that tick in the same minute name the same slot, which the database accepts once.
    """
    return int(now) // SLOT_SECONDS * SLOT_SECONDS - SLOT_SECONDS


def each_minute(task: str) -> dict[str, Any]:
    """Return an entry that tells ``task`` of every minute that is over, as soon as exchanges have published it."""
    return {
        "task": task,
        "schedule": EveryMinute(TICK_DELAY_SECONDS),
        "kwargs": {"slot": BeatLazyFunc(_slot_now)},
        "options": {"expires": SLOT_SECONDS - TICK_DELAY_SECONDS, "ignore_result": True},
    }


def _slot_now() -> int:
    return closed_slot(time.time())
