"""Commands that set a contract up: an offer, its answer, the signatures; and take it back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.buckets import Rounding
from btcfi.contracts.messages import (
    ContractTerms,
    Role,
    decode_accept,
    decode_announcement,
    decode_offer,
    decode_sign,
    encode_accept,
    encode_offer,
    encode_sign,
)
from btcfi.contracts.payouts import breakpoints_of, decode_terms
from btcfi.surfaces.party.screen import asking
from btcfi.surfaces.party.side import (
    Announcements,
    Out,
    Side,
    Yes,
    choice,
    command,
    read_message,
    say,
    write_message,
)
from btcfi.units import display_txid, height, sats


@command()
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
    side: Side,
) -> None:
    """Offer a contract: terms, oracles, and coins of your wallet."""
    fields = read_message(str(option))
    terms = decode_terms(fields)
    contract = ContractTerms(
        option=fields,
        collateral=terms.collateral,
        premium=sats(premium_sats),
        expiry_height=height(expiry_height),
        refund_height=height(refund_height),
        rate=SatsPerKvb(rate),
        step=sats(step_sats),
        rounding=choice(Rounding, "rounding", rounding),
        breakpoints=breakpoints_of(terms),
        announcements=tuple(decode_announcement(read_message(str(path))) for path in announcement),
        threshold=threshold,
    )
    desk = side.desk()
    made = desk.offer(contract, choice(Role, "role", role))
    write_message(out, encode_offer(made))
    say({"contract": made.id.hex(), "offer": out}, quiet=out == "-")


@command()
def accept(
    *,
    message: Annotated[str, typer.Argument(help="The offer: a file, - or a URL.")],
    announcement: Announcements,
    out: Out,
    yes: Yes = False,
    side: Side,
) -> None:
    """Check an offer against your mandate and every oracle's announcement as you have it; pre-sign its settlements."""
    offered = decode_offer(read_message(message))
    expected = [decode_announcement(read_message(str(file))) for file in announcement]
    accepted = side.desk(show=asking(yes=yes)).accept(offered, expected)
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
    contract: Annotated[str, typer.Argument(help="The contract, as `party status` names it.")],
    side: Side,
) -> None:
    """Take an unfunded contract back, also while its funding waits: spend the coins that you named to yourself."""
    back = side.desk().cancel(contract)
    say({"txid": display_txid(back.txid)})


@command()
def bump(
    *,
    contract: Annotated[str, typer.Argument(help="The contract, as `party status` names it.")],
    side: Side,
) -> None:
    """Pay more for a funding that waits, out of your own change or premium; either side may, and more than once."""
    child = side.desk().bump(contract)
    say({"txid": display_txid(child.txid)})
