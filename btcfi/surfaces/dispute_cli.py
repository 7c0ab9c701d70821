"""``btcfi dispute``: a contract that computes over attested prices, enforced by a garbled circuit, between two folders.

    before:       dispute cost SHAPE --strikes ... --premium-sats ... --out PAYOFF.json       (what it weighs and loses)
    the writer:   dispute propose PAYOFF.json --announcement FILE ... --out proposal.json      (it claims later)
    the holder:   dispute accept proposal.json --announcement FILE ... --out acceptance.json   (it watches the claim)
    in turn:      dispute sign MESSAGE --out NEXT        six times; the holder's last one broadcasts the opening
    both:         dispute watch --attestation FILE ...   claims, disproves, is paid, says silence, is refunded
    either:       dispute publish NAME --out public.json; dispute register public.json --url URL  (a service watches)
    either:       dispute close NAME --payout-sats N --out close.json; the other: dispute close-sign close.json ...

Messages are files, ``-`` or http(s) URLs, carried as those of ``btcfi party``; ``dispute message`` says one again. What
is signed is within the mandate of its side (``btcfi party mandate new --disputes``), and shown before: of many ranges
some, and ``accept --payoff FILE`` compares all of them with a file of one's own. For regtest: the
argument behind the set-up has not been reviewed outside, and no coin beyond regtest is suggested.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from btcfi.adapters.files import read_untrusted
from btcfi.adapters.party.dispute_desk import DisputeDesk
from btcfi.adapters.party.dispute_files import DisputeFiles
from btcfi.adapters.party.dispute_public import public_part
from btcfi.adapters.party.dispute_watch import Report
from btcfi.adapters.party.identity import IDENTITY_FILE
from btcfi.adapters.party.identity import identity_secret as open_identity
from btcfi.bitcoin.fees import MAX_FEE_RATE, MIN_RELAY_FEE_RATE, FeeRule, SatsPerKvb
from btcfi.bitcoin.transaction import Transaction
from btcfi.contracts.messages import canonical
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled.deal import Draft, Payoff
from btcfi.disputes.garbled.opening import Side as Role
from btcfi.disputes.garbled.terms import MAX_BLOCKS, MIN_BLOCKS
from btcfi.disputes.public import decode_public, encode_public
from btcfi.documents import printable
from btcfi.errors import InvalidInputError, NotFoundError, PreconditionError
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import WrongAttestationError
from btcfi.payoffs.book_guest import PROGRAM
from btcfi.surfaces import dispute_watch_cli
from btcfi.surfaces.cli import Once
from btcfi.surfaces.dispute_cost import cost
from btcfi.surfaces.party.oracles import end_with, read_announcement, readable
from btcfi.surfaces.party.screen import confirm, in_lines, rows_screen
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

app.add_typer(dispute_watch_cli.app)
app.command(cls=Once)(cost)

BOND_SATS: Final = 100_000
FEE_SATS: Final = 400
"""Of each transaction by itself: its child pays what is asked for at the time."""

CHAIN: Final = "regtest"
_SHOWN: Final = 80

MESSAGES: Final = ("proposal", "acceptance", "commitments", "cut", "openings", "claims", "funding")
"""Of a contract, in their order."""

_MOST_RANGES: Final = 20
"""That are shown one by one; of more, so many."""

_MAX_KEY: Final = 1_000
"""Bytes of a file with an API key."""

Rate = Annotated[int, typer.Option("--rate", help="Fee rate of what both sign, sat/kvB.", min=MIN_RELAY_FEE_RATE)]
FeeRate = Annotated[
    int | None,
    typer.Option(
        "--feerate", help="Pay at least so much, sat/kvB; default: what your node asks for.", min=MIN_RELAY_FEE_RATE,
        max=MAX_FEE_RATE,
    ),
]  # fmt: skip
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
    dispute_blocks: Annotated[
        int, typer.Option("--dispute-blocks", help="Blocks to dispute a claim.", min=MIN_BLOCKS, max=MAX_BLOCKS)
    ] = 12,
    fee_sats: Annotated[int, typer.Option("--fee-sats", help="Of each transaction, by itself.", min=0)] = FEE_SATS,
    rate: Rate = 2000,
    valid_minutes: Annotated[int, typer.Option("--valid-minutes", help="How long it may be signed.", min=1)] = 60,
    yes: Yes = False,
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
    message = _desk(side, yes=yes).propose(draft, identity_secret=_identity(side, identity, identity_passphrase_file))
    write_message(out, message)
    name = wire.proposal_id(wire.decode_proposal(message)).hex()
    say({"dispute": name, "proposal": out, "valid_until": iso(draft.valid_until)}, quiet=out == "-")


@command(of=app, cls=Once)
def accept(
    message: Annotated[str, typer.Argument(help="The proposal: a file, - or a URL.")],
    *,
    announcement: Announcements,
    out: Out,
    payoff: Annotated[
        Path | None,
        typer.Option("--payoff", help="What it must pay: a file of `dispute cost --out` of your own; else refused."),
    ] = None,
    public_setup: Annotated[
        bool, typer.Option("--public-setup", help="A hash draws the cut: strangers can check the set-up.")
    ] = False,
    yes: Yes = False,
    side: Side,
) -> None:
    """Accept a proposal with fresh keys, coins of your wallet and the commitment to one cut."""
    received = read_message(message)
    proposal, ours = wire.decode_proposal(received), _by_event(announcement)
    if payoff is not None:
        _check_payoff(proposal.draft.payoff, wire.PAYOFF.read(read_message(str(payoff)), "payoff"))
    events = []
    for event in proposal.draft.events:
        if event[0].event.id not in ours:
            raise NotFoundError("announcement", event[0].event.id.hex()[:16], "--announcement FILE, from each oracle")
        events.append(ours[event[0].event.id])
    answer = _desk(side, yes=yes).accept(received, events, by_hash=public_setup)
    write_message(out, answer)
    say({"dispute": answer["proposal_id"], "acceptance": out}, quiet=out == "-")


@command(of=app, cls=Once)
def sign(
    message: Annotated[str, typer.Argument(help="The other side's last message: a file, - or a URL.")],
    *,
    out: Out = "-",
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
    reply = _desk(side, yes=yes).sign(received, identity_secret=ours)
    if isinstance(reply, Transaction):
        say({"opening_txid": display_txid(reply.txid)})
        return
    write_message(out, reply)
    say({"contract_id": reply["contract_id"], "type": reply["type"], "out": out}, quiet=out == "-")


@command(of=app, cls=Once)
def claim(name: Name, *, feerate: FeeRate = None, side: Side) -> None:
    """Claim what follows from the attestations of your folder: one claim, ever."""
    desk = _desk(side, feerate=feerate)
    say({"claim_txid": display_txid(desk.claim(_named(side, name)).txid)})


@command(of=app, cls=Once)
def watch(
    *,
    attestation: Annotated[list[str] | None, typer.Option("--attestation", help="What an oracle attested.")] = None,
    feerate: FeeRate = None,
    as_json: AsJson = False,
    side: Side,
) -> None:
    """Look at the chain and do what each contract needs of you now; run it at every block.

    An attestation that cannot be read or is wrong is named at the end, and the command fails; all else is done before.
    """
    desk = _desk(side, feerate=feerate)
    found, wrong = readable(attestation or [], list(desk.room.announced()))
    for source, one in found:
        try:
            desk.keep(one)
        except WrongAttestationError as e:
            wrong.append((source, e))
    _print(desk.watch(), as_json=as_json)
    end_with(wrong)


@command(of=app, cls=Once)
def show(
    name: Annotated[str, typer.Argument(help="One contract; without it all.")] = "",
    *,
    as_json: AsJson = False,
    side: Side,
) -> None:
    """Show where contracts stand, who must be online until when, and what each side can do; nothing is sent."""
    found = _named(side, name) if name else ""
    desk = _desk(side)
    _print([desk.show(found)] if found else desk.shown(), as_json=as_json)


@command(of=app, cls=Once)
def message(
    name: Name,
    kind: Annotated[str, typer.Argument(help=", ".join(MESSAGES) + ".")],
    *,
    out: Out,
    side: Side,
) -> None:
    """Say one of a contract's messages again, as it was sent or received: a folder restored from a copy asks for it."""
    found, files = _named(side, name), DisputeFiles(side.folder)
    kept = files.find(found, kind) if kind in MESSAGES else None
    if kept is None:
        known = ", ".join(one for one in MESSAGES if files.find(found, one) is not None)
        raise NotFoundError("message", printable(kind, _SHOWN), f"the contract has {known}")
    write_message(out, kept)
    say({"dispute": found, kind: out}, quiet=out == "-")


