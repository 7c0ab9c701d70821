"""``btcfi parked list|show|requeue``: settlements that used up their attempts and wait for an operator."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from btcfi.adapters.store.options import settlements, views
from btcfi.adapters.store.options.tables import SettlementRow, SettlementState
from btcfi.adapters.store.spine import views as spine_views
from btcfi.adapters.store.spine.database import Session
from btcfi.documents import printable
from btcfi.errors import InvalidInputError
from btcfi.surfaces.rest.times import iso
from btcfi.units import UnixSeconds
from workers.deployed import open_store

app = typer.Typer(
    help="Settlements that wait for an operator.", no_args_is_help=True, pretty_exceptions_enable=False
)  # fmt: skip

LONGEST_FIELD = 1 << 20
"""Characters of one field of a settlement: its input is run again from here."""

LONGEST_EXCERPT = 100
"""Characters of a refused message in the list; the JSON has what was kept of it."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
SettlementId = Annotated[str, typer.Argument(help="The settlement's id.")]


@app.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List the parked settlements with the last error of each."""
    store = open_store()
    with store.reading() as session:
        rows = views.parked(session)
    store.close()
    if as_json:
        typer.echo(json.dumps({"parked": [row.model_dump(mode="json") for row in rows]}))
        return
    for row in rows:
        typer.echo(
            f"{printable(row.id, 100)}  {iso(row.updated_at_unix)}  {row.attempts} attempts  "
            f"{printable(row.last_error or 'no error noted', 1_000)}"
        )
    typer.echo(f"{len(rows)} parked", err=True)


@app.command()
def show(settlement_id: SettlementId, *, as_json: AsJson = False) -> None:
    """Show one parked settlement, its input included, to run it again with `btcfi prove --hex`."""
    store = open_store()
    with store.reading() as session:
        row = _parked(session, settlement_id)
    store.close()
    fields = row.model_dump(mode="json")
    if as_json:
        typer.echo(json.dumps(fields))
        return
    for name, value in fields.items():
        if value is not None:
            typer.echo(f"{name}: {printable(str(value), LONGEST_FIELD)}")


@app.command()
def requeue(settlement_id: SettlementId, *, as_json: AsJson = False) -> None:
    """Give a parked settlement new attempts."""
    store = open_store()
    with store.transaction() as session:
        settlements.requeue(session, _parked(session, settlement_id), now=UnixSeconds(int(time.time())))
    store.close()
    typer.echo(json.dumps({"id": settlement_id, "state": SettlementState.DUE}) if as_json else f"{settlement_id}: due")


@app.command()
def messages(*, as_json: AsJson = False) -> None:
    """List what was refused at the broker's door: messages that are not ours, once for each content."""
    store = open_store()
    with store.reading() as session:
        rows = spine_views.refused(session)
    store.close()
    if as_json:
        typer.echo(json.dumps({"refused": [row.model_dump(mode="json") for row in rows]}))
        return
    for row in rows:
        typer.echo(
            f"{iso(row.last_seen_unix)}  {row.times} times  {printable(row.queue, 100)}  {row.size_bytes:,} bytes  "
            f"{printable(row.reason, 200)}\n    {printable(row.excerpt, LONGEST_EXCERPT)}"
        )
    typer.echo(f"{len(rows)} different messages refused")


@app.command()
def outbox(*, as_json: AsJson = False) -> None:
    """List the outbox rows that could not be started, with the reason; newer code may start them yet."""
    store = open_store()
    with store.reading() as session:
        rows = spine_views.set_aside(session)
    store.close()
    if as_json:
        typer.echo(json.dumps({"set_aside": [row.model_dump(mode="json") for row in rows]}))
        return
    for row in rows:
        flow, arguments = printable(row.flow, 60), printable(row.arguments, LONGEST_EXCERPT)
        typer.echo(f"{printable(row.id, 60)}  {iso(row.created_at_unix)}  {flow} {arguments}\n    {row.problem}")
    typer.echo(f"{len(rows)} set aside", err=True)


def _parked(session: Session, settlement_id: str) -> SettlementRow:
    row = settlements.find_settlement(session, settlement_id)
    if row.state != SettlementState.PARKED:
        raise InvalidInputError("settlement", f"{settlement_id} is {row.state}", "a parked one")
    return row
