"""``btcfi party``: one side of an option contract, with its own keys, on its own machine.

    seller: party init, party offer ... --out offer.json
    buyer:  party init, party accept offer.json --announcement oracle.json --out accept.json
    seller: party sign accept.json --out sign.json
    buyer:  party sign sign.json            (checks everything, signs last, broadcasts the funding)
    both:   party watch --attestation attestation.json

Messages are files, ``-`` (stdin, stdout) or http(s) URLs (read by GET, written by POST). The passphrase is asked for,
or read from a file; it never stands in an argument.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Final, get_type_hints

import typer

from btcfi.adapters.chain.node import Node
from btcfi.adapters.files import read_untrusted_json
from btcfi.adapters.keystore import create_keystore, open_keystore
from btcfi.adapters.party.desk import PartyDesk, encode_reports
from btcfi.adapters.party.guest import Guest, GuestAside
from btcfi.adapters.party.store import PartyStore
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.contracts.buckets import Rounding
from btcfi.contracts.messages import (
    MAX_MESSAGE_BYTES,
    ContractTerms,
    Role,
    decode_accept,
    decode_announcement,
    decode_attestation,
    decode_close_answer,
    decode_close_request,
    decode_offer,
    decode_sign,
    encode_accept,
    encode_close_answer,
    encode_close_request,
    encode_offer,
    encode_sign,
)
from btcfi.contracts.option import MIN_REFUND_DELAY
from btcfi.contracts.payouts import breakpoints_of, decode_terms
from btcfi.contracts.setup import SetupPolicy
from btcfi.documents import parse_json
from btcfi.errors import InvalidInputError, RetryableError, UnreachableError
from btcfi.surfaces.cli import run
from btcfi.units import display_txid, height, sats
from btcfi.vm.program import load_program

HTTP_TIMEOUT: Final = 30.0
NODE_TIMEOUT: Final = 60.0
"""Seconds."""

PROGRAM: Final = "option_settlement"

app = typer.Typer(
    name="party", help="One side of an option contract, with its own keys.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

Folder = Annotated[Path, typer.Option("--dir", help="The party's folder: keystore, contracts, coins.")]
NodeUrl = Annotated[str, typer.Option("--node", envvar="BITCOIN_NODE_URL", help="http://user:password@host:port")]
Cookie = Annotated[
    Path | None,
    typer.Option("--cookie-file", envvar="BITCOIN_COOKIE_FILE", help="The node's .cookie file, instead of a password."),
]
Passphrase = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="File whose first line is the passphrase; else it is asked for."),
]
Out = Annotated[str, typer.Option("--out", help="Where the message goes: a file, - or an http(s) URL.")]
Announcements = Annotated[
    list[Path], typer.Option("--announcement", help="An oracle's announcement, as you got it from the oracle; repeat.")
]
RefundDelay = Annotated[
    int, typer.Option("--min-refund-delay", help="Blocks from expiry to refund that you insist on.", min=1)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Whose side a command takes: the options that every command has."""

    folder: Folder = Path("party")
    node: NodeUrl = "http://127.0.0.1:18443"
    cookie_file: Cookie = None
    passphrase_file: Passphrase = None

    def chain(self) -> Node:
        """Return a connection to the party's node."""
        return Node(self.node, NODE_TIMEOUT, cookie_file=self.cookie_file)

    def desk(self, min_refund_delay: int = MIN_REFUND_DELAY, *, guest: Guest | None = None) -> PartyDesk:
        """Return the party's desk, its keystore opened with the passphrase. guest: who runs it; default, we do."""
        store = PartyStore(self.folder)
        return PartyDesk(
            store,
            open_keystore(store.keystore_path, _passphrase(self.passphrase_file)),
            self.chain(),
            guest or Guest(load_program(PROGRAM)),
            policy=SetupPolicy(min_refund_delay=min_refund_delay),
            fees=FeeRule(),
        )