@command(of=app, cls=Once)
def withdraw(name: Name, *, side: Side) -> None:
    """Take a contract back of which no coin of yours is signed."""
    found = _named(side, name)
    _desk(side).withdraw(found)
    say({"dispute": found, "withdrawn": True})


@command(of=app, cls=Once)
def cancel(name: Name, *, feerate: FeeRate = None, side: Side) -> None:
    """Spend your coins of an opening that no block holds to yourself."""
    say({"txid": display_txid(_desk(side, feerate=feerate).cancel(_named(side, name)).txid)})


@command(of=app, cls=Once)
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
    write_message(out, _desk(side).ask_close(found, payout=sats(payout_sats), rate=SatsPerKvb(rate)))
    say({"dispute": found, "close": out}, quiet=out == "-")


@command("close-sign", of=app, cls=Once)
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
    received, desk = read_message(message), _desk(side)
    if isinstance(received, dict) and received.get("type") == wire.CLOSE_ANSWER:
        say({"close_txid": display_txid(desk.finish_close(received).txid)})
        return
    if payout_sats is None:
        raise InvalidInputError("--payout-sats", "missing", "what the holder gets, as you agree to it")
    answer = desk.answer_close(received, payout=sats(payout_sats))
    write_message(out, answer)
    say({"contract_id": answer["contract_id"], "answer": out}, quiet=out == "-")


