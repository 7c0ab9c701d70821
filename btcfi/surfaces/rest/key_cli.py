"""``btcfi keys``: make, list and revoke API keys in the store."""

from __future__ import annotations

import json
import secrets
import time
from typing import Annotated

import typer

from btcfi.adapters.store.api_tables import ApiKeyRow
from btcfi.adapters.store.database import Store
from btcfi.errors import InvalidInputError
from btcfi.units import UnixSeconds

app = typer.Typer(
    name="keys", help="API keys.", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)  # fmt: skip

Database = Annotated[
    str, typer.Option("--database", envvar="DATABASE_URL", help="URL of the store, as the workers have it.")
]  # fmt: skip


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    database: Database,
    role: Annotated[list[str], typer.Option(help="read, trade or operate; may be given several times.")],
    days: Annotated[int, typer.Option(help="Days until it expires.", min=1, max=3650)] = 90,
    per_minute: Annotated[int, typer.Option(help="Requests a minute.", min=1, max=1_000_000)] = 6_000,
) -> None:
    """Make a key and print it: the only time that it is shown."""
    from btcfi.surfaces.rest.auth import create_key  # noqa: PLC0415 - brings FastAPI along

    if not 1 <= len(name) <= 100:  # noqa: PLR2004 - in the message
        raise InvalidInputError("name", f"{len(name)} characters", "1 to 100 characters")
    now = UnixSeconds(int(time.time()))
    store = Store(database)
    typer.echo(
        create_key(
            store,
            name=name,
            roles=role,
            entropy=secrets.token_bytes(40),
            now=now,
            expires_at=UnixSeconds(now + days * 86_400),
            requests_per_minute=per_minute,
        )
    )
    store.close()


@app.command("list")
def list_keys(
    database: Database, *, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """List the keys, without their secrets."""
    from sqlmodel import col, select  # noqa: PLC0415 - only here

    store = Store(database)
    with store.reading() as session:
        rows = session.exec(select(ApiKeyRow).order_by(col(ApiKeyRow.created_at_unix))).all()
        shown = [row.model_dump(exclude={"secret_sha256"}) for row in rows]
    store.close()
    if as_json:
        typer.echo(json.dumps({"keys": shown}))
        return
    for one in shown:
        state = "revoked" if one["revoked_at_unix"] else f"until {one['expires_at_unix']}"
        typer.echo(f"{one['id']}  {one['roles']:<18} {state:<20} {one['name']}")


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, 16 hex digits.")], database: Database) -> None:
    """End a key; servers notice within five seconds."""
    from btcfi.surfaces.rest.auth import revoke_key  # noqa: PLC0415 - brings FastAPI along

    store = Store(database)
    revoke_key(store, key_id, now=UnixSeconds(int(time.time())))
    store.close()
