"""The parts of an embedded deployment as a table: what each is started with, after what, and when it is there.

A part of another system is one more ``Row``: ``Cluster`` only starts rows in their order, waits, supervises, and stops
what others need after those that need it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from btcfi.adapters.chain.node import Node, PortInUseError
from btcfi.adapters.files import make_private, write_private
from btcfi.adapters.oracle.client import OracleClient
from btcfi.adapters.oracle.web import Web
from btcfi.adapters.store.spine.database import Store
from btcfi.errors import BtcfiError, InvalidInputError, UnreachableError
from settings.deployment import SECRETS, Deployment, variable
from workers.machine import oracles, parties
from workers.machine.broker import ping_broker, valkey_configuration, valkey_server
from workers.machine.part import Part
from workers.roles import CHAIN, CONTROL, PRICES, SETTLE

LOOPBACK: Final = "127.0.0.1"

BROKER: Final = "broker"
NODE: Final = "node"
REPLAY: Final = "replay"
DATABASE: Final = "database"
BEAT: Final = "beat"
API: Final = "api"
FLOWER: Final = "flower"
METRICS: Final = "metrics"
MARKET: Final = "market"
ADDRESSES: Final = "addresses"
MINUTES: Final = "minutes"

CLI: Final = (sys.executable, "-m", "workers.cli")

_NODE_LINE: Final = re.compile(rb"btcfi regtest node: (http://[\d.]+:(\d+)) ")

WORKING: Final = frozenset(SECRETS) - {"flower_password"}
"""What a worker and whoever reads the whole deployment needs of its secrets: every address."""

TALKING: Final = frozenset({"broker_url", "result_backend_url"})
"""What is needed by whoever only sends."""

Fields = Mapping[str, object]
"""Fields of the deployment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What a row knows when it is started."""

    deployment: Deployment
    """With what the rows before have filled in."""
    run_dir: Path
    """The cluster's private directory, for sockets."""
    replay_folder: Path | None
    simulated: int | None = None
    """Seed of the simulated market that the exchanges' stand-in plays, where it plays no folder."""
    filled: Fields = field(default_factory=dict)
    """What rows of this start have filled in: a part that starts again finds its own port here."""


def _nothing(_: Here) -> Fields:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One part of the cluster: a process, or a piece of work without one."""

    name: str
    says: Callable[[Here], str]
    """The line of progress as it is started; an empty one says nothing."""
    needs: tuple[str, ...] = ()
    """Rows that stand before this one and stop after it."""
    command: Callable[[Here], list[str]] | None = None
    """None: ``work`` is all that there is to do. Asked again once it is there, for a start at the same place."""
    stdin: Callable[[Here], bytes] = lambda _: b""
    environment: Callable[[Deployment], dict[str, str]] | None = None
    """None: the deployment, as ``Cluster`` hands it to every process of ours."""
    secrets: frozenset[str] = WORKING
    """Of the deployment's fields that may hold a password (``settings.deployment.SECRETS``): those that it is told."""
    before: Callable[[Here], Fields] = _nothing
    """What is decided before the start and filled into the deployment, such as a free port."""
    work: Callable[[Here], None] | None = None
    outside: Callable[[Deployment], Callable[[], object] | None] = lambda _: None
    """Asks the service that the deployment names instead, if it names one; that one is never started or stopped."""
    outside_says: str = ""
    ready: Callable[[Here, Part], Fields | None] | None = None
    """What the part fills in once it is there, None while it is not; the next row starts after that."""
    forked: bool = False
    """Whether its command is ``PYTHON -m …`` and comes from the nursery where there is one, which shares what both
    import; a program that uses little of that is started by itself."""
    service: str = ""
    """What an error calls it when it does not become ready or does not answer."""
    where: Callable[[Here], str] = lambda _: ""
    tells: tuple[str, ...] = ()
    """Fields of the deployment by which other commands find this part (attach.py); never one with a password."""
    answers: Callable[[Deployment], bool] | None = None
    """Whether it answers, for ``Cluster.wait_ready``: a part that nobody else needs to be there at its start."""


