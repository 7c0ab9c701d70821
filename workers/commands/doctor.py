"""``btcfi doctor``: every part of a deployment checked, each with one line of what is and, if need be, what to do."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import textwrap
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final

import typer

from btcfi.adapters.oracle.client import OracleClient
from btcfi.adapters.oracle.web import Web
from btcfi.adapters.oracle_network.ntp import measure_ntp
from btcfi.adapters.store.options.attesting import unattested
from btcfi.adapters.store.options.holds import held_ids
from btcfi.adapters.store.options.options import changed_rows, open_bounds
from btcfi.adapters.store.options.rules import Bound
from btcfi.adapters.store.options.tables import SettlementState
from btcfi.adapters.store.reading import Reading, newest_revision, read_store
from btcfi.adapters.store.spine.database import Store, clock_of
from btcfi.adapters.store.spine.views import revision_of
from btcfi.errors import BtcfiError, NotHeldError, UnreachableError
from btcfi.oracle.quote import Feed
from btcfi.proofs.lanes import hashing_in_use
from btcfi.units import UnixSeconds
from btcfi.vm.program import load_program, load_program_by_hash
from settings.deployment import Deployment, load_deployment
from settings.preset import load_preset, load_preset_by_hash
from workers import preconditions
from workers.commands.watch import age
from workers.deployed import node_of
from workers.findings import Check, Finding, Status, fail, ok, safely, warn
from workers.machine.attach import attached

ROOT: Final = Path(__file__).resolve().parents[2]

LOWEST_PYTHON: Final = (3, 11)

ENOUGH_BYTES: Final = 2 << 30
LEAST_BYTES: Final = 200 << 20
"""Of free disk: below the first a warning, below the second a failure, since databases break when it is used up."""

NTP_SERVERS: Final = ("time.cloudflare.com", "pool.ntp.org", "time.google.com")
NTP_SECONDS: Final = 1.5
NODE_SECONDS: Final = 5.0
BAD_OFFSET_SECONDS: Final = 2.0
"""A tick comes 5 s after its minute; a clock that is off by more eats that up."""

CANARY_SECONDS: Final = 120
PRICE_SECONDS: Final = 120
OUTBOX_SECONDS: Final = 10
TIP_SECONDS: Final = 7_200

_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)\s*(;)?")


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    no_network: Annotated[bool, typer.Option("--no-network", help="Do not ask time servers")] = False,
) -> None:
    """Check every part of the deployment and say what to do; exit 1 if something does not work."""
    deployment = attached(load_deployment())
    findings: list[Finding] = []
    for name, check in checks(deployment, network=not no_network):
        for finding in safely(name, check):
            findings.append(finding)
            if not as_json:
                _say(finding)
    worst = {finding.status for finding in findings}
    if as_json:
        typer.echo(json.dumps({"ok": Status.FAIL not in worst, "checks": [_shown(f) for f in findings]}))
    else:
        counted = [f"{sum(f.status is s for f in findings)} {s}" for s in Status]
        typer.echo(", ".join(counted), err=True)
    if Status.FAIL in worst:
        raise typer.Exit(1)


def checks(deployment: Deployment, *, network: bool) -> list[tuple[str, Check]]:
    """Return the checks in their order: this machine, every precondition, the parts, whether the pipeline moves."""
    return [
        ("python", python),
        ("dependencies", dependencies),
        ("data folder", lambda: data_folder(deployment)),
        ("ports", lambda: ports(deployment)),
        ("clock", lambda: clock(network=network)),
        ("preset", lambda: preset(deployment)),
        ("guests", guests),
        ("hashing", hashing),
        ("key files", lambda: key_files(deployment)),
        *preconditions.checks(deployment),
        ("oracles", lambda: oracles(deployment)),
        ("tip", lambda: tip(deployment)),
        ("pipeline", lambda: database(deployment)),
    ]


def python() -> Iterator[Finding]:
    """Check the interpreter."""
    said = f"Python {sys.version.split()[0]} in {sys.prefix}"
    if sys.version_info < LOWEST_PYTHON:
        yield fail("python", said, f"install Python {'.'.join(map(str, LOWEST_PYTHON))} or newer")
    else:
        yield ok("python", said)


def dependencies(lock: Path = ROOT / "requirements.lock") -> Iterator[Finding]:
    """Compare what is installed with the lock file of the checkout."""
    if not lock.is_file():
        yield ok("dependencies", "no lock file beside the code: installed as a package")
        return
    wrong = []
    pins = [found for line in lock.read_text(encoding="utf-8").splitlines() if (found := _PIN.match(line))]
    for name, pinned, conditional in (found.groups() for found in pins):
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            if conditional is None:  # a pin with a condition may be another system's
                wrong.append(f"{name} is missing")
            continue
        if installed != pinned:
            wrong.append(f"{name} {installed}, locked {pinned}")
    if wrong:
        said = f"{len(wrong)} of {len(pins)} differ: {', '.join(wrong[:3])}"
        yield warn("dependencies", said, "make install")
    else:
        yield ok("dependencies", f"{len(pins)} packages as locked")


def data_folder(deployment: Deployment) -> Iterator[Finding]:
    """Check that the data folder can be written to and has room."""
    folder = deployment.data_dir.resolve()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as e:
        volumes = sorted(one for one in there.glob("*") if one.is_mount() and os.access(one, os.W_OK))
        if e.errno == errno.EROFS and volumes:  # a container's, whose files are the image's
            named = ", ".join(one.name for one in volumes)
            yield ok("data folder", f"{folder} is read-only, and its volumes can be written to: {named}")
        else:
            yield fail("data folder", f"{folder}: {e.strerror}", "give this user the folder, or set BTCFI_DATA_DIR")
        return
    free = shutil.disk_usage(there).free
    said = f"{folder}, {free / (1 << 30):.1f} GiB free"
    if free < LEAST_BYTES:
        yield fail("data folder", said, "make room before anything is started")
    elif free < ENOUGH_BYTES:
        yield warn(
            "data folder", said, "make room: raw responses and proofs grow; `btcfi prices prune` removes old ones"
        )
    else:
        yield ok("data folder", said)


def ports(deployment: Deployment) -> Iterator[Finding]:
    """Look who listens on the ports of the deployment: free, or taken by its own processes or a stranger."""
    wanted = {
        "Flower": (deployment.listen_host, deployment.flower_port),
        "metrics": (deployment.listen_host, deployment.metrics_port),
        "API": (deployment.api_host, deployment.api_port),
    }
    taken = [f"{name} {port}" for name, (host, port) in wanted.items() if port and _listens(host, port)]
    numbers = {port for _, port in wanted.values() if port}
    if len(numbers) < sum(1 for _, port in wanted.values() if port):
        yield fail(
            "ports",
            "two services have the same port",
            "set BTCFI_FLOWER_PORT, BTCFI_METRICS_PORT, BTCFI_API_PORT apart",
        )
    elif taken:
        yield ok("ports", f"in use: {', '.join(taken)} (fine while the deployment runs)")
    else:
        yield ok("ports", "free: " + ", ".join(f"{name} {port}" for name, (_, port) in wanted.items() if port))


def _listens(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def clock(*, network: bool) -> Iterator[Finding]:
    """Ask time servers for the offset of this machine's clock."""
    if not network:
        return
    _working("asking time servers")
    samples = measure_ntp(NTP_SERVERS, timeout_seconds=NTP_SECONDS)
    if not samples:
        yield warn("clock", "no time server answers", "make sure that this machine's clock is set (chrony, timesyncd)")
        return
    best = min(samples, key=lambda sample: sample.round_trip)
    offset = best.offset / 1000
    said = f"{offset:+.3f} s from {best.server}"
    if abs(offset) > BAD_OFFSET_SECONDS:
        yield fail("clock", said, "set the clock: minutes are fetched and options expire by it")
    else:
        yield ok("clock", said)


