"""``btcfi settle``: ask the workers for settlements."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from btcfi.adapters.store.options.asking import ask_each
from btcfi.adapters.store.options.views import settlement_of
from btcfi.adapters.store.spine.database import Session
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
        said = [
            (one, _amounts(session, one.option_id)) for one in ask_each(session, option_ids, requested_by=who, now=now)
        ]
    store.close()
    if as_json:
        rows = [{"option_id": o.option_id, "state": o.state, "answer": o.answer, **amounts} for o, amounts in said]
        typer.echo(json.dumps({"requests": rows}))
        return
    for one, amounts in said:
        typer.echo(f"{one.option_id}: {one}{_words(amounts)}")


def _amounts(session: Session, option_id: str) -> dict[str, int | None]:
    """Return what the option's settlement computed and what its transaction pays; nothing before there is one."""
    found = settlement_of(session, option_id)
    return {} if found is None else {"payout_sats": found.payout_sats, "paid_sats": found.paid_sats}


def _words(one: Mapping[str, Any]) -> str:
    amounts = ((one.get("payout_sats"), "computed"), (one.get("paid_sats"), "paid"))
    said = ", ".join(f"{value:,} sats {what}" for value, what in amounts if value is not None)
    return f"; {said}" if said else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unnamed"
