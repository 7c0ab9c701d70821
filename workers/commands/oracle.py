"""``btcfi oracle held|import|release``: after a restore, what the oracles may have attested since the backup."""

from __future__ import annotations

import getpass
import json
import time
from pathlib import Path
from typing import Annotated

import typer

from btcfi.adapters.files import read_untrusted_json
from btcfi.adapters.store.options import holds
from btcfi.contracts.messages import decode_attestation
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.oracle.attestation import Attestation
from btcfi.surfaces.rest.times import iso
from btcfi.units import UnixSeconds
from workers.deployed import open_store

app = typer.Typer(
    help="After a restore: what the oracles may have attested since the backup.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

MAX_FILE_BYTES = 1 << 16
"""An attestation of the most digits has a twentieth of it."""


@app.command()
def held(*, as_json: AsJson = False) -> None:
    """List the events that are neither attested nor settled before you decide, and how to decide."""
    store = open_store()
    with store.reading() as session:
        rows = holds.held_events(session)
    store.close()
    if as_json:
        found = [
            {
                **held.model_dump(),
                "feed": event.feed,
                "expiry_unix": event.expiry_unix,
                "expiry": iso(event.expiry_unix),
            }
            for held, event in rows
        ]
        typer.echo(json.dumps({"held": found}))
        return
    for row, event in rows:
        typer.echo(f"{row.event_id}  {event.feed} of {iso(event.expiry_unix)}  backup of {iso(row.taken_at_unix)}")
    typer.echo(f"{len(rows)} held", err=True)
    if rows:
        typer.echo(
            "The oracles may have attested these after the backup; a second outcome would give their keys away.\n"
            "  btcfi oracle import FILE...                     what was published: parties have it in their inboxes\n"
            "  btcfi oracle release EVENT... --none-published  nobody has an attestation of it",
            err=True,
        )


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Attestations: *.attestation.json of a party or of the console.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Take published attestations into the ledger, every signature checked; each releases its event with its outcome.

    All or none: a forged one, or one that contradicts the ledger, imports nothing. One of an event that this store has
    never announced is left out.
    """
    found = [(file, _read(file)) for file in files]
    counted = {"imported": 0, "known": 0, "unknown_events": 0}
    store = open_store()
    with store.transaction() as session:
        for file, attestation in found:
            try:
                new = holds.import_attestation(session, attestation, now=_now(), by=getpass.getuser())
            except NotFoundError as e:
                counted["unknown_events"] += 1
                typer.echo(f"btcfi: {file}: {e}", err=True)
            else:
                counted["imported" if new else "known"] += 1
    store.close()
    said = f"{counted['imported']} imported, {counted['known']} known, {counted['unknown_events']} of unknown events"
    typer.echo(json.dumps(counted) if as_json else said)


@app.command()
def release(
    events: Annotated[list[str] | None, typer.Argument(help="Events, as `btcfi oracle held` prints them.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every held event.")] = False,
    none_published: Annotated[
        bool, typer.Option("--none-published", help="You have asked: nobody holds an attestation of them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Release events on your word that no attestation of them was published; it is written into the event log."""
    if not none_published:
        raise InvalidInputError(
            "release",
            "without --none-published",
            "that word, after asking the parties: a second outcome gives keys away",
        )
    if bool(events) == every:
        raise InvalidInputError("release", "both or none of EVENT and --all", "one of them")
    store = open_store()
    with store.transaction() as session:
        chosen = [row.event_id for row, _ in holds.held_events(session)] if every else list(events or ())
        for event in chosen:
            holds.release(session, event, now=_now(), by=getpass.getuser())
    store.close()
    typer.echo(json.dumps({"released": chosen}) if as_json else f"{len(chosen)} released")


def _read(file: Path) -> Attestation:
    return decode_attestation(read_untrusted_json(file, at_most=MAX_FILE_BYTES, what="attestation", named=True))


def _now() -> UnixSeconds:
    return UnixSeconds(int(time.time()))
