"""``btcfi party psbt``: an outside wallet signs this party's funding inputs; its keys are never here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from btcfi.adapters.files import read_untrusted_text, write_private
from btcfi.adapters.party.outside import HandOver
from btcfi.bitcoin.psbt import MAX_PSBT_BYTES
from btcfi.contracts.messages import Sign, decode_accept, decode_sign, encode_sign
from btcfi.surfaces.party.screen import asking, confirm
from btcfi.surfaces.party.side import (
    Contract,
    Out,
    Side,
    app,
    command,
    contract_name,
    place,
    read_message,
    say,
    write_message,
)
from btcfi.units import display_txid

psbts = typer.Typer(help="An outside wallet signs the funding: give it a PSBT, take its signatures.")
app.add_typer(psbts, name="psbt")


@command("export", of=psbts)
def export(
    *,
    contract: Contract,
    message: Annotated[str, typer.Option("--message", help="The other side's accept or sign message.")],
    out: Annotated[Path, typer.Option("--out", help="Where the PSBT goes, base64.", callback=place)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before it is written.")] = False,
    side: Side,
) -> None:
    """Check everything of the other side, show what your wallet is about to sign, and write the PSBT."""
    received = read_message(message)
    of_sign = isinstance(received, dict) and received.get("type") == "btcfi/sign"
    desk = side.desk(show=asking(yes=True))  # shown here; asked below, with the inputs

    def ask(shown: HandOver) -> None:
        typer.echo(json.dumps(shown.as_json(), indent=1), err=True)
        confirm("Your wallet is to sign this?", f"contract {shown.contract[:16]}", yes=yes)

    answer = decode_sign(received) if of_sign else decode_accept(received)
    made = desk.hand_over(contract_name(contract), answer, ask=ask)
    write_private(out, made.psbt.encode() + b"\n")
    say({"contract": made.contract, "psbt": str(out), "inputs": list(made.asked)})


@command("import", of=psbts)
def import_(
    *,
    contract: Contract,
    psbt: Annotated[Path, typer.Argument(help="The PSBT as your wallet has signed it, base64.")],
    out: Out = "-",
    side: Side,
) -> None:
    """Verify your wallet's signatures of your inputs, and go on: your sign message, or the funding, broadcast."""
    text = read_untrusted_text(psbt, at_most=MAX_PSBT_BYTES, what="PSBT")
    made = side.desk(show=asking(yes=True)).take_back(contract_name(contract), text)
    if isinstance(made, Sign):
        write_message(out, encode_sign(made))
        say({"contract_id": made.contract_id.hex(), "sign": out}, quiet=out == "-")
        return
    say({"funding_txid": display_txid(made.txid)})
