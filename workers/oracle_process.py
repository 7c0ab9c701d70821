"""An oracle's process: `btcfi oracle serve`, and the three of `btcfi up`. It imports no queue, no SQL and no ccxt.

It reads its folder and asks aggregators; of the deployment that uses it, it knows no database, no broker and no wallet.
"""

from __future__ import annotations

import signal
import threading
import time
import tomllib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer

from btcfi.adapters.chain.node import PortInUseError
from btcfi.adapters.oracle.folder import OracleFolder
from btcfi.adapters.oracle.oracle import NEVER, Oracle, OracleSettings
from btcfi.adapters.oracle.sources import HttpSource, Source
from btcfi.adapters.oracle.web import Web
from btcfi.adapters.oracle_network.network_file import read_registry
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.oracle.announcement import OracleEvent
from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.quote import Feed
from btcfi.surfaces.oracle_http import answers_of
from btcfi.surfaces.questions import QuestionServer
from btcfi.units import Hash32, Slot, UnixSeconds
from settings.preset import Preset, load_preset, load_preset_by_hash

GUESTS: Final = Path(__file__).resolve().parents[1] / "guest_programs" / "manifest.toml"

PROGRAM: Final = "option_settlement"
"""Of the events that are announced ahead."""

KEEP_DAYS: Final = 500
"""Minutes are kept so long: more than the longest barrier watches."""

DAY: Final = 86_400

log = structlog.get_logger("btcfi.oracle")


def serve(
    *,
    folder: Annotated[Path, typer.Option("--folder", help="The oracle's own folder: key, ledger, minutes.")],
    aggregator: Annotated[
        list[str], typer.Option("--aggregator", help="Where signed submissions are served; several count together.")
    ],
    network: Annotated[
        Path | None,
        typer.Option("--network", help="Who may speak: a network.toml, which is kept in the folder."),
    ] = None,
    port: Annotated[int, typer.Option("--port", help="0 picks a free one.", min=0, max=65_535)] = 0,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    every: Annotated[float, typer.Option("--every", help="Seconds between two looks.", min=0.1, max=60)] = 5.0,
    schedule: Annotated[
        int, typer.Option("--schedule", help="Announce every so many minutes of the next day; 0 none.", min=0, max=1440)
    ] = 60,
    preset: Annotated[str, typer.Option("--preset", help="Whose rule the scheduled events have.")] = "standard",
    trust_store_before: Annotated[
        int,
        typer.Option(
            "--trust-store-before",
            help="Minutes before this one that nobody signed are taken as the first aggregator states them.",
            min=0, max=2**32 - 1,
        ),
    ] = 0,
) -> None:  # fmt: skip
    """Run an oracle: collect what nodes signed, compute each minute, announce, and attest what it computed itself."""
    own = OracleFolder(folder)
    own.create()
    if network is not None:
        read_registry(network)
        own.write_network(network.read_text(encoding="utf-8"))
    sources: list[Source] = [HttpSource(Web(url, what="aggregator")) for url in aggregator]
    with own.owned():
        oracle = Oracle(
            folder=own, sources=sources, clock=_now, monotonic=time.monotonic,
            settings=settings(
                own.registry()[0], preset=load_preset(preset), schedule=schedule, trust_before=Slot(trust_store_before)
            ),
        )  # fmt: skip
        _run(oracle, host, port, every)


def settings(feed: Feed, *, preset: Preset, schedule: int = 0, trust_before: Slot = NEVER) -> OracleSettings:
    """Return an oracle's choices: every preset and program of this release, and events ahead on the full minutes."""
    return OracleSettings(
        rule_of=_rule_of, programs=programs(), trust_before=trust_before,
        schedule=scheduled(feed, preset, schedule),
    )  # fmt: skip


def scheduled(feed: Feed, preset: Preset, minutes: int) -> Callable[[UnixSeconds], Sequence[OracleEvent]]:
    """Return what gives the events of the next day: one every ``minutes``, by the preset's own fixing."""

    def ahead(now: UnixSeconds) -> list[OracleEvent]:
        if not minutes:
            return []
        step = minutes * 60
        first = (now // step + 1) * step
        return [
            OracleEvent(
                feed=feed, expiry=Slot(at), program_hash=_sold_by(),
                preset_hash=Hash32(bytes.fromhex(preset.sha256)), version=2, fixing=preset.fixing,
            )
            for at in range(first, now + DAY + 1, step)
        ]  # fmt: skip

    return ahead


def _rule_of(sha256: str) -> ConsensusRule:
    return load_preset_by_hash(sha256).consensus


@cache
def programs() -> frozenset[str]:
    """Return the hashes of this release's guest programs, retired ones too. Raises InvalidInputError."""
    return frozenset(sha256 for _, sha256 in _manifest())


@cache
def _manifest() -> tuple[tuple[str, str], ...]:
    try:
        manifest = tomllib.loads(GUESTS.read_text(encoding="utf-8"))
        rows = [*manifest.get("program", []), *manifest.get("retired", [])]
        return tuple((str(row["name"]), str(row["image_sha256"])) for row in rows)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InvalidInputError(str(GUESTS), type(e).__name__, "the manifest of guest programs") from e


def _sold_by() -> Hash32:
    return Hash32(bytes.fromhex(next(sha256 for name, sha256 in _manifest() if name == PROGRAM)))


def _now() -> UnixSeconds:
    return UnixSeconds(int(time.time()))


def _run(oracle: Oracle, host: str, port: int, every: float) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = QuestionServer(answers_of(oracle), (host, port), monotonic=time.monotonic)
    except OSError as e:
        raise PortInUseError(host=host, port=port) from e
    with server:
        threading.Thread(target=server.serve_forever, name="oracle-http", daemon=True).start()
        where = f"http://{host}:{server.server_address[1]}"
        typer.echo(f"btcfi oracle {oracle.key.hex()[:16]}: {where}", err=True)
        if oracle.settings.trust_before:
            typer.echo(f"trusts the aggregator for unsigned minutes before {oracle.settings.trust_before}", err=True)
        pruned = 0.0
        while not stop.wait(every):
            try:
                oracle.follow()
                if time.monotonic() - pruned > DAY or not pruned:
                    oracle.folder.prune(Slot(max(_now() - KEEP_DAYS * DAY, 0)))
                    pruned = time.monotonic()
            except (BtcfiError, OSError) as e:  # a full disk, a damaged file: who asks is told what is lacking
                log.error("not_followed", reason=str(e))  # noqa: TRY400 - one line says it
        server.shutdown()


def main() -> None:
    """Run the process's command line."""
    from btcfi.surfaces.cli import run  # noqa: PLC0415 - only the process itself

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(serve)
    run(app)


if __name__ == "__main__":
    main()
