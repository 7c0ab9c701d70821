"""Commands that close a contract together with the other side."""

from __future__ import annotations

from typing import Annotated

import typer

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.messages import (
    decode_close_answer,
    decode_close_request,
    encode_close_answer,
    encode_close_request,
)
from btcfi.errors import InvalidInputError
from btcfi.surfaces.party.screen import asking
from btcfi.surfaces.party.side import (
    Contract,
    Out,
    Side,
    Yes,
    command,
    contract_name,
    read_message,
    say,
    write_message,
)
from btcfi.units import display_txid, sats


@command()
def close(
    *,
    contract: Contract,
    payout_sats: Annotated[int, typer.Option("--payout-sats", help="What the buyer gets.", min=0)],
    out: Out,
    guest_input: Annotated[
        str, typer.Option("--guest-input", help="Early exercise: the guest's input, hex; it must compute the payout.")
    ] = "",
    rate: Annotated[int, typer.Option("--rate", help="Fee of the close, sat/kvB.", min=1000)] = 2000,
    yes: Yes = False,
    side: Side,
) -> None:
    """Ask the other side to close together now: early exercise, or any payout that you both want."""
    try:
        given = bytes.fromhex(guest_input)
    except ValueError as e:
        raise InvalidInputError("guest input", "not hex", "120 hex digits") from e
    desk = side.desk(show=asking(yes=yes))
    request = desk.request_close(
        contract_name(contract), payout=sats(payout_sats), rate=SatsPerKvb(rate), guest_input=given
    )
    write_message(out, encode_close_request(request))
    say({"contract": contract, "close": out}, quiet=out == "-")


@command("close-sign")
def close_sign(
    *,
    message: Annotated[str, typer.Argument(help="A close request or an answer to yours: a file, - or a URL.")],
    payout_sats: Annotated[
        int | None, typer.Option("--payout-sats", help="The payout that you agree to; needed for an answer.", min=0)
    ] = None,
    out: Out = "-",
    yes: Yes = False,
    side: Side,
) -> None:
    """Answer a close request whose payout you agree to; or finish your own and broadcast it."""
    received = read_message(message)
    desk = side.desk(show=asking(yes=yes))
    if isinstance(received, dict) and received.get("type") == "btcfi/close-answer":
        closed = desk.finish_close(decode_close_answer(received))
        say({"close_txid": display_txid(closed.txid)})
        return
    if payout_sats is None:
        raise InvalidInputError("--payout-sats", "missing", "the payout that you agree to")
    answer = desk.answer_close(decode_close_request(received), payout=sats(payout_sats))
    write_message(out, encode_close_answer(answer))
    say({"contract_id": answer.contract_id.hex(), "answer": out}, quiet=out == "-")
