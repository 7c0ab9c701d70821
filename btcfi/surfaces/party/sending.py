"""Commands that pay out of the party's own wallet: what no contract needs, to an address of its owner's."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Final

import typer

from btcfi.adapters.party.market_ledger import MARKET_FOLDER, MarketLedger
from btcfi.adapters.party.sending import Spending
from btcfi.adapters.party.store import Payment
from btcfi.bitcoin.address import decode_address, encode_address
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.errors import InvalidInputError
from btcfi.market.firm_offer import deal_of
from btcfi.surfaces.party.screen import confirm, rows_screen
from btcfi.surfaces.party.side import Side, Yes, command, say
from btcfi.units import Sats, display_txid, parse_txid, sats

_SATS_PER_BTC: Final = 100_000_000
_AMOUNT: Final = re.compile(r"(?:([0-9]{1,16})sat|([0-9]{1,8}(?:\.[0-9]{1,8})?)btc)", re.ASCII)
ALL: Final = "all"

Rate = Annotated[
    int | None, typer.Option("--rate", help="Fee rate, sat/kvB; default: what your node asks for.", min=1000)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Which = Annotated[str, typer.Argument(metavar="TXID", help="As `btcfi party payments` lists it.")]


@command()
def send(
    *,
    address: Annotated[str, typer.Argument(help="Who is paid, on your node's network.")],
    amount: Annotated[str, typer.Argument(help="0.015btc, 1500000sat, or all: the unit must stand there.")],
    rate: Rate = None,
    yes: Yes = False,
    as_json: AsJson = False,
    side: Side,
) -> None:
    """Pay out of your wallet: coins that no contract names and no take of yours waits for; you are asked.

    The payment may be replaced until a block holds it: `btcfi party send-more TXID`.
    """
    wanted = amount_with_unit(amount)
    desk = side.desk()
    network = side.chain().chain_info().chain
    script = decode_address(address, network)
    promised = promised_to_takes(side, set(desk.orders()))
    paid = desk.payments.send(
        script, wanted, rate=None if rate is None else SatsPerKvb(rate), promised=promised,
        ask=_asking(network, yes=yes, quiet=as_json),
    )  # fmt: skip
    _said(paid, network, as_json=as_json)


@command("send-more")
def send_more(*, txid: Which, rate: Rate = None, yes: Yes = False, as_json: AsJson = False, side: Side) -> None:
    """Replace a payment that no block holds by one that pays more, of the same coins; your change bears it."""
    desk, network = side.desk(), side.chain().chain_info().chain
    paid = desk.payments.bump(
        parse_txid(txid), rate=None if rate is None else SatsPerKvb(rate), ask=_asking(network, yes=yes, quiet=as_json)
    )
    _said(paid, network, as_json=as_json)


@command("send-again")
def send_again(*, txid: Which, as_json: AsJson = False, side: Side) -> None:
    """Send a payment again as it is, where your node has forgotten it."""
    desk, network = side.desk(), side.chain().chain_info().chain
    _said(desk.payments.again(parse_txid(txid)), network, as_json=as_json)


@command()
def payments(*, side: Side) -> None:
    """List what was paid out of the wallet, replaced versions left out."""
    network, made = side.chain().chain_info().chain, side.store.payments()
    gone = {txid for one in made for txid in one.replaces}
    say({"payments": [_row(one, network) for one in made if one.transaction.txid not in gone]})


def promised_to_takes(side: Side, answered: set[str]) -> Sats:
    """Return what takes of ours ask for that are not over and name no coin yet: premiums, or collateral."""
    folder = side.folder / MARKET_FOLDER
    if not folder.is_dir():
        return Sats(0)
    now, sum_ = time.time(), 0
    for take, offer in MarketLedger(folder).takes():
        if take.take.valid_until > now and take.take.option_id not in answered:
            deal = deal_of(offer.offer, take.take)
            sum_ += deal.premium if deal.buyer == take.take.taker else deal.terms.collateral
    return Sats(sum_)


def amount_with_unit(text: str) -> Sats | None:
    """Return satoshis of ``0.015btc`` or ``1500000sat``, None of ``all``. Raises InvalidInputError."""
    if text == ALL:
        return None
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise InvalidInputError("AMOUNT", repr(text)[:40], "such as 0.015btc or 1500000sat, or all")
    return sats(int(found[1]) if found[1] else int(Decimal(found[2]) * _SATS_PER_BTC))


def _asking(network: str, *, yes: bool, quiet: bool) -> Callable[[Spending], None]:
    def ask(spending: Spending) -> None:
        address = encode_address(spending.script, network)
        if not (yes and quiet):
            typer.echo(_screen(spending, address), err=True)
        confirm("Send it?", f"payment to {address}", yes=yes)

    return ask


def _screen(spending: Spending, address: str) -> str:
    return rows_screen("You are about to pay out of your wallet. It cannot be called back once a block holds it.", {
        "to": address,
        "amount": _amount(spending.amount),
        "fee": f"{_amount(spending.fee)}, at {spending.rate:,} sat/kvB",
        "change": _amount(spending.change) if spending.change else "none",
        "coins": f"{len(spending.coins)}, of {_amount(sum(coin.value for coin in spending.coins))}",
        "stays free": _amount(spending.left),
    })  # fmt: skip


def _amount(value: int) -> str:
    return f"{value // _SATS_PER_BTC}.{value % _SATS_PER_BTC:08d} BTC ({value:,} sat)"


def _row(paid: Payment, network: str) -> dict[str, object]:
    outputs = paid.transaction.outputs
    change = outputs[1].value if len(outputs) > 1 else 0
    return {
        "txid": display_txid(paid.transaction.txid),
        "address": encode_address(outputs[0].script, network),
        "amount_sats": outputs[0].value,
        "fee_sats": paid.fee,
        "change_sats": change,
        "replaces": [display_txid(txid) for txid in paid.replaces],
    }


def _said(paid: Payment, network: str, *, as_json: bool) -> None:
    row = _row(paid, network)
    if as_json:
        say(row)
    else:
        typer.echo("\n".join(f"{name}: {value}" for name, value in row.items() if value != []))
