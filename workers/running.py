"""Runs a Celery worker and tells how it ended: Celery logs why, and returns as if nothing were wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from celery import Celery
from celery.apps.worker import Worker
from celery.bin.celery import celery

from btcfi.errors import BtcfiError

UNKNOWN: Final = 1
"""Exit code of an end that no error of ours explains."""


class TellingWorker(Worker):  # type: ignore[misc]
    """Celery's worker, which keeps what ended it."""

    ended_by: Exception | None = None

    def start(self) -> None:
        """Run until it is stopped, or until something that nobody caught."""
        begin = self.blueprint.start

        def begun(parent: Any) -> None:  # noqa: ANN401 - Celery has no types
            try:
                begin(parent)
            except Exception as e:
                type(self).ended_by = e  # the caller knows the class alone
                raise

        self.blueprint.start = begun
        super().start()


def run_worker(app: Celery, arguments: Sequence[str]) -> int:
    """Run a worker of ``app`` until it ends; return the exit code, 0 after a signal.

    Raises what ended it where that is a BtcfiError or an OSError, whose exit codes stand in one table.
    """
    kind = app.subclass_with_self(TellingWorker, name="Worker", ended_by=None)
    app.Worker = kind
    celery.params[0].default = app
    try:
        code = celery.main(args=list(arguments), standalone_mode=False)
    finally:
        celery.params[0].default = None
    if isinstance(kind.ended_by, BtcfiError | OSError):
        raise kind.ended_by
    return UNKNOWN if kind.ended_by is not None else int(code or 0)
