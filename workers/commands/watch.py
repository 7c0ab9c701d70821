"""``btcfi watch``: the pipeline in a terminal, live: prices, stages, queues, what waits and since when."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from btcfi.adapters.store.chain.tables import TransactionState
from btcfi.adapters.store.options.contract_tables import ContractState
from btcfi.adapters.store.options.settled import TOTALS
from btcfi.adapters.store.options.tables import OptionState, SettlementState
from btcfi.adapters.store.prices.tables import RoundState
from btcfi.adapters.store.reading import Reading, newest_closed_round, newest_revision, read_store, schema_revision
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.views import has_table
from btcfi.errors import BtcfiError
from btcfi.oracle.quote import Feed
from btcfi.surfaces.rest.times import iso
from btcfi.units import UnixSeconds
from settings.deployment import Deployment, load_deployment
from workers.broker import BrokerReading, read_broker
from workers.deployed import StoreNotReadyError
from workers.machine.attach import attached
from workers.roles import QUEUES

WIDTH: Final = 80
"""Columns that every view fits; a wider terminal is not filled."""

OPTION_STATES: Final = tuple(OptionState)
SETTLEMENT_STATES: Final = tuple(SettlementState)
CONTRACT_STATES: Final = tuple(ContractState)
TRANSACTION_STATES: Final = tuple(TransactionState)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One look at everything; what does not answer is None, with its reason."""

    at: UnixSeconds
    feed: str
    store: Reading | None
    last_round: tuple[UnixSeconds, str, dict[str, Any]] | None
    """Minute, state and report of the newest closed round."""
    broker: BrokerReading | None
    problems: tuple[str, ...]


