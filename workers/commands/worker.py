"""``btcfi worker ROLE``: one Celery worker, in this process."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from settings.deployment import load_deployment
from workers.roles import worker_arguments
from workers.systems import modules_of


def worker(
    role: Annotated[str, typer.Argument(help="prices, settle, chain or control")],
    *,
    name: Annotated[str | None, typer.Option(help="Tells workers of one role apart: settle-1")] = None,
) -> None:
    """Run the Celery worker of one role in this process.

    It ends at once where a precondition of its role does not hold that no waiting mends; each of the others is said.
    """
    # SIGTERM finishes what is at hand first; Celery reads this while it is imported
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    from workers import logs, preconditions  # noqa: PLC0415 - as the next
    from workers.app import create_app  # noqa: PLC0415 - Celery, after the line above
    from workers.running import run_worker  # noqa: PLC0415 - as above

    deployment = load_deployment()
    arguments = worker_arguments(role, deployment, name or role)
    app = create_app(deployment, modules=modules_of(role))
    logs.configure_logging(deployment.log_format, logs.secrets_of(deployment))
    preconditions.require(deployment, role, preconditions.log_finding)
    if code := run_worker(app, arguments):
        raise typer.Exit(code)
