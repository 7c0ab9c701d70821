"""``btcfi health PART``: whether one process of this machine works or answers, for a container's health check."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.error
import urllib.request
from typing import Annotated, Final

import typer

from btcfi.errors import InvalidInputError, NotFoundError, UnreachableError
from settings.deployment import Deployment, load_deployment
from workers import liveness
from workers.roles import role_of, roles, worker_name

SECONDS: Final = 5.0
"""For one answer."""

END_SECONDS: Final = 10.0
"""From SIGTERM to SIGKILL for a process that is stuck: a health check has 15 s in compose.yaml."""


def health(
    part: Annotated[
        str,
        typer.Argument(
            help="prices, settle, chain, control, beat, api, flower, metrics or oracle; or a worker's name: settle-1"
        ),
    ],
    *,
    name: Annotated[str | None, typer.Option("--name", help="Of a worker, as `btcfi worker --name` has it.")] = None,
    end: Annotated[
        bool, typer.Option("--end", help="End a worker or beat that is stuck, for its manager to start anew.")
    ] = False,
    port: Annotated[int, typer.Option("--port", help="Of an oracle of this machine.", min=1, max=65_535)] = 9100,
) -> None:
    """Judge one process of this machine by its work or its page; exit 69 when there is none."""
    deployment = load_deployment()
    pages = {
        "api": f"http://{_local(deployment.api_host)}:{deployment.api_port}/api/v1/health",
        "flower": f"http://{_local(deployment.listen_host)}:{deployment.flower_port}/healthcheck",
        "metrics": f"http://{_local(deployment.listen_host)}:{deployment.metrics_port}/metrics",
        "oracle": f"http://127.0.0.1:{port}/v1/oracle",
    }
    role = role_of(part, deployment)
    if part not in pages and role is None and part != liveness.BEAT:
        raise NotFoundError("part", part, f"there are: {', '.join([*roles(deployment), liveness.BEAT, *pages])}")
    if name is not None and role != part:  # a page, beat, or two names
        raise InvalidInputError("--name", f"{name!r} of {part}", "only a role has workers with names")
    if part in pages:
        _ask_page(part, pages[part])
        typer.echo(f"{part}: answers")
        return
    judged = part if name is None else worker_name(part, deployment, name)
    _judge(judged, deployment, end=end)
    typer.echo(f"{judged}: works")


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


def _judge(name: str, deployment: Deployment, *, end: bool) -> None:
    """Judge a worker or beat by what it last noted of its work; ``end`` it if it is stuck, so that it starts anew."""
    full = liveness.node_name(name)
    file = liveness.path_of(deployment.data_dir, full)
    note = liveness.read_note(file)
    if note is None or not liveness.alive(note.pid):
        raise UnreachableError(full, str(file), "no process has noted that it works", "see its log")
    reason = liveness.judged(file, canary_seconds=deployment.canary_seconds)
    if reason is None:
        return
    if end:
        _end(note.pid)
    raise UnreachableError(full, str(file), reason, "docs/runbook.md, BtcfiQueueUnconsumed")


def _end(pid: int) -> None:
    """End a process that is stuck: it is asked first, and has no say a little later."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        while liveness.alive(pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
