"""Commands that set a contract up: an offer, its answer, the signatures; and take it back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Final

import typer

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.buckets import STANDARD_TOLERANCE, ToleranceRule
from btcfi.contracts.mandate_drafts import STANDARD_FIXING
from btcfi.contracts.messages import (
    ContractTerms,
    Role,
    decode_accept,
    decode_offer,
    decode_sign,
    encode_accept,
    encode_offer,
    encode_sign,
)
from btcfi.contracts.payouts import breakpoints_of, decode_terms, encode_terms
from btcfi.errors import InvalidInputError
from btcfi.options.order import parse_amount, parse_expiry, parse_sats, read_wanted
from btcfi.options.terms import OptionTerms, fixing_for, required_collateral, validate_terms
from btcfi.surfaces.cli import Once
from btcfi.surfaces.party.oracles import read_announcement
from btcfi.surfaces.party.screen import asking
from btcfi.surfaces.party.side import (
    Announcements,
    Coins,
    Contract,
    Out,
    PayTo,
    Side,
    Yes,
    carry,
    choice,
    command,
    contract_name,
    is_message,
    place,
    read_message,
    say,
    write_message,
)
from btcfi.surfaces.rest.times import iso
from btcfi.units import BasisPoints, Cents, UnixSeconds, display_txid, height

SLACK: Final = 12
"""Blocks that may come before the other side answers: two hours. It counts the delay from its own tip."""


@command()
def address(*, side: Side) -> None:
    """Print the address that pays this party's wallet, and nothing else."""
    typer.echo(side.desk().address())


@command(cls=Once)
def option(
    *,
    kind: Annotated[str, typer.Option("--kind", help="call, put, binary_call or binary_put.")],
    strike: Annotated[str, typer.Option("--strike", help="USD per BTC, e.g. 60000.00.")],
    quantity: Annotated[str, typer.Option("--quantity", help="BTC, in hundredths: 0.25.")],
    expiry: Annotated[str, typer.Option("--expiry", help="ISO 8601 with a zone, or +MINUTES from now.")],
    out: Annotated[Path, typer.Option("--out", help="Where the option's terms go, JSON.", callback=place)],
    barrier: Annotated[str | None, typer.Option("--barrier", help="Knock-out level, USD per BTC.")] = None,
    american: Annotated[bool, typer.Option("--american", help="May be exercised before expiry.")] = False,
    premium: Annotated[
        str | None, typer.Option("--premium", help="USD; what counts is the offer's --premium-sats.")
    ] = None,
    fixing: Annotated[
        str | None,
        typer.Option(
            "--fixing",
            help=f"What settles it: minute, twap:N or median:N (N minutes up to its expiry); {STANDARD_FIXING} if not "
            "given, of an American option its minute.",
        ),
    ] = None,
) -> None:
    """Write the terms of an option; its collateral follows from them."""
    now = UnixSeconds(int(time.time()))
    wanted = read_wanted(
        kind=kind, strike=strike, quantity=quantity, expiry=parse_expiry(expiry), barrier=barrier, american=american,
        fixing=fixing,
    )  # fmt: skip
    terms = OptionTerms(
        kind=wanted.kind, strike=wanted.strike, quantity=wanted.quantity, american=american, barrier=wanted.barrier,
        expiry=wanted.expiry.slot(now), premium=Cents(0) if premium is None else parse_amount(premium, "premium"),
        collateral=required_collateral(wanted.kind, wanted.quantity),
        fixing=fixing_for(wanted.fixing, american=american, preset=STANDARD_FIXING),
    )  # fmt: skip
    validate_terms(terms, now=now, spot=None)
    write_message(str(out), encode_terms(terms))
    said = {"option": str(out), "expiry": iso(terms.expiry), "fixing": str(terms.window)}
    say(said | {"collateral_sats": terms.collateral})


@command()
def send(
    file: Annotated[Path, typer.Argument(help="A message: an offer, an answer, an announcement, an attestation.")],
    *,
    to: Annotated[str, typer.Option("--to", help="The other side's folder, or an http(s) URL.")],
) -> None:
    """Carry a message to the other side: into a folder of theirs, whole or not at all, or by HTTP."""
    body = read_message(str(file))
    if not is_message(body):
        raise InvalidInputError(str(file), "is no message", "an offer, an answer, an option, what an oracle said")
    carry(body, file.name, to)
    say({"sent": file.name, "to": to})


