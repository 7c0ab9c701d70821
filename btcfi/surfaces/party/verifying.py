"""``btcfi party verify``: a contract rebuilt from its messages, and said in plain words. No key and no node needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.store import PartyStore
from btcfi.contracts.explain import Explanation, Messages, verified
from btcfi.contracts.messages import Accept, Offer, Sign, decode_accept, decode_offer, decode_sign
from btcfi.contracts.option import MIN_REFUND_DELAY
from btcfi.contracts.payouts import decode_terms
from btcfi.errors import BtcfiError, InvalidInputError, NotHeldError
from btcfi.surfaces.party.oracles import read_announcement
from btcfi.surfaces.party.side import PROGRAM, Folder, command, contract_name, read_message
from btcfi.vm.program import load_program

DOES_NOT_HOLD = 1
"""Exit code."""

NARROWEST = 72
"""Columns: below it a table of three amounts breaks its lines."""


@command()
def verify(
    contract: Annotated[
        list[str],
        typer.Argument(
            help="A contract of yours; or the files of its messages: offer, accept, and sign if there is one."
        ),
    ],
    *,
    announcement: Annotated[
        list[Path] | None,
        typer.Option("--announcement", help="An oracle's announcement, as you got it from the oracle; repeat."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    min_refund_delay: Annotated[
        int, typer.Option("--min-refund-delay", help="Blocks from expiry to refund that you insist on.", min=1)
    ] = MIN_REFUND_DELAY,
    folder: Folder = Path("party"),
) -> None:
    """Rebuild a contract with your own guest, check every signature, and say what each side can and cannot do.

    Exit 0 if it holds, 1 if not.
    """
    messages = _of_files(contract) if len(contract) > 1 else _of_folder(folder, contract_name(contract[0]))
    known = [read_announcement(str(path)) for path in announcement or ()]
    try:
        guest = Guest(load_program(PROGRAM)).of(messages.offer.terms.announcements[0].event.program_hash)
        payouts = guest.payouts(decode_terms(messages.offer.terms.option))
        found = verified(messages, payouts, announcements=known, min_refund_delay=min_refund_delay)
    except NotHeldError:
        raise  # nothing is wrong with it: it cannot be checked here
    except BtcfiError as e:
        typer.echo(json.dumps({"holds": False, "problem": str(e)}) if as_json else f"It does NOT hold: {e}")
        raise typer.Exit(DOES_NOT_HOLD) from e
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        _print(found)


def _of_folder(folder: Path, name: str) -> Messages:
    kept = PartyStore(folder).load(name)
    if kept.accept is None:
        raise InvalidInputError(
            f"contract {name[:16]}", "has no answer yet", "the accept message: `btcfi party sign` it"
        )
    return Messages(offer=kept.offer, accept=kept.accept, sign=kept.sign)


def _of_files(files: Sequence[str]) -> Messages:
    """Return the messages of files, in any order. Raises InvalidInputError for one too many, or one that is missing."""
    found: dict[type, Any] = {}
    for file in files:
        message = _decoded(file)
        if type(message) in found:
            raise InvalidInputError(file, f"is a second {type(message).__name__.lower()} message", "one of each")
        found[type(message)] = message
    if Offer not in found or Accept not in found:
        raise InvalidInputError(
            "files", "without offer or accept message", "both, and the sign message if there is one"
        )
    return Messages(offer=found[Offer], accept=found[Accept], sign=found.get(Sign))


def _decoded(file: str) -> Offer | Accept | Sign:
    message = read_message(file)
    kind = message.get("type") if isinstance(message, dict) else None
    if kind == "btcfi/accept":
        return decode_accept(message)
    return decode_sign(message) if kind == "btcfi/sign" else decode_offer(message)


def _print(found: Explanation) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.width = max(console.width, NARROWEST)
    state = "signed by both" if found.signed_by_both else "not signed by both yet"
    console.print(f"It holds, {state}. {found.title}", markup=False)
    console.print(f"contract {found.contract_id}\nfunding  {found.funding_txid}", markup=False)
    for section in found.sections:
        console.print(f"\n{section.title}", markup=False)
        for line in section.lines:
            console.print(f"  {line}", markup=False)
    table = Table("price $", "buyer gets, sat", "seller gets, sat", title="\nPayoff", title_justify="left")
    for column in table.columns:
        column.justify = "right"
    for row in found.payoff:
        price = "knocked out" if row.price is None else f"{row.price / 100:,.2f}"
        table.add_row(price, f"{row.buyer:,}", f"{row.seller:,}")
    console.print(table)
