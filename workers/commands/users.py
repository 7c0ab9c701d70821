"""``btcfi users``: who may sign in to the operator console."""

from __future__ import annotations

import getpass
import json
import os
import sys
import time
from typing import Annotated, Final

import typer

from btcfi.errors import InvalidInputError
from btcfi.surfaces.rest.times import iso
from btcfi.units import UnixSeconds
from dashboards.operator import accounts
from workers.deployed import open_store

PASSWORD: Final = "BTCFI_CONSOLE_PASSWORD"  # noqa: S105 - the name of the variable, not its value
"""A password for a script; it is never an argument, since every user of the machine can read those."""

app = typer.Typer(
    help="Who may sign in to the operator console.", no_args_is_help=True, pretty_exceptions_enable=False
)  # fmt: skip

Name = Annotated[str, typer.Argument(help="a-z, 0-9, dot, dash, underscore; at most 64.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command()
def add(
    name: Name,
    role: Annotated[
        list[str], typer.Option(help="read, trade or operate; give several by repeating it. Operators need read too.")
    ],
) -> None:
    """Make an account; its password is asked for, or read from stdin or BTCFI_CONSOLE_PASSWORD."""
    accounts.check_name(name)
    accounts.check_roles(role)
    password = _password()
    store = open_store()
    accounts.add_account(store, name, password, role, now=_now(), by=_by())
    store.close()
    typer.echo(f"{name} may sign in", err=True)


@app.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List the accounts, without their passwords' hashes."""
    store = open_store()
    rows = accounts.list_accounts(store)
    store.close()
    if as_json:
        typer.echo(json.dumps({"users": [row.model_dump(exclude={"password_hash"}) for row in rows]}))
        return
    for row in rows:
        state = f"disabled {iso(row.disabled_at_unix)}" if row.disabled_at_unix else "open"
        typer.echo(f"{row.name:<20} {row.roles:<20} {state}")
    typer.echo(f"{len(rows)} accounts", err=True)


@app.command()
def disable(name: Name) -> None:
    """Close an account and end its sessions at once; a new password opens it again."""
    store = open_store()
    accounts.disable_account(store, name, now=_now(), by=_by())
    store.close()
    typer.echo(f"{name} is disabled", err=True)


@app.command()
def password(name: Name) -> None:
    """Give an account a new password and end its sessions."""
    new = _password()
    store = open_store()
    accounts.set_password(store, name, new, now=_now(), by=_by())
    store.close()
    typer.echo(f"{name} has a new password", err=True)


def _password() -> str:
    given = os.environ.get(PASSWORD)
    if given is None and not sys.stdin.isatty():
        given = sys.stdin.readline().rstrip("\r\n")
    if given is None:
        given = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if not given:
        raise InvalidInputError("password", "none was given", f"one at the prompt, on stdin or in {PASSWORD}")
    return accounts.check_password(given)


def _by() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a container's user may have no name
        return "cli:unnamed"


def _now() -> UnixSeconds:
    return UnixSeconds(int(time.time()))