# ---- a watcher


@command(of=app, cls=Once)
def publish(name: Name, *, out: Out, side: Side) -> None:
    """Write a contract's public part: what a watcher needs to follow it on the chain, and no secret."""
    found = public_part(DisputeFiles(side.folder), _named(side, name))
    write_message(out, encode_public(found))
    say({"dispute": found.id.hex(), "opening_txid": display_txid(found.opening.txid), "out": out}, quiet=out == "-")


@app.command(cls=Once)
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


def _desk(side: Side, *, feerate: int | None = None, yes: bool = True) -> DisputeDesk:
    node, keystore = side.chain(), side.opened()
    if (name := node.chain_info().chain) != CHAIN:
        raise PreconditionError("dispute", f"this node is on {name}", f"use one on {CHAIN}: it is not reviewed")
    party, rule = side.desk(keystore=keystore), FeeRule()
    if feerate is not None:
        least = SatsPerKvb(feerate)
        rule = FeeRule(
            floor=least, cap=SatsPerKvb(max(least, rule.cap)), deadline_cap=SatsPerKvb(max(least, rule.deadline_cap))
        )  # fmt: skip
    return DisputeDesk(
        side.store, keystore, node, wallet=party.wallet, fees=rule, authority=party.authority, show=_asking(yes=yes)
    )  # fmt: skip


def _asking(*, yes: bool) -> Callable[[Role, Draft], None]:
    def show(side: Role, draft: Draft) -> None:
        typer.echo(_screen(side, draft), err=True)
        confirm("Sign it?", f"disputed contract as its {side.value}", yes=yes)

    return show


