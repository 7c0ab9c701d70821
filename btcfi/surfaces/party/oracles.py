"""What oracles say, as a party's commands read it: our JSON, or another house's message of the DLC specification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import typer

from btcfi.contracts.messages import decode_announcement, decode_attestation
from btcfi.documents import parse_json, printable
from btcfi.errors import BtcfiError, NotFoundError
from btcfi.oracle import dlc_messages
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import Attestation
from btcfi.oracle.dlc_messages import DlcAttestation
from btcfi.oracle.foreign import import_announcement, import_attestation, name_of
from btcfi.surfaces.party.side import PROGRAM, read_bytes
from btcfi.vm.program import load_program

_SHOWN: Final = 300
"""Characters of a source that is named."""


def read_announcement(source: str, *, program: str = PROGRAM) -> Announcement:
    """Return the announcement of a file or URL, ours unchecked. Another house's is of our guest, and checked.

    Raises InvalidInputError naming the field, WrongAnnouncementError.
    """
    raw = read_bytes(source)
    if (tlv := dlc_messages.tlv_in(raw)) is None:
        return decode_announcement(parse_json(raw, "message"))
    return import_announcement(dlc_messages.decode_announcement(tlv), program_hash=load_program(program).program_hash)


def read_attestation(source: str, announced: Sequence[Announcement]) -> Attestation:
    """Return the attestation of a file or URL, ours unchecked. Another house's must be of one of ``announced``.

    Raises InvalidInputError naming the field, NotFoundError, WrongAttestationError.
    """
    raw = read_bytes(source)
    if (tlv := dlc_messages.tlv_in(raw)) is None:
        return decode_attestation(parse_json(raw, "message"))
    theirs = dlc_messages.decode_attestation(tlv)
    return import_attestation(theirs, announced_for(theirs, announced))


def readable(
    sources: Sequence[str], announced: Sequence[Announcement]
) -> tuple[list[tuple[str, Attestation]], list[tuple[str, BtcfiError]]]:  # fmt: skip
    """Return the attestations that can be read, unchecked, and why the others cannot, each with its source."""
    found, wrong = [], []
    for source in sources:
        try:
            found.append((source, read_attestation(source, announced)))
        except BtcfiError as e:
            wrong.append((source, e))
    return found, wrong


def end_with(wrong: Sequence[tuple[str, BtcfiError]]) -> None:
    """Fail by the first that could not be read or kept, the others named; all else has been done."""
    for source, problem in wrong[1:]:
        typer.echo(f"--attestation {printable(source, _SHOWN)}: {problem}", err=True)
    if wrong:
        raise wrong[0][1]


def announced_for(theirs: DlcAttestation, announced: Sequence[Announcement]) -> Announcement:
    """Return the announcement that an attestation is of, by oracle and name. Raises NotFoundError."""
    wanted = (theirs.oracle_key, theirs.name)
    for one in announced:
        if (one.oracle_key, name_of(one)) == wanted:
            return one
    raise NotFoundError("announcement", f"{theirs.name[:40]} of {theirs.oracle_key.hex()[:16]}", "no contract is of it")