# ---- broker, node, replayed exchanges, database: what the others use


def _broker_socket(here: Here) -> Path:
    return here.run_dir / "broker.sock"


def _broker_input(here: Here) -> bytes:
    folder = here.deployment.data_dir / "broker"
    make_private(folder)
    return valkey_configuration(_broker_socket(here), folder.resolve())


def _broker_ready(here: Here, _: Part) -> Fields | None:
    url = f"redis+socket://{_broker_socket(here)}?virtual_host="
    try:
        ping_broker(f"{url}0")
    except UnreachableError:
        return None
    return {"broker_url": f"{url}0", "result_backend_url": f"{url}1"}


def _named_broker(deployment: Deployment) -> Callable[[], object] | None:
    url = deployment.broker_url
    return None if url is None else lambda: ping_broker(url)


def _node_folder(here: Here) -> Path:
    return (here.deployment.data_dir / "node").resolve()


def _node_command(here: Here) -> list[str]:
    # port 0 at first; where clients know it from then on
    where = f"--datadir={_node_folder(here)}", f"--port={_port_of(here, 'node_url')}"
    return [sys.executable, "-m", "btcfi.adapters.chain.regtest.server", *where]


def _node_ready(here: Here, part: Part) -> Fields | None:
    line = _NODE_LINE.search(part.said())
    return None if line is None else {"node_url": line[1].decode(), "node_cookie_file": _node_folder(here) / ".cookie"}


def _named_node(deployment: Deployment) -> Callable[[], object] | None:
    if deployment.node_url is None:
        return None
    node = Node(deployment.node_url, deployment.node_timeout_seconds, cookie_file=deployment.node_cookie_file)
    return node.chain_info


def _market(here: Here) -> str:
    if here.simulated is None:
        return f"replay of {here.replay_folder}"
    return f"SIMULATED market of seed {here.simulated}"


def _replay_port_file(here: Here) -> Path:
    return here.run_dir / "replay.port"


def _replay_command(here: Here) -> list[str]:
    return [
        sys.executable, "-m", "btcfi.adapters.venues.replay_server",
        f"--folder={here.replay_folder}" if here.simulated is None else f"--simulate={here.simulated}",
        f"--port-file={_replay_port_file(here)}", f"--port={_port_of(here, 'venue_base_url')}",
    ]  # fmt: skip


def _replay_ready(here: Here, _: Part) -> Fields | None:
    file = _replay_port_file(here)
    return {"venue_base_url": f"http://{LOOPBACK}:{int(file.read_text())}"} if file.exists() else None


def _port_of(here: Here, filled: str) -> int:
    return urlsplit(str(here.filled.get(filled, ""))).port or 0


def _migrate(here: Here) -> None:
    store = Store(here.deployment.database_url)
    try:
        store.migrate()
    finally:
        store.close()


# ---- the oracles, the parties, the workers, and what people look at


def _addresses(many: int) -> Row:
    """Return the row that decides where the oracles answer, and what they ask: the workers are told before either."""

    def chosen(here: Here) -> Fields:
        known = here.filled.get("oracles")  # a start again is at the same place
        return {"oracles": known or tuple(f"http://{LOOPBACK}:{free_port(0)}" for _ in range(many))}

    return Row(name=ADDRESSES, says=lambda _: "", before=chosen, tells=("oracles",))


def _minutes() -> Row:
    """Return the row of what serves the signed submissions to our oracles."""
    return Row(
        name=MINUTES,
        says=lambda _: "",
        needs=(DATABASE,),
        command=lambda here: [sys.executable, "-m", "workers.minutes_process", str(_minutes_port(here))],
        forked=True,
    )


