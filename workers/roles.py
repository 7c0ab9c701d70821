"""The processes of a deployment: which queues each role reads, with which pool, how many at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from btcfi.errors import NotFoundError
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


def worker_arguments(role: str, deployment: Deployment, name: str) -> list[str]:
    """Return the arguments of ``app.worker_main`` for a worker called ``name``; no secret is among them.

    Raises NotFoundError for an unknown role.
    """
    known = roles(deployment)
    if role not in known:
        raise NotFoundError("worker role", role, f"there are: {', '.join(known)}")
    row = known[role]
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
