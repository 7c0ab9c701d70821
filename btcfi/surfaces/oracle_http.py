"""An oracle's HTTP, read-only for the world.

``GET /v1/oracle``, ``/v1/announcement?…``, ``/v1/announcements``, ``/v1/attestation?…``, ``/v1/minutes/SLOT``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from btcfi.adapters.oracle.oracle import Oracle
from btcfi.contracts.messages import encode_announcement, encode_attestation
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.oracle.event_query import event_of
from btcfi.oracle.submission_json import encode_signed
from btcfi.surfaces.questions import Answer
from btcfi.units import MAX_U32, Slot, slot


def answers_of(oracle: Oracle) -> Answer:
    """Return what answers an oracle's questions."""

    def answer(path: str, query: Mapping[str, str]) -> dict[str, Any]:
        match path.split("/")[1:]:
            case ["v1", "oracle"]:
                return oracle.status()
            case ["v1", "announcements"]:
                return {"announcements": [encode_announcement(one) for one in oracle.announcements()]}
            case ["v1", "announcement"]:
                return encode_announcement(oracle.announcement(event_of(query)))
            case ["v1", "attestation"]:
                return encode_attestation(oracle.attestation(event_of(query)))
            case ["v1", "minutes", text]:
                return _minute(oracle, slot_of_text(text))
        raise NotFoundError("answer at", path[:80], "/v1/oracle, /v1/announcement, /v1/attestation")

    return answer


def slot_of_text(text: str) -> Slot:
    """Return the minute of a path or a query. Raises InvalidInputError."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_U32))):
        raise InvalidInputError("slot", repr(text[:20]), "a minute, in unix seconds")
    return slot(int(text))


def _minute(oracle: Oracle, at: Slot) -> dict[str, Any]:
    own = oracle.minute(at)
    if own is None:
        raise NotFoundError("minute", str(at), "this oracle has not collected it")
    return {
        "slot": own.slot, "closed": own.closed, "nodes": sorted(own.registry.nodes),
        "contradicted": sorted(own.contradicted), "submissions": [encode_signed(one) for one in own.submissions],
    }  # fmt: skip
