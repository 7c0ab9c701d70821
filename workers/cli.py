"""``btcfi``: every command of the project on one typer app, the one place that knows all parts.

Nothing heavy is imported before a command runs, so that ``btcfi --help`` answers at once and ``btcfi verify`` brings
neither queue nor database along.
"""

# ruff: noqa: PLC0415 - each command imports what it alone needs
from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from btcfi.errors import InvalidInputError
from btcfi.surfaces import anchor_cli, oracle_cli, risk_cli, vm_cli
from btcfi.surfaces.cli import run
from workers.commands import (
    backup,
    bench,
    chaos,
    doctor,
    health,
    metrics,
    options,
    parked,
    prepare,
    prove_anchor,
    serve,
    watch,
)
from workers.deployed import open_store

if TYPE_CHECKING:
    from btcfi.oracle.consensus import ConsensusRule

LAZY_GROUPS: Final = {
    "oracle": ("workers.commands.held", "After a restore: what the oracles may have attested since the backup."),
    "party": ("btcfi.surfaces.party_cli", "One side of an option contract, with its own keys."),
    "keys": ("workers.commands.keys", "Make, list and revoke API keys."),
    "users": ("workers.commands.users", "Who may sign in to the operator console."),
}
"""Groups whose modules take half a second to import: only when asked for by name."""

FLOWER_BASIC_AUTH: Final = "FLOWER_BASIC_AUTH"
"""Where Flower's user:password comes from: the environment, since anybody on the machine can read an argv."""

FLOWER_CONFIG: Final = Path(__file__).resolve().parents[1] / "dashboards" / "flower_config.py"