@command()
def offer(
    *,
    option: Annotated[Path, typer.Option("--option", help="The option's terms, JSON.")],
    role: Annotated[str, typer.Option("--role", help="Your side: buyer or seller.")],
    announcement: Announcements,
    premium_sats: Annotated[str, typer.Option("--premium-sats", help="What the funding pays the seller.")],
    out: Out,
    expiry_height: Annotated[
        int | None, typer.Option("--expiry-height", help="No settlement at or below it; default: by the clock.")
    ] = None,
    refund_height: Annotated[
        int | None, typer.Option("--refund-height", help="From here on the seller is refunded; default: a day later.")
    ] = None,
    tolerance_bps: Annotated[
        int, typer.Option("--tolerance-bps", help="By how much of premium or payout a range of prices may differ.")
    ] = STANDARD_TOLERANCE,
    step_sats: Annotated[int | None, typer.Option("--step-sats", hidden=True)] = None,
    rounding: Annotated[str | None, typer.Option("--rounding", hidden=True)] = None,
    threshold: Annotated[int, typer.Option("--threshold", help="How many oracles must agree.", min=1)] = 1,
    rate: Annotated[int, typer.Option("--rate", help="Fee of the funding, sat/kvB.", min=1000)] = 2000,
    coin: Coins = None,
    pay_to: PayTo = "",
    side: Side,
) -> None:
    """Offer a contract: terms, oracles, and coins of your wallet."""
    _refuse_steps(step_sats, rounding)
    fields = read_message(str(option))
    terms = decode_terms(fields)
    desk = side.desk()
    expected, refund = desk.expected_heights(terms.expiry)
    contract = ContractTerms(
        option=fields,
        collateral=terms.collateral,
        premium=parse_sats(premium_sats, "premium-sats"),
        expiry_height=height(expected if expiry_height is None else expiry_height),
        refund_height=height(refund + SLACK if refund_height is None else refund_height),
        rate=SatsPerKvb(rate),
        rule=ToleranceRule(tolerance=BasisPoints(tolerance_bps)),
        breakpoints=breakpoints_of(terms),
        announcements=tuple(read_announcement(str(path)) for path in announcement),
        threshold=threshold,
    )
    brought = desk.outside_coins(coin or (), pay_to)
    made = desk.offer(contract, choice(Role, "role", role), outside=brought)
    write_message(out, encode_offer(made))
    say({"contract": made.id.hex(), "offer": out}, quiet=out == "-")


def _refuse_steps(step_sats: int | None, rounding: str | None) -> None:
    """Refuse the options of earlier releases: a step has no tolerance that equals it, and it was the owner's number."""
    for name, value in (("--step-sats", step_sats), ("--rounding", rounding)):
        if value is not None:
            expected = f"--tolerance-bps N in its place ({STANDARD_TOLERANCE} is the standard); see docs/contract.md"
            raise InvalidInputError(name, f"{value}, of contracts before version 3", expected)


@command()
def accept(
    *,
    message: Annotated[str, typer.Argument(help="The offer: a file, - or a URL.")],
    announcement: Announcements,
    out: Out,
    coin: Coins = None,
    pay_to: PayTo = "",
    yes: Yes = False,
    side: Side,
) -> None:
    """Check an offer against your mandate and every oracle's announcement as you have it; pre-sign its settlements."""
    offered = decode_offer(read_message(message))
    expected = [read_announcement(str(file)) for file in announcement]
    desk = side.desk(show=asking(yes=yes))
    brought = desk.outside_coins(coin or (), pay_to)
    accepted = desk.accept(offered, expected, outside=brought)
    write_message(out, encode_accept(accepted))
    say({"contract": accepted.offer_id.hex(), "accept": out}, quiet=out == "-")


@command()
def sign(
    *,
    message: Annotated[str, typer.Argument(help="The other side's accept or sign message: a file, - or a URL.")],
    out: Out = "-",
    yes: Yes = False,
    side: Side,
) -> None:
    """Answer an accept message with your signatures; or complete a sign message and broadcast the funding."""
    received = read_message(message)
    desk = side.desk(show=asking(yes=yes))
    if isinstance(received, dict) and received.get("type") == "btcfi/sign":
        funding = desk.complete(decode_sign(received))
        say({"funding_txid": display_txid(funding.txid)})
        return
    signed = desk.sign(decode_accept(received))
    write_message(out, encode_sign(signed))
    say({"contract_id": signed.contract_id.hex(), "sign": out}, quiet=out == "-")


@command()
def cancel(
    *,
    contract: Contract,
    side: Side,
) -> None:
    """Take an unfunded contract back, also while its funding waits: spend the coins that you named to yourself."""
    back = side.desk().cancel(contract_name(contract))
    say({"txid": display_txid(back.txid)})


@command()
def bump(
    *,
    contract: Contract,
    side: Side,
) -> None:
    """Pay more for a funding that waits, out of your own change or premium; either side may, and more than once."""
    child = side.desk().bump(contract_name(contract))
    say({"txid": display_txid(child.txid)})