def _screen(side: Role, draft: Draft) -> str:
    claims, oracles = side is Role.CLAIMANT, [one.oracle_key.hex() for one in draft.events[0]]
    expiries = [event[0].event.expiry for event in draft.events]
    starts, payouts = draft.payoff.ranges.starts, draft.payoff.ranges.payouts
    ranges = [f"from ${start:,} on: {paid:,} sat" for start, paid in zip(starts, payouts, strict=True)]
    if (count := len(ranges)) > _MOST_RANGES:
        places = [at * (count - 1) // (_MOST_RANGES - 1) for at in range(_MOST_RANGES)]
        hidden = f"{count - _MOST_RANGES} of {count} ranges are not shown, {min(payouts):,} to {max(payouts):,} sat"
        ranges = [
            *(ranges[at] for at in places),
            hidden if claims else f"{hidden}: `accept --payoff FILE` compares all",
        ]
    bar = draft.payoff.barrier
    ended = {} if bar is None else {
        "barrier": f"at ${bar.level:,} or {'above' if bar.up else 'below'} in any of them: {bar.rebate:,} sat instead"
    }  # fmt: skip
    pays = draft.premium if not claims else -draft.premium
    digits = "at once" if not draft.challenge_bond else f"when challenged, not before block {draft.claim_height:,}"
    return rows_screen(f"You are about to sign a disputed contract as its {side.value}.", {
        "computed": f"{draft.payoff.kind.value} of {len(draft.events)} outcomes, {iso(min(expiries))} to "
        f"{iso(max(expiries))}",
        "pays the verifier": in_lines(ranges),
        **ended,
        "premium": f"{abs(pays):,} sat, {'paid by you' if pays > 0 else 'paid to you'}",
        "collateral": f"{draft.collateral:,} sat, {'your own' if claims else 'of the claimant'}",
        "bond": f"{draft.bond:,} sat of the claimant, lost by a false claim",
        "challenge bond": f"{draft.challenge_bond:,} sat of the verifier, lost by a wrong challenge",
        "you put in": f"{draft.puts_in(side):,} sat, and half of the opening's fee",
        "worst case": "you lose all of it: by a mistake, or by being away",
        "digits are shown": digits,
        "each answer": f"within {draft.dispute_blocks:,} blocks",
        "silence": f"from block {draft.silence_height + 1:,} on the verifier claims it, and then all of the collateral",
        "refund": f"from block {draft.refund_height + 1:,} on the claimant takes back what nobody claimed",
        "a transaction pays": f"{draft.fee:,} sat by itself; a child of yours what is asked for then",
        "oracles": in_lines([f"{draft.threshold} of {len(oracles)} must agree on each outcome:", *oracles]),
    })  # fmt: skip


def _check_payoff(theirs: Payoff, ours: Payoff) -> None:
    """Check that a proposal pays what we expect, at every price. Raises InvalidInputError naming what differs."""
    for what in ("kind", "barrier"):
        if (said := getattr(theirs, what)) != (expected := getattr(ours, what)):
            raise InvalidInputError(f"payoff.{what}", f"{said}", f"{expected}, as in the file of --payoff")
    for start in sorted({*theirs.ranges.starts, *ours.ranges.starts}):
        if (said := _paid(theirs, start)) != (expected := _paid(ours, start)):
            raise InvalidInputError(
                f"payoff from {start:,} on", f"{said:,} sat", f"{expected:,} sat, as in the file of --payoff"
            )


def _paid(payoff: Payoff, value: int) -> int:
    return payoff.ranges.payouts[bisect_right(payoff.ranges.starts, value) - 1]


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
        typer.echo(f"{row['dispute'][:16]}  you: {row['you'] or 'unknown'}  {row['stage']}{verdict}{done}")
        for duty in row["clock"]:
            until = "" if duty["until"] is None else f" to {duty['until']:,}"
            typer.echo(f"  {duty['side']:<9} {duty['what']}: blocks {duty['since']:,}{until or ' on'}")
        if row["problem"]:
            typer.echo(f"  {row['problem']}", err=True)


def _row(report: Report) -> dict[str, Any]:
    here = report.position
    return {
        "dispute": report.name, "you": None if report.side is None else report.side.value,
        "stage": ("unknown" if report.problem else "being set up") if here is None else here.stage.value,
        "block": None if here is None else here.at, "range": None if here is None else here.number,
        "verdict": None if report.verdict is None else report.verdict.value, "sent": report.sent, "txid": report.txid,
        "problem": report.problem, "you_are_needed": any(one.side is report.side for one in report.duties),
        "clock": [asdict(one) | {"side": _WHO[one.side]} for one in report.duties],
    }  # fmt: skip


_WHO: Final = {Role.CLAIMANT: "claimant", Role.VERIFIER: "verifier"}