COMPLETE: Final = "_BTCFI_COMPLETE"
"""Set by the shell's completion that `btcfi --install-completion` installs."""

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where store, chain and logs are kept.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def demo(
    *,
    replay: Annotated[Path | None, typer.Option(help="Folder of candles, EXCHANGE-BASE-QUOTE.csv")] = None,
    start: Annotated[str, typer.Option(help="First minute of it: 2023-03-11T06:00Z, or unix seconds")] = "",
    minutes: Annotated[int | None, typer.Option(help="How many minutes", min=1, max=100_000)] = None,
    venue: Annotated[list[str] | None, typer.Option(help="exchange:BASE/QUOTE; may be given several times")] = None,
    live: Annotated[bool, typer.Option("--live", help="Prices of the live exchanges, in real time")] = False,
    data_dir: DataDir = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the data afterwards")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole pipeline on real parts: prices in, options settled on a Bitcoin regtest chain, all verified."""
    if live and (replay is not None or start):
        raise InvalidInputError("--live", "given together with --replay or --start", "either live prices or a replay")
    first = oracle_cli.parse_slot(start) if start else None
    from btcfi.oracle.quote import parse_venue
    from workers.machine.demo import DemoRequest, run_demo

    request = DemoRequest(
        replay=replay,
        start=first,
        minutes=minutes,
        venues=tuple(str(parse_venue(text)) for text in venue or ()),
        live=live,
        data_dir=_kept() if keep and data_dir is None else data_dir,
        as_json=as_json,
    )
    run_demo(request)


def _kept() -> Path:
    """Return a new folder that stays, and say where it is."""
    folder = Path(tempfile.mkdtemp(prefix="btcfi-demo-"))
    typer.echo(f"btcfi: the data stay in {folder}", err=True)
    return folder


def up(
    *,
    live: Annotated[bool, typer.Option("--live", help="Prices of the live exchanges")] = False,
    pace: Annotated[float, typer.Option(help="Seconds that a replayed minute takes", min=0.05, max=60.0)] = 5.0,
    data_dir: DataDir = None,
) -> None:
    """Start broker, chain, workers, beat and Flower, and keep them running until Ctrl-C."""
    from workers.machine.up import run_up

    run_up(live=live, pace=pace, data_dir=data_dir)


def worker(
    role: Annotated[str, typer.Argument(help="prices, settle, chain or control")],
    *,
    name: Annotated[str | None, typer.Option(help="Tells workers of one role apart")] = None,
) -> None:
    """Run the Celery worker of one role in this process."""
    # SIGTERM finishes what is at hand first; Celery reads this while it is imported
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    from settings.deployment import load_deployment
    from workers.app import ROLE_MODULES, create_app
    from workers.roles import worker_arguments

    deployment = load_deployment()
    arguments = worker_arguments(role, deployment, name or role)
    create_app(deployment, modules=ROLE_MODULES[role]).worker_main(arguments)


def beat() -> None:
    """Run the clock that schedules every round; a second one is harmless."""
    from settings.deployment import load_deployment
    from workers.app import create_app

    # no pid file: nothing of ours stays behind
    create_app(load_deployment(), modules=()).start(["beat", "--loglevel=WARNING", "--pidfile="])


def flower() -> None:
    """Run Flower, the view of the queues, with the login of FLOWER_BASIC_AUTH or of the deployment."""
    from settings.deployment import load_deployment
    from workers.app import create_app

    deployment = load_deployment()
    if FLOWER_BASIC_AUTH not in os.environ and deployment.flower_password is not None:
        os.environ[FLOWER_BASIC_AUTH] = f"{deployment.flower_user}:{deployment.flower_password.get_secret_value()}"
    user, _, password = os.environ.get(FLOWER_BASIC_AUTH, "").partition(":")
    if not user or not password:
        raise InvalidInputError(FLOWER_BASIC_AUTH, "no login", "user:password, in the environment")
    # Flower reads the login from the environment itself
    where = [f"--address={deployment.listen_host}", f"--port={deployment.flower_port}"]
    create_app(deployment, modules=()).start(["flower", f"--conf={FLOWER_CONFIG}", *where])


def migrate(*, revision: Annotated[str, typer.Option(help="Alembic revision; default: the newest")] = "head") -> None:
    """Bring the store's tables to the newest form; what is in them stays."""
    store = open_store(migrated=False)
    store.migrate(revision)
    typer.echo(f"{store.where} is at {revision}", err=True)
    store.close()


def consensus_rule() -> ConsensusRule:
    """Return the consensus numbers of the deployment's preset."""
    from settings.deployment import load_deployment
    from settings.preset import load_preset

    return load_preset(load_deployment().preset).consensus


def _say_version(wanted: bool) -> None:  # noqa: FBT001 - the option's value, as typer hands it over
    if wanted:
        typer.echo(f"btcfi {version('btcfi-oracle-vm')}")
        raise typer.Exit


def _whole(
    *,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    pass


def build(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the app. ``arguments``: the command line, whose first word may name a group that is imported late."""
    app = typer.Typer(
        name="btcfi",
        help="Options on Bitcoin whose settlement anybody can check.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_whole)
    app.command()(demo)
    app.command()(up)
    app.registered_commands += vm_cli.app.registered_commands
    app.registered_groups += vm_cli.app.registered_groups
    app.add_typer(options.app, name="options")
    app.command()(options.settle)
    app.registered_commands += risk_cli.app.registered_commands
    prove_anchor.register(anchor_cli.app)
    app.add_typer(anchor_cli.app, name="anchor")
    oracle_cli.register(app, oracle_cli.PricesContext(open_store=open_store, rule=consensus_rule))
    for name, (module, about) in LAZY_GROUPS.items():
        loaded = import_module(module).app if name in arguments[:1] else _placeholder(about)
        app.add_typer(loaded, name=name)
    app.add_typer(parked.app, name="parked")
    app.command()(worker)
    app.command()(beat)
    app.command()(flower)
    app.command()(serve.serve)
    app.command()(metrics.metrics)
    app.command()(doctor.doctor)
    app.command()(watch.watch)
    app.command()(migrate)
    app.command()(prepare.prepare)
    app.command(hidden=True)(health.health)
    app.command()(bench.bench)
    chaos.register(app)
    backup.register(app)
    return app


def _placeholder(about: str) -> typer.Typer:
    """Return a group that only stands in the list of commands."""
    group = typer.Typer(help=about)
    group.callback()(lambda: None)
    return group


def main() -> NoReturn:
    """Run the process's command line: one line on stderr and an exit code for every expected error."""
    arguments = sys.argv[1:]
    if COMPLETE in os.environ:  # a shell hands the line over in the environment: bash in the one, others in the other
        line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
        arguments = line.split()[1:]
    run(build(arguments))


if __name__ == "__main__":
    main()
