"""``btcfi dispute``: a contract that computes over attested prices, enforced by a garbled circuit, between two folders.

    the writer:   dispute propose PAYOFF.json --announcement FILE ... --out proposal.json      (it claims later)
    the holder:   dispute accept proposal.json --announcement FILE ... --out acceptance.json   (it watches the claim)
    in turn:      dispute sign MESSAGE --out NEXT        six times; the holder's last one broadcasts the opening
    both:         dispute watch --attestation FILE ...   claims, disproves, is paid, says silence, is refunded
    either:       dispute publish NAME --out public.json; dispute register public.json --url URL  (a service watches)
    either:       dispute close NAME --payout-sats N --out close.json; the other: dispute close-sign close.json ...

Messages are files, ``-`` or http(s) URLs, carried as those of ``btcfi party``. For regtest: the argument behind the
set-up has not been reviewed outside, and no coin beyond regtest is suggested.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from btcfi.adapters.files import read_untrusted
from btcfi.adapters.party.dispute_desk import DisputeDesk, Report
from btcfi.adapters.party.dispute_files import DisputeFiles
from btcfi.adapters.party.dispute_public import public_part
from btcfi.adapters.party.identity import IDENTITY_FILE
from btcfi.adapters.party.identity import identity_secret as open_identity
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import Transaction
from btcfi.contracts.messages import canonical
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled.deal import Draft
from btcfi.disputes.garbled.opening import Side as Role
from btcfi.disputes.public import decode_public, encode_public
from btcfi.errors import InvalidInputError, NotFoundError, PreconditionError
from btcfi.oracle.announcement import Announcement
from btcfi.payoffs.book_guest import PROGRAM
from btcfi.surfaces.cli import Once
from btcfi.surfaces.party.oracles import read_announcement, read_attestation
from btcfi.surfaces.party.side import (
    Announcements,
    IdentityPassphrase,
    Out,
    Side,
    Yes,
    command,
    passphrase_of,
    read_message,
    say,
    write_message,
)
from btcfi.surfaces.rest.times import iso
from btcfi.units import Sats, UnixSeconds, display_txid, height, sats

app = typer.Typer(
    name="dispute", help="Contracts that compute over attested prices: propose, accept, sign, claim, watch.",
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

BOND_SATS: Final = 100_000
FEE_SATS: Final = 400
"""Of each transaction by itself: its child pays what is asked for at the time."""

CHAIN: Final = "regtest"

_MAX_KEY: Final = 1_000
"""Bytes of a file with an API key."""

Rate = Annotated[int, typer.Option("--rate", help="Fee rate, sat/kvB.", min=1000)]
Name = Annotated[str, typer.Argument(help="The contract: its proposal's id, or how that begins.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Identity = Annotated[
    Path | None, typer.Option("--identity", help="Your identity's keystore; default: identity.json in the folder.")
]


@command(of=app, cls=Once)
def propose(
    payoff: Annotated[
        Path, typer.Argument(help="JSON: kind, ranges {starts_usd, payouts_sats}, barrier or null; what ranges pay.")
    ],
    *,
    announcement: Announcements,
    out: Out,
    silence_height: Annotated[int, typer.Option("--silence-height", help="From here on the holder may claim silence.")],
    refund_height: Annotated[int, typer.Option("--refund-height", help="From here on you take back what nobody took.")],
    threshold: Annotated[int, typer.Option("--threshold", help="How many oracles must agree.", min=1)] = 1,
    premium_sats: Annotated[int, typer.Option("--premium-sats", help="What the holder pays you; below 0: you.")] = 0,
    bond_sats: Annotated[int, typer.Option("--bond-sats", help="Yours, lost by a false claim.")] = BOND_SATS,
    challenge_bond_sats: Annotated[
        int, typer.Option("--challenge-bond-sats", help="The holder's; more than 0: digits only when challenged.")
    ] = 0,
    claim_height: Annotated[int, typer.Option("--claim-height", help="With it: before which nothing is claimed.")] = 0,
    dispute_blocks: Annotated[int, typer.Option("--dispute-blocks", help="Blocks to dispute a claim.", min=1)] = 12,
    fee_sats: Annotated[int, typer.Option("--fee-sats", help="Of each transaction, by itself.", min=0)] = FEE_SATS,
    rate: Rate = 2000,
    valid_minutes: Annotated[int, typer.Option("--valid-minutes", help="How long it may be signed.", min=1)] = 60,
    identity: Identity = None,
    identity_passphrase_file: IdentityPassphrase = None,
    side: Side,
) -> None:
    """Propose a contract that you will claim, with coins of your wallet, under your identity's signature."""
    found = wire.PAYOFF.read(read_message(str(payoff)), "payoff")
    events = _by_event(announcement)
    draft = Draft(
        payoff=found, events=tuple(events[one] for one in sorted(events, key=lambda one: events[one][0].event.expiry)),
        threshold=threshold, collateral=Sats(max(*found.ranges.payouts, found.barrier.rebate if found.barrier else 0)),
        bond=sats(bond_sats), challenge_bond=sats(challenge_bond_sats), claim_height=height(claim_height),
        silence_height=height(silence_height), refund_height=height(refund_height), dispute_blocks=dispute_blocks,
        fee=sats(fee_sats), premium=premium_sats, rate=SatsPerKvb(rate),
        valid_until=UnixSeconds(int(time.time()) + 60 * valid_minutes),
    )  # fmt: skip
    message = _desk(side, rate).propose(draft, identity_secret=_identity(side, identity, identity_passphrase_file))
    write_message(out, message)
    name = wire.proposal_id(wire.decode_proposal(message)).hex()
    say({"dispute": name, "proposal": out, "valid_until": iso(draft.valid_until)}, quiet=out == "-")


