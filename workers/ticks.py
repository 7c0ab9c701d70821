"""What beat sends is stale by the database's clock, never by a comparison of beat's clock with the worker's.

Celery writes into a message when it expires by the sender's clock, and the worker compares that with its own: a chain
worker 8 s ahead of beat threw away every ``chain.watch`` of a 5 s interval and confirmed nothing. Here the header only
says that a message is a tick. Whether it is still worth running is read from the store: not while its like has just
ended. So what piled up while a role was away is one run, and a worker that is slower than its ticks is not buried.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import structlog
from celery import Task
from celery.worker.request import Request

from btcfi.adapters.store.spine.errors import StoreUnreachableError
from btcfi.units import SECONDS_PER_MINUTE

if TYPE_CHECKING:
    from btcfi.adapters.store.spine.database import Store
    from workers.entries import Entry

REST: Final = 0.5
"""Of its interval, that a tick's like must have ended ago: the next one, on time, never finds less."""

log = structlog.get_logger("btcfi.ticks")


def intervals(entries: Iterable[Entry]) -> dict[str, float]:
    """Return by task how often beat sends it, in seconds."""
    return {
        one["task"]: float(one["schedule"]) if isinstance(one["schedule"], int | float) else float(SECONDS_PER_MINUTE)
        for one in entries
    }


class TickRequest(Request):  # type: ignore[misc]
    """Celery's request, which leaves it to the task whether a tick is stale."""

    def maybe_expire(self) -> bool:
        """Return whether the message has expired by this host's clock: a tick never has."""
        return self.task.name not in _intervals(self.app) and bool(super().maybe_expire())


class TimedTask(Task):  # type: ignore[misc]
    """Celery's task; a run that beat asked for, and whose like has just ended, is left out."""

    Request = "workers.ticks:TickRequest"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Celery's
        """Run the task, or leave a stale tick out."""
        interval = _intervals(self.app).get(self.name) if self.request.expires else None
        if interval is None:
            return self.run(*args, **kwargs)
        from tasks.context import context  # noqa: PLC0415 - the store: beat has none, and makes this class, too

        name, store = tick_name(self.name, args), context().store
        if not _is_worth(store, name, kwargs, rest_ms=int(interval * REST * 1000)):
            return None
        try:
            return self.run(*args, **kwargs)
        finally:
            _note_end(store, name, worker=str(self.request.hostname or ""))


def tick_name(task: str, args: Sequence[object]) -> str:
    """Return what a tick is noted as: a canary is one for each queue."""
    return " ".join([task, *map(str, args)])


def _is_worth(store: Store, name: str, kwargs: Mapping[str, object], *, rest_ms: int) -> bool:
    from btcfi.adapters.store.spine import ticks  # noqa: PLC0415 - as above
    from btcfi.adapters.store.spine.database import clock_of  # noqa: PLC0415 - as above

    with store.reading() as session:
        now = clock_of(session)
        if isinstance(slot := kwargs.get("slot"), int):  # of a minute: while that is the last one that is over
            return 0 <= now - (slot + SECONDS_PER_MINUTE) < SECONDS_PER_MINUTE
        return ticks.is_due(session, name, now_ms=int(now * 1000), rest_ms=rest_ms)


def _note_end(store: Store, name: str, *, worker: str) -> None:
    from btcfi.adapters.store.spine import ticks  # noqa: PLC0415 - as above
    from btcfi.adapters.store.spine.database import clock_of  # noqa: PLC0415 - as above

    try:
        with store.transaction() as session:
            now = clock_of(session)
            ahead = round((time.time() - now) * 1000)
            ticks.note_end(session, name, now_ms=int(now * 1000), ahead_ms=ahead, worker=worker)
    except StoreUnreachableError as e:  # what the task itself raised is not to be hidden
        log.warning("end of a tick not noted", tick=name, problem=str(e))


def _intervals(app: Any) -> dict[str, float]:  # noqa: ANN401 - Celery has no types
    found: dict[str, float] = app.conf.get("tick_intervals", {})
    return found
