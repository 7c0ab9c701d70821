"""Fault points: where a test or ``btcfi chaos`` stops, kills or blinds a worker process, once, at a named place.

Nothing of this is in the domain's code. ``install`` listens where everything passes anyway and wraps two methods; it is
called only in a process whose environment names a folder of orders (``BTCFI_TEST_FAULTS``), which no deployment does:

- the session's ``before_commit`` and ``after_commit``, with the event rows of the transaction:
  ``settlement.proven:before`` is "computed and not committed", ``settlement.proven:after`` is "committed and not
  acknowledged";
- Celery's ``task_prerun`` and ``task_postrun``: ``task.chain.settle:before``, ``task.chain.settle:after`` (before the
  acknowledgement), and ``before_task_publish``, ``after_task_publish``: ``publish.chain.settle:after`` (before the
  outbox row is marked);
- ``Node.try_send_many``, where every transaction leaves us: ``node.send:after`` is "broadcast and not recorded";
- ``Context.now``, which is shifted by the seconds in the file ``clock``: a stepped clock;
- the wall clock of a role, which goes by the file ``skew/ROLE`` (``skew.py``).

An order is a file ``armed/NAME`` that holds the point and what happens there. Whoever renames it away first carries it
out, so that it happens once in the whole cluster. ``pause`` says so in ``reached/NAME`` and waits for ``go/NAME``: the
harness does to broker, node, database or the process itself what it likes in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, Final, cast

import structlog

from btcfi.errors import InvalidInputError

PAUSE_SECONDS: Final = 60.0
"""After which a paused process goes on by itself: a harness that died must not leave it standing."""

POLL_SECONDS: Final = 0.02

KILL_CHILD: Final = "kill-child"
KILL_WORKER: Final = "kill-worker"
PAUSE: Final = "pause"
SKEW: Final = "skew"
"""The folder of the roles' clocks, in that of the orders."""

ACTIONS: Final = (KILL_CHILD, KILL_WORKER, PAUSE)

_INSTALLED: Final[list[Path]] = []
_LOG = structlog.get_logger("btcfi.chaos")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to do at a point."""

    name: str
    point: str
    action: str
    times: int = 1
    """How often: a poison that kills its process each time is not gone after the first."""
    about: str = ""
    """Only where this entity crosses the edge, by its id; empty: whichever."""

    def encode(self) -> str:
        """Return the order's file."""
        return json.dumps(asdict(self))


