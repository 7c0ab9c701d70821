"""The processes of a deployment: which queues each role reads, with which pool, how many at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from btcfi.errors import InvalidInputError, NotFoundError
from settings.deployment import Deployment

PRICES: Final = "prices"
SETTLE: Final = "settle"
CHAIN: Final = "chain"
CONTROL: Final = "control"
PARKED: Final = "parked"
"""No worker reads it: what lies here waits for an operator."""

QUEUES: Final = (PRICES, SETTLE, CHAIN, CONTROL, PARKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One kind of worker process."""

    name: str
    queues: tuple[str, ...]
    pool: Literal["threads", "prefork"]
    concurrency: int
    """Threads or child processes."""


def roles(deployment: Deployment) -> dict[str, Role]:
    """Return the roles by name, each with a queue of its own, so that no kind of work can starve another."""
    table = (
        # waits for exchanges: threads, which share one HTTP session and one import of ccxt
        Role(name=PRICES, queues=(PRICES,), pool="threads", concurrency=8),
        # computes: a process per core, which a crash of native code does not take down
        Role(name=SETTLE, queues=(SETTLE,), pool="prefork", concurrency=deployment.settle_concurrency),
        # one wallet, one order of events: never two at once
        Role(name=CHAIN, queues=(CHAIN,), pool="prefork", concurrency=1),
        Role(name=CONTROL, queues=(CONTROL,), pool="prefork", concurrency=1),
    )
    return {role.name: role for role in table}


_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")


def role_of(name: str, deployment: Deployment) -> str | None:
    """Return the role that a worker's name begins with, ``settle`` of ``settle`` and ``settle-1``; None of others."""
    role = name.partition("-")[0]
    return role if role in roles(deployment) and _NAME.fullmatch(name) else None


def worker_name(role: str, deployment: Deployment, name: str | None) -> str:
    """Return the name of a worker of ``role``: what is asked for, the role's own by default.

    The name says the role, to whoever asks how it does or drains it. One without a role is taken; such a worker cannot
    be drained from the console. Raises NotFoundError for an unknown role, InvalidInputError for a name that Celery or a
    file could not have, and for one that says another role or beat.
    """
    known = roles(deployment)
    if role not in known:
        raise NotFoundError("worker role", role, f"there are: {', '.join(known)}")
    if name is None:
        return role
    if not _NAME.fullmatch(name):
        raise InvalidInputError("--name", repr(name), f"{role}-1: letters, digits, . _ -, 100 of them at most")
    if name.partition("-")[0] in {*known, "beat"} - {role}:
        raise InvalidInputError("--name", f"{name!r} of a worker of {role}", f"{role}-1, and not another role's name")
    return name


def worker_arguments(role: str, deployment: Deployment, name: str) -> list[str]:
    """Return the arguments of ``app.worker_main`` for a worker called ``name``; no secret is among them.

    Raises as ``worker_name``.
    """
    name = worker_name(role, deployment, name)
    row = roles(deployment)[role]
    return [
        "--quiet",  # no banner among the JSON lines
        "worker",
        f"--hostname={name}@%h",
        f"--queues={','.join(row.queues)}",
        f"--pool={row.pool}",
        f"--concurrency={row.concurrency}",
        "--loglevel=WARNING",
        # neither is needed: workers share nothing but the database, and each saves chatter on the broker
        "--without-gossip",
        "--without-mingle",
    ]