def preset(deployment: Deployment) -> Iterator[Finding]:
    """Load the preset whose numbers decide money."""
    found = load_preset(deployment.preset)
    yield ok("preset", f"{found.name}, SHA-256 {found.sha256[:16]}…")


def guests() -> Iterator[Finding]:
    """Check every guest program's bytes against the manifest."""
    manifest = tomllib.loads((ROOT / "guest_programs" / "manifest.toml").read_text(encoding="utf-8"))
    rows, retired = manifest["program"], manifest.get("retired", [])
    wrong = []
    for row in rows:
        try:
            load_program(row["name"])
        except BtcfiError as e:
            wrong.append(str(e))
    for row in retired:
        try:
            load_program_by_hash(str(row.get("image_sha256")))
        except BtcfiError as e:
            wrong.append(f"retired: {e}")
    if wrong:
        yield fail(
            "guests", "; ".join(wrong), "git checkout guest_programs, or build them anew: guest_programs/README.md"
        )
    else:
        yield ok(
            "guests", f"{len(rows)} programs match the manifest" + (f", {len(retired)} retired" if retired else "")
        )


def hashing() -> Iterator[Finding]:
    """Look whether proofs are hashed by the compiled routine."""
    used = hashing_in_use()
    if used == "hashlib":
        yield warn(
            "hashing",
            "hashlib: proofs take several times longer",
            "use Linux on x86-64, or build the routine: guest_programs/build_lanes.py",
        )
    else:
        yield ok("hashing", {"sha": "compiled, SHA instructions", "avx2": "compiled, AVX2"}.get(used, used))