def _minutes_port(here: Here) -> int:
    """Return the port of the aggregator: decided once a start, and kept in the cluster's private folder."""
    file = here.run_dir / "minutes.port"
    if not file.exists():
        write_private(file, str(free_port(0)).encode())
    return int(file.read_text())


def oracle_name(number: int) -> str:
    """Return the name of an oracle's part."""
    return f"oracle-{number}"


def _oracle(number: int) -> Row:
    return Row(
        name=oracle_name(number),
        says=lambda here: (
            f"starting {len(here.deployment.oracles)} oracles, each with its own key" if number == 0 else ""
        ),
        needs=(ADDRESSES, MINUTES),
        command=lambda here: oracles.command(
            here.deployment, number, aggregator=f"http://{LOOPBACK}:{_minutes_port(here)}"
        ),
        forked=True,
        environment=oracles.environment,
        service=f"oracle {number}",
        where=lambda here: here.deployment.oracles[number],
        answers=lambda deployment: _oracle_answers(deployment.oracles[number]),
    )


def _oracle_answers(url: str) -> bool:
    with contextlib.suppress(BtcfiError):
        OracleClient(Web(url)).status()
        return True
    return False


def _party(name: str) -> Row:
    return Row(
        name=name,
        says=lambda _: "starting the two parties, each with its own keys" if name == parties.PARTIES[0] else "",
        needs=(NODE,),
        command=lambda here: parties.command(here.deployment, name),
        forked=True,
        environment=parties.environment,
    )


def worker(role: str) -> Row:
    """Return the row of a role's worker."""
    return Row(
        name=role,
        says=lambda _: f"starting worker {role}",
        needs=(BROKER, NODE, REPLAY, DATABASE),
        command=lambda _: [*CLI, "worker", role],
        forked=True,
        service=f"worker {role}",
        where=lambda _: "the broker",
        answers=lambda deployment: _worker_answers(deployment, role),
    )


def market(folder: Path | None, pace: float) -> Row:
    """Return the row of what plays a market, a minute in ``pace`` seconds: its troubles end no other part.

    folder: of a recording, which ends; None: the simulated market without an end.
    """
    played = [] if folder is None else [f"--folder={folder}"]
    command = [sys.executable, "-m", "workers.market_process", *played, f"--pace={pace}"]
    return Row(
        name=MARKET,
        says=lambda _: "",
        needs=(BROKER, DATABASE, REPLAY),
        command=lambda _: command,
        forked=True,
    )


def _worker_answers(deployment: Deployment, role: str) -> bool:
    # the first answer ends the second's wait
    return bool(_app(deployment).control.ping(destination=[f"{role}@{socket.gethostname()}"], timeout=1.0, limit=1))


@lru_cache(maxsize=1)
def _app(deployment: Deployment):  # type: ignore[no-untyped-def]  # noqa: ANN202 - Celery's class, which has no types
    from workers.app import create_app  # noqa: PLC0415 - a broker and a node alone need no Celery

    return create_app(deployment, modules=())


def _api_answers(deployment: Deployment) -> bool:
    """Return whether the API answers anything at all: before the first price its health is degraded."""
    connection = HTTPConnection(api_host(deployment), deployment.api_port, timeout=3)
    try:
        with contextlib.suppress(OSError, HTTPException):
            connection.request("GET", "/api/v1/health")
            connection.getresponse()
            return True
        return False
    finally:
        connection.close()


def api_host(deployment: Deployment) -> str:
    """Return where the API is asked on this machine."""
    host = deployment.api_host
    return LOOPBACK if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared with, not bound to


def _own_port(here: Here, field: str, host: str = LOOPBACK) -> dict[str, object]:
    return {field: free_port(getattr(here.deployment, field), host, variable=variable(field))}