def _command(name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command; where it has the parameter ``side``, the command line has the options of ``Side``."""
    hints = get_type_hints(Side, include_extras=True)
    options = [
        Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(Side)
    ]

    def put(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def command(**given: Any) -> None:  # noqa: ANN401 - as the command line gives it
            function(side=Side(**{one.name: given.pop(one.name) for one in options}), **given)

        whole = signature(function, eval_str=True)
        parts = [part for one in whole.parameters.values() for part in (options if one.name == "side" else [one])]
        command.__signature__ = whole.replace(parameters=parts)  # type: ignore[attr-defined]
        app.command(name)(command)
        return function

    return put


@_command()
def init(*, side: Side) -> None:
    """Create the party's keystore and print its address."""
    create_keystore(PartyStore(side.folder).keystore_path, _passphrase(side.passphrase_file, confirm=True))
    desk = side.desk()
    _say({"folder": str(side.folder), "address": desk.address()})


@_command()
def offer(
    *,
    option: Annotated[Path, typer.Option("--option", help="The option's terms, JSON.")],
    role: Annotated[str, typer.Option("--role", help="Your side: buyer or seller.")],
    announcement: Announcements,
    premium_sats: Annotated[int, typer.Option("--premium-sats", help="What the funding pays the seller.")],
    expiry_height: Annotated[int, typer.Option("--expiry-height", help="No settlement is mined at or below it.")],
    refund_height: Annotated[int, typer.Option("--refund-height", help="From here on the seller is refunded.")],
    out: Out,
    step_sats: Annotated[int, typer.Option("--step-sats", help="Payouts are rounded to this.", min=1)] = 10_000,
    rounding: Annotated[str, typer.Option("--rounding", help="down (to the seller) or up (to the buyer).")] = "down",
    threshold: Annotated[int, typer.Option("--threshold", help="How many oracles must agree.", min=1)] = 1,
    rate: Annotated[int, typer.Option("--rate", help="Fee of the funding, sat/kvB.", min=1000)] = 2000,
    min_refund_delay: RefundDelay = MIN_REFUND_DELAY,
    side: Side,
) -> None:
    """Offer a contract: terms, oracles, and coins of your wallet."""
    fields = _read_json(str(option))
    terms = decode_terms(fields)
    contract = ContractTerms(
        option=fields,
        collateral=terms.collateral,
        premium=sats(premium_sats),
        expiry_height=height(expiry_height),
        refund_height=height(refund_height),
        rate=SatsPerKvb(rate),
        step=sats(step_sats),
        rounding=_choice(Rounding, "rounding", rounding),
        breakpoints=breakpoints_of(terms),
        announcements=tuple(decode_announcement(_read_json(str(path))) for path in announcement),
        threshold=threshold,
    )
    desk = side.desk(min_refund_delay)
    made = desk.offer(contract, _choice(Role, "role", role))
    _write_json(out, encode_offer(made))
    _say({"contract": made.id.hex(), "offer": out}, quiet=out == "-")


@_command()
def accept(
    *,
    message: Annotated[str, typer.Argument(help="The offer: a file, - or a URL.")],
    announcement: Announcements,
    out: Out,
    min_refund_delay: RefundDelay = MIN_REFUND_DELAY,
    side: Side,
) -> None:
    """Check an offer against every oracle's announcement as you have it, and pre-sign every settlement."""
    offered = decode_offer(_read_json(message))
    expected = [decode_announcement(_read_json(str(file))) for file in announcement]
    accepted = side.desk(min_refund_delay).accept(offered, expected)
    _write_json(out, encode_accept(accepted))
    _say({"contract": accepted.offer_id.hex(), "accept": out}, quiet=out == "-")


@_command()
def sign(
    *,
    message: Annotated[str, typer.Argument(help="The other side's accept or sign message: a file, - or a URL.")],
    out: Out = "-",
    min_refund_delay: RefundDelay = MIN_REFUND_DELAY,
    side: Side,
) -> None:
    """Answer an accept message with your signatures; or complete a sign message and broadcast the funding."""
    received = _read_json(message)
    desk = side.desk(min_refund_delay)
    if isinstance(received, dict) and received.get("type") == "btcfi/sign":
        funding = desk.complete(decode_sign(received))
        _say({"funding_txid": display_txid(funding.txid)})
        return
    signed = desk.sign(decode_accept(received))
    _write_json(out, encode_sign(signed))
    _say({"contract_id": signed.contract_id.hex(), "sign": out}, quiet=out == "-")


@_command()
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
                "settlement_txid": display_txid(contract.settlement.txid) if contract.settlement else None,
            }
        )
    _say({"address": desk.address(), "spendable_sats": free, "reserved_sats": held, "contracts": contracts})


@_command()
def watch(
    *,
    attestation: Annotated[
        list[str] | None, typer.Option("--attestation", help="An oracle's attestation: a file or URL; repeat.")
    ] = None,
    min_refund_delay: RefundDelay = MIN_REFUND_DELAY,
    side: Side,
) -> None:
    """Walk the chain once and do what is due: broadcast again, settle by attestation, refund after silence."""
    attestations = [decode_attestation(_read_json(source)) for source in attestation or []]
    reports = side.desk(min_refund_delay).watch(attestations)
    _say(encode_reports(reports))


@_command()
def close(
    *,
    contract: Annotated[str, typer.Argument(help="The contract, as `party status` names it.")],
    payout_sats: Annotated[int, typer.Option("--payout-sats", help="What the buyer gets.", min=0)],
    out: Out,
    guest_input: Annotated[
        str, typer.Option("--guest-input", help="Early exercise: the guest's input, hex; it must compute the payout.")
    ] = "",
    rate: Annotated[int, typer.Option("--rate", help="Fee of the close, sat/kvB.", min=1000)] = 2000,
    side: Side,
    min_refund_delay: RefundDelay = MIN_REFUND_DELAY,
) -> None:
    """Ask the other side to close together now: early exercise, or any payout that you both want."""
    try:
        given = bytes.fromhex(guest_input)
    except ValueError as e:
        raise InvalidInputError("guest input", "not hex", "120 hex digits") from e
    desk = side.desk(min_refund_delay)
    request = desk.request_close(contract, payout=sats(payout_sats), rate=SatsPerKvb(rate), guest_input=given)
    _write_json(out, encode_close_request(request))
    _say({"contract": contract, "close": out}, quiet=out == "-")


