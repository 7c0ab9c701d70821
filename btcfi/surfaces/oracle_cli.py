"""``btcfi aggregator``, ``oracle-node``, ``oracle-init``, ``record`` and ``prices``: the oracle network's commands.

They need no cluster; ``prices`` reads the store that it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from btcfi.adapters.files import make_private, write_private
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule
from btcfi.oracle.quote import BTC_USD, Observation, VenueId, parse_venue
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces.status import status_of
from btcfi.units import Minutes, Slot, UnixSeconds, slot

if TYPE_CHECKING:
    from btcfi.adapters.oracle_network.network_file import Network
    from btcfi.adapters.store.spine.database import Store

EXCHANGES: Final = {
    "binance": ("binance", "BTC/USDT"),
    "binanceus": ("binanceus", "BTC/USD"),
    "bitfinex": ("bitfinex", "BTC/USD"),
    "bitstamp": ("bitstamp", "BTC/USD"),
    "coinbase": ("coinbaseexchange", "BTC/USD"),
    "coinbaseexchange": ("coinbaseexchange", "BTC/USD"),
    "gemini": ("gemini", "BTC/USD"),
    "kraken": ("kraken", "BTC/USD"),
    "okx": ("okx", "BTC/USDT"),
}
"""The exchange names, the published ones among them, and which market of which API each means."""

STARTER_NODES: Final = {
    "binance-node": "binance:BTC/USDT",
    "binanceus-node": "binanceus:BTC/USD",
    "bitfinex-node": "bitfinex:BTC/USD",
    "bitstamp-node": "bitstamp:BTC/USD",
    "coinbase-node": "coinbaseexchange:BTC/USD",
    "kraken-node": "kraken:BTC/USD",
    "usdt-node": "kraken:USDT/USD",
    "usdt-bitstamp-node": "bitstamp:USDT/USD",
    "usdt-coinbase-node": "coinbaseexchange:USDT/USD",
}
"""What a deployment registers: five dollar markets, one of USDT, and the legs without which that is no dollar price."""

app = typer.Typer(no_args_is_help=True, add_completion=False)
"""What needs no store, as ``python -m btcfi.surfaces.oracle_cli`` offers it."""

Start = Annotated[str, typer.Option(help="First minute: unix seconds or ISO 8601")]
End = Annotated[str, typer.Option(help="Minute after the last")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PricesContext:
    """What the ``prices`` commands need of their surroundings."""

    open_store: Callable[[], Store]
    rule: Callable[[], ConsensusRule]
    """The deployment's."""
    rule_of: Callable[[str], ConsensusRule]
    """A preset's, by its name."""
    rules: Callable[[], Sequence[ConsensusRule]] | None = None
    """By which an imported round may have been agreed besides ``rule``: those of every preset, retired ones too."""


@contextmanager
def _told() -> Iterator[None]:
    """Turn our errors into one line on stderr and the exit code of the one table."""
    try:
        yield
    except BtcfiError as e:
        typer.echo(f"btcfi: {e}", err=True)
        raise typer.Exit(status_of(e).exit_code) from e


def log_to_stderr() -> None:
    """Send the log of a process to stderr as JSON lines; stdout is for answers."""
    import logging  # noqa: PLC0415 - only processes log
    import sys  # noqa: PLC0415

    import structlog  # noqa: PLC0415

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # the stderr of now, should it be replaced
    )


def parse_slot(text: str) -> Slot:
    """Return the minute of unix seconds or ISO 8601 (``2023-03-11T06:00Z``). Raises InvalidInputError."""
    try:
        if text.isdigit():
            return slot(int(text))
        at = datetime.fromisoformat(text)
    except ValueError as e:
        raise InvalidInputError("minute", text, "unix seconds or ISO 8601 such as 2023-03-11T06:00Z") from e
    if at.tzinfo is None:
        raise InvalidInputError("minute", f"{text} has no time zone", "a Z at the end for UTC")
    return slot(int(at.timestamp()))


# --- processes


