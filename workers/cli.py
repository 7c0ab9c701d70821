"""``btcfi``: every command of the project, each by the name of the module that has it.

``btcfi --help`` and the shell's completion read the table and import none of those modules; a command imports its own
when it is asked for. A new command is a module in ``workers/commands`` and one row here.
"""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from typing import Annotated, Any, Final, NamedTuple, NoReturn, cast

import typer
from typer.core import TyperCommand, TyperGroup

from btcfi.surfaces.cli import run


class Who(StrEnum):
    """Who uses a command: the heading under which ``btcfi --help`` lists it."""

    TRADER = "Trader: buys and sells options"
    OPERATOR = "Operator: runs a deployment"
    AUDITOR = "Auditor: checks what others did"
    ORACLE = "Oracle: collects and signs prices"
    DEVELOPER = "Developer: tries and changes the project"


class Row(NamedTuple):
    """One command or group of commands."""

    name: str
    """As it is typed; ``anchor prove`` is a command that a deployment adds to the library's group ``anchor``."""
    who: Who | None
    """None: not in the list; for machines, such as a container's health check."""
    target: str
    """``module:attribute``: the function that is the command, or the typer app that is the group."""
    about: str
    """The first paragraph of its own help, for the list."""


def _rows(*rows: Row) -> dict[str, Row]:
    return {row.name: row for row in rows}


# fmt: off
COMMANDS: Final = _rows(
    Row("options", Who.TRADER, "workers.commands.options:app", "Create, list, show and cancel options."),
    Row("settle", Who.TRADER, "workers.commands.settle:settle",
        "Ask for the settlement of options: a row that the workers take up. Asking again changes nothing."),
    Row("party", Who.TRADER, "btcfi.surfaces.party_cli:app", "One side of an option contract, with its own keys."),
    Row("market", Who.TRADER, "btcfi.surfaces.market_cli:app",
        "A desk's market: chains, books, offers, requests, takes, positions."),
    Row("maker", Who.TRADER, "btcfi.surfaces.maker_cli:app",
        "A market maker of a party's account, and a simulation's taker."),
    Row("risk", Who.TRADER, "btcfi.surfaces.risk_cli:risk",
        "Print the risk of BOOK at one market, and draw it with --plot."),
    Row("payoff", Who.TRADER, "btcfi.surfaces.payoff_cli:app",
        "Shapes of payoffs: what each side gets and risks, drawn."),
    Row("book", Who.TRADER, "btcfi.surfaces.book_cli:app",
        "Net books between two parties: propose, accept, close."),
    Row("dispute", Who.TRADER, "btcfi.surfaces.dispute_cli:app",
        "Contracts that compute over attested prices: propose, accept, sign, claim, watch."),
    Row("swaps", Who.TRADER, "btcfi.surfaces.swaps_cli:app",
        "Weekly swaps: replay a ledger's history, study the appendix."),
    Row("up", Who.OPERATOR, "workers.commands.up:up",
        "Start broker, chain, workers, beat and Flower, and keep them running until Ctrl-C."),
    Row("doctor", Who.OPERATOR, "workers.commands.doctor:doctor",
        "Check every part of the deployment and say what to do; exit 1 if something does not work."),
    Row("watch", Who.OPERATOR, "workers.commands.watch:watch",
        "Show the pipeline, live, until Ctrl-C; into a pipe, or with --once, a single look."),
    Row("fees", Who.OPERATOR, "workers.commands.fees:fees",
        "Show what the next blocks would hold, and which settlements wait for one, deadline first."),
    Row("parked", Who.OPERATOR, "workers.commands.parked:app", "Settlements that wait for an operator."),
    Row("users", Who.OPERATOR, "workers.commands.users:app", "Who may sign in to the operator console."),
    Row("keys", Who.OPERATOR, "workers.commands.keys:app", "Make, list and revoke API keys."),
    Row("migrate", Who.OPERATOR, "workers.commands.migrate:migrate",
        "Bring the store's tables to the newest form, what is in them stays; or make the two parties accounts."),
    Row("prepare", Who.OPERATOR, "workers.commands.prepare:prepare",
        "Migrate the store, make missing keys, fill the wallets of an empty regtest chain; repeating it is harmless."),
    Row("backup", Who.OPERATOR, "workers.commands.backup:backup",
        "Write store, evidence, proofs and keys into one file, while everything runs. All of it is encrypted."),
    Row("restore", Who.OPERATOR, "workers.commands.restore:restore",
        "Restore a backup into the deployment's empty data folder and database; then start it as usual."),
    Row("oracle", Who.OPERATOR, "workers.commands.oracle:app",
        "An oracle's events: by hand, or after a restore."),
    Row("serve", Who.OPERATOR, "workers.commands.serve:serve",
        "Serve the REST API of the deployment's store, and the operator console, until Ctrl-C."),
    Row("worker", Who.OPERATOR, "workers.commands.worker:worker",
        "Run the Celery worker of one role in this process."),
    Row("beat", Who.OPERATOR, "workers.commands.beat:beat",
        "Run the clock that schedules every round; a second one is harmless."),
    Row("flower", Who.OPERATOR, "workers.commands.flower:flower",
        "Run Flower, the view of the queues, with the login of FLOWER_BASIC_AUTH or of the deployment."),
    Row("metrics", Who.OPERATOR, "workers.commands.metrics:metrics",
        "Serve the metrics of the whole deployment; `btcfi metrics --once` prints them."),
    Row("verify", Who.AUDITOR, "btcfi.surfaces.vm_cli:verify",
        "Run a proof's program again; exit 0 only if all is the same, 76 if a check fails "
        "(--json: named on stdout too)."),
    Row("prove", Who.AUDITOR, "btcfi.surfaces.vm_cli:prove",
        "Run a guest program on an input, and write a proof of what it did."),
    Row("trace", Who.AUDITOR, "btcfi.surfaces.vm_cli:trace_app", "Look into a proof's execution."),
    Row("anchor", Who.AUDITOR, "btcfi.surfaces.anchor_cli:app", "Check what was anchored in Bitcoin."),
    Row("anchor prove", Who.AUDITOR, "workers.commands.anchor:prove",
        "Prove that a price, a proof root or an announcement is anchored in a block that is 6 deep."),
    Row("prices", Who.AUDITOR, "workers.commands.prices:app", "Agreed prices and the evidence behind them."),
    Row("audit", Who.AUDITOR, "workers.commands.audit:audit",
        "Check every option of the store against the chain, a fresh run of its program, and the event log."),
    Row("oracle-init", Who.ORACLE, "btcfi.surfaces.oracle_cli:oracle_init",
        "Write the files of a new oracle network: one key a node, the registry, a configuration each."),
    Row("oracle-node", Who.ORACLE, "btcfi.surfaces.oracle_cli:oracle_node",
        "Collect one exchange's closed candle each minute, sign it and submit it."),
    Row("aggregator", Who.ORACLE, "btcfi.surfaces.oracle_cli:aggregator",
        "Collect signed prices from the oracle nodes and agree on one price a minute (gRPC)."),
    Row("record", Who.ORACLE, "btcfi.surfaces.oracle_cli:record",
        "Record raw responses of live exchanges, to be replayed later with --replay FOLDER."),
    Row("demo", Who.DEVELOPER, "workers.commands.demo:demo",
        "Run the whole pipeline on real parts: prices in, options settled on a Bitcoin regtest chain, all verified."),
    Row("regtest", Who.DEVELOPER, "btcfi.surfaces.regtest_cli:app", "A chain of your own, to try things on."),
    Row("guest", Who.DEVELOPER, "btcfi.surfaces.vm_cli:guest_app", "Write, build, run and check guest programs."),
    Row("clauses", Who.DEVELOPER, "btcfi.surfaces.clauses_cli:app",
        "Trees of clauses beside flat contracts: what the same curve takes."),
    Row("simulate", Who.DEVELOPER, "workers.commands.simulate:app",
        "A Friday's settlements in a simulated fee market and a queue model."),
    Row("chaos", Who.DEVELOPER, "workers.commands.chaos:chaos",
        "Break things on purpose, on a cluster and a regtest chain of its own, and check that nothing is lost or "
        "doubled."),
    Row("bench", Who.DEVELOPER, "workers.commands.bench:bench",
        "Measure the project on this machine: medians, one run, ratios against what was measured beside."),
    Row("health", None, "workers.commands.health:health",
        "Judge one process of this machine by its work or its page; exit 69 when there is none."),
)
# fmt: on
"""Every command, in the order of the list."""


