"""``btcfi settle``: ask the workers for settlements."""

from __future__ import annotations

import getpass
import json
import time
from typing import Annotated

import typer

from btcfi.adapters.store.options.settlements import request_settlement
from btcfi.units import unix_seconds
from workers.deployed import open_store


def settle(
    option_ids: Annotated[list[str], typer.Argument(help="Ids of options.", metavar="OPTION_ID...")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Ask for the settlement of options: a row that the workers take up. Asking again changes nothing."""
    now, who = unix_seconds(int(time.time())), f"cli:{_user()}"
    store = open_store()
    with store.transaction() as session:  # all of them or, when one is unknown, none
        rows = [
            request_settlement(session, option_id, requested_by=who, now=now) for option_id in dict.fromkeys(option_ids)
        ]
        said = [{"option_id": row.option_id, "state": row.state, "answer": row.answer} for row in rows]
    store.close()
    if as_json:
        typer.echo(json.dumps({"requests": said}))
        return
    for one in said:
        typer.echo(f"{one['option_id']}: {one['state']}" + (f" ({one['answer']})" if one["answer"] else ""))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unnamed"
