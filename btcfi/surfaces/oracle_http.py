"""An oracle's HTTP, read-only for the world.

``GET /v1/oracle``, ``/v1/announcement?…``, ``/v1/announcements``, ``/v1/attestation?…``, ``/v1/minutes/SLOT``; of the
event of a path ``/v1/path?…``; of minute events ``/v1/minutes/SLOT/announcement`` and ``/v1/minutes/SLOT/attestation``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from btcfi.adapters.oracle.minute_events import MinuteEvents
from btcfi.adapters.oracle.oracle import Oracle
from btcfi.contracts.messages import encode_announcement, encode_attestation
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.oracle.announcement import OracleEvent
from btcfi.oracle.event_query import event_of
from btcfi.oracle.minute_event import encode_minute_announcement, encode_minute_attestation
from btcfi.oracle.path_evidence import encode_evidence
from btcfi.oracle.submission_json import encode_signed
from btcfi.surfaces.questions import Answer
from btcfi.units import MAX_U32, Slot, slot


def answers_of(oracle: Oracle, minutes: MinuteEvents | None = None) -> Answer:
    """Return what answers an oracle's questions. minutes: its minute events, None of one that signs none."""

    def answer(path: str, query: Mapping[str, str]) -> dict[str, Any]:
        match path.split("/")[1:]:
            case ["v1", "oracle"]:
                return oracle.status() | {"minute_events": None if minutes is None else minutes.status()}
            case ["v1", "announcements"]:
                return {"announcements": [encode_announcement(one) for one in oracle.announcements()]}
            case ["v1", "announcement" | "attestation" | "path" as which]:
                return _of_event(oracle, event_of(query), which)
            case ["v1", "minutes", text]:
                return _minute(oracle, slot_of_text(text))
            case ["v1", "minutes", text, "announcement" | "attestation" as which]:
                return _minute_event(minutes, slot_of_text(text), which)
        raise NotFoundError("answer at", path[:80], "/v1/oracle, /v1/announcement, /v1/attestation")

    return answer


def _of_event(oracle: Oracle, event: OracleEvent, which: str) -> dict[str, Any]:
    if which == "announcement":
        return encode_announcement(oracle.announcement(event))
    if which == "attestation":
        return encode_attestation(oracle.attestation(event))
    return encode_evidence(oracle.evidence(event))


def slot_of_text(text: str) -> Slot:
    """Return the minute of a path or a query. Raises InvalidInputError."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_U32))):
        raise InvalidInputError("slot", repr(text[:20]), "a minute, in unix seconds")
    return slot(int(text))


def _minute_event(minutes: MinuteEvents | None, at: Slot, which: str) -> dict[str, Any]:
    if minutes is None:
        raise NotFoundError("minute event", str(at), "this oracle signs no minutes: it runs without --minute-events")
    if which == "announcement":
        return encode_minute_announcement(minutes.announcement(at))
    return encode_minute_attestation(minutes.attestation(at))


def _minute(oracle: Oracle, at: Slot) -> dict[str, Any]:
    own = oracle.minute(at)
    if own is None:
        raise NotFoundError("minute", str(at), "this oracle has not collected it")
    return {
        "slot": own.slot, "closed": own.closed, "nodes": sorted(own.registry.nodes),
        "contradicted": sorted(own.contradicted), "submissions": [encode_signed(one) for one in own.submissions],
    }  # fmt: skip
