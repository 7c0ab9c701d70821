"""Workers as an operator sees and steers them: who answers, and what each consumes. Asked over the broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from celery import Celery

from btcfi.documents import printable
from btcfi.errors import BtcfiError, NotFoundError, UnreachableError
from dashboards.operator.deps import WorkerHealth
from workers.roles import roles

if TYPE_CHECKING:
    from settings.deployment import Deployment

ANSWER_SECONDS: Final = 1.0
"""How long workers have to answer a broadcast."""


class Fleet:
    """The workers of one application."""

    def __init__(self, app: Celery, deployment: Deployment) -> None:
        self._app, self._deployment = app, deployment

    def workers(self) -> Sequence[WorkerHealth]:
        """Return every worker that answers. Raises UnreachableError when the broker does not."""
        consumed = self._asked(lambda control: control.inspect(timeout=ANSWER_SECONDS).active_queues()) or {}
        busy = self._asked(lambda control: control.inspect(timeout=ANSWER_SECONDS).active()) or {}
        return [
            WorkerHealth(
                name=printable(name, 200),
                queues=tuple(sorted(printable(queue["name"], 200) for queue in queues)),
                active=len(busy.get(name) or ()),
            )
            for name, queues in sorted(consumed.items())
        ]

    def drain(self, name: str) -> None:
        """Have a worker take no new work; what it has in hand it finishes. Raises as ``resume`` does."""
        for queue in self._queues(name):
            self._asked(partial(_cancel, queue=queue, name=name))

    def resume(self, name: str) -> None:
        """Have a drained worker consume its role's queues again. Raises NotFoundError, UnreachableError."""
        for queue in self._queues(name):
            self._asked(partial(_consume, queue=queue, name=name))

    def _queues(self, name: str) -> tuple[str, ...]:
        # "settle-2@host" is a second worker of the role "settle"
        role = name.partition("@")[0].partition("-")[0]
        known = roles(self._deployment)
        there = self._asked(lambda control: control.inspect(timeout=ANSWER_SECONDS).ping()) or {}
        if role not in known or name not in there:
            raise NotFoundError("worker", name, "those that answer are listed")
        return known[role].queues

    def _asked(self, question: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - Celery has no types
        try:
            return question(self._app.control)
        except BtcfiError:  # a key that is not here: nothing that the broker could do about
            raise
        except Exception as e:  # each transport has errors of its own
            problem = str(e).splitlines()[0][:120] if str(e) else type(e).__name__
            where = self._app.connection_for_write().as_uri()  # without its password
            raise UnreachableError("broker", where, problem, "start it, or correct BROKER_URL") from e


def _cancel(control: Any, *, queue: str, name: str) -> None:  # noqa: ANN401 - as above
    control.cancel_consumer(queue, destination=[name])


def _consume(control: Any, *, queue: str, name: str) -> None:  # noqa: ANN401 - as above
    control.add_consumer(queue, destination=[name])