@command(of=app, cls=Once)
def accept(
    message: Annotated[str, typer.Argument(help="The proposal: a file, - or a URL.")],
    *,
    announcement: Announcements,
    out: Out,
    rate: Rate = 2000,
    yes: Yes = False,
    side: Side,
) -> None:
    """Accept a proposal with fresh keys, coins of your wallet and the commitment to one cut."""
    received = read_message(message)
    proposal, ours = wire.decode_proposal(received), _by_event(announcement)
    events = []
    for event in proposal.draft.events:
        if event[0].event.id not in ours:
            raise NotFoundError("announcement", event[0].event.id.hex()[:16], "--announcement FILE, from each oracle")
        events.append(ours[event[0].event.id])
    answer = _desk(side, rate, yes=yes).accept(received, events)
    write_message(out, answer)
    say({"dispute": answer["proposal_id"], "acceptance": out}, quiet=out == "-")


@command(of=app)
def sign(
    message: Annotated[str, typer.Argument(help="The other side's last message: a file, - or a URL.")],
    *,
    out: Out = "-",
    rate: Rate = 2000,
    yes: Yes = False,
    identity: Identity = None,
    identity_passphrase_file: IdentityPassphrase = None,
    side: Side,
) -> None:
    """Answer any message of the set-up; the holder's answer to the last one is the opening, which is broadcast."""
    received = read_message(message)
    if not isinstance(received, dict):
        raise InvalidInputError("message", "is no object", "a message of a dispute")
    ours = None
    if received.get("type") == wire.ACCEPTANCE:  # the writer's first message of the set-up is signed by its identity
        ours = _identity(side, identity, identity_passphrase_file)
    reply = _desk(side, rate, yes=yes).sign(received, identity_secret=ours)
    if isinstance(reply, Transaction):
        say({"opening_txid": display_txid(reply.txid)})
        return
    write_message(out, reply)
    say({"contract_id": reply["contract_id"], "type": reply["type"], "out": out}, quiet=out == "-")


@command(of=app)
def claim(name: Name, *, rate: Rate = 2000, side: Side) -> None:
    """Claim what follows from the attestations of your folder: one claim, ever."""
    desk = _desk(side, rate)
    say({"claim_txid": display_txid(desk.claim(_named(side, name)).txid)})


