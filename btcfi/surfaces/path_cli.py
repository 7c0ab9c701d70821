"""``btcfi oracle check-path``: what a path's value is made of, computed again by whoever has the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from btcfi.adapters.files import read_untrusted_json
from btcfi.contracts.messages import decode_announcement, decode_attestation
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import check_announcement
from btcfi.oracle.path_evidence import check_attested, check_evidence, decode_evidence

MAX_FILE_BYTES = 1 << 24
"""Of evidence: a quarter of a year of minutes has 8 MB."""

MAX_MESSAGE_BYTES = 1 << 16


def check(
    file: Annotated[Path, typer.Argument(help="Evidence: what an oracle answers at /v1/path.")],
    *,
    announcement: Annotated[Path | None, typer.Option("--announcement", help="What the oracle announced.")] = None,
    attestation: Annotated[Path | None, typer.Option("--attestation", help="What it attested.")] = None,
) -> None:
    """Compute a path's outcome from its minutes, and hold an attestation against it."""
    evidence = decode_evidence(read_untrusted_json(file, at_most=MAX_FILE_BYTES, what="evidence", named=True))
    computed = check_evidence(evidence)
    if (announcement is None) != (attestation is None):
        raise InvalidInputError("check-path", "one of --announcement and --attestation", "both, or neither")
    if announcement is not None and attestation is not None:
        raw = [
            read_untrusted_json(one, at_most=MAX_MESSAGE_BYTES, what="message", named=True)
            for one in (announcement, attestation)
        ]
        announced = decode_announcement(raw[0])
        check_announcement(announced, expected=evidence.event)
        check_attested(evidence, announced, decode_attestation(raw[1]))
    found = {
        "event": evidence.event.id.hex(), "path": str(evidence.event.path), "value_cents": evidence.value,
        "outcome": evidence.outcome, "touched": computed.touched, "minutes": len(evidence.minutes),
        "observations_cents": [one.price for one in computed.observed], "rungs_reached": computed.reached,
        "left_out": {str(at): why.value for at, why in computed.left_out}, "attested": attestation is not None,
    }  # fmt: skip
    typer.echo(json.dumps(found, indent=1))
