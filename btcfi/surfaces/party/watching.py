"""Commands that look: the wallet and contracts as they stand, one watch round, and a process that answers."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Final

import typer

from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.guest import GuestAside
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.adapters.party.watching import encode_reports
from btcfi.contracts.mandate import WrongMandateError
from btcfi.contracts.messages import encode_accept, encode_offer, encode_sign
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.surfaces.party.oracles import read_attestation
from btcfi.surfaces.party.screen import log_line
from btcfi.surfaces.party.side import (
    PROGRAM,
    Out,
    Side,
    command,
    contract_name,
    place,
    say,
    write_message,
)
from btcfi.units import display_txid
from btcfi.vm.program import load_program

_MESSAGES: Final[dict[str, Callable[[Any], dict[str, Any]]]] = {
    "offer": encode_offer, "accept": encode_accept, "sign": encode_sign,
}  # fmt: skip


@command()
def status(*, side: Side) -> None:
    """Print the wallet and every contract as this party has it, without doing anything."""
    store = PartyStore(side.folder)
    desk = side.desk()
    free, held = desk.balance()
    contracts = []
    for name in store.names():
        contract = store.load(name)
        contracts.append(
            {
                "contract": name,
                "role": contract.role.value,
                "collateral_sats": contract.offer.terms.collateral,
                "accepted": contract.accept is not None,
                "signed": contract.sign is not None,
                "funding_txid": display_txid(contract.funding.txid) if contract.funding else None,
                "cancelled_txid": display_txid(contract.cancelled.txid) if contract.cancelled else None,
                "withdrawn": contract.withdrawn,
                "settlement_txid": display_txid(contract.settlement.txid) if contract.settlement else None,
            }
        )
    say({"address": desk.address(), "spendable_sats": free, "reserved_sats": held, "contracts": contracts})


@command()
def message(
    *,
    contract: Annotated[
        str, typer.Argument(help="The contract, as `party status` names it, or the file of its offer.")
    ],
    kind: Annotated[str, typer.Argument(help="offer, accept or sign.")],
    out: Out,
    side: Side,
) -> None:
    """Write one of a contract's messages again, as it was sent or received: a file may be lost, or the disk be full."""
    if kind not in _MESSAGES:
        raise InvalidInputError("message", repr(kind), " or ".join(_MESSAGES))
    kept = PartyStore(side.folder).load(contract_name(contract))
    if (found := getattr(kept, kind)) is None:
        raise NotFoundError("message", kind, f"the contract has none yet; it has {', '.join(_held(kept))}")
    write_message(str(place(out)), _MESSAGES[kind](found))
    say({"contract": kept.offer.id.hex(), kind: out}, quiet=out == "-")


def _held(contract: PartyContract) -> list[str]:
    return [kind for kind in _MESSAGES if getattr(contract, kind) is not None]


@command()
def watch(
    *,
    attestation: Annotated[
        list[str] | None, typer.Option("--attestation", help="An oracle's attestation: a file or URL; repeat.")
    ] = None,
    side: Side,
) -> None:
    """Walk the chain once and do what is due: broadcast again, settle by attestation, refund after silence."""
    announced = [one for contract in side.store.contracts() for one in contract.offer.terms.announcements]
    attestations = [read_attestation(source, announced) for source in attestation or []]
    reports = side.desk().watch(attestations)
    say(encode_reports(reports))


@command("run")
def serve(
    *,
    inbox: Annotated[Path, typer.Option("--inbox", help="Folder of the other side's messages and of attestations.")],
    outbox: Annotated[Path, typer.Option("--outbox", help="Folder of your answers, and of status.json.")],
    orders: Annotated[
        Path | None, typer.Option("--orders", help="Folder of your orders: each becomes one offer.")
    ] = None,
    bids: Annotated[Path | None, typer.Option("--bids", help="Folder of terms that you accept, each once.")] = None,
    every: Annotated[float, typer.Option("--every", help="Seconds between two looks.", min=0.05)] = 1.0,
    side: Side,
) -> None:
    """Answer messages and watch until SIGTERM: your orders are offered, offers that equal a bid of yours accepted.

    What needs neither is what your mandate says; without both folders it is all that you say.
    """
    with side.store.answering():
        _answer(inbox=inbox, outbox=outbox, orders=orders, bids=bids, every=every, side=side)


def _answer(*, inbox: Path, outbox: Path, orders: Path | None, bids: Path | None, every: float, side: Side) -> None:
    from btcfi.adapters.party.mail import PartyMail  # noqa: PLC0415 - only this command needs it

    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    chain = side.chain()
    desk = side.desk(guest=GuestAside(load_program(PROGRAM)), show=log_line)
    _check_authority(desk, side.store)
    mail = PartyMail(desk, inbox=inbox, outbox=outbox, orders=orders, bids=bids)
    typer.echo(json.dumps({"running": str(side.folder)}))
    sys.stdout.flush()
    while not stopping.is_set():
        try:
            busy = mail.round(chain.block_count())
        except (BtcfiError, OSError) as e:  # a full disk too: a party that ends watches no contract
            sys.stderr.write(f"btcfi party: {e}\n")
            busy = 0
        if not busy:
            stopping.wait(every)


def _check_authority(desk: PartyDesk, store: PartyStore) -> None:
    """Raise WrongMandateError where nothing can be signed and nothing is to be watched.

    Open contracts are watched and settled without a mandate: theirs was given when they were signed.
    """
    try:
        desk.owner.mandate()
    except WrongMandateError as e:
        if not store.names():
            raise
        sys.stderr.write(f"btcfi party: {e} Contracts that are signed are watched and settled.\n")