@command(of=app)
def watch(
    *,
    attestation: Annotated[list[str] | None, typer.Option("--attestation", help="What an oracle attested.")] = None,
    rate: Rate = 2000,
    as_json: AsJson = False,
    side: Side,
) -> None:
    """Look at the chain and do what each contract needs of you now; run it at every block."""
    desk = _desk(side, rate)
    announced = [
        one
        for name in desk.files.names()
        for event in wire.decode_proposal(desk.files.find(name, "proposal")).draft.events
        for one in event
    ]
    _print(desk.watch([read_attestation(one, announced) for one in attestation or ()]), as_json=as_json)


@command(of=app)
def show(
    name: Annotated[str, typer.Argument(help="One contract; without it all.")] = "",
    *,
    rate: Rate = 2000,
    as_json: AsJson = False,
    side: Side,
) -> None:
    """Show where contracts stand, who must be online until when, and what each side can do; nothing is sent."""
    names = [_named(side, name)] if name else DisputeFiles(side.folder).names()
    desk = _desk(side, rate)
    _print([desk.show(one) for one in names], as_json=as_json)


@command(of=app)
def withdraw(name: Name, *, side: Side) -> None:
    """Take a contract back of which no coin of yours is signed."""
    found = _named(side, name)
    _desk(side, 2000).withdraw(found)
    say({"dispute": found, "withdrawn": True})


@command(of=app)
def cancel(name: Name, *, rate: Rate = 2000, side: Side) -> None:
    """Spend your coins of an opening that no block holds to yourself."""
    say({"txid": display_txid(_desk(side, rate).cancel(_named(side, name)).txid)})


@command(of=app)
def close(
    name: Name,
    *,
    payout_sats: Annotated[int, typer.Option("--payout-sats", help="What the holder gets.", min=0)],
    out: Out,
    rate: Rate = 2000,
    side: Side,
) -> None:
    """Ask the other side to close now, at an amount that you both want."""
    found = _named(side, name)
    write_message(out, _desk(side, rate).ask_close(found, payout=sats(payout_sats), rate=SatsPerKvb(rate)))
    say({"dispute": found, "close": out}, quiet=out == "-")


@command("close-sign", of=app)
def close_sign(
    message: Annotated[str, typer.Argument(help="A close request, or the answer to yours: a file, - or a URL.")],
    *,
    payout_sats: Annotated[
        int | None, typer.Option("--payout-sats", help="What the holder gets, for an answer to a request.", min=0)
    ] = None,
    out: Out = "-",
    side: Side,
) -> None:
    """Answer a close request whose amount you agree to; or finish your own and broadcast it."""
    received, desk = read_message(message), _desk(side, 2000)
    if isinstance(received, dict) and received.get("type") == wire.CLOSE_ANSWER:
        say({"close_txid": display_txid(desk.finish_close(received).txid)})
        return
    if payout_sats is None:
        raise InvalidInputError("--payout-sats", "missing", "what the holder gets, as you agree to it")
    answer = desk.answer_close(received, payout=sats(payout_sats))
    write_message(out, answer)
    say({"contract_id": answer["contract_id"], "answer": out}, quiet=out == "-")


# ---- a watcher


@command(of=app)
def publish(name: Name, *, out: Out, side: Side) -> None:
    """Write a contract's public part: what a watcher needs to follow it on the chain, and no secret."""
    found = public_part(DisputeFiles(side.folder), _named(side, name))
    write_message(out, encode_public(found))
    say({"dispute": found.id.hex(), "opening_txid": display_txid(found.opening.txid), "out": out}, quiet=out == "-")


