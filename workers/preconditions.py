"""What must hold before money moves, as one table. `btcfi prepare`, `btcfi doctor` and each worker's start read it.

A row says what is looked at, for whom it matters, and whether they stop at it or only say so. What mends it stands in
the finding, and a test does what the line says (``tests/integration/workers/test_workers_preconditions.py``). Two kinds
of trouble never stop a worker: what may pass by itself (a database that is starting, a full disk), since a worker waits
better than it is restarted, and what another process has to mend.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Final

import structlog

from btcfi.adapters.chain.node import Node
from btcfi.adapters.desk_key import load_desk_key
from btcfi.adapters.store.chain.wallet import coin_scripts
from btcfi.adapters.store.spine import ticks
from btcfi.adapters.store.spine.database import Store, clock_of, known_revisions
from btcfi.adapters.store.spine.errors import NewerStoreError, StoreDamagedError, StoreReadOnlyError
from btcfi.adapters.store.spine.leases import prove_writable
from btcfi.adapters.store.spine.views import has_table, revision_of
from btcfi.bitcoin.keys import wallet_key
from btcfi.errors import BtcfiError, NotFoundError, PreconditionError, RetryableError, UnreachableError
from btcfi.oracle.quote import DOLLAR, parse_venue
from btcfi.oracle.venues import exchange_of
from settings.deployment import PREFIX, SECRETS, Deployment, variable
from settings.market_preset import load_market_preset, market_preset_names
from settings.preset import load_preset, preset_names
from workers.broker import prove_broker_writable, read_broker
from workers.deployed import StoreNotReadyError, node_of
from workers.findings import Check, Finding, Status, fail, ok, safely, warn
from workers.roles import CHAIN, CONTROL, PRICES, QUEUES, SETTLE
from workers.seal import KeyFile

PREPARE: Final = "prepare"
"""`btcfi prepare`, before any worker is there."""

UP: Final = "up"
"""`btcfi up`, which starts broker, node and database itself."""

WORKERS: Final = frozenset({PRICES, SETTLE, CHAIN, CONTROL})

NODE_SECONDS: Final = 5.0
BUSY_MS: Final = 3_000

SKEW_SECONDS: Final = 2.0
"""A tick comes 5 s after its minute; a clock that is off by more eats that up."""

ELSEWHERE: Final = frozenset(
    {
        "BTCFI_HASHING", "BTCFI_CONSOLE_PASSWORD", "BTCFI_PARTY_PASSPHRASE_FILE", "BTCFI_ORACLE_KEYS_DIR",
        "BTCFI_BITCOIND_SUITE",
    }
)  # fmt: skip
"""Variables of ours that are no field of the deployment; a test compares with what the code reads."""

OTHERS: Final = ("BTCFI_TEST_", "BTCFI_MODEL_", "BTCFI_POWER_CUT_")
"""Prefixes of what only our tests and `btcfi chaos` read."""

CLOSE: Final = 0.8
"""How like a name must be to be suggested: one or two letters of it are wrong."""

CLOSE_UNPREFIXED: Final = 0.87
"""The same of a name that is not ours alone, so may be somebody else's: one letter, or two that changed places
(NODE_ULR is 0.875 like NODE_URL)."""

CLOSE_VALUE: Final = 0.6
"""The same of a value, which a list of all stands beside."""

log = structlog.get_logger("btcfi.preconditions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Precondition:
    """One row of the table."""

    name: str
    looks_at: str
    """In words, for documents."""
    needs: frozenset[str]
    """Roles of workers, ``prepare``, ``up``: each says what it finds broken. `doctor` looks at all."""
    stops: frozenset[str] = frozenset()
    """Who of them ends at what is broken and no waiting mends; the others go on."""
    reads_store: bool = False
    """Whether it reads our tables, so that `prepare` can only look once they are at this code's migration."""
    check: Callable[[Deployment], Iterator[Finding]]


# ---- settings