class _Listed(TyperCommand):
    """Stands for a command in lists and completions; it cannot run."""

    def __init__(self, row: Row) -> None:
        group, _, word = row.name.rpartition(" ")
        super().__init__(word, help=row.about, rich_help_panel=None if group or row.who is None else row.who.value)
        self.row = row


class _Group(TyperGroup):
    """A group that has commands of the table beside its own: each is imported when it is to run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 - typer's click has no public types
        """Return the command that the line names, imported."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(command.row.name) if isinstance(command, _Listed) else command, rest


class _Commands(_Group):
    """The group of all commands."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - handed on
        super().__init__(**attributes)
        for name, row in COMMANDS.items():
            if row.who is not None and " " not in name:
                self.add_command(_Listed(row))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - as above
        """Return what stands for a command, also for one that is not in the list."""
        hidden = cmd_name in COMMANDS and COMMANDS[cmd_name].who is None
        return _Listed(COMMANDS[cmd_name]) if hidden else super().get_command(ctx, cmd_name)


def load(name: str) -> TyperCommand | TyperGroup:
    """Import the module of a row and return its command or group. Raises KeyError for a name that no row has."""
    row, word = COMMANDS[name], name.rpartition(" ")[2]
    module, _, attribute = row.target.partition(":")
    found = getattr(import_module(module), attribute)
    alone = typer.Typer(add_completion=False)
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=word, cls=_Group)
    else:
        alone.command(word, hidden=row.who is None)(found)
    loaded = typer.main.get_group(alone).commands[word]
    if isinstance(loaded, TyperGroup):
        for other in COMMANDS.values():
            if other.name.startswith(f"{name} "):
                loaded.add_command(_Listed(other))
    return cast("TyperCommand | TyperGroup", loaded)


def every_command() -> TyperGroup:
    """Return the app with every module imported, for documents and tests that walk all commands and options."""
    whole = cast("TyperGroup", typer.main.get_command(build()))
    for name in COMMANDS:
        group = name.rpartition(" ")[0]
        under = cast("TyperGroup", whole.commands[group]) if group else whole
        under.add_command(load(name))
    return whole


def _say_version(wanted: bool) -> None:  # noqa: FBT001 - the option's value, as typer hands it over
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - a tenth of the time of --help

        typer.echo(f"btcfi {version('btcfi-oracle-vm')}")
        raise typer.Exit


def _whole(
    *,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    pass


def build() -> typer.Typer:
    """Return the app."""
    app = typer.Typer(
        name="btcfi",
        cls=_Commands,
        help="Options on Bitcoin whose settlement anybody can check.",
        epilog="New here? `btcfi demo` runs everything once. `btcfi COMMAND --help` explains a command.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_whole)
    return app


def main() -> NoReturn:
    """Run the process's command line: one line on stderr and an exit code for every expected error."""
    run(build())


if __name__ == "__main__":
    main()
