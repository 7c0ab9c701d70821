"""``btcfi migrate``: the store's tables in the newest form; ``migrate parties``: two mailbox folders as accounts."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from btcfi.adapters.desk_key import load_desk
from btcfi.adapters.files import make_private, read_untrusted_json
from btcfi.adapters.store.market.adoption import Adopted, adopt
from btcfi.contracts.messages import Role
from btcfi.market.account import SignedRegistration, decode_signed_registration
from btcfi.surfaces.party.simulating import REGISTRATION_FILE
from settings.deployment import load_deployment
from workers.deployed import open_store

MAX_REGISTRATION_BYTES: Final = 1 << 16


class What(StrEnum):
    """What is brought to a newer form."""

    STORE = "store"
    PARTIES = "parties"


def migrate(
    what: Annotated[
        What, typer.Argument(help="store: its tables. parties: the seller and the buyer of the mailbox folders.")
    ] = What.STORE,
    *,
    revision: Annotated[str, typer.Option(help="Alembic revision of the store; default: the newest")] = "head",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Bring the store's tables to the newest form, what is in them stays; or make the two parties accounts.

    `migrate parties` registers the embedded seller and buyer by what each signed (`registration.json` in its mailbox
    folder) and gives them the options that are nobody's. Again changes nothing but what was sold meanwhile.
    """
    if what is What.PARTIES:
        _parties(as_json=as_json)
        return
    make_private(load_deployment().data_dir, named=True)
    store = open_store(migrated=False)
    at = store.migrate(revision)
    if as_json:
        typer.echo(json.dumps({"store": store.where, "revision": at}))
    else:
        typer.echo(f"{store.where} is at {at}", err=True)
    store.close()


def _parties(*, as_json: bool) -> None:
    deployment = load_deployment()
    store = open_store()
    desk = load_desk(deployment.desk_key_file)
    registrations = {role: _registration(deployment.parties_dir / role.value) for role in Role}
    with store.transaction() as session:
        found = adopt(session, registrations, desk=desk.desk_key, now=store.now())
    store.close()
    typer.echo(json.dumps(_described(found)) if as_json else _told(found))


def _registration(mailbox: Path) -> SignedRegistration:
    """Return what a party has left in its mailbox: anybody's word until its signature is checked."""
    hint = "the process of this party writes it when it starts: `btcfi party simulate`"
    file = mailbox / REGISTRATION_FILE
    raw = read_untrusted_json(file, at_most=MAX_REGISTRATION_BYTES, what="registration", hint=hint)
    return decode_signed_registration(raw)


def _described(found: Adopted) -> dict[str, object]:
    accounts = {
        role.value: {"account": row.id, "name": row.name, "carrier": row.carrier}
        for role, row in found.accounts.items()
    }  # fmt: skip
    return {"accounts": accounts, "options": found.options}


def _told(found: Adopted) -> str:
    lines = [f"{row.name} is account {row.id}, by {row.carrier}" for row in found.accounts.values()]
    return "\n".join([*lines, f"{found.options} options that were nobody's are theirs"])