@app.command()
def aggregator(
    *,
    config: Annotated[Path, typer.Option(help="The network file: nodes, rule, policy")] = Path("config/network.toml"),
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 picks a free one", min=0, max=65_535)] = 50051,
    port_file: Annotated[Path | None, typer.Option(help="Write the port here once it listens")] = None,
    database: Annotated[str, typer.Option(help="Where submissions and rounds are kept", envvar="DATABASE_URL")] = "",
    settlement_engine: Annotated[
        bool, typer.Option("--settlement-engine", help="Also serve settlements; DATABASE_URL must be the cluster's")
    ] = False,
    tls_key: Annotated[Path | None, typer.Option(help="PEM; with --tls-certificate")] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM")] = None,
    tls_client_ca: Annotated[Path | None, typer.Option(help="PEM; clients must then show a certificate")] = None,
    anonymous_roles: Annotated[
        str, typer.Option(help="What callers without a key may do: read, or none", envvar="BTCFI_API_ANONYMOUS_ROLES")
    ] = "read",
    reflection: Annotated[bool, typer.Option("--reflection", help="Tell callers which messages there are")] = False,
) -> None:
    """Collect signed prices from the oracle nodes and agree on one price a minute (gRPC)."""
    with _told():
        from btcfi.adapters.oracle_network.network_file import read_network  # noqa: PLC0415 - half a second that other commands save

        log_to_stderr()
        network = read_network(config)
        tls = _tls(tls_key, tls_certificate, tls_client_ca)
        if settlement_engine and not database:
            raise InvalidInputError("--settlement-engine", "no database", "--database or DATABASE_URL")
        _run_fast(
            _serve(
                network,
                host=host,
                port=port,
                port_file=port_file,
                database=database,
                tls=tls,
                settlement_engine=settlement_engine,
                anonymous=frozenset() if anonymous_roles == "none" else frozenset(anonymous_roles.split(",")),
                reflection=reflection,
            )
        )


