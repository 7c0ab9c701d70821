"""``btcfi oracle import-tlv`` and ``export-tlv``: an oracle's messages as the DLC specification has them, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from btcfi.adapters.files import (
    read_untrusted,
    read_untrusted_json,
    write_named,
)
from btcfi.contracts.messages import decode_announcement, decode_attestation, encode_announcement, encode_attestation
from btcfi.errors import InvalidInputError
from btcfi.oracle import dlc_messages
from btcfi.oracle.announcement import Announcement, check_announcement
from btcfi.oracle.foreign import (
    export_announcement,
    export_attestation,
    import_announcement,
    import_attestation,
    name_of,
)
from btcfi.surfaces.oracle_cli import read_secret
from btcfi.surfaces.party.oracles import read_announcement
from btcfi.surfaces.party.side import PROGRAM, place
from btcfi.vm.program import load_program

MAX_FILE_BYTES = 2 * dlc_messages.MAX_BYTES + 1
"""The longest message as hex, and the end of its line."""

Out = Annotated[Path, typer.Option("--out", help="Where to write it.", callback=place)]
Key = Annotated[
    Path | None, typer.Option("--key", help="Of an announcement: its oracle's secret, which signs it again.")
]
Announced = Annotated[
    Path | None, typer.Option("--announcement", help="Of an attestation: what was announced, JSON or TLV.")
]


def import_(
    file: Annotated[Path, typer.Argument(help="A TLV, 55332 or 55400, in bytes or as hex.")],
    *,
    out: Out,
    announcement: Announced = None,
) -> None:
    """Read another house's announcement or attestation, check its signatures, and write it as our JSON."""
    tlv = dlc_messages.tlv_in(read_untrusted(file, at_most=MAX_FILE_BYTES, what="TLV", named=True))
    if tlv is None:
        raise InvalidInputError(str(file), "begins as no TLV", "an announcement (55332) or an attestation (55400)")
    if tlv.startswith(dlc_messages.ATTESTATION_HEAD):
        said = import_attestation(dlc_messages.decode_attestation(tlv), _needed(announcement))
        _say(out, encode_attestation(said), event=said.event.hex(), outcome=said.outcome)
        return
    program = load_program(PROGRAM).program_hash
    made = import_announcement(dlc_messages.decode_announcement(tlv), program_hash=program)
    _say(out, encode_announcement(made), event=made.event.id.hex(), name=name_of(made), digits=made.digit_hash.value)


def export(
    file: Annotated[Path, typer.Argument(help="An announcement or an attestation of ours, JSON.")],
    *,
    out: Out,
    key: Key = None,
    announcement: Announced = None,
) -> None:
    """Write an announcement or an attestation as the DLC specification's TLV, hex on one line, for another wallet."""
    message = read_untrusted_json(file, at_most=MAX_FILE_BYTES, what="message", named=True)
    if isinstance(message, dict) and message.get("type") == "btcfi/attestation":
        said, announced = decode_attestation(message), _needed(announcement)
        tlv = dlc_messages.encode_attestation(export_attestation(said, announced))
    else:
        announced = decode_announcement(message)
        check_announcement(announced, expected=announced.event)
        if key is None:
            raise InvalidInputError("--key", "missing", "the oracle's secret: the specification signs other bytes")
        tlv = dlc_messages.encode_announcement(export_announcement(announced, read_secret(key)))
    write_named(out, tlv.hex() + "\n")
    typer.echo(json.dumps({"event_id": name_of(announced), "bytes": len(tlv), "tlv": str(out)}, indent=1))


def _needed(path: Path | None) -> Announcement:
    if path is None:
        raise InvalidInputError("--announcement", "missing", "what the attestation is of")
    announced = read_announcement(str(path))
    check_announcement(announced, expected=announced.event)
    return announced


def _say(out: Path, message: dict[str, Any], **found: object) -> None:
    write_named(out, json.dumps(message) + "\n")
    typer.echo(json.dumps({**found, "written": str(out)}, indent=1))
