"""``btcfi health PART``: whether one process of this machine answers, for a container's health check."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from typing import Annotated, Final

import typer

from btcfi.errors import NotFoundError, UnreachableError
from settings.deployment import Deployment, load_deployment
from workers.roles import roles

SECONDS: Final = 5.0
"""For one answer."""


def health(
    part: Annotated[str, typer.Argument(help="prices, settle, chain, control, api, flower, metrics or oracle")],
    *,
    port: Annotated[int, typer.Option("--port", help="Of an oracle of this machine.", min=1, max=65_535)] = 9100,
) -> None:
    """Ask one process of this machine for a sign of life; exit 69 when it gives none."""
    deployment = load_deployment()
    pages = {
        "api": f"http://{_local(deployment.api_host)}:{deployment.api_port}/api/v1/health",
        "flower": f"http://{_local(deployment.listen_host)}:{deployment.flower_port}/healthcheck",
        "metrics": f"http://{_local(deployment.listen_host)}:{deployment.metrics_port}/metrics",
        "oracle": f"http://127.0.0.1:{port}/v1/oracle",
    }
    if part in pages:
        _ask_page(part, pages[part])
    elif part in roles(deployment):
        _ask_worker(part, deployment)
    else:
        raise NotFoundError("part", part, f"there are: {', '.join([*roles(deployment), *pages])}")
    typer.echo(f"{part}: answers")


def _local(host: str) -> str:
    """Return where to reach what listens on ``host`` from the same machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - compared with, not listened on


def _ask_page(part: str, url: str) -> None:
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 - an http address of our own making
            answer.read(1)
    except urllib.error.HTTPError as e:
        # the API says 503 while there is no price: no fault of its own, and a restart would not help
        if part == "api" and json.loads(e.read() or b"{}").get("database") == "ok":
            return
        raise UnreachableError(part, url, f"HTTP {e.code}", "see its log") from e
    except OSError as e:
        raise UnreachableError(part, url, str(getattr(e, "reason", e)), "see its log") from e


def _ask_worker(role: str, deployment: Deployment) -> None:
    from kombu.connection import Connection  # noqa: PLC0415 - as the next
    from kombu.exceptions import OperationalError  # noqa: PLC0415 - as the next

    from workers.app import create_app  # noqa: PLC0415 - Celery: a page is asked every few seconds, and needs none

    name = f"{role}@{socket.gethostname()}"
    try:  # patience for the answer, not for the broker
        answers = create_app(deployment).control.ping(destination=[name], timeout=SECONDS, limit=1)
    except (OperationalError, OSError) as e:
        where = Connection(deployment.broker_url).as_uri()  # type: ignore[no-untyped-call]
        raise UnreachableError("broker", where, str(e), "check BROKER_URL and that it runs") from e
    if not answers:
        raise UnreachableError(f"worker {name}", "the broker", f"no answer in {SECONDS:g} s", "see its log")