def key_files(deployment: Deployment) -> Iterator[Finding]:
    """Check who may read the files that hold keys."""
    patterns = ("*.seed", "*.key", "*.password", "*/*.seed", "*/*.key", "*/*/*.seed", "*/*/*.key")
    inside = [path for pattern in patterns for path in sorted(deployment.data_dir.glob(pattern))]
    broker = [deployment.broker_key_file, deployment.operator_key_file]
    found = [
        path
        for path in dict.fromkeys([deployment.wallet_seed_file, deployment.desk_key_file, *inside, *broker])
        if path.is_file()
    ]
    open_ones = [path for path in found if path.stat().st_mode & 0o077]
    # what we made lies in the data folder, 0600; a secret that compose mounts is 0644 behind a folder that is closed
    mounted = [path for path in open_ones if path in broker and deployment.data_dir not in path.parents]
    ours = [path for path in open_ones if path not in mounted]
    if ours:
        yield fail(
            "key files",
            f"others may read {_names(ours)}",
            "chmod 600, and take the keys for known: make new ones",
        )
    elif mounted:
        yield warn(
            "key files",
            f"others may read {_names(mounted)}: whoever has it speaks as any of our processes",
            "chmod 600; where a container mounts it, close its folder on the host (chmod 700)",
        )
    elif found:
        yield ok("key files", f"{len(found)} files, readable by their owner alone")
    else:
        yield ok("key files", "none yet: `btcfi up` makes them")


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths[:3])


def oracles(deployment: Deployment) -> Iterator[Finding]:
    """Ask every oracle how it goes."""
    wanted = load_preset(deployment.preset).oracles
    if not deployment.oracles:
        yield ok("oracles", "none answers now; `btcfi up` starts them")
        return
    if len(deployment.oracles) != wanted:
        said = f"BTCFI_ORACLES names {len(deployment.oracles)}, the preset wants {wanted}"
        yield fail("oracles", said, "name as many: no contract is ordered meanwhile")
    undecided = _held(deployment)
    for url in deployment.oracles:
        yield _oracle(url, undecided=undecided)


def _held(deployment: Deployment) -> bool:
    """Return whether events wait for the operator, or for oracles that hold them; yes while the store cannot say."""
    store = Store(deployment.database_url, busy_timeout_ms=3_000)
    try:
        with store.reading() as session:
            if revision_of(session) != newest_revision():
                return True
            return bool(held_ids(session) or unattested(session))
    except BtcfiError:
        return True
    finally:
        store.close()


def _oracle(url: str, *, undecided: bool) -> Finding:
    try:
        said = OracleClient(Web(url)).status()
        key, newest, away = str(said["oracle_key"])[:16], said["newest_slot"], said["aggregators"]
        problems = [f"{one['url']}: {one['problem']}" for one in away if one["problem"]]
    except (BtcfiError, KeyError, TypeError) as e:
        return fail("oracles", str(e), "start it: `btcfi oracle serve`; contracts settle while the others are enough")
    if problems:
        return warn("oracles", f"{key} at {url} lacks {'; '.join(problems)}"[:300], "start the aggregator: btcfi serve")
    if said["held_until"] is not None and undecided:  # it was restored, and that stays so; what it holds is decided
        return warn("oracles", f"{key} at {url} was restored and holds events", "btcfi oracle held")
    return ok("oracles", f"{key} at {url}, newest minute {newest or 'none yet'}")


def tip(deployment: Deployment) -> Iterator[Finding]:
    """Ask the node where its chain stands; whether it is one for us, ``preconditions.node`` says."""
    if deployment.node_url is None:
        return
    client = node_of(deployment, timeout_seconds=min(deployment.node_timeout_seconds, NODE_SECONDS))
    try:
        info = client.call("getblockchaininfo")
        version = "unknown version"
        with suppress(BtcfiError):
            version = str(client.call("getnetworkinfo").get("subversion") or version)
        header = client.block_header(client.best_block_hash())
    except UnreachableError:
        return  # said already
    finally:
        client.close()
    since = time.time() - header.time
    said = f"{info['chain']}, height {info['blocks']:,}, {version}, newest block {age(since)} old"
    if info.get("initialblockdownload") and info["chain"] != "regtest":
        yield fail("tip", said + "; still syncing", "wait until it is in sync: nothing confirms before")
    elif since > TIP_SECONDS and info["chain"] != "regtest":
        yield warn("tip", said, "look at its connections: a block every ten minutes is normal")
    else:
        yield ok("tip", said)