def _run_fast(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` on uvloop, where ccxt brought it along: the event loop is a part of what each submission costs."""
    try:
        import uvloop  # noqa: PLC0415 - ccxt requires it on CPython alone
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def _tls(key: Path | None, certificate: Path | None, client_ca: Path | None) -> Any:  # noqa: ANN401 - TlsFiles, imported late
    if key is None and certificate is None:
        return None
    if key is None or certificate is None:
        raise InvalidInputError("TLS", "only one of key and certificate", "both --tls-key and --tls-certificate")
    from btcfi.surfaces.grpc.aggregator import TlsFiles  # noqa: PLC0415

    for file in (key, certificate, client_ca):
        if file is not None and not file.is_file():
            raise InvalidInputError("TLS file", str(file), "a readable PEM file")
    return TlsFiles(key=key, certificate=certificate, client_ca=client_ca)


async def _serve(
    network: Network,
    *,
    host: str,
    port: int,
    port_file: Path | None,
    database: str,
    tls: Any,  # noqa: ANN401 - TlsFiles, imported late
    settlement_engine: bool,
    anonymous: frozenset[str],
    reflection: bool,
) -> None:
    from btcfi.adapters.store.spine.database import Store  # noqa: PLC0415 - as above
    from btcfi.oracle.round_book import RoundBook  # noqa: PLC0415
    from btcfi.surfaces.grpc.aggregator import Aggregator, start_server  # noqa: PLC0415
    from btcfi.surfaces.grpc.keys import Keys  # noqa: PLC0415
    from btcfi.surfaces.grpc.store import AggregatorStore  # noqa: PLC0415

    book = RoundBook(registry=network.registry, rule=network.rule, policy=network.policy, feed=network.feed)
    store = AggregatorStore(Store(database), network.feed) if database else None
    if store is not None:
        store.create_tables()
    # keys expire by the real clock, also where a network replays another day
    keys = Keys(Store(database) if database else None, clock=time.time, anonymous_roles=anonymous)
    service = Aggregator(book, store=store, clock=network.clock(time.time), keys=keys)
    await service.resume()
    engine = None
    if settlement_engine:
        from btcfi.surfaces.grpc.settlement import SettlementEngine  # noqa: PLC0415

        clock = network.clock(time.time)
        engine = SettlementEngine(Store(database), clock=clock, anonymous_roles=anonymous).register
    server, bound = await start_server(
        service, host=host, port=port, tls=tls, register=engine, with_reflection=reflection
    )
    closing = asyncio.create_task(service.close_rounds(every_seconds=max(0.02, 0.25 / network.speed)))
    _write_port(port_file, bound)
    typer.echo(f"aggregator on {host}:{bound}, {len(network.registry.nodes)} nodes registered", err=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    closing.add_done_callback(lambda _: stop.set())  # without it no round would ever end: better no process at all
    await stop.wait()
    closing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await closing
    await server.stop(grace=1.0)
    if store is not None:
        await store.close()


def _write_port(file: Path | None, port: int) -> None:
    if file is not None:
        write_private(file, str(port).encode())  # whole or not at all: a reader sees no half of it


@app.command()
def oracle_node(
    *,
    exchange: Annotated[str, typer.Option(help="binance, binanceus, coinbase or kraken")] = "binance",
    node_id: Annotated[str, typer.Option(help="Unique node identifier, as registered")],
    aggregator_url: Annotated[str, typer.Option(help="gRPC address; https for TLS")] = "http://localhost:50051",
    interval: Annotated[int, typer.Option(help="Collection interval in seconds, a multiple of 60")] = 60,
    config: Annotated[Path, typer.Option(help="Configuration file")] = Path("config/oracle-node.toml"),
    symbol: Annotated[str, typer.Option(help="Another market than the exchange's usual, e.g. USDT/USD")] = "",
    stream: Annotated[bool, typer.Option("--stream", help="Candles by WebSocket, REST where they have gaps")] = False,
    minutes: Annotated[int, typer.Option(help="Stop after so many minutes; 0: never")] = 0,
) -> None:
    """Collect one exchange's closed candle each minute, sign it and submit it."""
    with _told():
        if exchange not in EXCHANGES:
            raise InvalidInputError("exchange", exchange, f"one of {', '.join(sorted(EXCHANGES))}")
        name, usual = EXCHANGES[exchange]
        venue = parse_venue(f"{name}:{symbol or usual}")
        log_to_stderr()
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        node = _node(venue, node_id, aggregator_url, interval, config, stream=stream, stop=stop)
        done = node.run(stop, minutes=minutes or None)
        typer.echo(f"{node_id}: {done} minutes accepted", err=True)


def _api_key(config: Path, own: dict[str, Any]) -> str | None:
    """Return the key that a node shows to read reports, where its file names one. Raises InvalidInputError."""
    if "api_key_file" not in own:
        return None
    file = config.parent / str(own["api_key_file"])
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as e:
        raise InvalidInputError("api_key_file", str(file), "a readable file with a key of the role read") from e


def _node(
    venue: VenueId, node_id: str, url: str, interval: int, config: Path, *, stream: bool, stop: threading.Event
) -> Any:  # noqa: ANN401 - OracleNode, imported late
    from btcfi.adapters.oracle_network.network_file import NetworkFileError, read_network, read_toml  # noqa: PLC0415
    from btcfi.adapters.oracle_network.node import NodeSettings, OracleNode, interruptible  # noqa: PLC0415
    from btcfi.adapters.oracle_network.ntp import measure_ntp  # noqa: PLC0415
    from btcfi.adapters.venues.rest import Backoff, VenueClient  # noqa: PLC0415 - as above
    from btcfi.surfaces.grpc.client import AggregatorClient  # noqa: PLC0415

    own = read_toml(config)
    known = {"key_file", "network", "base_url", "ws_url", "ntp_servers", "grace_seconds", "tls", "clock_offset_seconds",
             "api_key_file"}  # fmt: skip
    if unknown := sorted(own.keys() - known):
        raise NetworkFileError(f"{config.name}: {unknown[0]}", "unknown", f"one of {', '.join(sorted(known))}")
    network = read_network(config.parent / str(own.get("network", "network.toml")))
    clock = network.clock(time.time)
    if offset := float(own.get("clock_offset_seconds", 0)):
        true_clock = clock

        def clock() -> float:  # a rehearsal of a wrong clock: what an operator's alarm is tested with
            return true_clock() + offset

    speed, policy = network.speed, network.policy
    wait = interruptible(stop, speed=speed)
    base_url = own.get("base_url") or None
    client: Any = VenueClient(
        venue,
        base_url=base_url,
        rate_limit=base_url is None,
        backoff=Backoff(),
        pause=interruptible(stop),
    )
    if stream:
        from btcfi.adapters.venues.stream import StreamingVenue  # noqa: PLC0415

        client = StreamingVenue(venue, fallback=client, base_url=base_url, ws_url=own.get("ws_url") or None)
    tls = own.get("tls", {})
    files = {name: config.parent / tls[name] for name in ("ca", "key", "certificate") if name in tls}
    servers = tuple(own.get("ntp_servers", ()))
    return OracleNode(
        NodeSettings(
            node_id=node_id,
            venue=venue,
            feed=network.feed,
            interval_seconds=interval,
            grace_seconds=float(own.get("grace_seconds", 2.0)),
            commit_reveal=policy.commit_reveal,
            commit_seconds=policy.commit_seconds,
        ),
        secret=read_secret(config.parent / str(own.get("key_file", f"{node_id}.key"))),
        client=client,
        aggregator=AggregatorClient(url, api_key=_api_key(config, own), **files),
        clock=clock,
        wait=wait,
        entropy=secrets.token_bytes,
        measure_time=lambda: measure_ntp(servers, clock=clock),
        rule=network.rule,
        keys={n.node_id: (n.venue, n.public_key) for n in network.registry.nodes.values()},
    )


def read_secret(path: Path) -> bytes:
    """Return a node's secret key from its file of 64 hex digits. Raises InvalidInputError, never showing the key."""
    try:
        text = path.read_text().strip()
        mode = path.stat().st_mode & 0o077
    except OSError as e:
        raise InvalidInputError("key file", f"{path}: {e.strerror}", "a file made by `btcfi oracle-init`") from e
    if mode:
        raise InvalidInputError("key file", f"{path} can be read by others", "mode 600: chmod 600")
    try:
        secret = bytes.fromhex(text)
    except ValueError as e:
        raise InvalidInputError("key file", f"{path} is not hexadecimal", "64 hex digits") from e
    public_key_xonly(secret)
    return secret


@app.command()
def oracle_init(
    folder: Annotated[Path, typer.Argument(help="Where to write network.toml and a key and config for each node")],
    *,
    node: Annotated[list[str] | None, typer.Option(help="ID=exchange:BASE/QUOTE; default: the starter set")] = None,
    base_url: Annotated[str, typer.Option(help="Replay server instead of the live exchanges")] = "",
) -> None:
    """Write the files of a new oracle network: one key a node, the registry, a configuration each."""
    with _told():
        wanted = dict(STARTER_NODES)
        if node:
            pairs = [text.partition("=") for text in node]
            wanted = {node_id: venue for node_id, _, venue in pairs}
        if (folder / "network.toml").exists():
            raise InvalidInputError("folder", f"{folder}/network.toml exists", "a new folder; keys are not overwritten")
        make_private(folder, named=True)
        lines = [f'feed = "{BTC_USD}"', ""]
        for node_id, text in wanted.items():
            venue = parse_venue(text)
            secret = secrets.token_bytes(32)
            key_file = folder / f"{node_id}.key"
            write_private(key_file, secret.hex().encode() + b"\n", fresh=True)
            own = [f'key_file = "{key_file.name}"', 'network = "network.toml"']
            own += [f'base_url = "{base_url}"'] if base_url else []
            write_private(folder / f"{node_id}.toml", "\n".join(own).encode() + b"\n")
            lines += [
                f"[nodes.{node_id}]",
                f'venue = "{venue}"',
                f'public_key = "{public_key_xonly(secret).hex()}"',
                "",
            ]
        write_private(folder / "network.toml", "\n".join(lines).encode())
        typer.echo(f"{len(wanted)} nodes in {folder}; keep the .key files secret", err=True)


@app.command()
def record(
    folder: Annotated[Path, typer.Argument(help="Where to keep the raw responses")],
    *,
    venue: Annotated[list[str] | None, typer.Option(help="exchange:BASE/QUOTE; default: the starter set")] = None,
    minutes: Annotated[int, typer.Option(help="How many whole minutes", min=1)] = 10,
    base_url: Annotated[str, typer.Option(help="Replay server instead of the live exchanges")] = "",
) -> None:
    """Record raw responses of live exchanges, to be replayed later with --replay FOLDER."""
    with _told():
        from btcfi.adapters.venues.recorder import record as record_responses  # noqa: PLC0415
        from btcfi.adapters.venues.rest import VenueClient  # noqa: PLC0415 - as above

        venues = [parse_venue(text) for text in venue or STARTER_NODES.values()]
        clients = [VenueClient(v, base_url=base_url or None) for v in venues]

        def tell(observation: Observation) -> None:
            what = getattr(observation, "reason", "recorded")
            typer.echo(f"{observation.slot} {observation.venue} {what}", err=True)

        quoted, missed = record_responses(
            folder, clients, Minutes(minutes), clock=lambda: UnixSeconds(int(time.time())), sleep=time.sleep, tell=tell
        )
        typer.echo(f"{quoted} recorded, {missed} without a quote", err=True)


# --- stored prices


def prices_app(context: PricesContext) -> typer.Typer:  # noqa: PLR0915 - one function a command, each short
    """Return ``btcfi prices``: replay, export, import, history, market, study, bounds, prune."""
    app = typer.Typer(help="Agreed prices and the evidence behind them.", no_args_is_help=True)

    @app.command("replay")
    def replay(
        minute: Annotated[str, typer.Argument(help="Unix seconds or ISO 8601")],
        *,
        feed: str = BTC_USD,
    ) -> None:
        """Compute a stored price again from its raw responses, and compare it bit for bit."""
        with _told():
            from btcfi.adapters.store.prices.evidence import replay_round  # noqa: PLC0415 - as above

            at = parse_slot(minute)
            with context.open_store().reading() as session:
                again = replay_round(session, _feed(feed), at, rule=context.rule())
            price = again.outcome.price if isinstance(again.outcome, AgreedPrice) else None
            typer.echo(
                json.dumps(
                    {
                        "slot": again.outcome.slot,
                        "price_cents": price,
                        "responses": again.responses,
                        "evidence_root": again.evidence_root.hex(),
                        "rule_hash": again.rule_hash.hex(),
                        "equal": True,
                    }
                )
            )

    @app.command("export")
    def export(folder: Path, *, start: Start, end: End, feed: str = BTC_USD) -> None:
        """Write the closed rounds from START to before END, with their raw responses, into FOLDER."""
        with _told():
            from btcfi.adapters.store.prices.evidence import export_span  # noqa: PLC0415

            with context.open_store().reading() as session:
                count = export_span(session, folder, _feed(feed), parse_slot(start), parse_slot(end))
            typer.echo(f"{count} rounds in {folder}", err=True)

    @app.command("import")
    def import_(folder: Path) -> None:
        """Read an exported FOLDER into the database: every round is read and agreed on again from its responses."""
        with _told():
            from btcfi.adapters.store.prices.evidence import import_span  # noqa: PLC0415

            rules = (context.rule(), *(context.rules() if context.rules is not None else ()))
            with context.open_store().transaction() as session:
                new, known = import_span(session, folder, now=UnixSeconds(int(time.time())), rules=rules)
            typer.echo(f"{new} rounds imported, {known} were here", err=True)

    @app.command("history")
    def history(*, start: Start, end: End, feed: str = BTC_USD) -> None:
        """Print the prices from START to before END as JSON, the gaps named."""
        with _told():
            from btcfi.adapters.store.prices.history import price_history  # noqa: PLC0415

            with context.open_store().reading() as session:
                span = price_history(session, _feed(feed), parse_slot(start), parse_slot(end))
            typer.echo(json.dumps(span.as_json()))

    @app.command("market")
    def market(*, days: int = 30, feed: str = BTC_USD) -> None:
        """Print the spot price and realised volatilities as JSON."""
        with _told():
            from btcfi.adapters.store.prices.history import market_state  # noqa: PLC0415

            with context.open_store().reading() as session:
                typer.echo(json.dumps(market_state(session, _feed(feed), days=days).as_json()))

    @app.command("prune")
    def prune(*, older_than_days: Annotated[int, typer.Option(min=0, max=36_500)]) -> None:
        """Delete raw responses older than so many days; prices and reports stay."""
        with _told():
            from btcfi.adapters.store.prices.evidence import prune_evidence  # noqa: PLC0415

            before = UnixSeconds(int(time.time()) - older_than_days * 86_400)
            typer.echo(f"{prune_evidence(context.open_store(), before=before)} responses deleted", err=True)

    @app.command("study")
    def study(
        folder: Path,
        *,
        out: Annotated[Path, typer.Option(help="Folder for the files")],
        start: Annotated[str, typer.Option(help="First minute: unix seconds or ISO 8601; default: the folder's")] = "",
        minutes: Annotated[int, typer.Option(min=0, help="How many; 0: to the folder's end")] = 0,
        preset: Annotated[str, typer.Option(help="Whose rule; replay-study takes thin minutes as they are")] = "",
    ) -> None:
        """Price every minute of a candle FOLDER and write a report and a picture into OUT."""
        with _told():
            from btcfi.adapters.venues.price_study import study_folder, write_study  # noqa: PLC0415

            result = study_folder(
                folder,
                rule=context.rule_of(preset) if preset else context.rule(),
                start=parse_slot(start) if start else None,
                minutes=Minutes(minutes) if minutes else None,
            )
            write_study(result, out)
            summary = result.summary()
            typer.echo(json.dumps(summary))
            if thin := summary["thin"]["minutes"]:
                typer.echo(
                    f"btcfi: {thin} of {summary['priced']} priced minutes are thin: one market could bend them, "
                    "and nothing settles on them but by the preset replay-study",
                    err=True,
                )

    @app.command("bounds")
    def bounds() -> None:
        """Print how far liars could move a price, published and settled: for every number registered and present."""
        with _told():
            from btcfi.oracle.robustness import table_of_bounds  # noqa: PLC0415 - as above

            typer.echo(table_of_bounds(context.rule()))

    return app


def _feed(text: str) -> Any:  # noqa: ANN401 - a NewType of str
    return text


def utc(at: int) -> str:
    """Return a moment as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")


if __name__ == "__main__":
    app()