class Orders:
    """The folder of orders, as both sides see it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._armed, self._reached, self._go = (folder / name for name in ("armed", "reached", "go"))

    def prepare(self) -> None:
        """Make the folders."""
        for folder in (self._armed, self._reached, self._go):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def arm(self, order: Order) -> None:
        """Place an order, all or nothing. Raises InvalidInputError for an unknown action."""
        if order.action not in ACTIONS:
            raise InvalidInputError("fault action", order.action, f"one of {', '.join(ACTIONS)}")
        draft = self.folder / f".{order.name}"
        draft.write_text(order.encode())
        draft.rename(self._armed / order.name)

    def disarm(self, name: str) -> None:
        """Take back an order that nobody has carried out, and let go whom it stopped."""
        (self._armed / name).unlink(missing_ok=True)
        self.release(name)

    def reached(self, name: str) -> int | None:
        """Return the process that carries out the order; None while nobody has come there."""
        try:
            text = (self._reached / name).read_text()
        except FileNotFoundError:
            return None
        return int(text) if text else None

    def release(self, name: str) -> None:
        """Let a paused process go on."""
        (self._go / name).touch()

    def step_clock(self, seconds: int) -> None:
        """Shift the wall clock of every worker."""
        draft = self.folder / ".clock"
        draft.write_text(str(seconds))
        draft.rename(self.folder / "clock")

    def clock_step(self) -> int:
        """Return the shift in force, seconds."""
        try:
            return int((self.folder / "clock").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def visit(self, point: str, about: Collection[str] = ()) -> None:
        """Carry out what is ordered at ``point``, if anything is. ``about``: the ids that cross it."""
        with contextlib.suppress(FileNotFoundError):
            for file in sorted(self._armed.iterdir()):
                order = self._take(file, point, about)
                if order is not None:
                    self._carry_out(order)

    def _take(self, file: Path, point: str, about: Collection[str]) -> Order | None:
        try:
            order = Order(**json.loads(file.read_text()))
            if order.point != point or (order.about and order.about not in about):
                return None
            # whoever renames it has it
            file.rename(self.folder / f".taken.{order.name}.{os.getpid()}.{time.monotonic_ns()}")
        except FileNotFoundError:
            return None
        if order.times > 1:
            self.arm(replace(order, times=order.times - 1))
        return order

    def _carry_out(self, order: Order) -> None:
        (self._reached / order.name).write_text(str(os.getpid()))
        _LOG.warning("fault", point=order.point, action=order.action)
        if order.action == KILL_CHILD:
            os.kill(os.getpid(), signal.SIGKILL)
        if order.action == KILL_WORKER:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        deadline = time.monotonic() + PAUSE_SECONDS
        while not (self._go / order.name).exists() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def install(folder: Path) -> None:
    """Connect the fault points of this process to a folder of orders, once."""
    if _INSTALLED:
        return
    _INSTALLED.append(folder)
    orders = Orders(folder)
    _watch_transactions(orders)
    _watch_tasks(orders)
    _watch_node(orders)
    _shift_clock(orders)
    _go_by(folder / SKEW)


def _watch_transactions(orders: Orders) -> None:  # noqa: C901 - four listeners
    from sqlalchemy import event, inspect  # noqa: PLC0415 - beat has no database
    from sqlalchemy.orm import ORMExecuteState  # noqa: PLC0415 - as above
    from sqlmodel import Session  # noqa: PLC0415 - as above

    from btcfi.adapters.store.spine.tables import EventRow  # noqa: PLC0415 - as above

    def note(session: Session, entity: object, to_state: object, identity: object) -> None:
        crossed = session.info.setdefault("crossed", {})
        crossed.setdefault(f"{entity}.{str(to_state).lower()}", []).append(str(identity))

    def flushed(session: Session, _context: object) -> None:
        for row in session.new:
            if isinstance(row, EventRow):
                note(session, row.entity, row.to_state, row.entity_id)

    def executed(state: ORMExecuteState) -> None:
        # rows that are inserted in bulk never are objects of the session
        mapper = state.bind_mapper if state.is_insert else None
        if mapper is not None and mapper is inspect(EventRow):
            given: Any = state.parameters or []
            for row in [given] if isinstance(given, dict) else given:
                note(cast("Session", state.session), row.get("entity"), row.get("to_state"), row.get("entity_id"))

    def committing(session: Session) -> None:
        session.flush()  # so that the events are known
        for point, ids in session.info.get("crossed", {}).items():
            orders.visit(f"{point}:before", ids)

    def committed(session: Session) -> None:
        for point, ids in session.info.pop("crossed", {}).items():
            orders.visit(f"{point}:after", ids)

    event.listen(Session, "after_flush", flushed)
    event.listen(Session, "do_orm_execute", executed)
    event.listen(Session, "before_commit", committing)
    event.listen(Session, "after_commit", committed)


def _watch_tasks(orders: Orders) -> None:
    from celery import signals  # noqa: PLC0415 - already there in a worker

    def watch(signal_: Any, format_: str) -> None:  # noqa: ANN401 - Celery has no types
        def visit(sender: Any = None, **_: object) -> None:  # noqa: ANN401 - as above
            orders.visit(format_.format(getattr(sender, "name", sender)))

        signal_.connect(visit, weak=False, dispatch_uid=f"btcfi.chaos.{format_}")

    watch(signals.task_prerun, "task.{}:before")
    watch(signals.task_postrun, "task.{}:after")
    watch(signals.before_task_publish, "publish.{}:before")
    watch(signals.after_task_publish, "publish.{}:after")


def _watch_node(orders: Orders) -> None:
    from btcfi.adapters.chain.node import Node  # noqa: PLC0415 - beat has no node

    def around(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def visited(self: Node, transactions: Any, *rest: Any) -> Any:  # noqa: ANN401 - as the method
            if not transactions:
                return method(self, transactions, *rest)
            orders.visit("node.send:before")
            answer = method(self, transactions, *rest)
            orders.visit("node.send:after")
            return answer

        return visited

    for name in ("try_send_many", "try_send_packages", "send_package"):
        setattr(Node, name, around(getattr(Node, name)))


def _go_by(folder: Path) -> None:
    from workers.chaos import skew  # noqa: PLC0415 - the harness's alone

    for name in sys.argv[1:3]:  # `worker ROLE`, or `beat`
        if name in skew.NAMES and (folder / name).exists() and not skew.go_by(folder / name):
            _LOG.warning("no clock of its own", role=name)


def _shift_clock(orders: Orders) -> None:
    from btcfi.units import UnixSeconds  # noqa: PLC0415 - as above
    from tasks.context import Context  # noqa: PLC0415 - as above

    honest = Context.now

    def now(self: Context) -> UnixSeconds:
        return UnixSeconds(honest(self) + orders.clock_step())

    Context.now = now  # type: ignore[method-assign]