def watch(
    *,
    once: Annotated[bool, typer.Option("--once", help="Print one look and end")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a look and nothing else.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks", min=0.2, max=3600.0)] = 2.0,
) -> None:
    """Show the pipeline, live, until Ctrl-C; into a pipe, or with --once, a single look."""
    base = load_deployment()
    store = Store(base.database_url, busy_timeout_ms=2_000)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    single = once or (not as_json and not sys.stdout.isatty())
    try:
        if as_json or single:
            while True:
                view = look(attached(base), store)
                if as_json:
                    typer.echo(json.dumps(_plain(view)))
                else:
                    console.print(render(view))
                if single:
                    break
                time.sleep(every)
        else:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(render(look(attached(base), store)), refresh=True)
                    time.sleep(every)
    except KeyboardInterrupt:
        pass
    finally:
        store.close()
    if single and view.store is None:
        raise typer.Exit(1)


def look(deployment: Deployment, store: Store) -> View:
    """Read store and broker once; what does not answer is said, not raised."""
    now, feed = UnixSeconds(int(time.time())), Feed(deployment.feed)
    problems: list[str] = []
    reading = last = queues = None
    try:
        with store.reading() as session:
            at = schema_revision(session) if has_table(session, "alembic_version") else None
            if at != newest_revision():
                raise StoreNotReadyError(store.where, at=at)
            reading = read_store(session, feed, now=now, replay=deployment.replay_clock)
            last = newest_closed_round(session, feed)
    except BtcfiError as e:
        problems.append(str(e))
    try:
        if deployment.broker_url is not None:
            queues = read_broker(deployment, QUEUES)
        else:
            problems.append("no broker: BROKER_URL is not set, and no `btcfi up` runs on this data folder")
    except BtcfiError as e:
        problems.append(str(e))
    return View(at=now, feed=deployment.feed, store=reading, last_round=last, broker=queues, problems=tuple(problems))


def _plain(view: View) -> dict[str, Any]:
    last = view.last_round
    return {
        "at": iso(view.at),
        "feed": view.feed,
        "store": None if view.store is None else asdict(view.store),
        "last_round": None if last is None else {"minute": iso(last[0]), "state": last[1], "report": last[2]},
        "broker": None if view.broker is None else asdict(view.broker),
        "problems": view.problems,
    }


def render(view: View) -> RenderableType:
    """Return the look as something that rich prints in 80 columns."""
    parts: list[RenderableType] = [Text(f"BTCFi  {view.feed}  {iso(view.at)}", style="bold")]
    parts += [Text(f"! {problem}", style="bold red") for problem in view.problems]
    if view.store is not None:
        parts += [
            Text(),
            *_price(view.store, view.last_round),
            Text(),
            _stages(view.store),
            Text(),
            _waiting(view.store),
        ]
    if view.broker is not None and view.store is not None:
        parts += [Text(), _queues(view.broker, view.store.canaries)]
    return Group(*parts)


def _price(reading: Reading, last: tuple[UnixSeconds, str, dict[str, Any]] | None) -> Iterable[RenderableType]:
    price = reading.price
    if price is None:
        yield Text("price      none yet", style="yellow")
    else:
        late = price.age_seconds > 120  # noqa: PLR2004 - two minutes, as the alert has it
        yield Text.assemble(
            "price      ", (f"${price.cents / 100:,.2f}", "bold"), f" ± {price.confidence_bps:g} bps, ",
            (f"{age(price.age_seconds)} old", "red" if late else "green"),
            f", {price.used} venues, quorum {price.quorum}",
        )  # fmt: skip
    if last is not None:
        minute, state, report = last
        why = f" ({report['reason']})" if state == RoundState.VOID and "reason" in report else ""
        yield Text(f"last round {iso(minute)} {state}{why}", style="red" if state == RoundState.VOID else "")
        for what in ("dropped", "absent"):
            for venue in report.get(what, ()):
                detail = venue.get("detail") or ""
                yield Text(
                    f"           {what} {venue['venue']}: {venue['reason']} {detail}".rstrip()[:WIDTH], style="yellow"
                )


def _stages(reading: Reading) -> RenderableType:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("options", "", "contracts", "", "settlements", "", "oldest", "transactions", ""):
        table.add_column(name, justify="left" if name and name != "oldest" else "right", no_wrap=True)
    for i in range(max(len(OPTION_STATES), len(SETTLEMENT_STATES), len(TRANSACTION_STATES))):
        settlement = SETTLEMENT_STATES[i] if i < len(SETTLEMENT_STATES) else None
        since = reading.oldest_settlement.get(settlement or "")
        bad = settlement == SettlementState.PARKED and reading.settlements.get(SettlementState.PARKED)
        table.add_row(
            *_cell(OPTION_STATES, i, reading.options),
            *_cell(CONTRACT_STATES, i, reading.contracts),
            *_cell(SETTLEMENT_STATES, i, reading.settlements),
            "" if since is None else age(since),
            *_cell(TRANSACTION_STATES, i, reading.transactions),
            style="red" if bad else "",
        )
    return table


def _cell(states: tuple[str, ...], i: int, counts: Mapping[str, int]) -> tuple[str, str]:
    return (states[i], f"{counts.get(states[i], 0):,}") if i < len(states) else ("", "")


def _waiting(reading: Reading) -> RenderableType:
    stopped = sum(n for name, n in reading.counters.items() if name.startswith(("duplicate", "late", "stale")))
    repaired = reading.counters.get("repairs", 0) + reading.counters.get("repaired_rounds", 0)
    lag = f", the oldest {age(reading.outbox_lag)}" if reading.outbox_waiting else ""
    lag += f"; {reading.outbox_set_aside} set aside" if reading.outbox_set_aside else ""
    premiums = "none" if reading.premiums_age is None else f"oldest {age(reading.premiums_age)}"
    height = "none" if reading.walked_height is None else f"{reading.walked_height:,}"
    lines = (
        f"outbox     {reading.outbox_waiting} wait{lag}",
        f"premiums   {premiums}, {reading.unpriced_options} options without",
        f"overdue    {reading.overdue_options} options",
        f"chain      watched to block {height}",
        f"locked     {reading.collateral_sats / 1e8:,.8f} BTC",
        _settled(reading.counters),
        f"stopped    {stopped:,} duplicates; {repaired:,} repairs",
    )
    return Text("\n".join(lines))


def _settled(counters: Mapping[str, int]) -> str:
    """Return what all confirmed settlements computed, paid and cost: three words, for they are three amounts."""
    payout, paid, _, fee, child = (counters.get(f"settled_{name}_sats", 0) for name in TOTALS)
    return f"settled    {paid / 1e8:,.8f} BTC paid, {payout / 1e8:,.8f} computed, {(fee + child) / 1e8:,.8f} fees"


def _queues(broker: BrokerReading, canaries: Mapping[str, int]) -> RenderableType:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name, justify in (("queue", "left"), ("waiting", "right"), ("oldest", "right"), ("consumed", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    for name, queue in broker.queues.items():
        seen = canaries.get(name)
        table.add_row(
            name,
            f"{queue.waiting:,}",
            "" if queue.oldest_seconds is None else age(queue.oldest_seconds),
            "" if seen is None else f"{age(seen)} ago",
            style="red" if seen is not None and seen > 120 else "",  # noqa: PLR2004 - as the alert has it
        )
    held = f"held by workers: {broker.unacked}"
    table.caption = held if broker.aof_enabled else f"{held}; the broker keeps no append-only file"
    table.caption_justify = "left"
    return table


def age(seconds: float) -> str:
    """Return a length of time to read: seconds, from two minutes on minutes, and so on."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