@app.command()
def register(
    file: Annotated[str, typer.Argument(help="The public part: a file, - or a URL.")],
    *,
    url: Annotated[str, typer.Option("--url", help="The service that is to watch it.")],
    api_key_file: Annotated[Path | None, typer.Option("--api-key-file", help="A key of the role operate.")] = None,
) -> None:
    """Put a contract under a service's watch by its public part; again changes nothing."""
    from btcfi.surfaces.client import Client  # noqa: PLC0415 - httpx, which no other command of a dispute needs

    found = decode_public(read_message(file))
    key = None
    if api_key_file is not None:
        key = read_untrusted(api_key_file, at_most=_MAX_KEY, what="API key").decode("ascii", "replace").strip()
    with Client(url, key=key) as service:
        made = service.register_dispute(canonical(encode_public(found)))
    say({"dispute": made.id, "state": made.state, "url": url})


# ---- reading


def _desk(side: Side, rate: int, *, yes: bool = True) -> DisputeDesk:
    node, keystore = side.chain(), side.opened()
    if (name := node.chain_info().chain) != CHAIN:
        raise PreconditionError("dispute", f"this node is on {name}", f"use one on {CHAIN}: it is not reviewed")
    store = side.store
    return DisputeDesk(
        store, keystore, node, wallet=PartyWallet(store, keystore, node), rate=SatsPerKvb(rate),
        show=(lambda *_: None) if yes else _asked,
    )  # fmt: skip


def _asked(step: str, draft: Draft) -> None:
    lines = {
        "ranges": len(draft.payoff.ranges.starts), "events": len(draft.events), "collateral_sats": draft.collateral,
        "bond_sats": draft.bond, "challenge_bond_sats": draft.challenge_bond, "premium_sats": draft.premium,
        "silence_height": draft.silence_height, "refund_height": draft.refund_height,
        "dispute_blocks": draft.dispute_blocks,
    }  # fmt: skip
    for word, value in lines.items():
        typer.echo(f"  {word:<20} {value:,}", err=True)
    typer.confirm(f"{step}?", abort=True, err=True)


def _identity(side: Side, path: Path | None, words: Path | None) -> bytes:
    return open_identity(path or side.folder / IDENTITY_FILE, passphrase_of(words or side.passphrase_file))


def _by_event(files: list[Path]) -> dict[Any, tuple[Announcement, ...]]:
    found: dict[Any, list[Announcement]] = {}
    for file in files:
        one = read_announcement(str(file), program=PROGRAM)
        found.setdefault(one.event.id, []).append(one)
    return {event: tuple(sorted(some, key=lambda one: one.oracle_key)) for event, some in found.items()}


def _named(side: Side, name: str) -> str:
    found = [one for one in DisputeFiles(side.folder).names() if name and one.startswith(name)]
    if len(found) != 1:
        raise NotFoundError("dispute", name[:16], "`btcfi dispute show` has ours")
    return found[0]


# ---- saying


def _print(reports: list[Report], *, as_json: bool) -> None:
    rows = [_row(one) for one in reports]
    if as_json:
        typer.echo(json.dumps({"disputes": rows}))
        return
    for row in rows:
        done = f"; sent: {row['sent']} {row['txid']}" if row["sent"] else ""
        verdict = f"; the claim is {row['verdict']}" if row["verdict"] else ""
        typer.echo(f"{row['dispute'][:16]}  you: {row['you']}  {row['stage']}{verdict}{done}")
        for duty in row["clock"]:
            until = "" if duty["until"] is None else f" to {duty['until']:,}"
            typer.echo(f"  {duty['side']:<9} {duty['what']}: blocks {duty['since']:,}{until or ' on'}")
        if row["problem"]:
            typer.echo(f"  {row['problem']}", err=True)


def _row(report: Report) -> dict[str, Any]:
    here = report.position
    return {
        "dispute": report.name, "you": report.side.value, "stage": "being set up" if here is None else here.stage.value,
        "block": None if here is None else here.at, "range": None if here is None else here.number,
        "verdict": None if report.verdict is None else report.verdict.value, "sent": report.sent, "txid": report.txid,
        "problem": report.problem, "you_are_needed": any(one.side is report.side for one in report.duties),
        "clock": [asdict(one) | {"side": _WHO[one.side]} for one in report.duties],
    }  # fmt: skip


_WHO: Final = {Role.CLAIMANT: "claimant", Role.VERIFIER: "verifier"}
