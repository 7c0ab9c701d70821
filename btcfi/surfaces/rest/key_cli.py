"""``btcfi keys``: make, list and revoke API keys in the store that the process opens."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from contextlib import closing
from typing import Annotated

import typer

from btcfi.adapters.store.access import views
from btcfi.adapters.store.spine.database import Store
from btcfi.errors import InvalidInputError
from btcfi.surfaces.rest.times import iso
from btcfi.units import UnixSeconds


def make_app(open_store: Callable[[], Store]) -> typer.Typer:
    """Return the group of commands. ``open_store``: returns the deployment's store, its tables in place."""
    app = typer.Typer(
        name="keys",
        help="Make, list and revoke API keys.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )

    @app.command()
    def create(
        name: Annotated[str, typer.Argument(help="Whose key it is.")],
        role: Annotated[list[str], typer.Option(help="read, trade or operate; may be given several times.")],
        days: Annotated[int, typer.Option(help="Days until it expires.", min=1, max=3650)] = 90,
        per_minute: Annotated[int, typer.Option(help="Requests a minute.", min=1, max=1_000_000)] = 6_000,
        account: Annotated[
            str | None, typer.Option(help="Name of a market's account whose things it reads; it signs nothing.")
        ] = None,
    ) -> None:
        """Make a key and print it: the only time that it is shown."""
        from btcfi.surfaces.rest.auth import create_key  # noqa: PLC0415 - brings FastAPI along

        if not 1 <= len(name) <= 100 or not name.isprintable():  # noqa: PLR2004 - in the message
            raise InvalidInputError("name", f"{len(name)} characters", "1 to 100 printable characters")
        now = _now()
        with closing(open_store()) as store:
            bound = None if account is None else _identity(store, account)
            text = create_key(
                store,
                name=name,
                roles=role,
                entropy=secrets.token_bytes(40),
                now=now,
                expires_at=UnixSeconds(now + days * 86_400),
                requests_per_minute=per_minute,
                account_id=bound,
            )
        typer.echo(text)

    @app.command("list")
    def list_keys(
        *, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False
    ) -> None:
        """List the keys, without their secrets."""
        with closing(open_store()) as store, store.reading() as session:
            shown = [row.model_dump(exclude={"secret_sha256"}) for row in views.api_keys(session)]
        if as_json:
            typer.echo(json.dumps({"keys": shown}))
            return
        for one in shown:
            ends = one["expires_at_unix"]
            state = "revoked" if one["revoked_at_unix"] else f"until {iso(ends)}" if ends else "for good"
            typer.echo(f"{one['id']}  {one['roles']:<18} {state:<26} {one['name']}")

    @app.command()
    def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, 16 hex digits.")]) -> None:
        """End a key; servers notice within five seconds."""
        from btcfi.surfaces.rest.auth import revoke_key  # noqa: PLC0415 - brings FastAPI along

        with closing(open_store()) as store:
            revoke_key(store, key_id, now=_now())

    return app


def _identity(store: Store, name: str) -> str:
    """Return the identity of an account's name. Raises NotFoundError."""
    from btcfi.adapters.store.market.accounts import account_by_name  # noqa: PLC0415 - numba: a sale's

    with store.reading() as session:
        return account_by_name(session, name).id


def _now() -> UnixSeconds:
    return UnixSeconds(int(time.time()))
