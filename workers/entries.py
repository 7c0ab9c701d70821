"""What happens by the clock, as entries for Celery's beat.

Every entry expires about when the next is due, so that nothing piles up unread: that marks it as a tick, and whether
it is stale is read from the store (``workers/ticks.py``), by whose clock alone that is judged.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from settings.deployment import Deployment
from workers.roles import PARKED, QUEUES

Entry: TypeAlias = dict[str, Any]
"""One entry of Celery's ``beat_schedule``."""


def every(task: str, seconds: float, args: list[str] | None = None, queue: str | None = None) -> Entry:
    """Return an entry that sends ``task`` again and again."""
    # nobody waits for a result: without the flag a sender that has not imported the task would listen for one
    options: dict[str, Any] = {"expires": max(seconds, 1.0), "ignore_result": True}
    if queue is not None:
        options["queue"] = queue
    return {"task": task, "schedule": seconds, "args": args or [], "options": options}


def each_minute(task: str) -> Entry:
    """Return an entry that tells ``task`` of every minute that is over, as soon as exchanges have published it."""
    from workers import beat  # noqa: PLC0415 - Celery, which not all have that read the table of systems

    return beat.each_minute(task)


def canaries(deployment: Deployment) -> dict[str, Entry]:
    """Return a sign of life through each queue that is read."""
    return {
        f"canary.{queue}": every("control.canary", deployment.canary_seconds, args=[queue], queue=queue)
        for queue in QUEUES
        if queue != PARKED
    }