@_command("close-sign")
def close_sign(
    *,
    message: Annotated[str, typer.Argument(help="A close request or an answer to yours: a file, - or a URL.")],
    payout_sats: Annotated[
        int | None, typer.Option("--payout-sats", help="The payout that you agree to; needed for an answer.", min=0)
    ] = None,
    out: Out = "-",
    side: Side,
    min_refund_delay: RefundDelay = MIN_REFUND_DELAY,
) -> None:
    """Answer a close request whose payout you agree to; or finish your own and broadcast it."""
    received = _read_json(message)
    desk = side.desk(min_refund_delay)
    if isinstance(received, dict) and received.get("type") == "btcfi/close-answer":
        closed = desk.finish_close(decode_close_answer(received))
        _say({"close_txid": display_txid(closed.txid)})
        return
    if payout_sats is None:
        raise InvalidInputError("--payout-sats", "missing", "the payout that you agree to")
    answer = desk.answer_close(decode_close_request(received), payout=sats(payout_sats))
    _write_json(out, encode_close_answer(answer))
    _say({"contract_id": answer.contract_id.hex(), "answer": out}, quiet=out == "-")


@_command("run")
def serve(
    *,
    inbox: Annotated[Path, typer.Option("--inbox", help="Folder of the other side's messages and of attestations.")],
    outbox: Annotated[Path, typer.Option("--outbox", help="Folder of your answers, and of status.json.")],
    orders: Annotated[Path, typer.Option("--orders", help="Folder of your orders: each becomes one offer.")],
    bids: Annotated[Path, typer.Option("--bids", help="Folder of terms that you accept, each once.")],
    every: Annotated[float, typer.Option("--every", help="Seconds between two looks.", min=0.05)] = 1.0,
    min_refund_delay: RefundDelay = MIN_REFUND_DELAY,
    side: Side,
) -> None:
    """Answer messages and watch until SIGTERM: your orders are offered, offers that equal a bid of yours accepted."""
    from btcfi.adapters.party.mail import PartyMail  # noqa: PLC0415 - only this command needs it

    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    chain = side.chain()
    desk = side.desk(min_refund_delay, guest=GuestAside(load_program(PROGRAM)))
    mail = PartyMail(desk, inbox=inbox, outbox=outbox, orders=orders, bids=bids)
    typer.echo(json.dumps({"running": str(side.folder), "address": desk.address()}))
    sys.stdout.flush()
    while not stopping.is_set():
        try:
            busy = mail.round(chain.block_count())
        except (RetryableError, OSError) as e:  # a full disk too: a party that ends watches no contract
            sys.stderr.write(f"btcfi party: {e}\n")
            busy = 0
        if not busy:
            stopping.wait(every)


@_command()
def cancel(
    *,
    contract: Annotated[str, typer.Argument(help="The contract, as `party status` names it.")],
    side: Side,
) -> None:
    """Take an unfunded contract back: spend the coins that you named in it to yourself."""
    back = side.desk().cancel(contract)
    _say({"txid": display_txid(back.txid)})


def _passphrase(path: Path | None, *, confirm: bool = False) -> str:
    if path is None:
        return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True))
    lines = path.read_text().splitlines()
    return lines[0] if lines else ""


def _choice(kind: Any, name: str, text: str) -> Any:  # noqa: ANN401 - one of two enumerations
    try:
        return kind(text)
    except ValueError as e:
        raise InvalidInputError(name, repr(text), " or ".join(member.value for member in kind)) from e


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _read_json(source: str) -> Any:  # noqa: ANN401 - JSON
    if source == "-":
        raw = sys.stdin.buffer.read(MAX_MESSAGE_BYTES + 1)
    elif _is_url(source):
        raw = _http("GET", source)
    else:
        return read_untrusted_json(Path(source), at_most=MAX_MESSAGE_BYTES, what="message", named=True)
    if len(raw) > MAX_MESSAGE_BYTES:
        raise InvalidInputError("message", "too long", f"at most {MAX_MESSAGE_BYTES} bytes")
    return parse_json(raw, "message")


def _write_json(target: str, message: dict[str, Any]) -> None:
    raw = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    if target == "-":
        sys.stdout.buffer.write(raw)
    elif _is_url(target):
        _http("POST", target, raw)
    else:
        Path(target).write_bytes(raw)


def _http(method: str, url: str, body: bytes | None = None) -> bytes:
    import httpx  # noqa: PLC0415 - only messages over HTTP need it

    try:
        answer = httpx.request(
            method, url, content=body, headers={"Content-Type": "application/json"}, timeout=HTTP_TIMEOUT
        )
        answer.raise_for_status()
    except httpx.HTTPError as e:
        raise UnreachableError("counterparty", url, str(e) or type(e).__name__, "check the URL or use files") from e
    return answer.content


def _say(value: dict[str, Any], *, quiet: bool = False) -> None:
    if not quiet:
        typer.echo(json.dumps(value, indent=1))


if __name__ == "__main__":
    run(app, name="btcfi party")
