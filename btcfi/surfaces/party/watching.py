"""Commands that look: the wallet and contracts as they stand, one watch round, and a process that answers."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.book_files import BookFiles
from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.guest import guest_here_or_aside
from btcfi.adapters.party.market_deals import MarketDeals
from btcfi.adapters.party.market_ledger import MARKET_FOLDER, MarketLedger
from btcfi.adapters.party.membership import Membership, joined, require_joined
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.adapters.party.watching import encode_reports
from btcfi.contracts.mandate import WrongMandateError
from btcfi.contracts.messages import encode_accept, encode_offer, encode_sign
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.surfaces.party.oracles import end_with, readable
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

if TYPE_CHECKING:
    from btcfi.adapters.chain.node import Node
    from btcfi.adapters.party.mail import PartyMail
    from btcfi.adapters.party.postman import Postman

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
    """Walk the chain once and do what is due: broadcast again, settle by attestation, refund after silence.

    An attestation that cannot be read is named at the end, and the command fails; all else is done before.
    """
    announced = [one for contract in side.store.contracts() for one in contract.offer.terms.announcements]
    announced += [one for book in BookFiles(side.store) for one in book.proposal.terms.announcements]
    found, wrong = readable(attestation or [], announced)
    say(encode_reports(side.desk().watch([one for _, one in found])))
    end_with(wrong)


@command("run")
def serve(
    *,
    desk: Annotated[
        str, typer.Option("--desk", help="URL of the desk that you have joined, where it is another by now.")
    ] = "",
    inbox: Annotated[
        Path | None,
        typer.Option(
            "--inbox",
            help="Folder of the other side's messages and of attestations. "
            "Default: letters of the desk that you have joined.",
        ),
    ] = None,
    outbox: Annotated[
        Path | None, typer.Option("--outbox", help="Folder of your answers, and of status.json; with --inbox.")
    ] = None,
    orders: Annotated[
        Path | None, typer.Option("--orders", help="Folder of your orders: each becomes one offer.")
    ] = None,
    bids: Annotated[Path | None, typer.Option("--bids", help="Folder of terms that you accept, each once.")] = None,
    every: Annotated[float, typer.Option("--every", help="Seconds between two looks.", min=0.05)] = 1.0,
    batches: Annotated[
        bool,
        typer.Option(
            "--batches",
            help="Let contracts of one expiry end together with others in one transaction, "
            "within what your mandate says of closes: less fees, and minutes later.",
        ),
    ] = False,
    side: Side,
) -> None:
    """Answer messages and watch until SIGTERM: your orders are offered, offers that equal a bid of yours accepted.

    Messages are letters of the desk that you have joined, or files of two folders. Your offers and takes at its market
    are signed as you made them. What needs neither is what your mandate says; else it is all that you say.
    """
    with side.store.answering():
        _answer(
            desk=desk, inbox=inbox, outbox=outbox, orders=orders, bids=bids, every=every, batches=batches, side=side
        )  # fmt: skip


def _answer(
    *, desk: str, inbox: Path | None, outbox: Path | None, orders: Path | None, bids: Path | None, every: float,
    batches: bool, side: Side,
) -> None:  # fmt: skip
    from btcfi.adapters.party.mail import PartyMail  # noqa: PLC0415 - only this command needs it

    stopping, woken = _until_a_signal()
    chain, keystore = side.chain(), side.opened()
    ours = side.desk(guest=guest_here_or_aside(load_program(PROGRAM)), show=log_line, keystore=keystore)
    _check_authority(ours, side.store)
    ours.batches.wanted = batches
    member = joined(side.folder, keystore)
    deals = None if member is None else MarketDeals(member, MarketLedger(side.folder / MARKET_FOLDER))
    folders = _folders(inbox, outbox, side)
    postman = None
    if inbox is None:
        member = require_joined(side.folder, keystore)
        postman = postman_of(replace(member, url=desk or member.url), keystore, *folders, arrived=woken)
    mail = PartyMail(
        ours, inbox=folders[0], outbox=folders[1], orders=orders, bids=bids, deals=deals,
        handled=(lambda: None) if postman is None else postman.handled.set,
    )  # fmt: skip
    if postman is not None:
        postman.start()
    typer.echo(json.dumps({"running": str(side.folder)} | ({} if postman is None else {"desk": postman.url})))
    sys.stdout.flush()
    while not stopping.is_set():
        woken.clear()
        if not _round(mail, chain) and not stopping.is_set():
            woken.wait(every)
    if postman is not None:
        postman.stop()


def _until_a_signal() -> tuple[Event, Event]:
    """Return what SIGTERM sets: that we end, and that whoever waits wakes."""
    stopping, woken = Event(), Event()

    def stop(*_: object) -> None:
        stopping.set()
        woken.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopping, woken


def _folders(inbox: Path | None, outbox: Path | None, side: Side) -> tuple[Path, Path]:
    """Return the folders of messages: those that are named, or our own for letters. Raises InvalidInputError."""
    if inbox is not None and outbox is not None:
        return inbox, outbox
    if inbox is not None or outbox is not None:
        missing = "--inbox" if inbox is None else "--outbox"
        raise InvalidInputError(missing, "is missing", "both folders; or neither, for letters of a desk")
    return side.folder / "mail" / "inbox", side.folder / "mail" / "outbox"


def _round(mail: PartyMail, chain: Node) -> int:
    try:
        return mail.round(chain.block_count())
    except (BtcfiError, OSError) as e:  # a full disk too: a party that ends watches no contract
        sys.stderr.write(f"btcfi party: {e}\n")
        return 0


def postman_of(member: Membership, keystore: Keystore, inbox: Path, outbox: Path, *, arrived: Event) -> Postman:
    """Return the postman of a party, on two connections of its own to the desk. arrived: set when a letter came."""
    from btcfi.adapters.party.postman import Postman  # noqa: PLC0415 - httpx; who carries files needs none
    from btcfi.adapters.signed_http import SignedHttp  # noqa: PLC0415 - as above

    fetching, sending = (
        SignedHttp(member.url, member.identity, keystore.request_secret(), member.desk, attempts=2) for _ in range(2)
    )
    return Postman(
        fetching, sending, member=member, keystore=keystore, inbox=inbox, outbox=outbox, arrived=arrived,
        say=lambda text: sys.stderr.write(f"btcfi party: {text}\n"),
    )  # fmt: skip


def _check_authority(desk: PartyDesk, store: PartyStore) -> None:
    """Raise WrongMandateError where nothing can be signed and nothing is to be watched.

    Open contracts are watched and settled without a mandate: theirs was given when they were signed.
    """
    try:
        desk.owner.mandate()
    except WrongMandateError as e:
        if not (store.names() or BookFiles(store).names()):
            raise
        sys.stderr.write(f"btcfi party: {e} Contracts that are signed are watched and settled.\n")
