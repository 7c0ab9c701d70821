"""``btcfi settle``: ask the workers for settlements."""

from __future__ import annotations

import getpass
import json
import time
from typing import Annotated

import typer

from btcfi.adapters.store.options.asking import ask_each
from btcfi.units import unix_seconds
from workers.deployed import open_store


def settle(
    option_ids: Annotated[list[str], typer.Argument(help="Ids of options.", metavar="OPTION_ID...")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Ask for the settlement of options: a row that the workers take up. Asking again changes nothing.

    Of an option that has ended it says how.
    """
    now, who = unix_seconds(int(time.time())), f"cli:{_user()}"
    store = open_store()
    with store.transaction() as session:
        asked = ask_each(session, option_ids, requested_by=who, now=now)
    store.close()
    if as_json:
        said = [{"option_id": one.option_id, "state": one.state, "answer": one.answer} for one in asked]
        typer.echo(json.dumps({"requests": said}))
        return
    for one in asked:
        typer.echo(f"{one.option_id}: {one}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unnamed"
