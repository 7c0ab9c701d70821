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
    name: Annotated[str | None, typer.Option(help="Tells workers of one role apart")] = None,
) -> None:
    """Run the Celery worker of one role in this process."""
    # SIGTERM finishes what is at hand first; Celery reads this while it is imported
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    from workers.app import create_app  # noqa: PLC0415 - Celery, after the line above

    deployment = load_deployment()
    arguments = worker_arguments(role, deployment, name or role)
    create_app(deployment, modules=modules_of(role)).worker_main(arguments)