def database(deployment: Deployment) -> Iterator[Finding]:
    """Look into the store for whether the pipeline moves; whether it can be, ``preconditions.database`` says."""
    if deployment.missing_database is not None:
        return
    store = Store(deployment.database_url, busy_timeout_ms=3_000)
    try:
        with store.reading() as session:
            if revision_of(session) != newest_revision():
                return
            now = UnixSeconds(int(clock_of(session)))
            reading = read_store(session, Feed(deployment.feed), now=now, replay=deployment.replay_clock)
            held, bounds = len(held_ids(session)), open_bounds(session)
            changed = changed_rows(session)
    finally:
        store.close()
    if held:
        yield fail("restore", f"{held} events may have been attested after the backup", "btcfi oracle held")
    for row in changed:
        yield fail("open options", str(row), "put the row back: nothing is settled by another one")
    yield from settles_by(bounds)
    yield from pipeline(reading)


def settles_by(bounds: Iterable[Bound]) -> Iterator[Finding]:
    """Look whether every preset and guest program that an open option names is here, by its hash."""
    for bound in sorted(bounds, key=lambda one: (one.preset_sha256, one.program_sha256)):
        try:
            load_preset_by_hash(bound.preset_sha256, name=bound.preset)
            load_program_by_hash(bound.program_sha256, name=bound.program)
        except NotHeldError as e:
            yield fail("open options", str(e), "put it back: nothing is settled by another one")


def pipeline(reading: Reading) -> Iterator[Finding]:
    """Judge what the store says about whether the pipeline moves."""
    stale = {queue: since for queue, since in reading.canaries.items() if since > CANARY_SECONDS}
    if not reading.canaries:
        yield warn(
            "canaries", "no queue was ever consumed", "start the workers and beat: btcfi up, or docs/operating.md"
        )
    elif stale:
        shown = ", ".join(f"{queue} {age(since)} ago" for queue, since in sorted(stale.items()))
        yield fail("canaries", f"last consumed: {shown}", "start beat and a worker of each role; docs/runbook.md")
    else:
        yield ok("canaries", f"{len(reading.canaries)} queues are consumed")
    price = reading.price
    if price is None:
        yield warn("price", "no minute was ever priced", "start beat and a prices worker")
    elif price.age_seconds > PRICE_SECONDS:
        yield fail("price", f"{age(price.age_seconds)} old", "docs/runbook.md, BtcfiPriceStale")
    else:
        yield ok("price", f"${price.cents / 100:,.2f} from {price.used} venues, {age(price.age_seconds)} old")
    parked = reading.settlements.get(SettlementState.PARKED, 0)
    if parked:
        yield fail("settlements", f"{parked} parked", "btcfi parked list")
    elif reading.overdue_options:
        yield fail(
            "settlements",
            f"{reading.overdue_options} options are past their expiry",
            "docs/runbook.md, BtcfiOptionsOverdue",
        )
    else:
        yield ok("settlements", f"{sum(reading.settlements.values()):,}, none parked")
    if reading.outbox_set_aside:
        yield warn("outbox", f"{reading.outbox_set_aside} rows could not be started", "btcfi parked outbox")
    if reading.outbox_lag > OUTBOX_SECONDS:
        yield fail(
            "outbox",
            f"{reading.outbox_waiting} messages wait, the oldest {age(reading.outbox_lag)}",
            "docs/runbook.md, BtcfiOutboxLag",
        )
    else:
        yield ok("outbox", f"{reading.outbox_waiting} messages wait")


def _shown(finding: Finding) -> dict[str, str]:
    return {"name": finding.name, "status": finding.status, "said": finding.said, "do": finding.do}


def _working(what: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"{what}…\r", err=True, nl=False)


_COLOURS: Final = {Status.OK: typer.colors.GREEN, Status.WARN: typer.colors.YELLOW, Status.FAIL: typer.colors.RED}


def _say(finding: Finding) -> None:
    colour = _COLOURS[finding.status] if sys.stdout.isatty() and "NO_COLOR" not in os.environ else None
    word = f"{finding.status:<4}"
    styled = typer.style(word, fg=colour) if colour else word
    for i, line in enumerate(_fit(f"{finding.name:<13} {finding.said}")):
        typer.echo(f"{styled if i == 0 else '    '}  {line}")
    for line in _fit(f"{'':<13} -> {finding.do}") if finding.do else ():
        typer.echo(f"      {line}")


def _fit(line: str) -> list[str]:
    """Break a line for a terminal; a pipe gets it whole."""
    if not sys.stdout.isatty():
        return [line]
    width = max(shutil.get_terminal_size().columns - 6, 40)
    return textwrap.wrap(line, width, subsequent_indent=" " * 14, drop_whitespace=True) or [line]