def settings(deployment: Deployment, environment: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Name variables that nothing reads, and values that name nothing: what is misspelt was never set."""
    given = os.environ if environment is None else environment
    known = _known_variables()
    strangers = [
        name for name in sorted(given)
        if name.upper().startswith(PREFIX) and name.upper() not in known and not name.upper().startswith(OTHERS)
    ]  # fmt: skip
    likely = {name: get_close_matches(name.upper(), sorted(known), n=1, cutoff=CLOSE) for name in strangers}
    # the four names that platforms set, too: DATABSE_URL is nobody's. Where the right one is set, it is somebody's
    missing = sorted(name for name in known - {name.upper() for name in given} if not name.startswith(PREFIX))
    for name in sorted(given):
        if name.upper() in known or name.upper().startswith(PREFIX):
            continue
        if close := get_close_matches(name.upper(), missing, n=1, cutoff=CLOSE_UNPREFIXED):
            likely[name] = close
    for name, close in likely.items():
        if close:
            yield fail("settings", f"nothing reads {name}", f"unset {name}, and set {close[0]} if it was meant")
        else:
            yield warn("settings", f"nothing reads {name}", f"unset {name}; settings/README.md has every name")
    wrong = list(_named_nothing(deployment))
    yield from wrong
    if not likely and not wrong:
        yield ok("settings", "every BTCFI_ variable is one that is read")


def _named_nothing(deployment: Deployment) -> Iterator[Finding]:
    """Look whether the presets and the guest program that the settings choose are there."""
    from btcfi.vm.program import hashes_of, program_names  # noqa: PLC0415 - not for a broker and a node alone

    looks: tuple[tuple[str, Callable[[str], object], Callable[[], list[str]]], ...] = (
        ("preset", load_preset, preset_names), ("market_preset", load_market_preset, market_preset_names),
        ("program", hashes_of, program_names),
    )  # fmt: skip
    for field, look, names in looks:
        name, chosen = variable(field), str(getattr(deployment, field))
        try:
            look(chosen)
        except NotFoundError:
            there = names()
            close = get_close_matches(chosen, there, n=1, cutoff=CLOSE_VALUE)
            best = close[0] if close else str(Deployment.model_fields[field].default)
            yield fail("settings", f"{name}={chosen} names no {field}", f"{name}={best}; there are {', '.join(there)}")


def _known_variables() -> set[str]:
    fields = {variable(field) for field in Deployment.model_fields}
    return fields | {f"{variable(field)}_FILE" for field in SECRETS} | ELSEWHERE


# ---- exchanges


def venues(deployment: Deployment) -> Iterator[Finding]:
    """Check that we can read every registered market, and that by the preset their prices can settle anything."""
    from btcfi.adapters.venues.one_exchange import exchange_class  # noqa: PLC0415 - ccxt, for prices alone

    markets = [parse_venue(text) for text in deployment.venues]
    for name, named in (("BTCFI_VENUES", deployment.venues), ("BTCFI_LEGS", deployment.legs)):
        for market in map(parse_venue, named):
            try:
                exchange_class(exchange_of(market.exchange).name)
            except NotFoundError as e:
                yield fail("venues", f"{market}: {e}", f"name another in {name}: this one is absent in every minute")
    dollars = sum(market.quote == DOLLAR for market in markets)
    try:
        least = load_preset(deployment.preset).consensus.least_dollar_markets
    except NotFoundError:
        return  # ``settings`` says so, and which there are
    said = f"{len(markets)} registered, {dollars} of them dollar markets"
    if dollars < max(least, 1):
        todo = "register more in BTCFI_VENUES: every price is thin or none, and nothing that is sold settles"
        yield fail("venues", f"{said}; preset {deployment.preset} settles on {max(least, 1)} or more", todo)
    elif least and dollars == least:
        todo = "register one more in BTCFI_VENUES: one that is silent makes a minute thin"
        yield warn("venues", f"{said}, as many as preset {deployment.preset} needs", todo)
    else:
        yield ok("venues", said)


# ---- the database, and its clock


def database(deployment: Deployment) -> Iterator[Finding]:
    """Check that the database is there, at this code's migration, and takes what is written."""
    if (path := deployment.missing_database) is not None:
        yield warn("database", f"no file {path} yet", "btcfi migrate, or btcfi up")
        return
    store = Store(deployment.database_url, busy_timeout_ms=BUSY_MS)
    try:
        with store.reading() as session:
            at = revision_of(session)
            there = has_table(session, "lease")
        if there:
            with store.transaction() as session:
                prove_writable(session)
    finally:
        store.close()
    yield ok("database", f"{store.where} answers" + (" and can be written to" if there else ""))
    newest = known_revisions()[0]
    if at == newest:
        yield ok("schema", f"at {at}")
    elif at is not None and at not in known_revisions():
        newer = NewerStoreError(store.where, at=at, newest=newest)
        said = f"at {at}, the code wants {newest}"
        do = "this code is older; use code that is as new"
        yield Finding(name="schema", status=Status.FAIL, said=said, do=do, error=newer)
    else:
        said, old = f"at {at or 'nothing'}, the code wants {newest}", StoreNotReadyError(store.where, at=at)
        yield Finding(name="schema", status=Status.FAIL, said=said, do="btcfi migrate", error=old)


def clocks(deployment: Deployment) -> Iterator[Finding]:
    """Hold this machine's clock, and what each worker has said of its own, against the database's."""
    if deployment.missing_database is not None:
        return
    store = Store(deployment.database_url, busy_timeout_ms=BUSY_MS)
    try:
        with store.reading() as session:
            now = clock_of(session)
            ahead = time.time() - now
            by_worker = ticks.clocks(session, now_ms=int(now * 1_000)) if has_table(session, "tick") else {}
    finally:
        store.close()
    wrong = {who: off for who, off in {"this machine": ahead, **by_worker}.items() if abs(off) > SKEW_SECONDS}
    if wrong:
        shown = ", ".join(f"{who} {off:+.1f} s" for who, off in sorted(wrong.items()))
        yield fail("clocks", f"beside the database's: {shown}", "set that machine's clock (chrony, timesyncd)")
    else:
        many = f" and {len(by_worker)} workers" if by_worker else ""
        yield ok("clocks", f"this machine{many} within {SKEW_SECONDS:g} s of the database's")


# ---- keys


def keys(deployment: Deployment) -> Iterator[Finding]:
    """Check that the keys that the store names are here: of oracles, and of nodes that sign prices."""
    from workers.machine.oracles import refuse_lost  # noqa: PLC0415 - what only a whole deployment has

    try:
        refuse_lost(deployment)
    except BtcfiError as e:
        do = (
            "put it back from your backup (BTCFI_DATA_DIR=FOLDER btcfi restore FILE): a new key would be another oracle"
        )
        yield Finding(name="keys", status=Status.FAIL, said=str(e), do=do, error=e)
        return
    yield ok("keys", "every key that the store names is here")


def wallet(deployment: Deployment) -> Iterator[Finding]:
    """Hold the service's wallet against the coins that the store says are its own."""
    if deployment.missing_database is not None:
        return
    store = Store(deployment.database_url, busy_timeout_ms=BUSY_MS)
    try:
        with store.reading() as session:
            coins = coin_scripts(session) if has_table(session, "wallet_outpoint") else {}
    finally:
        store.close()
    seed, many = deployment.wallet_seed_file, len(coins)
    do = f"put the seed of these coins back as {seed}, from your backup, or name it in BTCFI_WALLET_SEED_FILE"
    if not coins:
        yield ok("wallet", "the store knows no coin yet")
    elif not seed.is_file():
        yield fail("wallet", f"the store knows coins of a wallet, and there is no {seed}", do)
    elif (foreign := _foreign(coins, wallet_key(seed.read_bytes(), 0).script, deployment)) is not None:
        yield fail("wallet", f"coin {foreign} of the store is not of the wallet of {seed}", do)
    else:
        yield ok("wallet", f"{many} of its coins looked at, all of {seed.name}")


def _foreign(coins: Mapping[str, bytes | None], script: bytes, deployment: Deployment) -> str | None:
    """Return the first coin that pays another script, by our own transactions, or else by the node's word."""
    from btcfi.bitcoin.transaction import parse_outpoint  # noqa: PLC0415 - as the node below

    unknown = [outpoint for outpoint, found in coins.items() if found is None]
    known: dict[str, bytes | None] = dict(coins)
    if unknown and deployment.node_url is not None:
        with _node(deployment) as asked:
            answers = asked.unspent_many([parse_outpoint(one) for one in unknown])
        known |= {one: None if out is None else out.output.script for one, out in zip(unknown, answers, strict=True)}
    return next((outpoint for outpoint, found in known.items() if found is not None and found != script), None)


def desk(deployment: Deployment) -> Iterator[Finding]:
    """Hold the service's key at the market against the one that accounts have joined."""
    from btcfi.adapters.store.market.carrying import named_desks  # noqa: PLC0415 - as what only a market has

    if deployment.missing_database is not None:
        return
    store = Store(deployment.database_url, busy_timeout_ms=BUSY_MS)
    try:
        with store.reading() as session:
            named = named_desks(session) if has_table(session, "account") else frozenset()
    finally:
        store.close()
    file = deployment.desk_key_file
    do = f"put the key that they have joined back as {file}, from your backup, or name it in BTCFI_DESK_KEY_FILE"
    if not named:
        yield ok("desk", "no account has joined yet")
    elif not file.is_file():
        yield fail("desk", f"accounts have joined by a key, and there is no {file}", do)
    elif (ours := load_desk_key(file).public.desk_key.hex()) not in named:
        yield fail("desk", f"accounts have joined by another key than {file}, which is {ours[:16]}", do)
    else:
        yield ok("desk", f"accounts have joined by the key of {file.name}")


# ---- broker and node


_FULL: Final = ("MISCONF", "OOM", "READONLY")
"""Words with which a broker refuses even a ping: its disk or memory is full, or it is a replica."""


def broker(deployment: Deployment) -> Iterator[Finding]:
    """Check that the broker is there, takes messages and keeps what it accepts."""
    if deployment.broker_url is None:
        yield ok("broker", "none named; `btcfi up` starts one")
        return
    room = "make room for it (CONFIG SET maxmemory 0, or its disk), or name the primary in BROKER_URL"
    try:
        found = read_broker(deployment, QUEUES)
    except UnreachableError as e:
        if not e.problem.startswith(_FULL):
            raise
        yield fail("broker", f"{e.where} takes no message ({e.problem})", room)
        return
    waiting = sum(queue.waiting for queue in found.queues.values())
    said = f"version {found.version}, {waiting} messages wait, {found.unacked} held by workers"
    if (problem := prove_broker_writable(deployment)) is not None:
        yield fail("broker", f"{said}; it takes no message ({problem})", room)
    elif not found.aof_enabled:
        yield fail("broker", said + "; no append-only file", "CONFIG SET appendonly yes, and in its configuration")
    elif not found.aof_ok:
        yield fail("broker", said + "; it cannot write its append-only file", "make room on its disk")
    elif found.eviction_policy != "noeviction":
        yield fail("broker", said + f"; evicts ({found.eviction_policy})", "CONFIG SET maxmemory-policy noeviction")
    else:
        yield ok("broker", said + "; takes messages; append-only file, no eviction")


class _node:  # noqa: N801 - used like the function it stands for
    """A connection for a few questions, closed after them."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def __enter__(self) -> Node:
        seconds = min(self._deployment.node_timeout_seconds, NODE_SECONDS)
        self._open = node_of(self._deployment, timeout_seconds=seconds)
        return self._open

    def __exit__(self, *_: object) -> None:
        self._open.close()


def broker_keys(deployment: Deployment) -> Iterator[Finding]:
    """Look whether what we send is sealed, and whether anything without a seal is taken."""
    if deployment.broker_url is None:
        return
    name, keys = "broker key", KeyFile(deployment.broker_key_file)
    if not keys.there():
        said, todo = f"{keys.path} is not there", "btcfi prepare, or copy it from a host of the fleet that has it"
        yield fail(name, said, todo)
        return
    keys.load()
    if deployment.broker_unsigned == "accept":
        said = "BTCFI_BROKER_UNSIGNED=accept: whoever reaches the broker can start any task"
        yield warn(name, said, "unset it once every process of the fleet runs this version")
    if not deployment.operator_key_file.exists():
        said = f"{deployment.operator_key_file} is not there: no worker can be drained from here"
        yield warn(name, said, "copy it, or set BTCFI_OPERATOR_KEY_FILE, where `btcfi serve` and the workers run")
    yield ok(name, f"messages are sealed with {keys.sealing().id}, which every host must say")


def node(deployment: Deployment) -> Iterator[Finding]:
    """Check that the node is of the network, and relays what a settlement is made of."""
    if deployment.node_url is None:
        yield ok("node", "no node named; `btcfi up` starts one that relays")
        return
    from btcfi.adapters.chain.relay import relay_problems  # noqa: PLC0415 - contracts, for who sends them alone

    with _node(deployment) as asked:
        if (chain := asked.chain_info().chain) != deployment.network:
            todo = f"BTCFI_NETWORK={chain}, or the URL of a node on {deployment.network}"
            yield fail("node", f"the node is of {chain}; addresses are written for {deployment.network}", todo)
            return
        problems = list(relay_problems(asked))
    for said, do in problems:
        yield fail("node", said, do)
    if not problems:
        yield ok("node", f"of {chain}; takes version-3 transactions without a fee, their children, and packages")


# ---- the table

# fmt: off
TABLE: Final = (
    Precondition(
        name="settings", needs=WORKERS | {PREPARE, UP}, stops=frozenset({PREPARE, UP}), check=settings,
        looks_at="every BTCFI_ variable is one that something reads, and what it names is there",
    ),
    Precondition(
        name="venues", needs=frozenset({PRICES, PREPARE, UP}), check=venues,
        looks_at="every registered exchange is one that we and ccxt know, and enough are dollar markets to settle by",
    ),
    Precondition(
        name="broker", needs=WORKERS | {PREPARE}, check=broker,
        looks_at="the broker takes messages and keeps what it accepts",
    ),
    Precondition(
        name="broker key", needs=WORKERS, check=broker_keys,
        looks_at="what goes over the broker is sealed with a key that is here, and nothing unsealed is taken",
    ),
    Precondition(
        name="database", needs=WORKERS, stops=WORKERS, check=database, reads_store=True,
        looks_at="the database is whole, at this code's migration, and can be written to",
    ),
    Precondition(
        name="clocks", needs=WORKERS | {PREPARE}, check=clocks, reads_store=True,
        looks_at="this machine's clock, and those of all workers, go as the database's",
    ),
    Precondition(
        name="keys", needs=frozenset({PREPARE}), stops=frozenset({PREPARE}), check=keys, reads_store=True,
        looks_at="the oracles' and nodes' keys that the store's announcements and minutes name are here",
    ),
    Precondition(
        name="wallet", needs=frozenset({CHAIN, PREPARE, UP}), stops=frozenset({CHAIN, PREPARE, UP}), check=wallet,
        reads_store=True,
        looks_at="the coins that the store knows are of the wallet whose seed is here",
    ),
    Precondition(
        name="desk", needs=frozenset({CONTROL, PREPARE, UP}), stops=frozenset({CONTROL, PREPARE, UP}), check=desk,
        reads_store=True,
        looks_at="the service's key at the market is the one that its accounts have joined",
    ),
    Precondition(
        name="node", needs=frozenset({CHAIN, PREPARE, UP}), stops=frozenset({CHAIN, PREPARE, UP}), check=node,
        looks_at="the node is of the network, enforces TRUC, takes our records, and takes packages",
    ),
)
# fmt: on
"""Every precondition, in the order in which one needs those before it."""

_STAYS: Final = (StoreDamagedError, StoreReadOnlyError, StoreNotReadyError, NewerStoreError)
"""Of what a check raises: what no waiting mends."""


def rows_for(who: str) -> tuple[Precondition, ...]:
    """Return the rows that matter to a role, to ``prepare`` or to ``up``."""
    return tuple(row for row in TABLE if who in row.needs)


def checks(deployment: Deployment, rows: Iterable[Precondition] = TABLE) -> list[tuple[str, Check]]:
    """Return rows as checks of a deployment."""
    return [(row.name, partial(row.check, deployment)) for row in rows]


def broken(deployment: Deployment, rows: Iterable[Precondition]) -> list[tuple[Precondition, Finding]]:
    """Return what does not hold of some rows, in their order."""
    return [
        (row, finding)
        for row in rows
        for finding in safely(row.name, partial(row.check, deployment))
        if finding.status is not Status.OK
    ]


def require(
    deployment: Deployment, who: str, say: Callable[[Finding], None], *, reads_store: bool | None = None
) -> None:
    """Say what does not hold; stop at what no waiting mends.

    say: is told each finding. reads_store: only the rows that do, or only those that do not; None: all.
    Raises what the check of the first row at which ``who`` stops has raised, or PreconditionError for what it found.
    """
    found = broken(deployment, [row for row in rows_for(who) if reads_store in {None, row.reads_store}])
    for _, finding in found:
        say(finding)
    for row, finding in found:
        if who in row.stops and finding.status is Status.FAIL and _stays(finding):
            raise finding.error or PreconditionError(finding.name, finding.said, finding.do)


def _stays(finding: Finding) -> bool:
    """Return whether waiting does not help: what a check found itself, and what it raised of that kind."""
    return isinstance(finding.error, _STAYS) or not isinstance(finding.error, RetryableError)


def log_finding(finding: Finding) -> None:
    """Say a finding in a worker's log."""
    log.warning("precondition does not hold", name=finding.name, found=finding.said, do=finding.do)


def line(finding: Finding) -> str:
    """Return a finding as a line for a terminal."""
    return f"{finding.status:<4}  {finding.name}: {finding.said}\n      -> {finding.do}"