def free_port(port: int, host: str = LOOPBACK, *, variable: str = "") -> int:
    """Return ``port`` when nothing listens on it, or a free one for 0. Raises PortInUseError with the ``variable``."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as e:
            raise PortInUseError(host=host, port=port, variable=variable) from e
        return int(probe.getsockname()[1])


SERVICES: Final = (
    Row(
        name=BROKER,
        says=lambda _: "starting the broker (Valkey, unix socket)",
        command=lambda _: [str(valkey_server()), "-"],
        stdin=_broker_input,
        outside=_named_broker,
        outside_says="asking the broker of BROKER_URL",
        ready=_broker_ready,
        service="broker",
        where=lambda here: str(_broker_socket(here)),
        tells=("broker_url", "result_backend_url"),
    ),
    Row(
        name=NODE,
        says=lambda _: "starting the regtest node",
        command=_node_command,
        outside=_named_node,
        outside_says="asking the node of NODE_URL",
        ready=_node_ready,
        service="node",
        where=lambda here: str(_node_folder(here)),
        tells=("node_url", "node_cookie_file"),
    ),
    Row(
        name=REPLAY,
        says=lambda here: f"starting the {_market(here)}",
        command=_replay_command,
        ready=_replay_ready,
        service="replay server",
        where=_market,
    ),
    Row(name=DATABASE, says=lambda _: "bringing the database up to date", work=_migrate),
)
"""What the others use."""

PARTIES: Final = tuple(_party(name) for name in parties.PARTIES)

LOOKOUTS: Final = (
    Row(
        name=BEAT,
        says=lambda _: "starting beat",
        needs=(BROKER,),
        command=lambda _: [*CLI, "beat"],
        forked=True,
        secrets=TALKING,
    ),
    Row(
        name=API,
        says=lambda here: f"starting the API on http://{here.deployment.api_host}:{here.deployment.api_port}",
        needs=(BROKER, NODE, DATABASE),
        before=lambda here: _own_port(here, "api_port", here.deployment.api_host),
        command=lambda _: [*CLI, "serve"],
        forked=True,
        service="API",
        where=lambda here: f"{api_host(here.deployment)}:{here.deployment.api_port}",
        answers=_api_answers,
    ),
    Row(
        name=FLOWER,
        says=lambda here: f"starting Flower on http://{LOOPBACK}:{here.deployment.flower_port}",
        needs=(BROKER,),
        before=lambda here: _own_port(here, "flower_port"),
        command=lambda _: [*CLI, "flower"],
        forked=True,
        secrets=TALKING | {"flower_password"},
    ),
    Row(
        name=METRICS,
        says=lambda here: f"starting the metrics on http://{LOOPBACK}:{here.deployment.metrics_port}/metrics",
        needs=(BROKER, NODE, DATABASE),
        before=lambda here: _own_port(here, "metrics_port"),
        command=lambda _: [*CLI, "metrics"],
        forked=True,
    ),
)
"""The clock, and what people and programs look at."""

ROLES: Final = (PRICES, SETTLE, CHAIN, CONTROL)


def table(roles: Sequence[str] = ROLES, more: Sequence[Row] = (), *, oracles: int = 0) -> tuple[Row, ...]:
    """Return every row in the order of its start: ours, with a worker for each of ``roles``, then ``more``.

    oracles: how many are ours. Raises InvalidInputError for a row that needs one which is not before it, or a name that
    is taken.
    """
    ours = (_addresses(oracles), _minutes(), *(_oracle(number) for number in range(oracles))) if oracles else ()
    rows = (*SERVICES, *ours, *PARTIES, *(worker(role) for role in roles), *LOOKOUTS, *more)
    known: set[str] = set()
    for row in rows:
        if missing := sorted(set(row.needs) - known):
            raise InvalidInputError(f"part {row.name}", f"needs {', '.join(missing)}", "parts that stand before it")
        if row.name in known:
            raise InvalidInputError(f"part {row.name}", "is there twice", "a name of its own")
        known.add(row.name)
    return rows
